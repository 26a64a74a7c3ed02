"""What a person says of images: labels.csv and classes.txt in the folder of photographs.

labels.csv is the person's: it is read here and written by the programs that a person labels with,
never by training. Everything in it is text; its columns are found by name:

    file_name   path below the folder (also: filename, image, image_id, id, path)
    label       a class; `?`: seen, cannot tell; empty: not yet
    annotator   who says so (optional); a row that names nobody decides
"""

import contextlib
import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import filelock

from pt4al.console import UserError
from pt4al.files import hashed, read_lines, write_bytes, write_lines
from pt4al.images import id_key

UNSURE = "?"
FILE_COLUMNS = ("file_name", "filename", "image", "image_id", "id", "path")
DELIMITERS = (",", ";", "\t")


# --- classes.txt


def read_classes(folder: Path, least: int = 2) -> list[str]:
    """The classes of FOLDER/classes.txt in the order of their keys; none where there is no such
    file.

    Raises:
        UserError: it names fewer than `least`, one twice, or `?`.
    """
    path = folder / "classes.txt"
    if not path.exists():
        return []
    text = decoded(path)
    names = [line.strip() for line in text.splitlines() if line.strip()]
    for number, name in enumerate(names):
        check_class(name, f"{path}: ")
        if name in names[:number]:
            raise UserError(f"{path} names {name!r} twice: keep one")
    if len(names) < least:
        raise UserError(f"{path} names {len(names)} classes: a classifier needs 2 or more")
    return names


def add_class(folder: Path, name: str) -> None:
    """Append a class to FOLDER/classes.txt; the file stays in order and keeps its other lines."""
    check_class(name, "")
    path = folder / "classes.txt"
    lines = read_lines(path) if path.exists() else []
    if name not in [line.strip() for line in lines]:
        write_lines(path, [*lines, name])


def check_class(name: str, where: str) -> None:
    if name == UNSURE:
        raise UserError(f"{where}'?' is no class: it says that a person cannot tell")
    if not name or not name.isprintable() or len(name) > 200:
        raise UserError(
            f"{where}{name[:40]!r} is no name for a class: one line, 200 letters at most"
        )


def decoded(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        UserError: it is another encoding, or no file.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file: move it away")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path} line {line} is not UTF-8: save it as CSV in UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path} holds zero bytes (UTF-16?): save it as CSV in UTF-8")
    return text


# --- a label file


class Row(NamedTuple):
    """A line of a label file: where it stands, and its fields without spaces around them."""

    line: int
    file: str
    label: str
    annotator: str


class LabelFile:
    """A label file as it stands on disk: its header, every field of every line, and its dialect.

    Attributes:
        columns: where file, label and annotator stand in a line; annotator may be None.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        """Read a file; with `create`, one that is not there is an empty one.

        Raises:
            UserError: names the first line that cannot be used.
        """
        self.path, self.lines, self.delimiter, self.mark, self.end = path, [], ",", False, "\n"
        if create and not path.exists():
            self.header = ["file_name", "label"]
        else:
            self.read()
        self.columns = self.find_columns()

    def read(self) -> None:
        with hashed(self.path):
            text = decoded(self.path)
            self.mark = self.path.read_bytes().startswith(b"\xef\xbb\xbf")
        first = text.split("\n", 1)[0]
        self.end = "\r\n" if first.endswith("\r") else "\n"
        self.delimiter = max(DELIMITERS, key=first.count)  # of none the comma
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, strict=True)
        try:
            self.header = next(reader, [])
            for line in reader:
                if line and len(line) != len(self.header):
                    raise UserError(
                        f"{self.path} line {reader.line_num} has {len(line)} fields, the header {len(self.header)}: "
                        "is a name with a comma in it not quoted?"
                    )
                if line:
                    self.lines.append((reader.line_num, line))
        except csv.Error as error:
            raise UserError(f"{self.path} line {reader.line_num} is no CSV: {error}") from None

    def find_columns(self) -> tuple[int, int, int | None]:
        names = [name.strip().lower() for name in self.header]
        found = ", ".join(name.strip() for name in self.header) or "nothing"
        file = next((names.index(name) for name in FILE_COLUMNS if name in names), None)
        if file is None:
            raise UserError(f"{self.path} line 1: no column file_name (found: {found})")
        if "label" not in names:
            raise UserError(f"{self.path} line 1: no column label (found: {found})")
        return (
            file,
            names.index("label"),
            names.index("annotator") if "annotator" in names else None,
        )

    def rows(self) -> Iterator[Row]:
        file, label, annotator = self.columns
        for number, line in self.lines:
            who = "" if annotator is None else line[annotator].strip()
            yield Row(number, line[file].strip(), line[label].strip(), who)

    def answer(self, file: str, label: str, annotator: str = "") -> None:
        """Set the label of an image, in the row that this annotator has for it or in a new one; with
        an annotator the file gets that column."""
        if annotator and self.columns[2] is None:
            self.header = [*self.header, "annotator"]
            self.lines = [(number, [*line, ""]) for number, line in self.lines]
            self.columns = self.find_columns()
        at_file, at_label, at_annotator = self.columns
        mine = [
            line
            for row, (_, line) in zip(self.rows(), self.lines, strict=True)
            if id_key(below_pool(row.file)) == id_key(below_pool(file))
            and row.annotator == annotator
        ]
        if not mine:
            line = [""] * len(self.header)
            line[at_file] = file
            if at_annotator is not None:
                line[at_annotator] = annotator
            self.lines.append((0, line))
            mine = [line]
        for line in mine:
            line[at_label] = label

    def write(self) -> None:
        """Write the file whole, in the dialect that it was read in."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator=self.end)
        writer.writerow(self.header)
        writer.writerows(line for _, line in self.lines)
        write_bytes(self.path, text.getvalue().encode("utf-8-sig" if self.mark else "utf-8"))


def locked(folder: Path) -> contextlib.AbstractContextManager[object]:
    """Hold FOLDER/labels.csv and FOLDER/classes.txt: other programs of ours wait meanwhile."""
    return filelock.FileLock(folder / ".labels.lock")


@contextlib.contextmanager
def editing(folder: Path) -> Iterator[LabelFile]:
    """FOLDER/labels.csv as it is now, held, to be changed; written at the end."""
    with locked(folder):
        file = LabelFile(folder / "labels.csv", create=True)
        yield file
        file.write()


def below_pool(text: str) -> str:
    """`./pool/a/x.jpg`, `a/x.jpg` or `/home/me/photos/pool/a/x.jpg` -> `pool/a/x.jpg`."""
    name = text.replace("\\", "/").removeprefix("./")
    if not name.startswith("pool/") and "/pool/" in name:
        name = name[name.index("/pool/") + 1 :]
    return name if name.startswith("pool/") else f"pool/{name}"


# --- what they say together


@dataclass
class Answers:
    """What label files say of a pool.

    Attributes:
        labels: class or `?` by pool position; images on which annotators disagree are not in it.
        disagreements: file, label, annotator of every answer to such an image.
        notes: lines for the person.
    """

    labels: dict[int, str] = field(default_factory=dict)
    disagreements: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_answers(
    files: Iterable[Path], position_of: dict[str, int], classes: Sequence[str]
) -> Answers:
    """Read label files as one.

    Args:
        files: those that are not there are left out.
        position_of: pool position by id key (`Images.positions_by_key`).
        classes: those of classes.txt, or none: any name is a class.

    Raises:
        UserError: names the line: an unknown class, or two labels for one image by one person.
    """
    said: dict[int, dict[str, tuple[str, str]]] = {}  # position -> annotator -> label, place
    strange: list[str] = []
    named: dict[int, str] = {}
    for path in files:
        if not path.exists():
            continue
        for row in LabelFile(path).rows():
            if not row.label:
                continue
            place = f"{path} line {row.line}"
            position = position_of.get(id_key(below_pool(row.file)))
            if position is None:
                strange.append(f"{place}: {row.file}")
                continue
            if row.label != UNSURE:
                check_class(row.label, f"{place}: ")
                check_known(row.label, classes, place)
            named[position] = below_pool(row.file)
            label, before = said.setdefault(position, {}).setdefault(
                row.annotator, (row.label, place)
            )
            if label != row.label:
                who = f"annotator {row.annotator!r}" if row.annotator else "no annotator named"
                raise UserError(
                    f"{place}: {row.file} has two labels, {label!r} ({before}) and {row.label!r}, {who}: keep one"
                )
    answers = Answers(notes=agreement(said))
    for position, by_annotator in said.items():
        labels = {label for label, _ in by_annotator.values()}
        if "" in by_annotator:
            answers.labels[position] = by_annotator[""][0]
        elif len(labels) == 1:
            answers.labels[position] = labels.pop()
        else:
            answers.disagreements += [
                [named[position], x, who] for who, (x, _) in by_annotator.items()
            ]
    if strange:
        answers.notes.append(
            f"{len(strange)} rows are of images that are not in the pool, the first: {strange[0]}"
        )
    if twins := similar({label for label in answers.labels.values() if label != UNSURE}):
        answers.notes.append(f"two classes, or one? {twins[0]!r} and {twins[1]!r}")
    return answers


def check_known(label: str, classes: Sequence[str], place: str) -> None:
    if classes and label not in classes:
        near = difflib.get_close_matches(label, classes, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"{place}: {label!r} is not in classes.txt{hint}")


def similar(names: set[str]) -> tuple[str, str] | None:
    """Two names that differ in case or spaces only."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault("".join(name.casefold().split()), name)
        if other != name:
            return other, name
    return None


def agreement(said: dict[int, dict[str, tuple[str, str]]]) -> list[str]:
    """For each two annotators how often they agree on images that both have seen, and Cohen's kappa
    (Cohen 1960)."""
    people = sorted({who for by_annotator in said.values() for who in by_annotator} - {""})
    notes = []
    for a, b in combinations(people, 2):
        pairs = [(x[a][0], x[b][0]) for x in said.values() if a in x and b in x]
        if pairs:
            same = sum(x == y for x, y in pairs)
            notes.append(
                f"annotators {a} and {b} agree on {same} of {len(pairs)} images, kappa {kappa(pairs):.2f}"
            )
    return notes


def kappa(pairs: list[tuple[str, str]]) -> float:
    """Cohen's kappa; 1 where both always say one and the same thing."""
    from sklearn.metrics import cohen_kappa_score  # takes a second to import

    first, second = zip(*pairs, strict=True)
    return 1.0 if len({*first, *second}) == 1 else float(cohen_kappa_score(first, second))
