"""Statistics against scipy, by hand and by counting; methods minus their baseline."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_record, make_run, make_runs

from pt4al.run import differences
from pt4al.run.curves import Row, read_curves
from pt4al.run.differences import (
    compare,
    holm,
    labels_to_reach,
    notes_of_pairs,
    sign_flip,
    t_interval,
    t_test,
)

# --- statistics


def test_interval_and_test_are_students():
    a, b = np.random.default_rng(0).normal(70, 2, (2, 9))
    expected = scipy.stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert t_interval(a - b) == pytest.approx([interval.low, interval.high])
    assert t_test(a - b) == pytest.approx(expected.pvalue)
    # By hand: mean 2, s = 1, t(.975, 2) = 4.302653, 4.302653 / sqrt(3) = 2.484138.
    assert t_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx([-0.484138, 4.484138])
    assert (t_test(np.zeros(3)), t_test(np.ones(3))) == (1, 0)


def test_sign_flips_are_exact():
    x = np.random.default_rng(1).normal(0.5, 1, 8)
    expected = scipy.stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(x) == pytest.approx(expected.pvalue)
    assert sign_flip(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == 2 / 64
    # |+-1 +-2 +-3| >= 4: -+(1, 2, 3) give 6, -+(-1, 2, 3) give 4, and the one seen is 1 - 2 - 3 = -4.
    assert sign_flip(np.array([1.0, -2.0, -3.0])) == 4 / 8


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=8))
def test_sign_flips_count_every_tie(points: list[int]):
    """Hundredths of a point, counted once in whole numbers and once as the floats that files hold."""
    n = len(points)
    sums = [abs(sum(map(int.__mul__, signs, points))) for signs in product((1, -1), repeat=n)]
    expected = sum(x >= abs(sum(points)) for x in sums) / 2**n
    values = np.array(points) / 100
    assert sign_flip(values) == sign_flip(-values) == expected
    assert sign_flip(values[::-1]) == expected and expected * 2**n >= min(2, 2**n)


@given(st.lists(st.integers(-10_000, 10_000).map(lambda x: x / 100), min_size=2, max_size=20))
def test_intervals_turn_with_the_sign(points: list[float]):
    x = np.array(points)
    low, high = t_interval(x)
    assert low <= x.mean() <= high
    assert t_interval(-x) == pytest.approx((-high, -low))
    assert 0 <= t_test(x) <= 1


def test_holm_by_hand():
    # Sorted: .005 * 4 = .02, .01 * 3 = .03, .03 * 2 = .06, and .04 * 1 may not be below .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1] and holm([0.2]) == [0.2] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_raises_and_keeps_the_order(p: list[float]):
    adjusted = holm(p)
    assert all(a <= b <= 1 for a, b in zip(p, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(p) * min(p)))


def test_labels_to_reach_by_hand():
    labels, mean = np.array([10, 20, 40]), np.array([50.0, 70.0, 60.0])
    assert [labels_to_reach(x, labels, mean) for x in (40, 50, 60, 70, 70.1)] == [10, 10, 15, 20, None]


# --- methods minus their baseline


def compared(paths: list[Path], baseline: str) -> tuple[dict[tuple[str, str], Row], list[str]]:
    """The differences of the last epoch by method and quantity (those of single numbers of labels by
    those), and the notes; nothing is NaN."""
    curves = read_curves(paths)
    rows = compare([*curves.values()], curves[baseline], "last")
    assert all(value == value for row in rows for value in row.values())
    assert {(row["baseline"], row["kind"]) for row in rows} <= {(baseline, "last")}
    by_quantity = {
        (row["method"], row["first_labels"] if row["quantity"] == "point" else row["quantity"]): row
        for row in rows
    }
    return by_quantity, notes_of_pairs([*curves.values()], curves[baseline])


def test_methods_are_compared_seed_by_seed(tmp_path: Path):
    """Joined on seed, whatever the order of the paths: joined by row the spread would be another."""
    base = make_runs(tmp_path, "random", [40, 50, 60], [50, 60, 70], [45, 55, 65])
    method = make_runs(tmp_path, "pt4al", [40, 52, 61], [50, 62, 72], [45, 57, 68])
    same = make_runs(tmp_path, "again", [40, 50, 60], [50, 60, 70], [45, 55, 65])
    alone = make_run(tmp_path / "s9/random", [90, 90, 90], make_record(9))
    table, notes = compared([*method[::-1], *same, alone, *base[1:], base[0]], "random")
    first, final, area = (table["pt4al", x] for x in ("first", "final", "area"))
    assert (final["values"], final["seeds"], final["n"]) == ("1 2 3", "0 1 2", 3)
    assert (final["first_labels"], final["last_labels"]) == (30, 30)
    # One sign for all three, of eight; twice that by Holm, for the other method has p = 1.
    numbers = [final[x] for x in ("difference", "low", "high", "p", "p_holm")]
    assert numbers == pytest.approx([2, -0.484138, 4.484138, 2 / 8, 4 / 8])
    assert [first[x] for x in ("difference", "low", "high", "p")] == [0, 0, 0, 1]
    # 10 * (0 + 2) / 2 + 10 * (2 + 1) / 2 = 25, over 20; the others 30 and 35.
    assert (area["first_labels"], area["last_labels"], area["values"]) == (10, 30, "1.25 1.5 1.75")
    points = [table["pt4al", n] for n in (10, 20, 30)]
    assert [row["difference"] for row in points] == [0, 2, 2] and not any("p" in row for row in points)
    assert "pt4al and random are compared on the seeds that both have: 0 1 2" in notes
    assert "3 seeds cannot give a sign-flip p below 0.25, 6 can" in notes


def test_the_same_runs_differ_by_exactly_nothing(tmp_path: Path):
    values = np.random.default_rng(0).uniform(10, 90, (6, 4)).tolist()
    paths = [path for name in ("random", "again") for path in make_runs(tmp_path, name, *values)]
    table, notes = compared(paths, "random")
    for quantity in ("first", "final", "area"):
        row = table["again", quantity]
        assert [row[x] for x in ("difference", "low", "high", "p", "p_holm")] == [0, 0, 0, 1, 1]
    assert table["again", "labels_to_reach"]["baseline_labels"] in (10, 20, 30, 40) and notes == []


def test_binary_fractions_make_no_difference(tmp_path: Path):
    """-0.1, -0.2 and 0.3 add up to less than 0 as floats, and so does this area."""
    seeds = make_runs(tmp_path, "a", [69.9, 70], [69.8, 70], [70.3, 70], [70.1, 70.3, 69.3])
    base = make_runs(tmp_path, "b", *[[70.0, 70.0, 70.0]] * 4)
    for paths, quantity, values in ((seeds[:3], "first", "-0.1 -0.2 0.3"), (seeds[3:], "area", "0")):
        row = compared([*paths, *base], "b")[0]["a", quantity]
        assert (str(row["difference"]), row["values"]) == ("0.0", values)


@pytest.mark.parametrize(("seeds", "test"), [(16, "sign_flip"), (17, "t_test")])
def test_above_sixteen_seeds_the_t_test_decides(tmp_path: Path, seeds: int, test: str):
    x = np.random.default_rng(0).normal(60, 2, (2, seeds)).round(2)
    paths = [path for name, own in zip("ab", x, strict=True)
             for path in make_runs(tmp_path, name, *own[:, None].tolist())]  # fmt: skip
    table, _ = compared(paths, "b")
    assert table["a", "first"]["p"] == pytest.approx(getattr(differences, test)(x[0] - x[1]))
    assert ("a", "labels_to_reach") not in table  # the baseline has one number of labels


def test_labels_that_the_baseline_needs(tmp_path: Path):
    paths = make_runs(tmp_path, "random", [40, 50, 70], [50, 60, 70])  # 45 55 70
    paths += make_runs(tmp_path, "part", [10, 60])  # 60: 5 of 15 points on the way from 20 to 30
    paths += make_runs(tmp_path, "whole", [71], step=500, script="whole_dataset.py")
    table, notes = compared(paths, "random")
    assert table["part", "labels_to_reach"]["baseline_labels"] == 23
    assert table["whole", "labels_to_reach"]["baseline_labels"] is None
    assert ("whole", "final") not in table
    assert "whole and random have no number of labels in common: their difference is unknown" in notes


def test_one_seed_has_a_difference_but_no_test(tmp_path: Path):
    paths = make_runs(tmp_path, "a", [40, 50]) + make_runs(tmp_path, "b", [41, 53], [42, 54])
    table, notes = compared(paths, "b")
    row = table["a", "final"]
    assert (row["n"], row["difference"]) == (1, -3) and not {"low", "high", "p", "p_holm"} & {*row}
    assert "a and b have one seed in common: a difference, no interval and no test" in notes


def test_unfinished_runs_are_compared_as_far_as_both_go(tmp_path: Path):
    paths = make_runs(tmp_path, "a", [40, 50, 60], [40, 50])
    paths += make_runs(tmp_path, "b", [40, 51, 60], [40, 51, 60])
    table, notes = compared(paths, "b")
    assert "a and b are compared where both have points: 10 to 20 labels" in notes
    assert (table["a", "final"]["last_labels"], table["a", "final"]["values"]) == (20, "-1 -1")


def test_other_numbers_of_labels_are_compared_where_they_meet(tmp_path: Path):
    paths = make_runs(tmp_path, "a", [40, 50, 60, 70], [42, 54, 66, 77], step=10)
    paths += make_runs(tmp_path, "b", [50, 60], [51, 61], step=20)
    table, notes = compared(paths, "b")
    values = [table["a", quantity]["values"] for quantity in ("first", "final", "area")]
    assert values == ["0 3", "10 16", "5 9.5"]
    assert "a and b are compared where both have points: 20 to 40 labels" in notes


@pytest.mark.parametrize("known", ["ab", "b", ""])
def test_without_a_common_seed_nothing_is_paired(tmp_path: Path, known: str):
    """Unknown seeds least of all."""
    paths = [
        make_run(tmp_path / f"{seed}/{name}", [40, 50 - i], make_record(seed) if name in known else None)
        for i, name in enumerate("ab")
        for seed in (2 * i, 2 * i + 1)
    ]
    table, notes = compared(paths, "b")
    assert notes == ["a and b have no known seed in common: their difference is unknown"]
    assert list(table) == [("a", "labels_to_reach")]


def test_pairs_of_two_precisions_are_noted(tmp_path: Path):
    def runs(name: str, *precision: str, first: int = 0) -> list[Path]:
        records = [make_record(seed, parameters={"precision": x}) for seed, x in enumerate(precision, first)]
        return [
            make_run(tmp_path / name / f"{seed}/{name}", [1, 2], x) for seed, x in enumerate(records, first)
        ]

    paths = runs("m", "float32", "bf16") + runs("x", "float32", "float32") + runs("y", "bf16", first=1)
    notes = compared(paths, "m")[1]
    assert [note for note in notes if "precision" in note] == ["x and m are of two precisions with seed 1"]
