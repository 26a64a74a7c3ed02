"""The ceiling: the classifier trained once on every label of the pool, without active learning.

Reads:  the training and test images
Writes: checkpoint/<experiment>/whole-dataset/main_0.pth
        runs/<experiment>/whole-dataset/        config.json, metrics.csv, cycles.csv, per_class.csv,
        labeled/
Run:    python whole_dataset.py digits          about a minute on 2 CPU cores
"""

from config import from_command_line
from loader import load_images
from utils import processes
from utils.active_learning import Learner
from utils.console import run_script
from utils.run_folder import RunFolder


def main() -> None:
    config = from_command_line(__doc__)
    device = processes.start(config)
    pool, test = load_images(config, device)
    with RunFolder(config, "whole-dataset") as run:
        learner = Learner.open(config, run, pool, test, cycles=1)
        while not learner.finished:
            if not learner.has_labels:
                learner.label(list(range(len(pool))))
            learner.train()


if __name__ == "__main__":
    run_script(main)
