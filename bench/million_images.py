"""Seconds and memory of every step on a pool of ImageNet's size: 1,281,167 images of
64 pixels, which stay in one mapped file.

The images are noise, in ten parts as the archive of ImageNet at 64 pixels has them.
The steps are the very functions that the scripts call; no network is trained.
Memory is the largest resident size of the process during a step (Linux).

Reads:   FOLDER/train_data_batch_1 .. _10, val_data
Writes:  the same, if there is no such folder; a temporary file in TMPDIR. 16 GB each

Run:     python bench/million_images.py FOLDER      5 minutes on 2 CPU cores
"""

import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import PRESETS
from loader import load_images
from pt4al.base import processes
from pt4al.base.console import Parser, positive, run_script
from pt4al.data.imagenet64 import CLASSES, PARTS, SIZE
from pt4al.data.transforms import channel_statistics
from pt4al.method.strategies import STRATEGIES, Query
from pt4al.train.seeding import epoch_order, generator


def write_parts(folder: Path, n: int) -> None:
    """n images in ten parts, of which the last takes the rest, and 50,000 to test by, or n if fewer."""
    folder.mkdir(parents=True)
    sizes = [n // 10] * 9 + [n - 9 * (n // 10), min(n, 50_000)]
    source = np.random.default_rng(0)
    for name, size in zip(PARTS["train"] + PARTS["test"], sizes, strict=True):
        data = source.integers(256, size=(size, 3 * SIZE**2), dtype=np.uint8)
        labels = (np.arange(size) % CLASSES + 1).tolist()
        with open(folder / name, "wb") as file:
            pickle.dump({"data": data, "labels": labels, "mean": data[:100].mean(0)}, file, 3)


def measured(name: str, step: Callable[[], object]) -> object:
    """What a step gives; prints its seconds and the most memory that the process had during it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is reset
    began = time.perf_counter()
    result = step()
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().split()
    print(f"{name:<42}{seconds:>9.1f}{int(status[status.index('VmHWM:') + 1]) / 2**20:>8.2f}", flush=True)
    return result


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, help="where the parts are, or are made")
    parser.add_argument("--images", type=positive, default=1_281_167, help="default: 1281167")
    options = parser.parse_args()
    config = replace(PRESETS["imagenet64"], data_dir=str(options.folder), resident_share=0.0)
    device = processes.start(config)
    print(f"{'':<42}{'seconds':>9}{'GiB':>8}")
    if not options.folder.exists():
        measured("make the parts", lambda: write_parts(options.folder, options.images))
    pool, test = measured("read the parts twice, write one file", lambda: load_images(config, device))
    print(f"{f'({len(pool):,} images in the pool, {len(test):,} to test)':<42}")
    measured("mean and deviation of the channels", lambda: channel_statistics(pool))
    measured("hash of the data", pool.fingerprint)
    measured("images that are in the test set, too", lambda: pool.pixel_hashes() & test.pixel_hashes())
    measured("look up the ids", pool.positions_by_key)
    every = torch.arange(len(pool))
    order = epoch_order(0, len(pool), every, 0, 0)
    measured("an epoch of batches of 128", lambda: [0 for _ in pool.stream(order.split(128))])
    batch = len(pool) // 10

    def choose() -> list[int]:
        logits, none = torch.randn(batch, CLASSES), torch.zeros(0, 0)
        query = Query(logits, none, none, batch // 5, generator(0, "pick"))
        return STRATEGIES["confidence"].pick(query)

    measured("choose a fifth of a batch by logits", choose)


if __name__ == "__main__":
    run_script(main)
