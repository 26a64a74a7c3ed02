import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shell import TINY, command, copy, environment, environment_of, rows, run, stop_after, tree

from pt4al.base.files import load_checkpoint
from pt4al.base.processes import shard
from pt4al.train.seeding import epoch_order

pytestmark = pytest.mark.slow  # many starts of a script, seconds each


@given(st.integers(0, 300), st.integers(1, 9))
def test_shards_are_a_partition_in_order(n: int, world: int):
    batch = torch.arange(n)
    parts = [shard(batch, rank, world) for rank in range(world)]
    assert torch.equal(torch.cat(parts), batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_global_batches_are_those_of_one_process(world: int):
    order = epoch_order(3, 1000, torch.arange(0, 1000, 3), 1, 2)
    for batch in order.split(32):
        together = torch.cat([shard(batch, rank, world) for rank in range(world)])
        assert torch.equal(together, batch)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_score_as_one(finished: Path, tmp_path: Path, processes: int):
    """Losses agree within float32 rounding, and name the same images in the same order."""
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    run(tmp_path, "make_batches.py", "digits", *TINY, processes=processes)
    lines = [
        (f / "loss/digits-seed0/rotation_loss.txt").read_text().splitlines() for f in (finished, tmp_path)
    ]
    losses = [torch.tensor([float(line.split("_")[0]) for line in side]) for side in lines]
    assert torch.allclose(*losses, rtol=1e-4, atol=1e-5)
    assert [x.split("_")[1] for x in lines[0]] == [x.split("_")[1] for x in lines[1]]


def test_two_processes_train(finished: Path, tmp_path: Path):
    """Batch norm sees half batches, so weights differ from one process; first picks, labels and rates do not."""
    (tmp_path / "loss").symlink_to(finished / "loss")
    launched = command("main.py", "digits", *TINY, processes=2)  # by torchrun itself
    subprocess.run(launched, cwd=tmp_path, env=environment(), check=True, timeout=300)
    name = "runs/digits-seed0/main-confidence"
    ours, theirs = (rows(f / name / "metrics.csv") for f in (tmp_path, finished))
    same = ("cycle", "labels", "epoch", "lr")
    assert [[r[c] for c in same] for r in ours] == [[r[c] for c in same] for r in theirs]
    first = [(f / name / "labeled/cycle_0.txt").read_text() for f in (tmp_path, finished)]
    assert first[0] == first[1]
    assert float(ours[-1]["train_accuracy"]) > 20  # chance is 10 %; one process reaches about 60
    assert "is finished" in run(tmp_path, "main.py", "digits", *TINY).stdout


@pytest.mark.parametrize("processes", [2, 3])
def test_weights_stay_the_same_on_every_process(tmp_path: Path, processes: int):
    """Bit for bit, batch norm's statistics included, also when the last batch is too small for all."""
    run(tmp_path, "tests/each_rank.py", str(tmp_path), processes=processes)
    sums = {(tmp_path / f"{rank}.txt").read_text() for rank in range(processes)}
    assert len(sums) == 1 and len(sums.pop()) == 64


def test_weights_that_drift_apart_stop_the_run(tmp_path: Path):
    done = run(tmp_path, "tests/each_rank.py", str(tmp_path), "drift", status=1, processes=2)
    assert "the weights of the processes are no longer the same" in done.stderr


def test_a_run_goes_on_with_the_same_picks_on_another_number_of_processes(finished: Path, tmp_path: Path):
    """One process trains cycle 0, three score and pick for cycle 1, two finish: each step may change."""
    folder = copy(finished, tmp_path, "main-confidence")
    stop_after(folder, 3, signal.SIGTERM)
    labeled = "runs/digits-seed0/main-confidence/labeled"
    stop_after(folder, 2, signal.SIGTERM, processes=3)
    for cycle in (0, 1):
        ours, theirs = ((f / labeled / f"cycle_{cycle}.txt").read_text() for f in (folder, finished))
        assert ours == theirs
    done = run(folder, "main.py", "digits", *TINY, processes=2)
    assert "going on after epoch" in done.stdout
    metrics = rows(folder / labeled / "../metrics.csv")
    assert [(r["cycle"], r["epoch"]) for r in metrics] == [
        (str(c), str(e)) for c in range(3) for e in range(3)
    ]


def test_a_process_that_dies_takes_the_run_down_and_it_goes_on(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    flags = ["--epochs", "12"]
    process = subprocess.Popen(
        command("tests/saving_late.py", "digits", *TINY, *flags, processes=2), cwd=folder, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen = 0
    while seen < 5:
        seen += " epoch " in process.stdout.readline()
    victim = next(pid for pid in tree(process.pid) if environment_of(pid).get("RANK") == "1")
    os.kill(victim, signal.SIGKILL)
    error = process.communicate(timeout=100)[1]
    assert process.returncode != 0
    assert "main.py: error: process 0 of 2 lost contact" in error or "stopped by SIGTERM" in error
    state = load_checkpoint(folder / "checkpoint/digits-seed0/main-confidence/last.pth")
    assert state["finished_epoch"] >= 4  # saved because of the death: no checkpoint was due
    done = run(folder, "main.py", "digits", *TINY, *flags)
    assert "going on after epoch" in done.stdout
    assert len(rows(folder / "runs/digits-seed0/main-confidence/metrics.csv")) == 36


def test_gradients_and_losses_of_two_processes_are_those_of_one(tmp_path: Path):
    """Without batch norm's statistics in the way: the first step's training loss is the same within rounding."""
    results = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        run(
            folder,
            "whole_dataset.py",
            "digits",
            *TINY,
            "--epochs",
            "1",
            "--batch-size",
            "1438",
            processes=processes,
        )
        results.append(float(rows(folder / "runs/digits-seed0/whole-dataset/metrics.csv")[0]["train_loss"]))
    assert results[0] == pytest.approx(
        results[1], rel=0.02
    )  # half batches of 719 have nearly the whole's statistics
