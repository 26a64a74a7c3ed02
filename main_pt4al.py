"""Cold start: one labelled set, chosen with no labels at all from the losses of the pretext task,
and trained on once.

Reads:  loss/<experiment>/batch_<i>.txt, the training and test images
Writes: checkpoint/<experiment>/cold-start-<first pick>/main_0.pth
        runs/<experiment>/cold-start-<first pick>/   config.json, metrics.csv, cycles.csv,
        per_class.csv, labeled/
Run:    python main_pt4al.py digits                  a few seconds on 2 CPU cores
        python main_pt4al.py --first-pick random     its baseline: as many images, drawn from the
        whole pool
"""

import torch

from config import from_command_line
from loader import load_images
from utils import processes
from utils.active_learning import Learner, labels_per_cycle
from utils.batches import find_batches
from utils.console import run_script
from utils.run_folder import RunFolder
from utils.seeding import generator
from utils.strategies import STRATEGIES


def main() -> None:
    config = from_command_line(__doc__)
    device = processes.start(config)
    pool, test = load_images(config, device)
    if config.first_pick == "interval":
        batches, made_from = find_batches(config, pool)
        candidates = batches[config.cold_start_batch]
    else:
        batches, made_from, candidates = [], {}, list(range(len(pool)))
    k = labels_per_cycle(config, len(pool), batches, cycles=1)

    with RunFolder(config, f"cold-start-{config.first_pick}") as run:
        learner = Learner.open(config, run, pool, test, 1, made_from)
        while not learner.finished:
            if not learner.has_labels:
                nothing = torch.zeros(len(candidates), 1)  # no classifier has seen them yet
                picks = STRATEGIES[config.first_pick](nothing, k, generator(config.seed, "pick"))
                learner.label([candidates[i] for i in picks])
            learner.train()


if __name__ == "__main__":
    run_script(main)
