"""Run on several processes by a test: train on digits, and let every process write down what weights it holds and
what it is told where the processes differ.

torchrun --nproc_per_node=N tests/each_rank.py FOLDER
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from config import DIGITS
from loader import load_images
from pt4al.base import processes
from pt4al.base.console import UserError, run_script
from pt4al.data.transforms import normalization
from pt4al.method.pretext import ROTATIONS, rotation_task
from pt4al.train.network import fresh_network
from pt4al.train.optimizer import SGD
from pt4al.train.training import train_epoch


def main() -> None:
    config = replace(DIGITS, width=8, rotation_batch_size=48)
    device = processes.start(config)
    (pool,) = load_images(config, device, ("train",))
    net = fresh_network(config, ROTATIONS, 0, device)
    # 97 images: the last batch holds one, so all processes but the first have nothing to do in it.
    positions = pool.labels[:97].argsort()
    task = rotation_task(config, pool, *normalization(config, pool))._replace(positions=positions)
    optimizer = SGD(net, config)
    for epoch in range(2):
        train_epoch(net, optimizer, task, config, 0, epoch)
    digest = hashlib.sha256()
    for value in net.state_dict().values():  # the counters of batch norm count this process's steps
        digest.update(value.numpy().tobytes() if value.is_floating_point() else b"")
    told = {"weights": digest.hexdigest()}
    try:
        processes.check_same(processes.rank(), "data")
    except UserError as error:
        told["other data"] = str(error)
    path = Path(sys.argv[1], f"{processes.rank()}.json")
    path.write_text(json.dumps(told))
    processes.check_in_step(net)
    if processes.rank() == 1:  # what the watchdog is there to find
        next(net.parameters()).data[0] += 1e-3
    processes.check_in_step(net)
    path.write_text(json.dumps({**told, "drifted": True}))


if __name__ == "__main__":
    run_script(main)
