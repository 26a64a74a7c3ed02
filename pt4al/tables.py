"""The tables of a run: CSV files and labelled ids, each a function of the state in last.pth (and of
the seconds that epochs took, which are measured and belong to no state)."""

import contextlib
import re
from pathlib import Path
from typing import Any

from pt4al.files import read_lines, write_csv, write_lines
from pt4al.images import id_key

METRICS = ("cycle", "labels", "epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
           "best_accuracy", "seconds")  # fmt: skip
CYCLES = ("cycle", "labels", "best_accuracy", "best_epoch", "last_accuracy", "seconds")
PER_CLASS = ("cycle", "class", "support", "precision", "recall", "f1")
NAMES = ("metrics.csv", "cycles.csv", "per_class.csv")

State = dict[str, Any]
Seconds = dict[tuple[int, int], float]  # by cycle and epoch


def write_tables(folder: Path, state: State, seconds: Seconds, ids: list[str]) -> None:
    """Write what follows from a state; `ids` are the image ids of the pool."""
    metrics = [[*row, seconds.get((row[0], row[2]))] for row in state["metrics"]]
    write_csv(folder / "metrics.csv", METRICS, metrics)
    if state["cycles"]:
        rows = [[*row, seconds_of(seconds, row[0])] for row in state["cycles"]]
        write_csv(folder / "cycles.csv", CYCLES, rows)
    if state["per_class"]:
        write_csv(folder / "per_class.csv", PER_CLASS, state["per_class"])
    for cycle, picks in enumerate(state["labeled"]):
        write_labeled(folder, cycle, [ids[i] for i in picks])


def write_labeled(folder: Path, cycle: int, ids: list[str]) -> None:
    """The image ids chosen in a cycle, in order; a file that names the same images stays as it is,
    wherever the data lay."""
    path, keys = folder / "labeled" / f"cycle_{cycle}.txt", [id_key(image_id) for image_id in ids]
    if not path.is_file() or [id_key(line) for line in read_lines(path)] != keys:
        write_lines(path, ids)


def table_files(folder: Path) -> list[Path]:
    """The files in `folder` that have the names of what `write_tables` writes."""
    labeled = sorted((folder / "labeled").glob("cycle_*.txt"))
    picks = [path for path in labeled if re.fullmatch(r"cycle_\d+\.txt", path.name)]
    return [folder / name for name in NAMES if (folder / name).exists()] + picks


def seconds_of(seconds: Seconds, cycle: int) -> float:
    """Seconds spent on the epochs of a cycle."""
    return sum((s for (c, _), s in seconds.items() if c == cycle), 0.0)


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
