"""The ceiling: the classifier trained once on every label of the pool, without
active learning.

Reads:   the training and test images, or their --features
Writes:  checkpoint/EXP/whole-dataset/main_0.pth
         runs/EXP/whole-dataset/           config.json, metrics.csv, cycles.csv,
                                           per_class.csv, labeled/

Run:     python whole_dataset.py digits    about a minute on 2 CPU cores
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for python -P, too

from loader import READERS, load_images
from pt4al.base import processes
from pt4al.base.console import run_script
from pt4al.method.learner import Learner
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES
from pt4al.run.command_line import from_command_line
from pt4al.run.run_folder import RunFolder


def main() -> None:
    config = from_command_line(__doc__, dataset=READERS, strategy=STRATEGIES, first_pick=FIRST_PICKS)
    device = processes.start(config, on_images=not config.features)
    pool, test = load_images(config, device, features=config.features)
    with RunFolder(config, "whole_dataset.py", "whole-dataset") as run:
        learner = Learner(config, run, pool, test, cycles=1)
        learner.open()
        while not learner.finished:
            if not learner.has_labels:
                # An annotator is asked for nothing: all that is labeled is taken.
                learner.label(list(range(len(pool))) if pool.labels_known else [])
            learner.train()
        if not pool.labels_known:
            learner.predict()


if __name__ == "__main__":
    run_script(main)
