"""Runs pooled into curves, the table of curves, and what a reader is told of the runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from made_runs import MADE_FROM, make_record, make_run, make_runs
from shell import user_error

from pt4al.base.console import UserError
from pt4al.base.files import write_csv
from pt4al.run.curves import (
    CURVE_COLUMNS,
    Curve,
    aulc,
    curve_rows,
    notes_of_runs,
    notes_of_settings,
    read_curve_table,
    read_curves,
)


def refusal(*paths: Path) -> str:
    with pytest.raises(UserError) as error:
        read_curves(paths)
    return str(error.value)


def curves_of(*paths: Path) -> list[Curve]:
    return list(read_curves(paths).values())


# --- pooling


def test_the_area_under_the_learning_curve_by_hand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(np, "trapezoid", raising=False)  # numpy 1.26 has none
    labels = np.array([10, 20, 40])
    # 10 * 60 + 20 * 65 = 1900, over 30.
    assert aulc(labels, np.array([[50.0, 70.0, 60.0]])) == pytest.approx([1900 / 30])
    assert aulc(labels[:1], np.array([[3.0], [4.0]])).tolist() == [3, 4]


def test_seeds_are_pooled_by_name_in_their_order(tmp_path: Path):
    runs = [make_run(tmp_path / f"s{seed}/m", [50 + seed, 60], make_record(seed)) for seed in (10, 2, 0)]
    unknown = make_run(tmp_path / "other/m", [90, 91])
    (curve,) = curves_of(unknown, *runs)
    assert (curve.name, curve.seeds, curve.labels.tolist()) == ("m", [0, 2, 10, None], [10, 20])
    assert curve.accuracy["best"].tolist() == [[50, 60], [52, 60], [60, 60], [90, 91]]
    assert curve.accuracy["last"].tolist() == (curve.accuracy["best"] - 1).tolist()


def test_seeds_of_other_numbers_of_cycles_are_pooled_and_noted(tmp_path: Path):
    short = make_run(tmp_path / "a/m", [1, 2], make_record(0, parameters={"cycles": 2}))
    long = make_run(tmp_path / "b/m", [3, 4, 5], make_record(1, parameters={"cycles": 3}))
    (curve,) = curves_of(short, long)
    assert curve.accuracy["best"].tolist() == [[1, 2], [3, 4]]
    assert notes_of_runs([curve]) == [f"the curve of m ends after 2 of 3 cycles, as {short} does"]


def test_all_seeds_are_compared_with_all(tmp_path: Path):
    """One that does not say how its pretext network was trained lies between two that differ."""
    runs = []
    for seed, epochs in enumerate((1, None, 15)):
        made_from = {**MADE_FROM, "pretext_made_from": epochs and {"rotation_epochs": epochs}}
        record = make_record(seed, inputs={"batches_made_from": made_from})
        runs.append(make_run(tmp_path / f"{seed}/m", [1, 2], record))
    with user_error("pretext.rotation_epochs is 1 and 15"):
        curves_of(*runs)


def test_a_run_that_is_not_finished_is_noted(tmp_path: Path):
    whole = make_runs(tmp_path, "whole", [1, 2], [1, 2], parameters={"cycles": 2})
    cut = make_runs(tmp_path, "cut", [1, 2], [1, 2], parameters={"cycles": 3})
    said = f"the curve of cut ends after 2 of 3 cycles, as {cut[0]} does"
    assert notes_of_runs(curves_of(*whole, *cut)) == [said]


def test_a_cycle_that_is_no_point_is_not_missing(tmp_path: Path):
    run = make_run(tmp_path / "m", [1, 2, 3], make_record(parameters={"cycles": 3}))
    (run / "cycles.csv").write_text((run / "cycles.csv").read_text().replace("1,20,", "1,10,"))
    (curve,) = curves_of(run)
    assert curve.labels.tolist() == [10, 30]
    assert notes_of_runs([curve]) == ["a single run tells nothing of the spread over seeds: m"]


def test_the_interval_of_a_test_set(tmp_path: Path):
    """Of the mean over seeds, by the smallest of their test sets; where one does not tell, of none."""
    runs = make_runs(tmp_path, "m", [12.5, 50], [14.5, 60])
    assert curves_of(*runs)[0].interval("last") is None
    for run, size in zip(runs, (24, 400), strict=True):
        (run / "answers.csv").write_text(f"cycle,test_images\n0,{size}\n1,{size}\n")
    (curve,) = curves_of(*runs)
    assert curve.test_images.tolist() == [24, 24]
    # Wilson (1927): 3 of 24.
    assert curve.interval("last")[:, 0] == pytest.approx([4.344334, 31.003881], abs=1e-5)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (make_record(1, parameters={"epochs": 31}), "epochs is 30 and 31"),
        # Of another data set: it is that which is wrong, not the seed.
        (make_record(0, parameters={"dataset": "digits"}), "dataset is absent and digits"),
    ],
)
def test_runs_that_are_not_seeds_of_one_method_are_refused(tmp_path: Path, other: dict, said: str):
    a, b = make_run(tmp_path / "a/m", [1, 2], make_record(0)), make_run(tmp_path / "b/m", [1, 2], other)
    assert refusal(a, b) == f"{a} and {b} are not seeds of one method: {said}"


def test_one_run_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a, b = (make_run(tmp_path / x / "m", [1, 2], make_record(3)) for x in "ab")
    assert f"{a} and {b} are both seed 3 of m" in refusal(a, b)
    (tmp_path / "link").symlink_to(a)
    assert f"{a} and {tmp_path}/link are the same run" in refusal(a, tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    assert f"{a} and a/m are the same run" in refusal(a, Path("a/m"))


def test_runs_that_labeled_other_numbers_of_images_are_refused(tmp_path: Path):
    a, b = make_run(tmp_path / "a/m", [1, 2]), make_run(tmp_path / "b/m", [1, 2])
    text = (b / "cycles.csv").read_text()
    (b / "cycles.csv").write_text(text.replace(",20,", ",21,"))
    assert f"{a} and {b}" in refusal(a, b)
    for nothing in (tmp_path, tmp_path / "none"):
        assert f"{nothing}/cycles.csv is missing" in refusal(nothing)


# --- what a reader is told


def test_seeds_of_two_precisions_are_pooled_and_noted(tmp_path: Path):
    kinds = ("float32", "bf16")
    mixed = [make_run(tmp_path / x / "m", [1, 2], make_record(i, parameters={"precision": x}))
             for i, x in enumerate(kinds)]  # fmt: skip
    alike = make_runs(tmp_path, "x", [1, 2], [1, 2], parameters={"precision": "float32"})
    said = "not all runs of m are of one precision: seed 0 float32, seed 1 bf16"
    assert notes_of_runs(curves_of(*mixed, *alike)) == [said]


def test_other_versions_and_machines_are_one_note(tmp_path: Path):
    alike = make_runs(tmp_path, "m", [1], [1])
    other = make_run(tmp_path / "c/other", [1], make_record(made_with={"torch": "2.4.0"}))
    notes = [note for note in notes_of_runs(curves_of(*alike, other)) if "made with" in note]
    assert notes == ["not all runs were made with the same torch (2.14.1 / 2.4.0)"]


def test_what_a_reader_must_know_of_single_runs(tmp_path: Path):
    resumed = {**make_record(0), "went_on_with": ["1.0 (c1), threads 2"]}
    a, b = make_run(tmp_path / "a", [1, 2], resumed), make_run(tmp_path / "b", [1, 2])
    assert notes_of_runs(curves_of(a, b)) == [
        f"{a} was resumed by 1.0 (c1), threads 2",
        f"no config.json in {b}: seed unknown, settings not compared",
        "a single run tells nothing of the spread over seeds: a, b",
    ]
    assert notes_of_runs(curves_of(*make_runs(tmp_path, "m", [1, 2], [1, 2]))) == []


def test_methods_are_held_against_the_first(tmp_path: Path):
    epochs = {"a": 30, "b": 5, "c": 5}
    runs = [
        make_run(tmp_path / x, [1, 2], make_record(0, parameters={"epochs": n})) for x, n in epochs.items()
    ]
    unknown = make_run(tmp_path / "u", [1, 2])
    curves = curves_of(unknown, *runs)
    assert notes_of_settings(curves) == ["b and a: epochs is 5 and 30", "c and a: epochs is 5 and 30"]
    assert notes_of_settings(curves[::-1]) == [
        "b and c: the settings are the same",
        "a and c: epochs is 30 and 5",
    ]
    cold = make_run(tmp_path / "cold", [1], make_record(0, script="main_pt4al.py"))
    assert notes_of_settings(curves_of(runs[0], cold)) == []  # another script: only differences are said


def test_accuracies_on_other_test_images_are_refused(tmp_path: Path):
    """Whichever two of the methods they are, and not excused by a third one's images."""
    a, b = (make_run(tmp_path / x, [1, 2], make_record()) for x in "ab")
    other = make_run(tmp_path / "c", [1, 2], make_record(inputs={"test_data": "t1"}))
    bgr = make_record(parameters={"channel_order": "bgr"}, inputs={"test_data": "t2"})
    read_otherwise = make_run(tmp_path / "d", [1, 2], bgr)
    for runs in ([a, b, other], [read_otherwise, a, b, other]):
        with pytest.raises(UserError, match="different test images") as error:
            notes_of_settings(curves_of(*runs))
        assert str(other) in str(error.value) and "test_data is t1 and t0" in str(error.value)
    assert len(notes_of_settings(curves_of(a, b, read_otherwise))) == 2
    unknown = make_run(tmp_path / "e", [1, 2], make_record(inputs={"test_data": None}))
    assert notes_of_settings(curves_of(a, unknown)) == ["e and a: test_data is None and t0"]


# --- the table


def test_a_table_of_curves_gives_its_curves_back(tmp_path: Path):
    runs = make_runs(tmp_path, "m", [33.333333, 50], [41, 61.000001])
    (curve,) = curves_of(make_run(tmp_path / "unknown/m", [1, 2]), *runs)
    rows = curve_rows(curve)
    assert [row["labels"] for row in rows] == [10, 20, "area"]
    assert (rows[0]["n"], rows[0]["best_values"], rows[0]["seeds"]) == (3, "33.333333 41 1", "0 1 ?")
    assert rows[2]["best_values"] == "41.666667 51 1.5"
    write_csv(tmp_path / "x.csv", CURVE_COLUMNS, [[row[name] for name in CURVE_COLUMNS] for row in rows])
    again = read_curve_table(tmp_path / "x.csv")["m"]
    assert (again.seeds, again.runs, again.labels.tolist()) == ([0, 1, None], [], [10, 20])
    assert {kind: x.tolist() for kind, x in again.accuracy.items()} == {
        kind: x.tolist() for kind, x in curve.accuracy.items()
    }
    (single,) = curves_of(runs[0])
    assert [row["best_std"] for row in curve_rows(single)] == ["", "", ""]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",0 1\n", ",0 1 2\n", "cannot reshape"),
        ("40 41", "40 141", "of a are out of order or range"),
        ("a,20,", "a,5,", "of a are out of order or range"),
        ("a,20,", "a,twenty,", "twenty"),
        ("40 41", "40 nan", "of a are out of order or range"),
        ("method,", "methods,", "'method'"),
        (",0 1\n", ",0 1,2\n", "line 2 has more or fewer fields"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, old: str, new: str, said: str):
    (curve,) = curves_of(*make_runs(tmp_path, "a", [40, 50], [41, 60]))
    path = tmp_path / "x.csv"
    write_csv(path, CURVE_COLUMNS, [[row[name] for name in CURVE_COLUMNS] for row in curve_rows(curve)])
    read_curve_table(path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=f"{re.escape(str(path))} .*{said}"):
        read_curve_table(path)
    path.write_text(path.read_text().splitlines(True)[0])
    with pytest.raises(UserError, match="x.csv holds no curve"):
        read_curve_table(path)
