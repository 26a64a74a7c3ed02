"""Cold start: one labeled set, chosen by the losses of the pretext task without
any label, and trained on once.

Reads:   loss/EXP/batch_<i>.txt, the training and test images;
         checkpoint/EXP/rotation.pth where typiclust chooses; --features in
         place of images and rotation.pth
Writes:  checkpoint/EXP/cold-start-FIRST_PICK/main_0.pth
         runs/EXP/cold-start-FIRST_PICK/   config.json, metrics.csv, cycles.csv,
                                           per_class.csv, labeled/

Run:     python main_pt4al.py digits       a few seconds on 2 CPU cores
         python main_pt4al.py --first-pick random
                                           its baseline: as many images, drawn
                                           from the whole pool
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for python -P, too

from loader import READERS, load_images
from pt4al.base import processes
from pt4al.base.console import run_script
from pt4al.method.batches import find_batches
from pt4al.method.learner import Learner, labels_per_cycle
from pt4al.method.pretext import load_pretext
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES
from pt4al.run.command_line import from_command_line
from pt4al.run.run_folder import RunFolder


def main() -> None:
    config = from_command_line(__doc__, dataset=READERS, strategy=STRATEGIES, first_pick=FIRST_PICKS)
    device = processes.start(config, on_images=not config.features)
    pool, test = load_images(config, device, features=config.features)
    if config.first_pick == "interval":
        batches, made_from = find_batches(config, pool)
        candidates = batches[config.cold_start_batch]
    else:
        batches, made_from, candidates = [], {}, pool.eligible(range(len(pool)))
    k = labels_per_cycle(config, pool, len(candidates), batches, cycles=1)
    strategy = STRATEGIES[config.first_pick]
    needs_pretext = strategy.looks_at == "pretext" and not config.features
    pretext = load_pretext(config, pool) if needs_pretext else None

    with RunFolder(config, "main_pt4al.py", f"cold-start-{config.first_pick}") as run:
        learner = Learner(config, run, pool, test, 1, pretext)
        learner.open(made_from)
        while not learner.finished:
            if not learner.has_labels:
                query = learner.query(config.first_pick, candidates, k)
                picks = processes.from_main(partial(strategy.pick, query))
                learner.label([candidates[i] for i in picks])
            learner.train()
        if not pool.labels_known:
            learner.predict()


if __name__ == "__main__":
    run_script(main)
