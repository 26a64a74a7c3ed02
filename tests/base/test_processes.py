"""Several processes: how work is shared out, what they agree on, and what happens when one is lost."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shell import (
    EXPERIMENT,
    RUN,
    SHORT,
    TINY,
    WEIGHTS,
    command,
    copy,
    environment,
    environment_of,
    epochs_of,
    one_error,
    refused,
    rows,
    run,
    run_tiny,
    says,
    start_all,
    stop_after,
    tree,
)

from pt4al.base.files import load_checkpoint
from pt4al.base.processes import shard
from pt4al.train.seeding import epoch_order

pytestmark = pytest.mark.slow  # many starts of a script


# --- shares


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


# --- the same work


def test_several_processes_score_as_one(finished: Path, tmp_path: Path):
    """Losses agree within float32 rounding, and name the same images in the same order."""
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    run_tiny(tmp_path, "make_batches.py", processes=3)
    tables = [
        [line.split("_", 1) for line in (f / f"loss/{EXPERIMENT}/rotation_loss.txt").read_text().splitlines()]
        for f in (finished, tmp_path)
    ]
    losses = [torch.tensor([float(loss) for loss, _ in table]) for table in tables]
    assert torch.allclose(*losses, rtol=1e-4, atol=1e-5)
    assert [name for _, name in tables[0]] == [name for _, name in tables[1]]


def test_processes_stay_the_same_or_stop(tmp_path: Path):
    """Weights are alike bit for bit, batch norm's statistics included, also when the last batch is too small
    for all; other data is told, and weights that drift apart end the run."""
    done = run(tmp_path, "tests/each_rank.py", str(tmp_path), status=1, processes=3)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert len({one["weights"] for one in told}) == 1 and len(told[0]["weights"]) == 64
    for one in told:
        says(one["other data"], "process 1", "process 0", "data")
    says(done.stderr, "AssertionError", "weights")
    assert not any("drifted" in one for one in told)


def test_gradients_and_losses_of_two_processes_are_those_of_one(tmp_path: Path):
    """Without batch norm's statistics in the way: half batches of 719 have nearly the whole's."""
    losses = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        flags = [*SHORT, "--epochs", "1", "--batch-size", "1438"]
        run(folder, "whole_dataset.py", "digits", *flags, processes=processes)
        losses.append(float(rows(folder / f"runs/{EXPERIMENT}/whole-dataset/metrics.csv")[0]["train_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_idle_processes_count_for_nothing(tmp_path: Path):
    """With one image a step all work falls to rank 0: two processes end with the weights of one."""
    flags = ["--first-pick", "random", "--labels-per-cycle", "8", "--batch-size", "1", "--run-name", "x"]
    tables = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        run_tiny(folder, "main_pt4al.py", *flags, processes=processes)
        table = rows(folder / f"runs/{EXPERIMENT}/x/metrics.csv")
        tables.append([(row["test_accuracy"], row["test_loss"]) for row in table])
    assert tables[0] == tables[1]


# --- from one number of processes to another


def test_a_run_goes_on_with_the_same_picks_on_another_number_of_processes(finished: Path, tmp_path: Path):
    """One process trains cycle 0, three score and pick for cycle 1, two finish: each step may change."""
    folder = copy(finished, tmp_path, "main-confidence")
    stop_after(folder, 3, signal.SIGTERM)
    stop_after(folder, 2, signal.SIGTERM, processes=3)
    for cycle in (0, 1):
        ours, theirs = ((f / RUN / f"labeled/cycle_{cycle}.txt").read_text() for f in (folder, finished))
        assert ours == theirs
    assert epochs_of(run_tiny(folder, "main.py", processes=2).stdout)[0] > (1, 0)
    metrics = rows(folder / RUN / "metrics.csv")
    assert [(int(r["cycle"]), int(r["epoch"])) for r in metrics] == [
        (c, e) for c in range(3) for e in range(3)
    ]


def test_a_process_that_dies_takes_the_run_down_and_it_goes_on(finished: Path, tmp_path: Path):
    """The other one saves the last epoch, though none is due."""
    folder = copy(finished, tmp_path, "main-confidence")
    first, victim = start_all(folder, "main.py", epochs=5, processes=2, hold=(5, 1), saving_share=-1)
    victim.kill()
    one_error(first.communicate(100)[1], "main.py", "process 0 of 2")
    assert first.returncode != 0
    state = load_checkpoint(folder / WEIGHTS / "last.pth")
    assert (state["cycle"], state["finished_epoch"]) >= (1, 1)
    assert epochs_of(run_tiny(folder, "main.py").stdout)[0] > (1, 1)
    assert len(rows(folder / RUN / "metrics.csv")) == 9


def test_torchrun(finished: Path, tmp_path: Path):
    """Itself, with a process that dies; then two processes train to the end. Batch norm sees half batches, so
    weights differ from those of one process; first picks and numbers of labels do not."""
    (tmp_path / "loss").symlink_to(finished / "loss")
    flags = ["--epochs", "6"]
    process = subprocess.Popen(
        command("main.py", "digits", *TINY, *flags, processes=2), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen = 0
    while seen < 5:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        seen += " epoch " in line
    victim = next(pid for pid in tree(process.pid) if environment_of(pid).get("RANK") == "1")
    os.kill(victim, signal.SIGKILL)
    error = process.communicate(timeout=100)[1]
    assert process.returncode != 0
    # Whichever is first: the other process finds that one is lost, or torchrun stops it.
    assert "process 0 of 2" in error or "SIGTERM" in error
    assert epochs_of(run_tiny(tmp_path, "main.py", *flags, processes=2).stdout)[0] > (0, 4)  # the fifth
    table = rows(tmp_path / RUN / "metrics.csv")
    assert [row["labels"] for row in table[::6]] == [
        row["labels"] for row in rows(finished / RUN / "metrics.csv")[::3]
    ]
    assert len(table) == 18 and float(table[-1]["train_accuracy"]) > 20  # chance is 10 %
    first = [(f / RUN / "labeled/cycle_0.txt").read_text() for f in (tmp_path, finished)]
    assert first[0] == first[1]
    assert epochs_of(run_tiny(tmp_path, "main.py", *flags).stdout) == []


# --- what a launcher left in the environment


def test_a_rank_left_in_the_environment_means_nothing(finished: Path, tmp_path: Path):
    given = str(finished / f"loss/{EXPERIMENT}/rotation_loss.txt")
    run_tiny(tmp_path, "make_batches.py", "--losses", given, RANK="1", LOCAL_RANK="1")
    assert (tmp_path / f"loss/{EXPERIMENT}/batch_3.txt").exists()


@pytest.mark.parametrize(
    ("said", "variables"),
    [("WORLD_SIZE", {"WORLD_SIZE": "abc"}), ("MASTER_ADDR", {"WORLD_SIZE": "2", "RANK": "1"}),
     ("RANK", {"WORLD_SIZE": "2", "RANK": "5", "MASTER_ADDR": "localhost", "MASTER_PORT": "29999"}),
     ("MASTER_PORT", {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "x"})],
)  # fmt: skip
def test_a_world_left_in_the_environment_is_checked(tmp_path: Path, said: str, variables: dict[str, str]):
    flags = ["--first-pick", "random"]
    refused(tmp_path, "main_pt4al.py", *flags, says=(said, "torchrun"), **variables)
