"""Learning curves: the runs of a method pooled over seeds, the table of curves as a file, and what a
reader has to know of them. No torch here: programs that draw use it."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pt4al.base.console import UserError
from pt4al.run.record import cycles_of
from pt4al.run.runs import KINDS, Run, differing, made_otherwise, other_test_images, read_run, read_table
from pt4al.run.tables import wilson

CURVE_COLUMNS = (
    "method", "labels", "n", "best_mean", "best_std", "last_mean", "last_std", "best_values", "last_values",
    "seeds",
)  # fmt: skip
TEST_IMAGES = "test_images"  # a column more where annotators labeled

Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """The runs of a method: labels int64 (points,), best and last accuracy in percent (seeds, points);
    where annotators labeled also the size of the test set, int64 (points,), of seeds the smallest.

    One that was read from a table has no `runs`.
    """

    name: str
    runs: list[Run]
    seeds: list[int | None]
    labels: np.ndarray
    accuracy: dict[str, np.ndarray]
    test_images: np.ndarray | None = None

    def interval(self, kind: str) -> np.ndarray | None:
        """The 95 % interval that the test set gives the mean over seeds: low and high, (2, points), percent;
        None where its size is not known."""
        if self.test_images is None:
            return None
        means = self.accuracy[kind].mean(0)
        return np.array([wilson(*point) for point in zip(means, self.test_images, strict=True)]).T


def aulc(labels: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Area under the learning curve of (seeds, points) over labels (points,), by trapezoids, divided by
    its range of labels: in percent, as accuracy is. Of a single point it is the point."""
    if len(labels) == 1:
        return curves[:, 0]
    return (curves[:, 1:] + curves[:, :-1]) / 2 @ np.diff(labels) / (labels[-1] - labels[0])


def read_curves(paths: Iterable[Path]) -> dict[str, Curve]:
    """The curves of run folders; those of one name are seeds of one method.

    Raises:
        UserError: a folder cannot be used, is given twice, or the runs of a name are not of one method.
    """
    seen: dict[Path, Path] = {}
    by_name: dict[str, list[Run]] = {}
    for path in paths:
        real = path.resolve()
        if real in seen:
            raise UserError(f"{seen[real]} and {path} are the same run: give it once")
        seen[real] = path
        by_name.setdefault(real.name, []).append(read_run(path))
    return {name: pool(name, runs) for name, runs in by_name.items()}


def pool(name: str, runs: list[Run]) -> Curve:
    """The runs of one name as a curve, in the order of their seeds, as far as the shortest goes.

    Raises:
        UserError: they are not seeds of one method.
    """
    known = sorted((run for run in runs if run.record), key=lambda run: run.seed)
    runs = known + [run for run in runs if not run.record]
    for a, b in combinations(known, 2):
        if text := differing(a.record, b.record, of_one_method=True):
            raise UserError(f"{a.path} and {b.path} are not seeds of one method: {text}")
        if a.seed == b.seed:
            raise UserError(f"{a.path} and {b.path} are both seed {a.seed} of {name}: leave one out")
    points = min(len(run.labels) for run in runs)
    for run in runs:
        if run.labels[:points].tolist() != runs[0].labels[:points].tolist():
            pair = f"{runs[0].path} and {run.path}"
            raise UserError(f"{pair} labeled different numbers of images: they cannot be pooled")
    accuracy = {kind: np.array([run.accuracy[kind][:points] for run in runs]) for kind in KINDS}
    sizes = [run.test_images for run in runs]
    known = all(size is not None for size in sizes)
    test_images = np.min([size[:points] for size in sizes], axis=0) if known else None
    return Curve(name, runs, [run.seed for run in runs], runs[0].labels[:points], accuracy, test_images)


def precisions(curve: Curve) -> dict[int, str | None]:
    """By seed, of the runs whose settings are known."""
    return {run.seed: run.record["parameters"].get("precision") for run in curve.runs if run.record}


def notes_of_runs(curves: list[Curve]) -> list[str]:
    """What a reader has to know of the runs behind curves: other versions and machines, resumed runs,
    seeds of several precisions, settings that are not known, curves that end early."""
    runs = [run for curve in curves for run in curve.runs]
    notes = []
    if text := made_otherwise(run.record for run in runs if run.record):
        notes.append(f"not all runs were made with the same {text}")
    for run in runs:
        if later := (run.record or {}).get("went_on_with"):
            notes.append(f"{run.path} was resumed by {'; '.join(later)}")
    for curve in curves:
        if len({*precisions(curve).values()}) > 1:
            each = ", ".join(f"seed {seed} {which}" for seed, which in precisions(curve).items())
            notes.append(f"not all runs of {curve.name} are of one precision: {each}")
        if unknown := ", ".join(str(run.path) for run in curve.runs if not run.record):
            notes.append(f"no config.json in {unknown}: seed unknown, settings not compared")
        left_out = [run.cycles - len(run.labels) for run in curve.runs]
        planned = [cycles_of(run.record) if run.record else 0 for run in curve.runs]
        wanted = max([len(run.labels) for run in curve.runs] +
                     [n - out for n, out in zip(planned, left_out, strict=True)], default=0)  # fmt: skip
        if curve.runs and (points := len(curve.labels)) < wanted:
            path = next(run.path for run in curve.runs if len(run.labels) == points)
            notes.append(f"the curve of {curve.name} ends after {points} of {wanted} cycles, as {path} does")
    if single := [curve.name for curve in curves if len(curve.seeds) == 1]:
        notes.append(f"a single run tells nothing of the spread over seeds: {', '.join(single)}")
    return notes


def notes_of_settings(curves: list[Curve]) -> list[str]:
    """In what each method differs from the first, of those whose settings are known.

    Raises:
        UserError: they were judged on different test images.
    """
    known = [curve for curve in curves if curve.runs and curve.runs[0].record]
    for second, first in combinations([curve.runs[0] for curve in known], 2):
        if other_test_images(first.record, second.record):
            text = f"({differing(first.record, second.record)})"
            pair = f"{first.path} and {second.path}"
            raise UserError(f"{pair}: accuracies on different test images cannot be compared {text}")
    notes = []
    for curve in known[1:]:
        ours, theirs = curve.runs[0].record, known[0].runs[0].record
        text = differing(ours, theirs)
        if text or ours["script"] == theirs["script"]:
            notes.append(f"{curve.name} and {known[0].name}: {text or 'the settings are the same'}")
    return notes


# --- the table of curves


def curve_rows(curve: Curve) -> list[Row]:
    """A method's rows in the table of curves: one per number of labels, and one for the AULC (`area`)."""
    values = {x: [curve.accuracy[k][:, i] for k in KINDS] for i, x in enumerate(curve.labels)}
    values["area"] = [aulc(curve.labels, curve.accuracy[kind]) for kind in KINDS]
    seeds = joined("?" if seed is None else seed for seed in curve.seeds)
    sizes = {} if curve.test_images is None else dict(zip(curve.labels, curve.test_images, strict=True))
    rows = []
    for x, (best, last) in values.items():
        stats = [*mean_and_std(best, 4), *mean_and_std(last, 4), joined(best), joined(last)]
        fields = [curve.name, x, len(curve.seeds), *stats, seeds]
        row = dict(zip(CURVE_COLUMNS, fields, strict=True))
        rows.append({**row, TEST_IMAGES: sizes[x]} if x in sizes else row)
    return rows


def read_curve_table(path: Path) -> dict[str, Curve]:
    """The curves of a table that `curve_rows` made, by name.

    Raises:
        UserError: it is no such table, or holds no curve.
    """
    rows: dict[str, list[dict[str, str]]] = {}
    curves = {}
    try:
        for row in read_table(path).rows:
            if row["labels"] != "area":
                rows.setdefault(row["method"], []).append(row)
        for name, own in rows.items():
            labels = np.array([int(row["labels"]) for row in own])
            seeds = [None if x == "?" else int(x) for x in own[0]["seeds"].split()]
            accuracy = {}
            for kind in KINDS:
                values = [[float(x) for x in row[f"{kind}_values"].split()] for row in own]
                accuracy[kind] = np.array(values).T.reshape(len(seeds), len(labels))
                if not ((np.diff(labels) > 0).all() and (abs(accuracy[kind] - 50) <= 50).all()):
                    raise ValueError(f"labels or accuracies of {name} are out of order or range")
            sizes = [row.get(TEST_IMAGES) for row in own]
            test_images = np.array(list(map(int, sizes))) if all(sizes) else None
            curves[name] = Curve(name, [], seeds, labels, accuracy, test_images)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is not a table of curves of this program: {error}") from None
    if not curves:
        raise UserError(f"{path} holds no curve")
    return curves


def mean_and_std(values: np.ndarray, digits: int) -> list[str]:
    """Of values (n,): the mean, and the sample standard deviation, empty for one value."""
    std = f"{values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return [f"{values.mean():.{digits}f}", std]


def joined(values: Iterable[Any]) -> str:
    return " ".join(f"{x:.8g}" if isinstance(x, float) else str(x) for x in values)


def span(labels: np.ndarray) -> str:
    return f"{labels[0]:,}" if len(labels) == 1 else f"{labels[0]:,} to {labels[-1]:,}"
