"""Every script through the shell, on the digits at a tiny schedule: files, columns, counts, learning."""

import json
from pathlib import Path

import pytest
import torch
from shell import RANDOM_BASELINE, SCRIPTS, TINY, rows, run, times

from models import build

RUNS = (
    "main-confidence",
    "main-random",
    "cold-start-interval",
    "cold-start-random",
    "whole-dataset",
)
METRICS = "cycle,labels,epoch,lr,train_loss,train_accuracy,test_loss,test_accuracy,best_accuracy,seconds"
LABELS = 71  # a fifth of the smaller batches: 1438 images in 4 batches are 360, 360, 359, 359


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_rotation_learns(finished: Path):
    """Chance is 25 %. Two epochs at width 8 reach about 90 %; 60 is far from both."""
    table = rows(finished / "runs/digits-seed0/rotation/metrics.csv")
    assert [row["epoch"] for row in table] == ["0", "1"]
    assert float(table[-1]["test_accuracy"]) > 60
    weights = torch.load(finished / "checkpoint/digits-seed0/rotation.pth", weights_only=True)
    assert weights["acc"] == pytest.approx(max(float(row["test_accuracy"] or 0) for row in table), abs=1e-5)
    assert weights["epoch"] == 1 and weights["net"]["linear.weight"].shape == (4, 64)
    build(18, 8, 4).load_state_dict(weights["net"])


def test_losses_and_batches_hold_the_pool_once(finished: Path):
    folder = finished / "loss/digits-seed0"
    split = [line.split("_", 1) for line in lines(folder / "rotation_loss.txt")]
    batches = [lines(folder / f"batch_{i}.txt") for i in range(4)]
    assert [len(batch) for batch in batches] == [360, 360, 359, 359]
    order = sorted(range(1438), key=lambda i: -float(split[i][0]))
    assert [name for batch in batches for name in batch] == [split[i][1] for i in order]
    assert (
        sum(int(x) for row in rows(folder / "class_distribution.csv") for n, x in row.items() if n != "batch")
        == 1438
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_run_leaves_its_files(finished: Path, name: str):
    folder, cycles = finished / "runs/digits-seed0" / name, 3 if name.startswith("main") else 1
    labels = 1438 if name == "whole-dataset" else LABELS
    assert lines(folder / "metrics.csv")[0] == METRICS
    metrics, table, classes = (rows(folder / f"{x}.csv") for x in ("metrics", "cycles", "per_class"))
    assert [(row["cycle"], row["epoch"]) for row in metrics] == [
        (str(c), str(e)) for c in range(cycles) for e in range(3)
    ]
    assert [row["lr"] for row in metrics] == ["0.030000", "0.030000", "0.003000"] * cycles
    assert [bool(row["test_accuracy"]) for row in metrics] == [False, True, True] * cycles
    assert [int(row["labels"]) for row in table] == [labels * (c + 1) for c in range(cycles)]
    for row in table:
        tested = {
            int(m["epoch"]): float(m["test_accuracy"])
            for m in metrics
            if m["cycle"] == row["cycle"] and m["test_accuracy"]
        }
        assert float(row["best_accuracy"]) == max(tested.values()) == tested[int(row["best_epoch"])]
        assert float(row["last_accuracy"]) == tested[2]
        mine = [c for c in classes if c["cycle"] == row["cycle"]]
        assert [c["class"] for c in mine] == [str(i) for i in range(10)] and sum(
            int(c["support"]) for c in mine
        ) == 359
        # Recall weighted by support is accuracy, of the weights that the cycle is judged by.
        hits = sum(float(c["recall"]) * int(c["support"]) for c in mine)
        assert 100 * hits / 359 == pytest.approx(float(row["best_accuracy"]), abs=1e-3)
    chosen = [x for i in range(cycles) for x in lines(folder / f"labeled/cycle_{i}.txt")]
    assert len(chosen) == len(set(chosen)) == labels * cycles
    record = json.loads((folder / "config.json").read_text())
    assert (
        record["parameters"]["epochs"] == 3
        and len(record["inputs"]["data"]) == 64
        and record["made_with"]["torch"]
    )
    last = torch.load(finished / f"checkpoint/digits-seed0/{name}/last.pth", weights_only=True)
    for cycle in range(cycles):
        weights = torch.load(finished / f"checkpoint/digits-seed0/{name}/main_{cycle}.pth", weights_only=True)
        assert {"net", "acc", "epoch"} <= set(weights) and weights["num_classes"] == 10
        assert weights["record"] == last["record"] and weights["record"]["run"] == name
    assert last["finished"] and (last["cycle"], last["finished_epoch"]) == (cycles - 1, 2)
    assert last["record"] == {k: v for k, v in record.items() if k in last["record"]}


def test_main_takes_from_its_batch_and_the_first_cycle_at_even_intervals(finished: Path):
    batches = [lines(finished / f"loss/digits-seed0/batch_{i}.txt") for i in range(4)]
    picks = [lines(finished / f"runs/digits-seed0/main-confidence/labeled/cycle_{i}.txt") for i in range(3)]
    assert picks[0] == [batches[0][j * 360 // LABELS] for j in range(LABELS)]
    assert lines(finished / "runs/digits-seed0/cold-start-interval/labeled/cycle_0.txt") == picks[0]
    for batch, chosen in zip(batches, picks, strict=False):
        assert set(chosen) <= set(batch)
    spread = lines(finished / "runs/digits-seed0/main-random/labeled/cycle_0.txt")
    assert all(set(spread) & set(batch) for batch in batches)


def test_the_classifier_learns(finished: Path):
    """Chance is 10 %. The whole pool for three epochs at width 8 gives about 80 %; 40 is far from both."""
    (row,) = rows(finished / "runs/digits-seed0/whole-dataset/cycles.csv")
    assert float(row["best_accuracy"]) > 40


def test_a_finished_run_says_so_and_changes_nothing(finished: Path):
    before = times(finished)
    for script in SCRIPTS:
        assert "is finished" in run(finished, script, "digits", *TINY).stdout
    assert times(finished) == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--strategy", "entropy", "--candidates", "all", "--init", "scratch"],
        ["--strategy", "class_balanced", "--select", "last", "--precision", "float32"],
        ["--strategy", "normalized_confidence", "--first-pick", "random", "--channel-order", "bgr"],
        ["--strategy", "margin", "--labels-per-cycle", "5", "--depth", "50"],
        ["--strategy", "interval", "--crop-padding", "0", "--flip", "--resident-share", "0"],
    ],
    ids=lambda flags: flags[1],
)
def test_settings_work_together(finished: Path, tmp_path: Path, flags: list[str]):
    """Hand-copied loss files are enough for main.py."""
    folder = tmp_path / "loss/digits-seed0"
    folder.mkdir(parents=True)
    for i in range(4):
        (folder / f"batch_{i}.txt").write_bytes((finished / f"loss/digits-seed0/batch_{i}.txt").read_bytes())
    run(tmp_path, "main.py", "digits", *TINY, "--epochs", "1", "--cycles", "2", *flags)
    table = rows(tmp_path / f"runs/digits-seed0/main-{flags[1]}/cycles.csv")
    assert len(table) == 2 and all(0 <= float(row["last_accuracy"]) <= 100 for row in table)
    chosen = [lines(tmp_path / f"runs/digits-seed0/main-{flags[1]}/labeled/cycle_{i}.txt") for i in range(2)]
    assert len({x for picks in chosen for x in picks}) == 2 * (5 if "--labels-per-cycle" in flags else LABELS)


def test_the_random_baseline_needs_no_batches(tmp_path: Path):
    run(tmp_path, "main.py", "digits", *TINY, *RANDOM_BASELINE, "--epochs", "1", "--cycles", "1")
    assert not (tmp_path / "loss").exists()


def test_scores_do_not_depend_on_the_scoring_batch_size(finished: Path, tmp_path: Path):
    """Losses at batch size 7 and 500 differ by float32 rounding: a thousandth of a percent of the largest."""
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    run(tmp_path, "make_batches.py", "digits", *TINY, "--eval-batch-size", "7")
    ours, theirs = (
        torch.tensor(
            [float(line.split("_")[0]) for line in lines(folder / "loss/digits-seed0/rotation_loss.txt")]
        )
        for folder in (tmp_path, finished)
    )
    assert torch.allclose(ours, theirs, atol=1e-5 * theirs.max().item(), rtol=1e-4)
