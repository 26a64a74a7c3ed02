"""Every script through the shell, at a short schedule: files, columns, counts, learning."""

import json
from pathlib import Path

import pytest
import torch
from shell import EXPERIMENT, LABELS, POOL, RANDOM_BASELINE, SCRIPTS, TEST, rows, run_tiny, times

from models import build

RUNS = ("main-confidence", "main-random", "cold-start-interval", "cold-start-random", "whole-dataset")
METRICS = "cycle,labels,epoch,lr,train_loss,train_accuracy,test_loss,test_accuracy,best_accuracy,seconds"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def losses(folder: Path) -> list[list[str]]:
    """Loss and id of every image, as texts."""
    return [line.split("_", 1) for line in lines(folder / f"loss/{EXPERIMENT}/rotation_loss.txt")]


# --- on all digits: what is learned


def test_rotation_learns(digits: Path):
    """Chance is 25 %. An epoch at width 8 reaches about 80 %; 60 is far from both."""
    (row,) = rows(digits / f"runs/{EXPERIMENT}/rotation/metrics.csv")
    assert float(row["test_accuracy"]) > 60
    weights = torch.load(digits / f"checkpoint/{EXPERIMENT}/rotation.pth", weights_only=True)
    assert weights["acc"] == pytest.approx(float(row["test_accuracy"]), abs=1e-5)
    assert weights["epoch"] == 0 and weights["net"]["linear.weight"].shape == (4, 64)
    build(18, 8, 4).load_state_dict(weights["net"])


def test_the_classifier_learns(digits: Path):
    """Chance is 10 %. The whole pool for an epoch at width 8 gives about 90 %; 40 is far from both."""
    (row,) = rows(digits / f"runs/{EXPERIMENT}/whole-dataset/cycles.csv")
    assert float(row["best_accuracy"]) > 40 and row["labels"] == "1438"


def test_sizes_that_do_not_divide(digits: Path):
    """1,438 images in 4 batches: the larger ones first, and a fifth of the smaller ones to label."""
    folder = digits / f"loss/{EXPERIMENT}"
    batches = [lines(folder / f"batch_{i}.txt") for i in range(4)]
    assert [len(batch) for batch in batches] == [360, 360, 359, 359]
    check_order(digits, batches)
    picks = [lines(digits / f"runs/{EXPERIMENT}/main-confidence/labeled/cycle_{i}.txt") for i in range(2)]
    assert picks[0] == [batches[0][j * 360 // 71] for j in range(71)]
    assert len(set(picks[1])) == 71 and set(picks[1]) <= set(batches[1])


def check_order(folder: Path, batches: list[list[str]]) -> None:
    """The batches hold the pool once, hardest first, and their classes are counted."""
    pairs = losses(folder)
    order = sorted(range(len(pairs)), key=lambda i: -float(pairs[i][0]))
    assert [name for batch in batches for name in batch] == [pairs[i][1] for i in order]
    table = rows(folder / f"loss/{EXPERIMENT}/class_distribution.csv")
    assert sum(int(x) for row in table for n, x in row.items() if n != "batch") == len(pairs)


# --- on few: what is left behind


def test_losses_and_batches_hold_the_pool_once(finished: Path):
    batches = [lines(finished / f"loss/{EXPERIMENT}/batch_{i}.txt") for i in range(4)]
    assert [len(batch) for batch in batches] == [POOL // 4] * 4
    check_order(finished, batches)


def test_rotation_keeps_its_best_epoch(finished: Path):
    table = rows(finished / f"runs/{EXPERIMENT}/rotation/metrics.csv")
    assert [row["epoch"] for row in table] == ["0", "1"]
    weights = torch.load(finished / f"checkpoint/{EXPERIMENT}/rotation.pth", weights_only=True)
    assert weights["acc"] == pytest.approx(max(float(row["test_accuracy"] or 0) for row in table), abs=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_leaves_its_files(finished: Path, name: str):
    folder, cycles = finished / f"runs/{EXPERIMENT}" / name, 3 if name.startswith("main") else 1
    labels = POOL if name == "whole-dataset" else LABELS
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
        assert [(c["class"], c["support"]) for c in mine] == [(str(i), "3") for i in range(10)]
        # Recall weighted by support is accuracy, of the weights that the cycle is judged by.
        hits = sum(float(c["recall"]) * int(c["support"]) for c in mine)
        assert 100 * hits / TEST == pytest.approx(float(row["best_accuracy"]), abs=1e-3)
    chosen = [x for i in range(cycles) for x in lines(folder / f"labeled/cycle_{i}.txt")]
    assert len(chosen) == len(set(chosen)) == labels * cycles
    record = json.loads((folder / "config.json").read_text())
    assert record["parameters"]["epochs"] == 3 and record["made_with"]["torch"]
    assert len(record["inputs"]["data"]) == 64
    last = torch.load(finished / f"checkpoint/{EXPERIMENT}/{name}/last.pth", weights_only=True)
    for cycle in range(cycles):
        weights = torch.load(finished / f"checkpoint/{EXPERIMENT}/{name}/main_{cycle}.pth", weights_only=True)
        assert {"net", "acc", "epoch"} <= set(weights) and weights["num_classes"] == 10
        assert weights["record"] == last["record"] and weights["record"]["run"] == name
    assert last["finished"] and (last["cycle"], last["finished_epoch"]) == (cycles - 1, 2)
    assert last["record"] == {k: v for k, v in record.items() if k in last["record"]}


def test_main_takes_from_its_batch_and_the_first_cycle_at_even_intervals(finished: Path):
    batches = [lines(finished / f"loss/{EXPERIMENT}/batch_{i}.txt") for i in range(4)]
    picks = [lines(finished / f"runs/{EXPERIMENT}/main-confidence/labeled/cycle_{i}.txt") for i in range(3)]
    assert picks[0] == [batches[0][j * (POOL // 4) // LABELS] for j in range(LABELS)]
    assert lines(finished / f"runs/{EXPERIMENT}/cold-start-interval/labeled/cycle_0.txt") == picks[0]
    for batch, chosen in zip(batches, picks, strict=False):
        assert set(chosen) <= set(batch)
    random = finished / f"runs/{EXPERIMENT}/main-random/labeled"
    spread = {x for i in range(3) for x in lines(random / f"cycle_{i}.txt")}
    assert all(spread & set(batch) for batch in batches)


def test_a_finished_run_says_so_and_changes_nothing(finished: Path):
    before = times(finished)
    for script in SCRIPTS:
        assert "is finished" in run_tiny(finished, script).stdout
    assert times(finished) == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--strategy", "entropy", "--candidates", "all", "--init", "scratch"],
        ["--strategy", "class_balanced", "--select", "last", "--precision", "float32"],
        ["--strategy", "normalized_confidence", "--first-pick", "random", "--channel-order", "bgr"],
        ["--strategy", "margin", "--labels-per-cycle", "7", "--depth", "50"],
        ["--strategy", "interval", "--crop-padding", "0", "--flip", "--resident-share", "0"],
    ],
    ids=lambda flags: flags[1],
)
def test_settings_work_together(finished: Path, tmp_path: Path, flags: list[str]):
    """Hand-copied loss files are enough for main.py."""
    folder = tmp_path / f"loss/{EXPERIMENT}"
    folder.mkdir(parents=True)
    for i in range(4):
        (folder / f"batch_{i}.txt").write_bytes((finished / f"loss/{EXPERIMENT}/batch_{i}.txt").read_bytes())
    run_tiny(tmp_path, "main.py", "--epochs", "1", "--cycles", "2", *flags)
    table = rows(tmp_path / f"runs/{EXPERIMENT}/main-{flags[1]}/cycles.csv")
    assert len(table) == 2 and all(0 <= float(row["last_accuracy"]) <= 100 for row in table)
    chosen = [lines(tmp_path / f"runs/{EXPERIMENT}/main-{flags[1]}/labeled/cycle_{i}.txt") for i in range(2)]
    assert len({x for picks in chosen for x in picks}) == 2 * (7 if "--labels-per-cycle" in flags else LABELS)


def test_the_random_baseline_needs_no_batches(tmp_path: Path):
    run_tiny(tmp_path, "main.py", *RANDOM_BASELINE, "--epochs", "1", "--cycles", "1")
    assert not (tmp_path / "loss").exists()


def test_scores_do_not_depend_on_the_scoring_batch_size(finished: Path, tmp_path: Path):
    """Losses at batch size 7 and 500 differ by float32 rounding: a thousandth of a percent of the largest."""
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    run_tiny(tmp_path, "make_batches.py", "--eval-batch-size", "7")
    ours, theirs = (torch.tensor([float(loss) for loss, _ in losses(x)]) for x in (tmp_path, finished))
    assert torch.allclose(ours, theirs, atol=1e-5 * theirs.max().item(), rtol=1e-4)
