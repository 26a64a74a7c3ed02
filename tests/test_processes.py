from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shell import TINY, rows, run

from utils.files import load_checkpoint
from utils.processes import shard
from utils.seeding import epoch_order

FLAGS = ["--precision", "float32", "--threads", "1"]
SCRIPTS = ("rotation.py", "make_batches.py", "main.py")


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


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    for script in SCRIPTS:
        run(folder, script, "digits", *TINY, *FLAGS)
    return folder


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_score_and_pick_as_one(alone: Path, tmp_path: Path, processes: int):
    """Losses agree within float32 rounding; from the same batches, the first picks are the same."""
    (tmp_path / "checkpoint").symlink_to(alone / "checkpoint")
    run(tmp_path, "make_batches.py", "digits", *TINY, *FLAGS, processes=processes)
    losses = [
        torch.tensor(
            [
                float(x.split("_")[0])
                for x in (f / "loss/digits-seed0/rotation_loss.txt").read_text().splitlines()
            ]
        )
        for f in (alone, tmp_path)
    ]
    assert torch.allclose(*losses, rtol=1e-4, atol=1e-5)


def test_two_processes_train_resume_on_one_and_stay_in_step(alone: Path, tmp_path: Path):
    """Batch norm sees half batches, so weights differ from one process; files, labels and columns do not."""
    for script in SCRIPTS:
        run(tmp_path, script, "digits", *TINY, *FLAGS, processes=2)
    ours, theirs = (
        rows(f / "runs/digits-seed0/main-confidence/metrics.csv") for f in (tmp_path, alone)
    )
    assert [(r["cycle"], r["labels"], r["epoch"], r["lr"]) for r in ours] == [
        (r["cycle"], r["labels"], r["epoch"], r["lr"]) for r in theirs
    ]
    state = load_checkpoint(tmp_path / "checkpoint/digits-seed0/main-confidence/last.pth")
    assert state["finished"] and all(w.isfinite().all() for w in state["net"].values())
    done = run(tmp_path, "main.py", "digits", *TINY, *FLAGS)
    assert "is finished" in done.stdout


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
            *FLAGS,
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
