"""Run by torchrun in the tests: train on the digits and let every process note the weights it holds.

torchrun --nproc_per_node=N tests/each_rank.py FOLDER
"""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from config import DIGITS
from loader import load_images
from pt4al.base import processes
from pt4al.base.console import run_script
from pt4al.data.transforms import normalisation
from pt4al.method.pretext import TURNS, rotation_task
from pt4al.train.network import fresh_network, make_optimizer
from pt4al.train.training import train_epoch


def main() -> None:
    config = replace(DIGITS, width=8, rotation_batch_size=48)
    device = processes.start(config)
    (pool,) = load_images(config, device, ("train",))
    net = fresh_network(config, TURNS, 0, device)
    # 97 images: the last batch holds one, so all processes but the first have nothing to do in it.
    task = rotation_task(config, pool, *normalisation(config, pool))._replace(
        positions=pool.labels[:97].argsort()
    )
    optimizer = make_optimizer(net, config)
    for epoch in range(2):
        train_epoch(net, optimizer, task, config, 0, epoch)
    digest = hashlib.sha256()
    for value in net.state_dict().values():
        digest.update(value.numpy().tobytes() if value.is_floating_point() else b"")
    Path(sys.argv[1], f"{processes.rank()}.txt").write_text(digest.hexdigest())
    fault = sys.argv[2] if len(sys.argv) > 2 else ""
    if fault == "drift" and processes.rank() == 1:  # what the watchdog is there to find
        next(net.parameters()).data[0] += 1e-3
    processes.check_in_step(net)
    processes.check_same(processes.rank() if fault == "other data" else 0, "data")


if __name__ == "__main__":
    run_script(main)
