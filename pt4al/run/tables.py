"""The tables of a run: CSV files and labeled ids, each a function of the state in last.pth (and of
the seconds that epochs took, which are measured and belong to no state)."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pt4al.base.files import read_lines, write_csv, write_lines
from pt4al.run.state import State

if TYPE_CHECKING:
    from pt4al.data.images import Images

METRICS = ("cycle", "labels", "epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
           "best_accuracy", "seconds")  # fmt: skip
CYCLES = ("cycle", "labels", "best_accuracy", "best_epoch", "last_accuracy", "seconds")
PER_CLASS = ("cycle", "class", "support", "precision", "recall", "f1")
ANSWERS = ("cycle", "asked", "labeled", "unsure", "unasked", "changed", "test_images", "accuracy_low",
           "accuracy_high")  # fmt: skip
REVIEW = ("file_name", "label", "predicted", "probability")
RESULTS = ("metrics.csv", "cycles.csv", "per_class.csv", "answers.csv", "review.csv", "predictions.csv")
# What an annotator is asked. to_label.csv may hold answers: it is not ours to delete.
REQUESTS = ("disagreements.csv", "to_label.json", "label_config.xml")
BEFORE_A_STATE = {*REQUESTS, "cycle_0.txt", "test.txt"}  # what may be there when the first state is saved

Seconds = dict[tuple[int, int], float]  # by cycle and epoch


def write_tables(folder: Path, state: State, seconds: Seconds, pool: "Images") -> None:
    """Write what follows from a state of a run on `pool`."""
    metrics = [[*row, seconds.get((row[0], row[2]))] for row in state.metrics]
    write_csv(folder / "metrics.csv", METRICS, metrics)
    if state.cycles:
        rows = [[*row, seconds_of(seconds, row[0])] for row in state.cycles]
        write_csv(folder / "cycles.csv", CYCLES, rows)
    if state.per_class:
        write_csv(folder / "per_class.csv", PER_CLASS, state.per_class)
    for cycle, picks in enumerate(state.labeled):
        write_labeled(folder, cycle, picks, pool)
    if state.answers:
        write_answers(folder, state, pool.ids)


def write_answers(folder: Path, state: State, ids: list[str]) -> None:
    """What an annotator said and the run made of it: `answers.csv`, one row per cycle;
    `labeled/cycle_<i>.csv`, the labels that a cycle was trained with; `review.csv`, those that look
    most wrong to the classifier of the last cycle that is done."""
    last = {row[0]: row[4] for row in state.cycles}
    rows = []
    for cycle, taken in enumerate(state.answers):
        n, accuracy = taken.test_images, last.get(cycle)
        interval = (None, None) if accuracy is None else wilson(accuracy, n)
        counts = taken.asked, len(taken.positions), taken.unsure, taken.unasked, taken.changed
        rows.append([cycle, *counts, n, *interval])
        labels = zip(taken.positions.tolist(), taken.labels.tolist(), strict=True)
        used = [[ids[i], taken.classes[label]] for i, label in labels]
        write_csv(folder / "labeled" / f"cycle_{cycle}.csv", ("file_name", "label"), used)
    write_csv(folder / "answers.csv", ANSWERS, rows)
    # Rows of a run that older code began are longer: its review.csv stays as it is.
    if review := [row for row in state.review if len(row) == len(REVIEW)]:
        write_csv(folder / "review.csv", REVIEW, review)


def wilson(accuracy: float, n: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy in percent that was measured on n images (Wilson 1927)."""
    p, z = accuracy / 100, 1.959963984540054
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    # At the ends it is exact, where rounding leaves 1e-15 or less than 100.
    low, high = max(center - half, 0.0) if p > 0 else 0.0, min(center + half, 1.0) if p < 1 else 1.0
    return 100 * low, 100 * high


def write_labeled(folder: Path, cycle: int, picks: Sequence[int], pool: "Images") -> None:
    """The image ids chosen in a cycle, in order; a file that names the same images stays as it is, wherever
    the data lay."""
    path, ids = folder / "labeled" / f"cycle_{cycle}.txt", [pool.ids[i] for i in picks]
    if not path.is_file() or list(map(pool.key, read_lines(path))) != list(map(pool.key, ids)):
        write_lines(path, ids)


def table_files(folder: Path) -> list[Path]:
    """The files in `folder` that have the names of what `write_tables` writes."""
    pattern, inner = r"cycle_\d+\.(txt|csv)|test\.txt", sorted((folder / "labeled").glob("*"))
    picks = [path for path in inner if re.fullmatch(pattern, path.name)]
    return [folder / name for name in (*RESULTS, *REQUESTS) if (folder / name).exists()] + picks


def seconds_of(seconds: Seconds, cycle: int) -> float:
    """Seconds spent on the epochs of a cycle."""
    return sum((s for (c, _), s in seconds.items() if c == cycle), 0.0)


def rows_of_cycles(folder: Path) -> int:
    """How many cycles stand in cycles.csv."""
    path = folder / "cycles.csv"
    return sum(line[:1].isdecimal() for line in read_lines(path)[1:]) if path.is_file() else 0


def read_seconds(folder: Path) -> Seconds:
    """Seconds from metrics.csv: a line cut short tells nothing, and costs nothing else."""
    path = folder / "metrics.csv"
    seconds = {}
    for line in read_lines(path)[1:] if path.exists() else []:
        fields = line.split(",")
        with contextlib.suppress(ValueError):
            if len(fields) == len(METRICS):
                seconds[int(fields[0]), int(fields[2])] = float(fields[-1])
    return seconds
