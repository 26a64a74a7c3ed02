"""Microseconds per image of every step at growing pool sizes: flat means that no
step costs more than its images.

The steps are the very functions that the scripts call. The network is narrow, so
that it hides nothing. Sizes are interleaved; the median of the repeats
counts.

Reads:   nothing: it makes its images, in a temporary folder
Writes:  nothing: it prints a table

Run:     python bench/cost_growth.py --repeats 2    9 minutes on 2 CPU cores
         python bench/cost_growth.py --sizes 1000 2000 --repeats 1
                                                    less than a minute
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import CIFAR10, Config
from loader import load_images
from pt4al.base import processes
from pt4al.base.console import Parser, positive, run_script
from pt4al.base.files import write_lines
from pt4al.data.decoding import decode
from pt4al.data.images import Images
from pt4al.method.batches import read_batches, read_losses, sort_pool, split
from pt4al.method.classifier import Classification
from pt4al.method.pretext import ROTATIONS, rotation_scores, rotation_task
from pt4al.method.strategies import STRATEGIES, Query
from pt4al.train.network import fresh_network
from pt4al.train.optimizer import SGD
from pt4al.train.seeding import generator
from pt4al.train.training import train_epoch


def write_noise(folder: Path, n: int) -> list[Path]:
    """n PNG files of colored noise in two classes to train on, and one of each class to test by."""
    source = np.random.default_rng(0)
    paths = [folder / "train" / str(i % 2) / f"{i}.png" for i in range(n)]
    for path in [*paths, folder / "test/0/a.png", folder / "test/1/b.png"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(path)
    return paths


def steps(
    config: Config, pool: Images, test: Images, paths: list[Path], folder: Path
) -> dict[str, Callable[[], object]]:
    """Everything whose cost depends on the size of the pool, by name."""
    device, statistics_ = pool.device, ([0.5] * 3, [0.25] * 3)
    pretext = fresh_network(config, ROTATIONS, 0, device)
    task = rotation_task(config, pool, *statistics_)
    classification = Classification(config, pool, test)
    classifier = fresh_network(config, len(pool.classes), 0, device)
    classifier_task = classification.task(torch.arange(len(pool)))
    losses = torch.rand(len(pool), generator=generator(0, "growth")).tolist()

    def write_batches() -> None:
        write_lines(folder / "loss.txt", [f"{x}_{i}" for x, i in zip(losses, pool.ids, strict=True)])
        texts, ids = read_losses(folder / "loss.txt")
        order = sort_pool(texts, "numeric", 0, config.num_batches)
        for i, batch in enumerate(split([ids[j] for j in order], config.num_batches)):
            write_lines(folder / f"batch_{i}.txt", batch)

    def query() -> None:
        logits = classification.logits(classifier, pool, torch.arange(len(pool)))
        none = torch.zeros(0, 0)
        STRATEGIES["confidence"].pick(Query(logits, none, none, len(pool) // 10, generator(0, "pick")))

    def train(net, task_) -> None:
        train_epoch(net, SGD(net, config), task_, config, 0, 0)

    return {
        "decode": lambda: decode(paths, config, "train", 2**40),
        "hash the data": lambda: (pool.fingerprint(), pool.pixel_hashes()),
        "rotation epoch": lambda: train(pretext, task),
        "loss extraction": lambda: rotation_scores(pretext, pool, *statistics_, config),
        "write, read, sort losses; write batches": write_batches,
        "read batches": lambda: read_batches(folder, config.num_batches, pool.positions_by_key()),
        "classifier epoch": lambda: train(classifier, classifier_task),
        "query": query,
    }


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument(
        "--sizes",
        type=positive,
        nargs="+",
        default=[5000, 20_000, 50_000],
        help="images (default: 5000 20000 50000)",
    )
    parser.add_argument("--width", type=positive, default=8, help="width of the network (default: 8)")
    parser.add_argument("--repeats", type=positive, default=3, help="interleaved repeats (default: 3)")
    parser.add_argument("--device", default="auto", help="as in config.py (default: auto)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        paths = write_noise(Path(top, "data"), max(options.sizes))
        config = replace(
            CIFAR10,
            dataset="folder",
            data_dir=f"{top}/data",
            width=options.width,
            device=options.device,
        )
        device = processes.start(config)
        pool, test = load_images(config, device)
        work = {}
        for n in options.sizes:
            some = replace(pool, pixels=pool.pixels[:n], labels=pool.labels[:n], ids=pool.ids[:n])
            folder = Path(top, str(n))
            work[n] = steps(config, some, test, paths[:n], folder)
        seconds: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.repeats):
            for name in work[options.sizes[0]]:
                for n in options.sizes:
                    began = time.perf_counter()
                    work[n][name]()
                    seconds.setdefault((name, n), []).append(time.perf_counter() - began)
    print(f"width {options.width}, microseconds per image, median of {options.repeats}")
    print(f"{'':<42}", *(f"{n:>9}" for n in options.sizes), "  largest/smallest pool")
    for name in work[options.sizes[0]]:
        costs = [1e6 * statistics.median(seconds[name, n]) / n for n in options.sizes]
        print(f"{name:<42}", *(f"{x:>9.1f}" for x in costs), f"{costs[-1] / costs[0]:>14.2f}")


if __name__ == "__main__":
    run_script(main)
