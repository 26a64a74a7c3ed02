"""Finished runs, read again: their tables, their records, and the settings in which two of them differ.
No torch here: programs that draw use it."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from config import Config
from pt4al.base.console import UserError
from pt4al.run.record import HOW, READABLE, Record, shorten

KINDS = ("best", "last")  # the epochs of a cycle whose accuracy is kept
FIELDS = {field.name for field in fields(Config)} - HOW
# Digests of images are of their pixels as read, or of their features.
READ_AS = ("img_size", "resize", "channel_order", "features")


@dataclass(frozen=True)
class Table:
    """A CSV file: its rows by column name, and the line of the file at which each ends."""

    path: Path
    rows: list[dict[str, str]]
    lines: list[int]

    def texts(self, name: str) -> list[str]:
        """A column as it stands; a UserError where there is none."""
        if self.rows and name not in self.rows[0]:
            raise UserError(f"{self.path} has no column {name!r}")
        return [row[name] for row in self.rows]

    def column(self, name: str) -> np.ndarray:
        """A column as float64 (rows,); an empty field becomes NaN.

        Raises:
            UserError: there is no such column, or a field of it is not a number.
        """
        numbers = np.empty(len(self.rows))
        for i, (line, text) in enumerate(zip(self.lines, self.texts(name), strict=True)):
            try:
                numbers[i] = float(text or "nan")
            except ValueError:
                hint = " (a decimal point, please)" if "," in text else ""
                raise UserError(f"{self.path} line {line}: {name} is {text!r}, not a number{hint}") from None
        return numbers


def read_table(path: Path) -> Table:
    """A CSV file of a run; without rows where the file is missing. A spreadsheet may have saved it, with a
    byte order mark, semicolons or tabs, and empty rows.

    Raises:
        UserError: it is not CSV, or a row has more or fewer fields than the header.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape") if path.is_file() else ""
    header = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, lines = [], []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{path} line {reader.line_num} has more or fewer fields than the header")
            if any(row.values()):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num} is not CSV: {error}") from None
    return Table(path, rows, lines)


@dataclass(frozen=True)
class Run:
    """A run folder: labels int64 (points,), and best and last test accuracy in percent, each (points,).

    `record` is its config.json, None where there is none; then its seed is unknown. `cycles` that are done
    may be more than points. `test_images` int64 (points,) is the size of the test set, where an annotator
    labeled; else None.
    """

    path: Path
    labels: np.ndarray
    accuracy: dict[str, np.ndarray]
    record: Record | None
    cycles: int
    test_images: np.ndarray | None

    @property
    def seed(self) -> int | None:
        return self.record["parameters"]["seed"] if self.record else None


def read_run(path: Path) -> Run:
    """Read a run folder. Of cycles `which_are_points` tells which are points of its curve.

    Raises:
        UserError: cycles.csv is missing, empty or not one of ours, or config.json cannot be used.
    """
    table = read_table(path / "cycles.csv")
    if not table.rows:
        hint = f"is {path} a run folder, and is its first cycle done?"
        raise UserError(f"{table.path} is missing or empty: {hint}")
    labels = table.column("labels")
    accuracy = {kind: table.column(f"{kind}_accuracy") for kind in KINDS}
    sizes = sizes_of_test_sets(path, table.column("cycle") if "cycle" in table.rows[0] else labels)
    test_images = sizes.astype(int) if (sizes >= 1).all() else None
    least = 1.0
    for i, line in enumerate(table.lines):
        where = f"{table.path} line {line}"
        if not (least <= labels[i] < np.inf and labels[i] % 1 == 0):
            text = f"must be a whole number of {least:.0f} or more (labels never fall)"
            raise UserError(f"{where}: labels is {table.rows[i]['labels']!r}, but {text}")
        least = labels[i] if test_images is None else least  # annotators can take labels back
        for kind, values in accuracy.items():
            if not 0 <= values[i] <= 100:
                text = f"{kind}_accuracy is {table.rows[i][f'{kind}_accuracy']!r}, not between 0 and 100 %"
                raise UserError(f"{where}: {text} (a run without a test set has no accuracy)")
    points = which_are_points(labels)
    accuracy = {kind: values[points] for kind, values in accuracy.items()}
    test_images = None if test_images is None else test_images[points]
    record = read_record(path / "config.json")
    return Run(path, labels[points].astype(int), accuracy, record, len(labels), test_images)


def which_are_points(labels: np.ndarray) -> np.ndarray:
    """Which cycles of a run are points of its curve, bool (cycles,): the last at each number of labels. One
    may find all its images labeled already; where an annotator took labels back, those that had more are
    none."""
    later = np.minimum.accumulate(np.append(labels[1:], np.inf)[::-1])[::-1]
    return labels < later


def sizes_of_test_sets(run: Path, cycles: np.ndarray) -> np.ndarray:
    """How many images the accuracy of each of `cycles` rests on, float64 (n,): where an annotator labels, by
    answers.csv; NaN where that says nothing."""
    answers = read_table(run / "answers.csv")
    known = dict(zip(answers.column("cycle"), answers.column("test_images"), strict=True))
    return np.array([known.get(cycle) or np.nan for cycle in cycles])


def read_record(path: Path) -> Record | None:
    """What a run was made from; None where there is no such file.

    Raises:
        UserError: it is damaged, or of a version that cannot be compared.
    """
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    version = record.get("version") if isinstance(record, dict) else None
    if version not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise UserError(
            f"{path} is a record of version {version}, and only {known} can be compared: leave it out"
        )
    kinds = {"script": str, "parameters": dict, "inputs": dict, "made_with": dict}
    missing = [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]
    if not missing and not isinstance(record["parameters"].get("seed"), int):
        missing = ["parameters.seed"]
    for name in ("batches_made_from", "pretext_made_from", "images"):
        if not missing and not isinstance(record["inputs"].get(name), dict | None):
            missing = [f"inputs.{name}"]
    if not missing and not isinstance((record["inputs"].get("images") or {}).get("names"), dict | None):
        missing = ["inputs.images.names"]
    if missing:
        raise UserError(f"{path} is damaged: it lacks {missing[0]}")
    return record


# --- what two runs differ in


def digests(record: Record, other: Record) -> dict[str, str | None]:
    """`data` and `test_data` of a record, as they can be compared with those of another; None: not known.

    Features of one image differ in their last digits from machine to machine. So of two runs on features
    they are digests of what the features were made from, where both records have these: older ones lack
    them, and those of rows of another tool.
    """
    both = all((x["inputs"].get("images") or {}).get("data") for x in (record, other))
    source = record["inputs"]["images"] if both else record["inputs"]
    return {name: source.get(name) for name in ("data", "test_data")}


def settings(record: Record, images: dict[str, str | None]) -> dict[str, Any]:
    """What seeds of one method share: not the batches, which follow from the seed, but how they were
    made; not the images where the seed cuts the pool, nor a test set that it draws.

    Fields that `Config` no longer has are not compared: older records name some.

    Args:
        images: their digests.
    """
    parameters, inputs = record["parameters"], record["inputs"]
    shared = {name: parameters[name] for name in FIELDS & {*parameters} - {"seed"}}
    shared["script"] = record["script"]
    shared |= {"features": inputs["features"]} if "features" in inputs else {}
    made_from = inputs.get("batches_made_from") or {}
    for name in {"sort", "num_batches", "losses", "data"} & {*made_from}:
        shared[f"batches_made_from.{name}"] = made_from[name]
    pretext = inputs.get("pretext_made_from") or made_from.get("pretext_made_from") or {}
    for name in FIELDS & {*pretext} - {"seed", "precision"}:
        shared[f"pretext.{name}"] = pretext[name]
    if not parameters.get("test_labels"):
        shared["test_data"] = images["test_data"]
    if parameters.get("imbalance") in (None, 1):
        shared["data"] = images["data"]
    else:
        shared.pop("batches_made_from.data", None)
    return shared


def differing(a: Record, b: Record, of_one_method: bool = False) -> str:
    """The settings in which two runs differ, each with both values; empty where they agree.

    Left out is what follows from the method: fields of only one of two scripts (unless the runs are
    meant to be of one method), how batches were made where one run has none, how the pretext network was
    trained where one has none or does not say; and digests of images
    that were read in two ways. Of one method: precision, which is a matter of the machine.
    """
    ours, theirs = settings(a, digests(a, b)), settings(b, digests(b, a))
    names = {*ours, *theirs}
    if of_one_method:
        names -= {"precision"}
    elif ours["script"] != theirs["script"]:
        names = {*ours} & {*theirs} - {"script"}
    if not all("batches" in record["inputs"] for record in (a, b)):
        names -= {name for name in names if name.startswith("batches_made_from.")}
    if not all(any(x.startswith("pretext.") for x in both) for both in (ours, theirs)):
        names -= {name for name in names if name.startswith("pretext.")}
    if any(ours.get(name) != theirs.get(name) for name in READ_AS):
        names -= {"data", "test_data", "batches_made_from.data"}
    pairs = {x: (ours.get(x, "absent"), theirs.get(x, "absent")) for x in sorted(names)}
    return ", ".join(f"{x} is {shorten(u)} and {shorten(v)}" for x, (u, v) in pairs.items() if u != v)


def other_test_images(a: Record, b: Record) -> bool:
    """Whether two runs were judged on different images, as far as their records tell: not where both
    drew their test set from one pool, nor where one data set was read in two ways. Features of two networks,
    and rows of another tool, are of the same images if ids and labels are."""
    ours, theirs = ({**x["parameters"], "features": x["inputs"].get("features")} for x in (a, b))
    drawn = ours.get("test_labels") and theirs.get("test_labels")
    name = "data" if drawn else "test_data"
    images = [x["inputs"].get("images") or {} for x in (a, b)]
    names = [(x.get("names") or {}).get(name) for x in images]
    if all(names) and (ours["features"] != theirs["features"] or not all(x.get(name) for x in images)):
        return names[0] != names[1]
    found = {digests(a, b)[name], digests(b, a)[name]}
    if None in found or len(found) == 1:
        return False
    alike = all(ours.get(name) == theirs.get(name) for name in READ_AS)
    return alike or ours.get("dataset") != theirs.get("dataset")


def made_otherwise(records: Iterable[Record]) -> str:
    """Versions, machines and commits in which records differ; empty where they agree."""
    made_with = [record["made_with"] for record in records]
    parts = []
    for name in dict.fromkeys(name for made in made_with for name in made):
        values = dict.fromkeys(f"{made.get(name, 'absent')!s:.24}" for made in made_with)
        if len(values) > 1:
            parts.append(f"{name} ({' / '.join(values)})")
    return ", ".join(parts)
