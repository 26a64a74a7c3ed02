"""What is new on a CUDA GPU. Everything else is tested on the CPU; without a GPU these tests are skipped."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from shell import (
    EXPERIMENT,
    LOSS,
    ROOT,
    SCRIPTS,
    SHORT,
    copy,
    differences,
    environment,
    epochs_of,
    rows,
    run,
    run_tiny,
    stop_after,
)

from pt4al.base.files import load_checkpoint

GPU = os.environ["TESTS_GPU"]
pytestmark = [
    pytest.mark.skipif(not GPU, reason="there is no CUDA GPU"),
    pytest.mark.slow,
]


def on_gpu(folder: Path, script: str, *flags: str) -> subprocess.CompletedProcess:
    return run_tiny(folder, script, *flags, CUDA_VISIBLE_DEVICES=GPU)


def weights(folder: Path, run_name: str, cycle: int) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / f"checkpoint/{EXPERIMENT}/{run_name}/main_{cycle}.pth")["net"]


def test_every_script_runs_in_bf16_and_learns(tmp_path: Path):
    flags = ["digits", *SHORT, "--width", "16", "--epochs", "8", "--milestones", "6"]
    for script in SCRIPTS:
        run(tmp_path, script, *flags, CUDA_VISIBLE_DEVICES=GPU)
    runs = tmp_path / f"runs/{EXPERIMENT}"
    assert len(rows(runs / "main-confidence/cycles.csv")) == 3
    assert float(rows(runs / "whole-dataset/cycles.csv")[0]["last_accuracy"]) > 90
    made = (runs / "main-confidence/config.json").read_text()
    assert '"precision": "bf16"' in made and "NVIDIA" in made


def test_deterministic_runs_are_the_same_and_are_resumed_exactly(finished: Path, tmp_path: Path):
    for name in ("left alone", "stopped"):
        (tmp_path / name).mkdir()
        copy(finished, tmp_path / name, "main-confidence")
    alone, stopped = (tmp_path / name / "work" for name in ("left alone", "stopped"))
    on_gpu(alone, "main.py", "--deterministic")
    stop_after(stopped, 5, signal.SIGKILL, "--deterministic", CUDA_VISIBLE_DEVICES=GPU)
    assert differences(alone, stopped)
    assert epochs_of(on_gpu(stopped, "main.py", "--deterministic").stdout)[0] > (0, 0)
    assert differences(alone, stopped) == []


def test_images_sent_ahead_train_as_those_that_are_there(finished: Path, tmp_path: Path):
    made = []
    for flags in ([], ["--resident-share", "0"]):
        folder = tmp_path / str(len(flags))
        folder.mkdir()
        folder = copy(finished, folder, "main-confidence")
        on_gpu(folder, "main.py", "--deterministic", *flags)
        made.append(weights(folder, "main-confidence", 2))
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_losses_are_those_of_the_cpu(finished: Path, tmp_path: Path):
    """Within float32 rounding, so not in TF32, whose error would be a thousand times as large."""
    folder = copy(finished, tmp_path)
    file = f"{LOSS}/rotation_loss.txt"
    on_gpu(folder, "make_batches.py", "--restart")
    ours, theirs = (
        [float(line.partition("_")[0]) for line in (x / file).read_text().splitlines()]
        for x in (folder, finished)
    )
    assert ours != theirs  # it was computed elsewhere
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("strategy", ["margin", "coreset", "badge", "typiclust"])
def test_strategies_pick_from_a_gpus_scores(finished: Path, tmp_path: Path, strategy: str):
    folder = copy(finished, tmp_path)
    on_gpu(folder, "main.py", "--strategy", strategy, "--candidates", "all", "--cycles", "2")
    assert len(rows(folder / f"runs/{EXPERIMENT}/main-{strategy}/cycles.csv")) == 2


WAITS = """
import sys, warnings
from dataclasses import replace
import torch
sys.path.insert(0, sys.argv[1])
from config import CIFAR10
from pt4al.base import processes
from pt4al.method.classifier import Classification
from pt4al.data.images import Images
from pt4al.train.network import fresh_network
from pt4al.train.optimizer import SGD
from pt4al.train.training import train_epoch
config = replace(CIFAR10, width=16, batch_size=32)
device = processes.start(config)
pixels = torch.randint(256, (2000, 32, 32, 3), dtype=torch.uint8)
streams = sys.argv[2] == "streams"
pool = Images(pixels if streams else pixels.to(device), torch.randint(10, (2000,)).to(device),
              [f"x/train/0/{i}.png" for i in range(2000)], [str(i) for i in range(10)], device, streams)
net = fresh_network(config, 10, 0, device)
optimizer = SGD(net, config)
counts = []
for n in (320, 320, 1600):
    task = Classification(config, pool, pool).task(torch.arange(n))
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        train_epoch(net, optimizer, task, config, 0, 0)
    torch.cuda.set_sync_debug_mode("default")
    counts.append(sum("synchroniz" in str(w.message) for w in seen))
print(*counts)
"""


@pytest.mark.parametrize("kind", ["stays", "streams"])
def test_a_step_does_not_wait_for_the_gpu(kind: str):
    """The number of waits in an epoch does not grow with its steps; ends and starts have some."""
    done = subprocess.run(
        [sys.executable, "-c", WAITS, str(ROOT), kind],
        env=environment(CUDA_VISIBLE_DEVICES=GPU),
        text=True,
        capture_output=True,
        check=True,
    )
    _, few, many = map(int, done.stdout.split())  # the first is the warm-up
    assert 0 < few == many
