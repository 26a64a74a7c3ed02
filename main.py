"""Step 3 of PT4AL: active-learning cycles. Each labels some images of one batch
and trains on all that are labeled so far.

Cycle 0 has no classifier yet and takes images of batch 0 at even intervals of
rank. Cycle i > 0 takes from batch i the images about which the classifier of
cycle i-1 is least certain.

Reads:   loss/EXP/batch_<i>.txt, the training and test images;
         checkpoint/EXP/rotation.pth where typiclust chooses; --features in
         place of images and rotation.pth
Writes:  checkpoint/EXP/RUN/main_<cycle>.pth   weights that the cycle is judged
                                               by and that choose next
         runs/EXP/RUN/                         config.json, metrics.csv,
                                               cycles.csv, per_class.csv,
                                               labeled/

With --dataset unlabeled an annotator labels: main.py writes to_label.csv and
ends with exit status 3. Give the same command again when the labels are there.
At the end it writes predictions.csv (docs/own_images.md).

Run:     python main.py digits                 about a minute on 2 CPU cores
         python main.py                        CIFAR-10 as in the paper, GPU
         python main.py --strategy random --first-pick random --candidates all
                                               the random baseline: no batches
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
    by_batch = config.candidates == "batch"
    needs_batches = by_batch or any(STRATEGIES[x].ordered for x in (config.first_pick, config.strategy))
    batches, made_from = find_batches(config, pool) if needs_batches else ([], {})
    # Hardest first, where that is known.
    everything = [i for batch in batches for i in batch] or pool.eligible(range(len(pool)))
    k = labels_per_cycle(config, pool, len(everything), batches if by_batch else [], config.cycles)

    needs_pretext = "pretext" in {STRATEGIES[x].looks_at for x in (config.first_pick, config.strategy)}
    pretext = load_pretext(config, pool) if needs_pretext and not config.features else None

    with RunFolder(config, "main.py", f"main-{config.strategy}") as run:
        learner = Learner(config, run, pool, test, config.cycles, pretext)
        learner.open(made_from)
        while not learner.finished:
            if not learner.has_labels:
                cycle = learner.cycle
                candidates = learner.unlabeled(batches[cycle] if by_batch else everything)
                name = config.first_pick if cycle == 0 else config.strategy
                query = learner.query(name, candidates, k)
                # One process chooses for all of them.
                picks = processes.from_main(partial(STRATEGIES[name].pick, query))
                learner.label([candidates[i] for i in picks])
            learner.train()
        if not pool.labels_known:
            learner.predict()


if __name__ == "__main__":
    run_script(main)
