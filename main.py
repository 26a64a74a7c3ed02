"""Step 3 of PT4AL: active-learning cycles. Each labels some images of one batch and trains on all
labelled so far.

Cycle 0 has no classifier yet and takes images of batch 0 at even intervals of rank. Cycle i > 0
takes from batch i the images about which the classifier of cycle i-1 is least certain.

Reads:  loss/<experiment>/batch_<i>.txt, the training and test images
Writes: checkpoint/<experiment>/<run>/main_<cycle>.pth   weights that the cycle is judged by and that choose next
        runs/<experiment>/<run>/                         config.json, metrics.csv, cycles.csv,
        per_class.csv, labeled/
Run:    python main.py digits                            about a minute on 2 CPU cores
        python main.py                                   CIFAR-10 with the paper's settings, for a
        GPU python main.py --strategy random --first-pick random --candidates all    the random
        baseline (no batches needed)
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
from utils.strategies import BLIND, STRATEGIES


def main() -> None:
    config = from_command_line(__doc__)
    device = processes.start(config)
    pool, test = load_images(config, device)
    needs_batches = config.candidates == "batch" or config.first_pick == "interval"
    batches, made_from = find_batches(config, pool) if needs_batches else ([], {})
    everything = [i for batch in batches for i in batch] or list(
        range(len(pool))
    )  # hardest first, where that is known
    k = labels_per_cycle(config, len(pool), batches, config.cycles)

    with RunFolder(config, f"main-{config.strategy}") as run:
        learner = Learner.open(config, run, pool, test, config.cycles, made_from)
        while not learner.finished:
            if not learner.has_labels:
                cycle = learner.cycle
                candidates = learner.unlabeled(
                    batches[cycle] if config.candidates == "batch" else everything
                )
                strategy = STRATEGIES[config.first_pick if cycle == 0 else config.strategy]
                blind = cycle == 0 or config.strategy in BLIND
                logits = (
                    torch.zeros(len(candidates), 1)
                    if blind
                    else learner.logits(pool, torch.tensor(candidates))
                )
                picks = strategy(logits, k, generator(config.seed, "pick", cycle))
                learner.label([candidates[i] for i in picks])
            learner.train()


if __name__ == "__main__":
    run_script(main)
