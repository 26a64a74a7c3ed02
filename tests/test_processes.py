from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shell import TINY, rows, run

from utils.processes import shard
from utils.seeding import epoch_order


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
        (f / "loss/digits-seed0/rotation_loss.txt").read_text().splitlines()
        for f in (finished, tmp_path)
    ]
    losses = [torch.tensor([float(line.split("_")[0]) for line in side]) for side in lines]
    assert torch.allclose(*losses, rtol=1e-4, atol=1e-5)
    assert [x.split("_")[1] for x in lines[0]] == [x.split("_")[1] for x in lines[1]]


def test_two_processes_train(finished: Path, tmp_path: Path):
    """Batch norm sees half batches, so weights differ from one process; first picks, labels and rates do not."""
    (tmp_path / "loss").symlink_to(finished / "loss")
    run(tmp_path, "main.py", "digits", *TINY, processes=2)
    name = "runs/digits-seed0/main-confidence"
    ours, theirs = (rows(f / name / "metrics.csv") for f in (tmp_path, finished))
    same = ("cycle", "labels", "epoch", "lr")
    assert [[r[c] for c in same] for r in ours] == [[r[c] for c in same] for r in theirs]
    first = [(f / name / "labeled/cycle_0.txt").read_text() for f in (tmp_path, finished)]
    assert first[0] == first[1]
    assert float(ours[-1]["train_accuracy"]) > 20  # chance is 10 %; one process reaches about 60
    assert "is finished" in run(tmp_path, "main.py", "digits", *TINY).stdout


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
        results.append(
            float(rows(folder / "runs/digits-seed0/whole-dataset/metrics.csv")[0]["train_loss"])
        )
    assert results[0] == pytest.approx(
        results[1], rel=0.02
    )  # half batches of 719 have nearly the whole's statistics
