import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from shell import TINY, command, environment, load_program, rows, run


def is_picture(path: Path, width: int) -> bool:
    """A PNG at least so wide that is not one colour."""
    with Image.open(path) as image:
        return (
            image.format == "PNG" and image.width >= width and len(image.convert("RGB").getcolors(2**24)) > 20
        )


def test_plot_curves_draws_and_prints_a_run(finished: Path, tmp_path: Path):
    source = finished / "runs/digits-seed0/main-confidence"
    done = run(tmp_path, "utils/plot_curves.py", str(source), "--out", "a/b.png", "--title", "A title")
    assert done.stdout.splitlines()[-1] == "a/b.png" and is_picture(tmp_path / "a/b.png", 1000)
    table = rows(source / "cycles.csv")
    best = [float(row["best_accuracy"]) for row in table]
    printed = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:-1]}
    assert [float(printed[str(i)][1]) for i in range(3)] == pytest.approx(best, rel=1e-4)
    last = [float(row["last_accuracy"]) for row in table]
    means = [float(x) for x in printed["mean"]]  # of the accuracies alone, and no spread
    assert means == pytest.approx([np.mean(best), np.mean(last)], rel=1e-4) and "std" not in printed


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("cycles.csv", "cycle,lab\n0,1\n", "no column 'labels'"),
        ("cycles.csv", "cycle,labels\n0\n", "cycles.csv has a row of more or fewer fields than its header"),
        ("metrics.csv", "", "metrics.csv is missing or empty: is it a run folder?"),
        ("labeled/cycle_0.txt", "x\n", "a line of labeled/ is no image id"),
    ],
)
def test_plot_curves_says_what_is_wrong_in_words(
    finished: Path, tmp_path: Path, file: str, text: str, said: str
):
    folder = tmp_path / "run"
    shutil.copytree(finished / "runs/digits-seed0/main-confidence", folder)
    (folder / file).write_text(text)
    done = run(tmp_path, "utils/plot_curves.py", "run", status=2)
    assert done.stderr == f"plot_curves.py: error: run cannot be drawn: {said}\n"


def test_plot_curves_draws_rotation_too(finished: Path, tmp_path: Path):
    done = run(
        tmp_path,
        "utils/plot_curves.py",
        str(finished / "runs/digits-seed0/rotation"),
        "--out",
        "r.png",
    )
    assert is_picture(tmp_path / "r.png", 1000) and "mean" not in done.stdout


# --- generate_acc_curves.py: made-up runs


CURVES = load_program("generate_acc_curves")
HEADER = "cycle,labels,best_accuracy,best_epoch,last_accuracy,seconds"
INPUTS = {
    "data": "d0",
    "test_data": "t0",
    "batches": "b0",
    "files": {"batch_0.txt": "f0"},
    "batches_made_from": {"sort": "numeric", "num_batches": 10, "weights": "w0"},
}
Curves = Callable[..., str]


def make_run(
    folder: Path, accuracies: list[float], seed: int | None = None, step: int = 10, **changes: Any
) -> str:
    """A run folder with a hand-written cycles.csv: step, 2 step, ... labels; last is 1 below best.

    With a seed also a config.json; `changes` go into its parameters, those named as another part of
    it into that.
    """
    folder.mkdir(parents=True)
    lines = [f"{i},{step * (i + 1)},{a},0,{a - 1},1.0" for i, a in enumerate(accuracies)]
    (folder / "cycles.csv").write_text("\n".join([HEADER, *lines, ""]))
    if seed is not None:
        record = {"version": 2, "script": "main.py", "parameters": {"seed": seed, "epochs": 30}, "inputs": INPUTS,
                  "other_parameters": {"threads": 1}, "made_with": {"torch": "2.14.1", "git_commit": "c0"}}  # fmt: skip
        for name, value in changes.items():
            if isinstance(record.get(name), dict):
                record[name] = {**record[name], **value}
            else:
                (record if name in record else record["parameters"])[name] = value
        (folder / "config.json").write_text(json.dumps(record))
    return str(folder)


def make_runs(folder: Path, name: str, *accuracies: list[float], **changes: Any) -> list[str]:
    """Seeds 0, 1, ... of one method."""
    return [make_run(folder / f"s{i}" / name, a, i, **changes) for i, a in enumerate(accuracies)]


@pytest.fixture
def curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Curves:
    """Run generate_acc_curves.py within this process, in tmp_path. Gives what it prints; where a
    status is asked for, its one line of error, after which no file may differ from before."""

    def start(*arguments: str, status: int = 0) -> str:
        before = snapshot(tmp_path)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["generate_acc_curves.py", *arguments])
        try:
            CURVES.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        done = capsys.readouterr()
        assert code == status, done
        if status == 0:
            assert not done.err and not re.search(r"\bnan\b", done.out, re.IGNORECASE)
            return done.out
        assert re.fullmatch(r"generate_acc_curves.py: error: .+\n", done.err) and not done.out
        assert snapshot(tmp_path) == before
        return done.err

    return start


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def table_of_differences(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The rows by method and quantity, those of single numbers of labels apart; nothing is NaN."""
    table = rows(path)
    assert "nan" not in path.read_text().lower()
    return {(row["method"], row["quantity"]): row for row in table if row["quantity"] != "point"}


# --- generate_acc_curves.py: one method


def test_generate_acc_curves_pools_seeds_by_name(tmp_path: Path):
    runs = [
        make_run(tmp_path / "runs/s0/main-confidence", [50, 70, 80]),
        make_run(tmp_path / "runs/s1/main-confidence", [54, 70, 90]),
        make_run(tmp_path / "runs/s0/main-random", [40, 50, 60]),
        make_run(tmp_path / "runs/s0/whole-dataset", [95]),
    ]
    done = run(tmp_path, "utils/generate_acc_curves.py", *runs, "--out", "curves.png")
    assert is_picture(tmp_path / "curves.png", 800)
    table = {(row["method"], row["labels"]): row for row in rows(tmp_path / "curves.csv")}
    first, last = table["main-confidence", "10"], table["main-confidence", "30"]
    assert (first["n"], first["best_mean"], first["best_values"]) == (
        "2",
        "52.0000",
        "50 54",
    )
    assert float(last["best_std"]) == pytest.approx(50**0.5, abs=1e-3)
    assert last["last_mean"] == "84.0000" and last["seeds"] == "? ?"
    # Trapezoids: (50+70)/2*10 + (70+80)/2*10 = 1350 over 20 labels = 67.5; the other seed 71.
    assert table["main-confidence", "area"]["best_values"] == "67.5 71"
    assert table["main-random", "30"]["best_std"] == ""
    assert table["main-random", "area"]["best_mean"] == "50.0000"
    assert "85.00 ± 7.07" in done.stdout and "95.00" in done.stdout
    assert "seed unknown, settings not compared" in done.stdout
    assert not (tmp_path / "curves_differences.csv").exists()


def test_values_stand_in_the_order_of_the_seeds(tmp_path: Path, curves: Curves):
    runs = [make_run(tmp_path / f"s{seed}/m", [50 + seed], seed) for seed in (10, 2, 0)]
    curves(*runs, "--out", "x.png")
    row = rows(tmp_path / "x.csv")[0]
    assert (row["seeds"], row["best_values"]) == ("0 2 10", "50 52 60")


def test_what_a_spreadsheet_saves_is_read(tmp_path: Path, curves: Curves):
    table = Path(make_run(tmp_path / "a/m", [50, 60]), "cycles.csv")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"cycle,", b"", 1).replace(b"\n", b"\r\n"))
    table.write_bytes(re.sub(rb"(?m)^\d,(?=\d\d,)", b"", table.read_bytes()))
    curves(str(table.parent), "--out", "x.png")
    assert [row["best_mean"] for row in rows(tmp_path / "x.csv")] == [
        "50.0000",
        "60.0000",
        "55.0000",
    ]


def test_what_a_run_writes_is_read(finished: Path, tmp_path: Path, curves: Curves):
    names = ("main-confidence", "main-random", "whole-dataset", "cold-start-interval", "cold-start-random")
    runs = [str(finished / "runs/digits-seed0" / name) for name in names]
    printed = curves(*runs, "--out", "x.png", "--baseline", "main-random")
    assert {row["seeds"] for row in rows(tmp_path / "x.csv")} == {"0"}
    table = table_of_differences(tmp_path / "x_differences.csv")
    last = [float(rows(Path(folder) / "cycles.csv")[-1]["last_accuracy"]) for folder in runs[:2]]
    final = float(table["main-confidence", "final"]["difference"])
    assert final == pytest.approx(last[0] - last[1], abs=1e-3)
    # What a reader must know, and nothing that follows from another script or from batches that random lacks.
    notes = [line for line in printed.splitlines() if " is " in line and line.startswith("note: ")]
    assert notes == [
        "note: main-confidence and main-random: candidates is batch and all, first_pick is interval and random, "
        "strategy is confidence and random",
        "note: cold-start-interval and main-random: first_pick is interval and random",
    ]
    assert printed.splitlines()[-3:] == ["x.png", "x.csv", "x_differences.csv"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 31}, "epochs is 30 and 31"),
        ({"milestones": [20]}, "milestones is absent and [20]"),
        ({"script": "main_pt4al.py"}, "script is main.py and main_pt4al.py"),
        ({"inputs": {"data": "d1"}}, "data is d0 and d1"),
        ({"inputs": {"test_data": "t1"}}, "test_data is t0 and t1"),
        ({"inputs": {"data": "d1"}, "imbalance": 1}, "data is d0 and d1"),
        ({"inputs": {"batches_made_from": {"sort": "text", "num_batches": 10}}}, "sort is numeric and text"),
        ({"inputs": {"batches_made_from": {"sort": "numeric", "num_batches": 5}}}, "num_batches is 10 and 5"),
        (
            {"inputs": {"batches_made_from": {**INPUTS["batches_made_from"], "losses": "l1"}}},
            "losses is absent and l1",
        ),
        ({"inputs": {"batches_made_from": None}}, "sort is numeric and absent"),
    ],
)
def test_runs_that_are_not_seeds_of_one_method_are_refused(
    tmp_path: Path, curves: Curves, changes: dict, said: str
):
    a, b = make_run(tmp_path / "a/m", [1, 2], 0), make_run(tmp_path / "b/m", [1, 2], 1, **changes)
    error = curves(b, a, status=2)
    assert f"{a} and {b} are not seeds of one method" in error and said in error


@pytest.mark.parametrize(
    "changes",
    [
        {"other_parameters": {"threads": 8}},
        {"inputs": {"batches": "b1", "files": {"batch_0.txt": "f1"}}},
        {"inputs": {"batches_made_from": {"sort": "numeric", "num_batches": 10, "weights": "w1", "seed": 1}}},
        {"inputs": {"data": "d1"}, "imbalance": 10},
        {"inputs": {"test_data": "t1"}, "test_labels": 50},
    ],
)
def test_what_follows_from_the_seed_or_the_machine_may_differ(tmp_path: Path, curves: Curves, changes: dict):
    shared = {k: v for k, v in changes.items() if k in ("imbalance", "test_labels")}
    a = make_run(tmp_path / "a/m", [1, 2], 0, **shared)
    b = make_run(tmp_path / "b/m", [1, 2], 1, **changes)
    assert "note" not in curves(a, b)


def test_seeds_of_two_precisions_are_pooled_and_noted(tmp_path: Path, curves: Curves):
    m0 = make_run(tmp_path / "a/m", [1, 2], 0, precision="float32")
    m1 = make_run(tmp_path / "b/m", [1, 2], 1, precision="bf16")
    x0 = make_run(tmp_path / "a/x", [1, 2], 0, precision="float32")
    x1 = make_run(tmp_path / "b/x", [1, 2], 1, precision="float32")
    y1 = make_run(tmp_path / "b/y", [1, 2], 1, precision="bf16")
    told = curves(m0, m1, x0, x1, y1, "--baseline", "m")
    assert "not all runs of m are of one precision: seed 0 float32, seed 1 bf16" in told
    assert "x and m are of two precisions with seed 1\n" in told
    assert "runs of x" not in told and "y and m are of two precisions" not in told


def test_seeds_of_other_numbers_of_cycles_are_pooled_and_noted(tmp_path: Path, curves: Curves):
    short = make_run(tmp_path / "a/m", [1, 2], 0, cycles=2)
    long = make_run(tmp_path / "b/m", [3, 4, 5], 1, cycles=3)
    printed = curves(short, long, "--out", "x.png")
    assert f"the curve of m ends after 2 of 3 cycles, as {short} does" in printed
    assert [row["best_mean"] for row in rows(tmp_path / "x.csv")] == ["2.0000", "3.0000", "2.5000"]


def test_other_versions_and_machines_are_one_note(tmp_path: Path, curves: Curves):
    made_with = {"torch": "2.4.0", "device": "A100"}
    a, b = (make_run(tmp_path / f"{x}/m", [1], seed) for x, seed in (("a", 0), ("b", 1)))
    c = make_run(tmp_path / "c/other", [1], 0, made_with=made_with)
    notes = [line for line in curves(a, b, c).splitlines() if "made with" in line]
    assert len(notes) == 1
    assert "torch (2.14.1 / 2.4.0)" in notes[0] and "device (absent / A100)" in notes[0]
    assert "git_commit" not in notes[0]


def test_one_run_counts_once(tmp_path: Path, curves: Curves):
    a, b = make_run(tmp_path / "a/m", [1, 2], 3), make_run(tmp_path / "b/m", [1, 2], 3)
    assert f"{a} and {b} are both seed 3 of m" in curves(a, b, status=2)
    (tmp_path / "link").symlink_to(a)
    assert "are the same run" in curves(a, "a/m", status=2)
    assert f"{a} and link are the same run" in curves(a, "link", status=2)
    # Of another data set: it is that which is wrong, not the seed.
    c = make_run(tmp_path / "c/m", [1, 2], 3, dataset="digits", inputs={"data": "d1"})
    said = "are not seeds of one method: data is d0 and d1, dataset is absent and digits"
    assert f"{a} and {c} {said}\n" in curves(a, c, status=2)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "missing or empty"),
        (HEADER, "missing or empty"),
        ("epoch,loss\n0,1\n", "has no column 'labels'"),
        ("cycle,labels,best_accuracy\n0,10,50\n", "has no column 'last_accuracy'"),
        (f"{HEADER}\n0,10,50,0,half,1\n", "'half'"),
        (f"{HEADER}\n0,ten,50,0,49,1\n", "'ten'"),
        (f"{HEADER}\n0,10,,,,1\n", "without a test set"),
        (f"{HEADER}\n0,10,nan,0,49,1\n", "not between 0 and 100"),
        (f"{HEADER}\n0,10,50,0,101,1\n", "not between 0 and 100"),
        (f"{HEADER}\n0,10,50,0,49\n", "more or fewer fields"),
        (f"{HEADER}\n0,10,50,0,49,1,1\n", "more or fewer fields"),
        (f"{HEADER}\n0,20,50,0,49,1\n1,10,50,0,49,1\n", "do not fall from row to row"),
        (f"{HEADER}\n0,10.5,50,0,49,1\n", "whole numbers"),
        (f"{HEADER}\n0,nan,50,0,49,1\n", "whole numbers"),
        (f"{HEADER}\n0,-10,50,0,49,1\n", "whole numbers"),
        ("\udcff\udcfe", "cannot be used"),
    ],
)
def test_foreign_tables_are_refused(tmp_path: Path, curves: Curves, table: str, said: str):
    good, bad = make_run(tmp_path / "a/m", [1, 2]), make_run(tmp_path / "b/m", [1, 2])
    (tmp_path / "b/m/cycles.csv").write_bytes(table.encode("utf-8", "surrogateescape"))
    error = curves(good, bad, status=2)
    assert said in error and f"{bad}/cycles.csv" in error


@pytest.mark.parametrize("text", ["{", "[", '{"version": 2}', '{"version": 2, "parameters": []}'])
def test_a_damaged_config_is_refused(tmp_path: Path, curves: Curves, text: str):
    folder = make_run(tmp_path / "a/m", [1, 2])
    (tmp_path / "a/m/config.json").write_text(text)
    assert f"{folder}/config.json is damaged" in curves(folder, status=2)


def test_a_config_of_another_version_is_as_good_as_none(tmp_path: Path, curves: Curves):
    a, b = (make_run(tmp_path / f"{x}/m", [1], 0, version=1) for x in "ab")
    assert f"no config.json of version 2 in {a}, {b}: seed unknown" in curves(a, b)


def test_generate_acc_curves_refuses_runs_that_do_not_compare(tmp_path: Path, curves: Curves):
    a, b = make_run(tmp_path / "a/m", [1, 2]), make_run(tmp_path / "b/m", [1, 2])
    text = (tmp_path / "b/m/cycles.csv").read_text()
    (tmp_path / "b/m/cycles.csv").write_text(text.replace(",20,", ",21,"))
    assert "cannot be pooled" in curves(a, b, status=2)
    for nothing in (str(tmp_path), str(tmp_path / "none")):
        assert "cycles.csv is missing" in curves(nothing, status=2)
    assert "is no table of curves of this program: 'method'" in curves(f"{a}/cycles.csv", status=2)
    assert not (tmp_path / "figures").exists()


# --- generate_acc_curves.py: its files


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("x.csv", "x.csv is no table of this program"),
        ("x", "ends in .png, .pdf or .svg"),
        ("folder", "ends in .png, .pdf or .svg"),
        ("folder.png", "is a folder"),
        ("taken.png", "is a folder"),
        ("a/m/cycles.png", "a/m/cycles.csv is no table of this program"),
        ("mine.png", "mine_differences.csv is no table of this program"),
        ("a/m/cycles.csv/x.png", "a/m/cycles.csv is no folder"),
    ],
)
def test_names_under_which_something_would_be_lost_are_refused(
    tmp_path: Path, curves: Curves, out: str, said: str
):
    runs = [make_run(tmp_path / "a" / name, [1, 2], 0) for name in "mr"]
    for folder in ("folder", "folder.png", "taken.csv"):
        (tmp_path / folder).mkdir()
    for name in ("x.csv", "mine_differences.csv"):
        (tmp_path / name).write_text("someone's,columns\n1,2\n")
    assert said in curves(*runs, "--baseline", "r", "--out", out, status=2)


def test_a_table_of_curves_is_as_good_as_its_runs(tmp_path: Path, curves: Curves):
    """The same differences and picture, also from values with six decimals; and only what is
    asked for."""
    paths = make_runs(tmp_path, "a", [33.333333, 50], [41, 61.000001])
    paths += make_runs(tmp_path, "b", [42, 51], [40.5, 66.666667]) + make_runs(tmp_path, "c", [40])
    printed = curves(*paths, "--baseline", "b", "--out", "all.csv")
    assert sorted(x.name for x in tmp_path.glob("*.*")) == ["all.csv", "all_differences.csv"]
    assert printed.endswith("\nall.csv\nall_differences.csv\n")
    curves("all.csv", "--baseline", "b", "--out", "again.png")
    differences = (tmp_path / "all_differences.csv").read_bytes()
    assert (tmp_path / "again_differences.csv").read_bytes() == differences
    assert not (tmp_path / "again.csv").exists()
    curves(*paths[:4], "--baseline", "b", "--out", "x.png")
    printed = curves("all.csv", "--methods", "a", "--baseline", "b", "--out", "y.png")
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
    assert "single run" not in printed
    mine = make_runs(tmp_path, "mine", [43, 52])
    curves(*mine, "all.csv", "--baseline", "b", "--out", "z.png")
    assert {row["method"] for row in rows(tmp_path / "z.csv")} == {"mine", "a", "b", "c"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("all.csv --methods a d", "there is no d, but a, b"),
        ("all.csv runs/m --out all.png --baseline b", "all.csv is read, and would be written"),
        ("all.csv --out new.csv", "new.csv: the name of a picture ends in .png, .pdf or .svg\n"),
        ("all.csv s0/a", "all.csv holds a, which is given once more"),
        ("all_differences.csv", "all_differences.csv is no table of curves of this program: 'labels'"),
        ("cut.csv", "cut.csv is no table of curves of this program: cannot reshape"),
        ("high.csv", "labels or accuracies of a are out of order or range"),
        ("empty.csv", "empty.csv holds no curve"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, curves: Curves, command: str, said: str):
    paths = make_runs(tmp_path, "a", [40, 50], [41, 60]) + make_runs(tmp_path, "b", [42, 51])
    make_run(tmp_path / "runs/m", [40, 50], 0)
    curves(*paths, "--baseline", "b", "--out", "all.csv")
    text = (tmp_path / "all.csv").read_text()
    (tmp_path / "cut.csv").write_text(text.replace(",0 1\n", ",0 1 2\n"))
    (tmp_path / "high.csv").write_text(text.replace("40 41", "40 141"))
    (tmp_path / "empty.csv").write_text(text.splitlines(True)[0])
    assert said in curves(*command.split(), status=2)


def test_files_are_replaced_whole_or_not_at_all(
    tmp_path: Path, curves: Curves, monkeypatch: pytest.MonkeyPatch
):
    runs = make_runs(tmp_path, "m", [1, 2], [2, 3])
    curves(*runs, "--out", "x.png")
    curves(*runs[:1], "--out", "x.png")  # one's own files are replaced
    assert {row["n"] for row in rows(tmp_path / "x.csv")} == {"1"}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left" in curves(*runs, "--out", "x.png", status=2)


def test_a_reader_may_leave_early(tmp_path: Path):
    folder = make_run(tmp_path / "a/m", [1, 2])
    process = subprocess.Popen(
        command("utils/generate_acc_curves.py", folder),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 0
    assert is_picture(tmp_path / "figures/learning_curves.png", 800)


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_window(curves: Curves, monkeypatch: pytest.MonkeyPatch, columns: int):
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = curves("--help")
    assert "--baseline NAME" in printed and "--kind {best,last}" in printed
    assert max(map(len, printed.splitlines())) <= columns


# --- generate_acc_curves.py: statistics

percentages = st.integers(-10_000, 10_000).map(lambda x: x / 100)


def test_interval_and_test_are_students():
    a, b = np.random.default_rng(0).normal(70, 2, (2, 9))
    expected = scipy.stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert CURVES.t_interval(a - b) == pytest.approx([interval.low, interval.high])
    assert CURVES.t_test(a - b) == pytest.approx(expected.pvalue)
    # By hand: mean 2, s = 1, t(.975, 2) = 4.302653, 4.302653 / sqrt(3) = 2.484138.
    assert CURVES.t_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx([-0.484138, 4.484138])


def test_sign_flips_are_exact():
    x = np.random.default_rng(1).normal(0.5, 1, 8)
    expected = scipy.stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert CURVES.sign_flip(x) == pytest.approx(expected.pvalue)
    assert CURVES.sign_flip(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == 2 / 64
    # |+-1 +-2 +-3| >= 4: -+(1, 2, 3) give 6, -+(-1, 2, 3) give 4, and the one seen is 1 - 2 - 3 = -4.
    assert CURVES.sign_flip(np.array([1.0, -2.0, -3.0])) == 4 / 8


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=8))
def test_sign_flips_count_every_tie(points: list[int]):
    """Hundredths of a point, counted once in whole numbers and once as the floats that files hold."""
    n = len(points)
    sums = [abs(sum(map(int.__mul__, signs, points))) for signs in product((1, -1), repeat=n)]
    expected = sum(x >= abs(sum(points)) for x in sums) / 2**n
    values = np.array(points) / 100
    assert CURVES.sign_flip(values) == CURVES.sign_flip(-values) == expected
    assert CURVES.sign_flip(values[::-1]) == expected and expected * 2**n >= min(2, 2**n)


@given(st.lists(percentages, min_size=2, max_size=20))
def test_intervals_turn_with_the_sign(points: list[float]):
    x = np.array(points)
    low, high = CURVES.t_interval(x)
    assert low <= x.mean() <= high
    assert CURVES.t_interval(-x) == pytest.approx((-high, -low))
    assert 0 <= CURVES.t_test(x) <= 1


def test_holm_by_hand():
    # Sorted: .005 * 4 = .02, .01 * 3 = .03, .03 * 2 = .06, and .04 * 1 may not be below .06.
    assert CURVES.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert CURVES.holm([0.6, 0.7]) == [1, 1] and CURVES.holm([0.2]) == [0.2] and CURVES.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_raises_and_keeps_the_order(p: list[float]):
    adjusted = CURVES.holm(p)
    assert all(a <= b <= 1 for a, b in zip(p, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(p) * min(p)))


def test_area_and_labels_to_reach_by_hand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(np, "trapezoid", raising=False)  # numpy 1.26 has none
    labels, mean = np.array([10, 20, 40]), np.array([50.0, 70.0, 60.0])
    # 10 * 60 + 20 * 65 = 1900, over 30.
    assert CURVES.mean_height(labels, mean[None]) == pytest.approx([1900 / 30])
    assert CURVES.mean_height(labels[:1], np.array([[3.0], [4.0]])).tolist() == [3, 4]
    reached = [CURVES.labels_to_reach(x, labels, mean) for x in (40, 50, 60, 70, 70.1)]
    assert reached == [10, 10, 15, 20, None]


# --- generate_acc_curves.py: differences


def test_methods_are_compared_seed_by_seed(tmp_path: Path, curves: Curves):
    """Joined on seed, whatever the order of the paths: joined by row the spread would be another."""
    base = make_runs(tmp_path, "main-random", [40, 50, 60], [50, 60, 70], [45, 55, 65])
    method = make_runs(tmp_path, "main-confidence", [40, 52, 61], [50, 62, 72], [45, 57, 68])
    same = make_runs(tmp_path, "again", [40, 50, 60], [50, 60, 70], [45, 55, 65])
    alone = make_run(tmp_path / "s9/main-random", [90, 90, 90], 9)
    paths = [*method[::-1], *same, alone, *base[1:], base[0]]
    printed = curves(*paths, "--baseline", "main-random", "--out", "x.png")
    table = table_of_differences(tmp_path / "x_differences.csv")
    first, final, area = (table["main-confidence", x] for x in ("first", "final", "area"))
    assert (final["values"], final["seeds"], final["n"]) == ("1 2 3", "0 1 2", "3")
    assert (final["first_labels"], final["last_labels"], final["kind"]) == ("30", "30", "last")
    numbers = [float(final[x]) for x in ("difference", "low", "high", "p", "p_holm")]
    # One sign for all three, of eight; twice that by Holm, for the other method has p = 1.
    assert numbers == pytest.approx([2, -0.484138, 4.484138, 2 / 8, 4 / 8])
    assert (first["difference"], first["low"], first["high"], first["p"]) == ("0", "0", "0", "1")
    # 10 * (0 + 2) / 2 + 10 * (2 + 1) / 2 = 25, over 20; the others 30 and 35.
    assert (area["first_labels"], area["last_labels"]) == ("10", "30")
    assert area["values"] == "1.25 1.5 1.75"
    points = [row for row in rows(tmp_path / "x_differences.csv") if row["quantity"] == "point"]
    points = [row for row in points if row["method"] == "main-confidence"]
    assert [(row["first_labels"], row["difference"], row["p"]) for row in points] == [
        ("10", "0", ""),
        ("20", "2", ""),
        ("30", "2", ""),
    ]
    assert "compared on the seeds that both have: 0 1 2" in printed
    assert "3 seeds cannot give a sign-flip p below 0.25, 6 can" in printed


def test_the_same_runs_differ_by_exactly_nothing(tmp_path: Path, curves: Curves):
    values = np.random.default_rng(0).uniform(10, 90, (6, 4)).tolist()
    for name in ("main-random", "again"):
        make_runs(tmp_path, name, *values)
    paths = sorted(map(str, tmp_path.glob("s*/*")))
    printed = curves(*paths, "--baseline", "main-random", "--out", "x.png")
    table = table_of_differences(tmp_path / "x_differences.csv")
    for quantity in ("first", "final", "area"):
        row = table["again", quantity]
        assert [row[x] for x in ("difference", "low", "high", "p", "p_holm")] == [
            "0",
            "0",
            "0",
            "1",
            "1",
        ]
    assert table["again", "labels_to_reach"]["baseline_labels"] in ("10", "20", "30", "40")
    assert "again and main-random: the settings are the same" in printed


def test_binary_fractions_make_no_difference(tmp_path: Path, curves: Curves):
    """-0.1, -0.2 and 0.3 add up to less than 0 as floats, and so does this area."""
    seeds = make_runs(tmp_path, "a", [69.9, 70], [69.8, 70], [70.3, 70], [70.1, 70.3, 69.3])
    base = make_runs(tmp_path, "b", *[[70.0, 70.0, 70.0]] * 4)
    for paths, quantity in ((seeds[:3], "first"), (seeds[3:], "area")):
        curves(*paths, *base, "--baseline", "b", "--out", "x.png")
        row = table_of_differences(tmp_path / "x_differences.csv")["a", quantity]
        assert row["difference"] == "0" and "-0" not in row["values"].split()


def test_settings_of_the_compared_are_named(tmp_path: Path, curves: Curves):
    runs = make_runs(tmp_path, "a", [1, 2], strategy="confidence")
    runs += make_runs(tmp_path, "b", [1, 2], strategy="random", epochs=60)
    printed = curves(*runs, "--baseline", "b")
    assert "note: a and b: epochs is 30 and 60, strategy is confidence and random\n" in printed


def test_without_a_baseline_methods_are_held_against_the_first(tmp_path: Path, curves: Curves):
    epochs = {"a": 30, "b": 5, "c": 5}
    runs = [make_run(tmp_path / "0" / x, [1, 2], 0, epochs=epochs[x]) for x in epochs]
    unknown = make_run(tmp_path / "0/u", [1, 2])
    printed = curves(unknown, *runs)
    assert "note: b and a: epochs is 5 and 30\nnote: c and a: epochs is 5 and 30\n" in printed
    assert " and u:" not in printed and "seed unknown, settings not compared" in printed
    assert "note: a and c: epochs is 30 and 5\n" in curves(*runs, "--baseline", "c")


@pytest.mark.parametrize("baseline", [[], ["--baseline", "b"]])
def test_accuracies_on_other_test_images_are_refused(tmp_path: Path, curves: Curves, baseline: list[str]):
    """Unless it is the seed that draws them; or the reading that differs, for digests are of pixels as read."""
    digits = {"dataset": "digits"}
    other = {**digits, "inputs": {"test_data": "t1"}}
    npz = {**other, "dataset": "npz", "img_size": 64, "script": "whole_dataset.py"}
    a, b = (make_run(tmp_path / "0" / x, [1, 2], 0, **digits) for x in "ab")
    c, d = make_run(tmp_path / "0/c", [1, 2], 0, **other), make_run(tmp_path / "1/d", [1], 1, **npz)
    for run_of_others, said in ((c, "test_data is t1 and t0"), (d, "dataset is npz and digits")):
        error = curves(a, b, run_of_others, *baseline, status=2)
        pair = f"{run_of_others} and {b if baseline else a}"
        assert f"{pair}: accuracies on different test images cannot be compared" in error
        assert said in error
    unknown = make_run(tmp_path / "0/u", [1, 2], 0, **digits, inputs={"test_data": None})
    bgr = make_run(tmp_path / "0/bgr", [1, 2], 0, **other, channel_order="bgr")
    printed = curves(a, b, unknown, bgr, *baseline)
    assert re.search(r"note: bgr and [ab]: channel_order is bgr and absent\n", printed)
    drawn = {x: {"test_labels": 50, "inputs": {"test_data": x}} for x in "ab"}
    curves(*(make_run(tmp_path / "2" / x, [1, 2], 0, **drawn[x]) for x in drawn), *baseline)
    elsewhere = {"test_labels": 50, "inputs": {"data": "another pool"}}
    e = make_run(tmp_path / "3/e", [1, 2], 0, **elsewhere)
    f = make_run(tmp_path / "3/f", [1, 2], 0, test_labels=50)
    assert "different test images" in curves(f, e, *(["--baseline", "f"] if baseline else []), status=2)
    resized = make_run(tmp_path / "0/g", [1, 2], 0, **digits, img_size=64)  # excuses itself alone
    assert f"{c} and {b if baseline else a}" in curves(resized, a, b, c, *baseline, status=2)


def test_a_cycle_that_found_all_labelled_already_is_one_point(tmp_path: Path, curves: Curves):
    a = make_run(tmp_path / "a/m", [1, 2])
    header, first, second = Path(a, "cycles.csv").read_text().splitlines()
    again = first.replace("0,", "1,", 1)
    Path(a, "cycles.csv").write_text("\n".join([header, first, again, second]) + "\n")
    assert "10 to 20" in curves(a)


def test_a_run_that_went_on_elsewhere_is_noted(tmp_path: Path, curves: Curves):
    a = make_run(tmp_path / "a/m", [1, 2], 0)
    record = json.loads(Path(a, "config.json").read_text())
    Path(a, "config.json").write_text(json.dumps({**record, "went_on_with": ["1.0 (c1), threads 2"]}))
    assert f"note: {a} was gone on with by 1.0 (c1), threads 2" in curves(a)


def test_what_a_method_has_no_use_for_is_no_difference(tmp_path: Path, curves: Curves):
    none = {k: v for k, v in INPUTS.items() if not k.startswith("batches")}
    made = {**INPUTS["batches_made_from"], "sort": "text", "losses": "l1"}
    a = make_run(tmp_path / "0/a", [1, 2], 0)
    b = make_run(tmp_path / "0/b", [1, 2], 0, inputs={"batches_made_from": made})
    c = make_run(tmp_path / "0/c", [1, 2], 0)
    record = json.loads((tmp_path / "0/c/config.json").read_text())
    (tmp_path / "0/c/config.json").write_text(json.dumps({**record, "inputs": none}))
    d = make_run(tmp_path / "0/d", [1], 0, script="main_pt4al.py", lr=0.1, epochs=5)
    printed = curves(a, b, c, d)
    losses, sort = "losses is l1 and absent", "sort is text and numeric"
    assert f"note: b and a: batches_made_from.{losses}, batches_made_from.{sort}\n" in printed
    assert "note: c and a: the settings are the same\n" in printed
    assert "note: d and a: epochs is 5 and 30\n" in printed


@pytest.mark.parametrize(("seeds", "test"), [(16, "sign_flip"), (17, "t_test")])
def test_above_sixteen_seeds_the_t_test_decides(tmp_path: Path, curves: Curves, seeds: int, test: str):
    x = np.random.default_rng(0).normal(60, 2, (2, seeds)).round(2)
    paths = make_runs(tmp_path, "a", *x[0, :, None].tolist())
    paths += make_runs(tmp_path, "b", *x[1, :, None].tolist())
    curves(*paths, "--baseline", "b", "--out", "x.png")
    table = table_of_differences(tmp_path / "x_differences.csv")
    p = float(table["a", "first"]["p"])
    assert p == pytest.approx(getattr(CURVES, test)(x[0] - x[1]), rel=1e-5)
    assert ("a", "labels_to_reach") not in table  # the baseline has one number of labels


def test_labels_that_the_baseline_needs(tmp_path: Path, curves: Curves):
    paths = make_runs(tmp_path, "main-random", [40, 50, 70], [50, 60, 70])  # 45 55 70
    paths += make_runs(tmp_path, "part", [10, 60])  # 60: 5 of 15 points on the way from 20 to 30
    paths += make_runs(tmp_path, "whole-dataset", [71], script="whole_dataset.py", step=500)
    printed = curves(*paths, "--baseline", "main-random", "--out", "x.png")
    table = table_of_differences(tmp_path / "x_differences.csv")
    assert table["part", "labels_to_reach"]["baseline_labels"] == "23"
    assert "final accuracy of part (20 labels) is reached with 23 labels by main-random" in printed
    assert table["whole-dataset", "labels_to_reach"]["baseline_labels"] == ""
    assert "of whole-dataset (500 labels) is not reached by main-random" in printed
    assert ("whole-dataset", "final") not in table
    assert "whole-dataset and main-random have no number of labels in common" in printed


def test_one_seed_has_a_difference_but_no_test(tmp_path: Path, curves: Curves):
    paths = make_runs(tmp_path, "a", [40, 50]) + make_runs(tmp_path, "b", [41, 53], [42, 54])
    printed = curves(*paths, "--baseline", "b", "--out", "x.png")
    row = table_of_differences(tmp_path / "x_differences.csv")["a", "final"]
    assert [row[x] for x in ("n", "difference", "low", "high", "p", "p_holm")] == [
        "1",
        "-3",
        "",
        "",
        "",
        "",
    ]
    assert "a and b have one seed in common: a difference, no interval and no test" in printed
    assert "a single run tells nothing of the spread over seeds: a\n" in printed


def test_unfinished_runs_are_cut_to_what_all_have(tmp_path: Path, curves: Curves):
    paths = make_runs(tmp_path, "a", [40, 50, 60], [40, 50], cycles=3)
    paths += make_runs(tmp_path, "b", [40, 51, 60], [40, 51, 60], cycles=3)
    paths += make_runs(tmp_path, "c", [40, 51], cycles=3)
    printed = curves(*paths, "--baseline", "b", "--out", "x.png")
    assert f"the curve of a ends after 2 of 3 cycles, as {paths[1]} does" in printed
    assert f"the curve of c ends after 2 of 3 cycles, as {paths[4]} does" in printed
    assert "a and b are compared where both have points: 10 to 20 labels" in printed
    row = table_of_differences(tmp_path / "x_differences.csv")["a", "final"]
    assert (row["last_labels"], row["values"]) == ("20", "-1 -1")
    # Areas over other ranges are told apart.
    assert re.search(r"^a +2  10 to 20 ", printed, re.MULTILINE)
    assert re.search(r"^b +2  10 to 30 ", printed, re.MULTILINE)


def test_other_numbers_of_labels_are_compared_where_they_meet(tmp_path: Path, curves: Curves):
    paths = make_runs(tmp_path, "a", [40, 50, 60, 70], [42, 54, 66, 77], step=10)
    paths += make_runs(tmp_path, "b", [50, 60], [51, 61], step=20)
    printed = curves(*paths, "--baseline", "b", "--out", "x.png")
    table = table_of_differences(tmp_path / "x_differences.csv")
    assert table["a", "first"]["values"] == "0 3"
    assert table["a", "final"]["values"] == "10 16"
    assert table["a", "area"]["values"] == "5 9.5"
    assert "a and b are compared where both have points: 20 to 40 labels" in printed


@pytest.mark.parametrize("known", [True, False])
def test_without_a_common_seed_nothing_is_paired(tmp_path: Path, curves: Curves, known: bool):
    a = [make_run(tmp_path / f"{i}/a", [40, 50], i if known else None) for i in (0, 1)]
    b = [make_run(tmp_path / f"{i}/b", [40, 49], i) for i in (2, 3)]
    printed = curves(*a, *b, "--baseline", "b", "--out", "x.png")
    assert "a and b have no known seed in common: their difference cannot be told" in printed
    assert ("seed unknown" in printed) is not known
    assert list(table_of_differences(tmp_path / "x_differences.csv")) == [("a", "labels_to_reach")]
    assert is_picture(tmp_path / "x.png", 800)


def test_a_baseline_needs_another_method(tmp_path: Path, curves: Curves):
    a, b = make_run(tmp_path / "0/a", [40], 0), make_run(tmp_path / "0/b", [40], 0)
    assert "not a, b" in curves(a, b, "--baseline", "c", status=2)
    assert "not a" in curves(a, "--baseline", "a", status=2)


# --- generate_acc_curves.py: the picture


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that generate_acc_curves.py draws."""
    drawn, draw = [], CURVES.draw
    monkeypatch.setattr(CURVES, "draw", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    return drawn


def test_a_method_looks_the_same_in_every_figure(tmp_path: Path, curves: Curves, figures: list[Figure]):
    runs = {
        name: make_run(tmp_path / "0" / name, [40, 50], 0)
        for name in ("main-random", "main-confidence", "mine", "text")
    }
    curves(*runs.values())
    curves(runs["mine"], runs["main-confidence"])
    lines = [{line.get_label().split(" (")[0]: line for line in figure.axes[0].lines} for figure in figures]
    assert set(lines[0]) == {"random", "PT4AL", "mine", "text"}
    for name in ("PT4AL", "mine"):
        looks = [(x[name].get_color(), x[name].get_marker()) for x in lines]
        assert looks[0] == looks[1]
    assert len({line.get_color() for line in lines[0].values()}) == 4
    # Pinned: another colour tomorrow would contradict yesterday's figures.
    assert CURVES.style("main-confidence") == {"color": "#0072B2", "marker": "o"}
    mine = CURVES.style("mine")
    assert (mine["color"], mine["marker"], mine["linestyle"]) == ("#56B4E9", "^", "-.")


def test_known_methods_look_different():
    same = {"pt4al": "confidence", "normalized_confidence": "normalized"}
    looks = {same.get(name, name): look for name, look in CURVES.STYLES.items()}
    assert len(set(looks.values())) == len(looks)
    curves = {look[0] for name, look in looks.items() if not name.startswith("cold-start")}
    assert len(curves) == len(looks) - 2  # the cold starts have the colours of their cycle 0
    assert CURVES.style("main-margin") == CURVES.style("margin") != CURVES.style("main-entropy")


def test_the_legend_reads_as_words(tmp_path: Path, curves: Curves, figures: list[Figure]):
    names = ("main-confidence", "main-random", "cold-start-interval", "my-arm", "b")
    runs = [make_run(tmp_path / "0" / name, [40], 0) for name in names]
    whole = make_run(tmp_path / "0/whole-dataset", [90], 0, step=50_000)
    curves(*runs, whole, "--label", "b=$\\x$", "--label", "main-random=by = chance")
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "PT4AL (n=1)", "by = chance (n=1)", "PT4AL cold start (n=1)", "my-arm (n=1)", "$\\x$ (n=1)",
        "every label (n=1),\n50,000 labels",
    ]  # fmt: skip
    for wrong in ("b", "=text", "b=", "none=text"):
        assert "NAME=TEXT" in curves(*runs, "--label", wrong, status=2)


def test_the_second_panel_is_the_table(tmp_path: Path, curves: Curves, figures: list[Figure]):
    paths = make_runs(tmp_path, "a", [40, 50], [42, 54], [47, 59])
    paths += make_runs(tmp_path, "main-random", [50, 60], [51, 61], [52, 62])
    curves(*paths, "--baseline", "main-random", "--kind", "best", "--out", "x.png")
    curves(*paths)
    above, below = figures[0].axes
    assert "best epoch" in above.get_ylabel() and "minus random" in below.get_ylabel()
    (bars,) = below.containers
    table = [row for row in rows(tmp_path / "x_differences.csv") if row["quantity"] == "point"]
    expected = [[float(row["low"]), float(row["high"])] for row in table]
    drawn = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert np.array(drawn) == pytest.approx(np.array(expected), rel=1e-4)
    zero = [line for line in below.lines if set(line.get_ydata()) == {0}]
    assert len(zero) == 1 and {row["kind"] for row in table} == {"best"}
    assert len(figures[1].axes) == 1 and "last epoch" in figures[1].axes[0].get_ylabel()


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_methods_of_several_points_stand_about_the_number_of_labels(
    tmp_path: Path, curves: Curves, figures: list[Figure], names: str
):
    paths = [make_run(tmp_path / "0" / x, [40, 50, 60], 0) for x in (*names, "main-random")]
    singles = [
        make_run(tmp_path / "0" / x, [40], 0, script="main_pt4al.py")
        for x in ("cold-start-interval", "cold-start-random")
    ]
    curves(singles[0], *paths, singles[1], "--baseline", "main-random")
    drawn = [bars.lines[0].get_xdata() for bars in figures[0].axes[1].containers]
    assert [x.tolist() for x in drawn if len(x) == 1] == [[10], [10]]
    several = np.array([x for x in drawn if len(x) > 1])
    assert len(set(several[:, 0])) == len(names)
    middle = (several + several[::-1]) / 2
    assert middle == pytest.approx(np.array([[10, 20, 30]] * len(names)))


def test_an_interval_is_named_where_there_is_one(tmp_path: Path, curves: Curves, figures: list[Figure]):
    paths = make_runs(tmp_path, "a", [40, 50], [42, 54])
    paths += make_runs(tmp_path, "b", [50, 60], [51, 61])
    curves(*paths, "--baseline", "b")
    curves(*paths[::2], "--baseline", "b")
    labels = [figure.axes[1].get_ylabel() for figure in figures]
    assert labels == ["minus b (points),\nmean and 95 % t interval", "minus b (points)"]


def test_the_baseline_is_drawn_as_far_as_another_goes(tmp_path: Path, curves: Curves, figures: list[Figure]):
    short, long = make_run(tmp_path / "a", [40, 50], 0), make_run(tmp_path / "b", [41, 51, 61], 0)
    curves(short, long, "--baseline", "b")
    curves(short, long, "--baseline", "a")
    drawn = [
        {line.get_label(): line.get_xdata().tolist() for line in figure.axes[0].lines} for figure in figures
    ]
    assert drawn[0] == {"a (n=1)": [10, 20], "b (n=1)": [10, 20]}
    assert drawn[1] == {"a (n=1)": [10, 20], "b (n=1)": [10, 20, 30]}


def test_methods_of_one_number_of_labels_are_lines(tmp_path: Path, curves: Curves, figures: list[Figure]):
    paths = make_runs(tmp_path, "a", [40], [42], [47]) + make_runs(tmp_path, "b", [50], [51], [55])
    curves(*paths, "--baseline", "b", "--out", "x.png")
    left, right = figures[0].axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["a (n=3)", "b (n=3)"]
    *drawn, of_baseline = left.lines
    seeds, means = drawn[::2], drawn[1::2]
    assert [line.get_xdata().tolist() for line in seeds] == [[39, 41, 46], [49, 50, 54]]
    assert [line.get_xdata().tolist() for line in means] == [[42], [51]]
    assert list(of_baseline.get_xdata()) == [51, 51]
    (bar,) = right.containers
    row = next(row for row in rows(tmp_path / "x_differences.csv") if row["quantity"] == "point")
    (ends,) = (segment[:, 0].tolist() for segment in bar.lines[2][0].get_segments())
    assert ends == pytest.approx([float(row["low"]), float(row["high"])], rel=1e-4)


def test_show_batches_draws_every_batch(finished: Path, tmp_path: Path):
    (tmp_path / "loss").symlink_to(finished / "loss")
    run(
        tmp_path,
        "utils/show_batches.py",
        "digits",
        *TINY,
        "--out",
        "batches.png",
        "--title",
        "Digits",
    )
    assert is_picture(tmp_path / "batches.png", 1000)
