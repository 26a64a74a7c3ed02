"""What a person says of images: labels.csv and classes.txt in the folder of photographs.

labels.csv is the person's: it is read here and written by the programs that a person labels with,
never by training. Everything in it is text:

    file_name   path below the folder; another column may name the images (`image_columns`)
    label       a class; `?`: seen, cannot tell; empty: not yet
    annotator   who says so (optional); a row that names nobody decides

A class counts before a `?` of the same annotator, or both of nobody, in whichever row or file.

Names of classes and annotators are compared in Unicode's composed form (NFC): a folder made on a
Mac and a key typed elsewhere spell the same umlaut differently.
"""

import contextlib
import csv
import difflib
import errno
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import filelock

from pt4al.base.console import UserError, printable
from pt4al.base.files import hashed, take_lock, write_bytes, write_lines
from pt4al.person.naming import (
    FILE_COLUMNS,
    Find,
    image_columns,
    key_of,
    nfc,
)

UNSURE = "?"
DELIMITERS = (",", ";", "\t")
PATIENCE = 5.0  # seconds until it is said who waits for whom


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
    names: dict[str, None] = {}
    for name in filter(None, map(clean, decoded(path).splitlines())):
        check_class(name, f"{path}: ")
        if name in names:
            raise UserError(f"{path} names {name!r} twice: keep one")
        names[name] = None
    if len(names) < least:
        raise UserError(f"{path} names {len(names)} classes: a classifier needs 2 or more")
    return list(names)


def add_class(folder: Path, name: str) -> None:
    """Append a class to FOLDER/classes.txt; the file stays in order and keeps its other lines."""
    name = clean(name)
    check_class(name, "")
    path = folder / "classes.txt"
    lines = decoded(path).splitlines() if path.exists() else []
    if name not in map(clean, lines):
        write_lines(path, [*lines, name])


def check_class(name: str, where: str) -> None:
    if name == UNSURE:
        raise UserError(f"{where}'?' is not a class: it marks an image that the annotator cannot tell")
    if not name or not all(map(is_letter, name)) or len(name) > 200:
        raise UserError(f"{where}{name[:40]!r} is not a valid class name: one line, 200 letters at most")


def class_of_folder(folder: Path) -> str:
    """The class that a folder of PHOTOS/test stands for, however its disk spells it.

    Raises:
        UserError: no class can have this name.
    """
    name = clean(folder.name)
    check_class(name, f"{folder}: ")
    return name


def is_letter(c: str) -> bool:
    """Whether a name may hold it: what prints, wide spaces, and the joiners that Persian, Hindi and
    emoji are written with."""
    return c.isprintable() or c in "\u200c\u200d" or unicodedata.category(c) == "Zs"


def clean(name: str) -> str:
    """A name without spaces around it, in composed form."""
    return nfc(name.strip())


def decoded(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        UserError: it is another encoding, or no file.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a regular file: move it away")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f'{path} line {line} is not UTF-8: save it in UTF-8 (Excel: as "CSV UTF-8")'
        ) from None
    if "\0" in text:
        raise UserError(f'{path} holds zero bytes (UTF-16?): save it in UTF-8 (Excel: as "CSV UTF-8")')
    return text


# --- a label file


def lower(names: Iterable[str]) -> list[str]:
    return [name.strip().lower() for name in names]


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
        lines: where each begins in the file (0: it is new), and its fields.
    """

    def __init__(
        self,
        path: Path,
        find: Find | None = None,
        create: bool = False,
        label: str = "label",
        image: str = "",
    ) -> None:
        """Read a file.

        Args:
            find: of the pool; None: the column that names the images is chosen by its name alone.
            create: a file that is not there is an empty one.
            label: the name of the column of labels.
            image: the name of the column that names the images; empty: it is found.

        Raises:
            UserError: names the first line that cannot be used.
        """
        self.path, self.find, self.changed = path, find, False
        self.label, self.image = label.lower(), image.lower()
        self.lines: list[tuple[int, list[str]]] = []
        self.delimiter, self.mark, self.end, self.first = ",", False, "\n", ""
        if create and not path.exists():
            self.header = ["file_name", "label"]
        else:
            self.read()
        self.columns = self.find_columns()

    def read(self) -> None:
        with hashed(self.path):
            text = decoded(self.path)
            self.mark = self.path.read_bytes().startswith(b"\xef\xbb\xbf")
        if end := re.search(r"\r*\n|\r", text):
            self.end = "\r\n" if len(end[0]) > 1 else end[0]
            if end[0] == "\r\r\n":  # by a program that forgot newline="" on Windows
                text = text.replace("\r\r\n", "\r\n")
        if first := re.match(r'("?sep=(.)"?)(\r?\n|\r)', text, re.IGNORECASE):  # for Excel
            self.first, self.delimiter = first[1], first[2]
            text = text[first.end() :]
        else:
            self.delimiter = self.find_delimiter(text)
        lines = self.parsed(text, bool(first))
        _, self.header = next(lines, (1, []))
        n = len(self.header)
        for number, line in lines:
            # Excel leaves out empty last columns; a line of another delimiter only looks like that.
            others = set(DELIMITERS) - {self.delimiter}
            if any(map(str.strip, line[n:])) or (len(line) < n and others & set(line[-1])):
                raise UserError(
                    f"{self.path} line {number} has {len(line)} fields, the header {n}: "
                    "is a name with a comma in it not quoted?"
                )
            self.lines.append((number, line[:n] + [""] * (n - len(line))))

    def parsed(self, text: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
        """The lines that are not empty, each with the number of the line where it begins."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, strict=True)
        while True:
            number = reader.line_num + 1 + skipped
            try:
                line = next(reader, None)
            except csv.Error as error:
                raise UserError(f"{self.path} line {number} is not valid CSV: {error}") from None
            if line is None:
                return
            if line:
                yield number, line

    def find_delimiter(self, text: str) -> str:
        """The one by which the header has the columns that are needed, else the most frequent."""
        header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0][:10_000]

        def found(delimiter: str) -> tuple[bool, bool, int]:
            names = lower(next(csv.reader([header], delimiter=delimiter), []))
            named = any(name in names for name in ([self.image] if self.image else FILE_COLUMNS))
            return self.label in names, named, header.count(delimiter)

        return max(DELIMITERS, key=found)  # of none the comma

    def find_columns(self) -> tuple[int, int, int | None]:
        names = lower(self.header)
        where, found = f"{self.path} line 1", ", ".join(map(str.strip, self.header)) or "nothing"
        for cell in names:
            if cell != self.label and self.label in lower(re.split("[,;\t]", cell)):
                raise UserError(
                    f"{where}: several columns stand in one, {cell!r}: in Excel, open the file by "
                    'Data > From Text/CSV, and save it as "CSV UTF-8"'
                )
        file = self.image or self.find_image(names)
        if not file or file not in names or file == self.label:
            raise UserError(
                f"{where}: no column {self.image or 'file_name'} (found: {found}): rename the one that names "
                "the images, or import the file with --image-column"
            )
        if self.label not in names:
            raise UserError(
                f"{where}: no column {self.label} (found: {found}): rename the one that holds the labels, "
                "or import the file with --label-column"
            )
        for name in (file, self.label, "annotator"):
            if names.count(name) > 1:
                raise UserError(f"{where}: two columns are called {name}: rename one")
        annotator = names.index("annotator") if "annotator" in names else None
        return names.index(file), names.index(self.label), annotator

    def find_image(self, names: list[str]) -> str:
        """The name of the column that names the images; empty if there is none."""
        at = {name: i for i, name in enumerate(names) if name not in (self.label, "annotator")}
        if self.find is None:
            return next((name for name in FILE_COLUMNS if name in at), "")
        columns = {name: [line[i].strip() for _, line in self.lines] for name, i in at.items()}
        return next(
            iter(image_columns(columns, lambda i: f"{self.path} line {self.lines[i][0]}", self.find)), ""
        )

    def rows(self) -> Iterator[Row]:
        file, label, annotator = self.columns
        for number, line in self.lines:
            who = "" if annotator is None else clean(line[annotator])
            yield Row(number, line[file].strip(), clean(line[label]), who)

    @cached_property
    def places(self) -> dict[tuple[str, str], list[list[str]]]:
        """The lines of each image and annotator."""
        places: dict[tuple[str, str], list[list[str]]] = {}
        for row, (_, line) in zip(self.rows(), self.lines, strict=True):
            places.setdefault((key_of(row.file, self.find), row.annotator), []).append(line)
        return places

    def answer(self, file: str, label: str, annotator: str = "") -> None:
        """Set the label of an image, in the row that this annotator has for it or in a new one; with
        an annotator the file gets that column.

        Raises:
            UserError: a name that this file could not hold.
        """
        label, annotator = clean(label), clean(annotator)
        if label not in ("", UNSURE):
            check_class(label, f"{file}: ")
        if not all(map(is_letter, annotator)) or len(annotator) > 200:
            raise UserError(f"{annotator[:40]!r} is not a valid annotator name: one line")
        try:
            file.encode()
        except UnicodeEncodeError:
            raise UserError(f"the name of {file!r} is not UTF-8: rename that image") from None
        if annotator and self.columns[2] is None:
            self.header.append("annotator")
            for _, line in self.lines:
                line.append("")
            self.columns = *self.columns[:2], len(self.header) - 1
        at_file, at_label, at_annotator = self.columns
        mine = self.places.setdefault((key_of(file, self.find), annotator), [])
        if not mine:
            line = [""] * len(self.header)
            line[at_file] = file
            if at_annotator is not None:
                line[at_annotator] = annotator
            self.lines.append((0, line))
            mine.append(line)
            self.changed = True
        for line in mine:
            self.changed |= clean(line[at_label]) != label
            line[at_label] = label

    def rename(self, old: str, new: str) -> None:
        """Let every row with the label `old` have the label `new`."""
        for row, (_, line) in zip(self.rows(), self.lines, strict=True):
            if row.label == old:
                line[self.columns[1]] = new
                self.changed = True

    def ask(self, files: Sequence[str], kept: list[tuple[int, list[str]]]) -> None:
        """Let the file hold a line without label for each of `files`, and below them `kept`."""
        blank = [""] * len(self.header)
        self.lines = [
            *((0, [*blank[: self.columns[0]], name, *blank[self.columns[0] + 1 :]]) for name in files),
            *kept,
        ]
        self.changed = True

    def write(self) -> None:
        """Write the file whole, in the dialect that it was read in, if an answer has changed it. A
        link is followed: what it leads to is the person's file."""
        if not self.changed:
            return
        # It hands its lines back. By this end it quotes a field with either half of it, which it
        # would not by "\n" (Python 3.12 and older), and such a field would be lost.
        writer = csv.writer(SimpleNamespace(write=str), delimiter=self.delimiter, lineterminator="\r\n")
        lines = [self.header, *(line for _, line in self.lines)]
        lines = [writer.writerow(line).removesuffix("\r\n") for line in lines]
        text = "".join(line + self.end for line in ([self.first] if self.first else []) + lines)
        write_bytes(self.path.resolve(), text.encode("utf-8-sig" if self.mark else "utf-8"))
        self.changed = False


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold FOLDER/labels.csv and FOLDER/classes.txt: other programs of ours wait meanwhile.

    Raises:
        UserError: nothing can be written there.
    """
    path = folder / ".labels.lock"
    try:
        try:
            lock = take_lock(path, PATIENCE)
        except filelock.Timeout:
            print(printable(f"waiting for {path}, which another program holds: end or resume it"), flush=True)
            lock = take_lock(path, -1)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        instead = (
            ": fill in to_label.csv of the run instead, or make a folder OWN with a link to its images "
            f"(ln -s {folder.resolve()}/pool OWN/pool) and give --data-dir OWN"
        )
        hint = instead if (folder / "pool").exists() else ""
        raise UserError(f"{folder} cannot be written ({error.strerror}){hint}") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def editing(folder: Path, find: Find | None = None, name: str = "labels.csv") -> Iterator[LabelFile]:
    """A label file in FOLDER as it is now, held, to be changed; written at the end."""
    with locked(folder):
        file = LabelFile(folder / name, find, create=True)
        yield file
        file.write()


def doubts_first(rows: Iterable[Row]) -> list[Row]:
    """Rows of one person in an order in which the last one of an image counts: a class before a `?`."""
    return sorted(rows, key=lambda row: row.label != UNSURE)


def alike(name: str) -> str:
    """What names of classes share that differ in case, in spaces, or as numbers are written: `1`, `1.0`,
    `1,0` and `01`, which spreadsheets and pandas make of each other."""
    text = "".join(name.casefold().split())
    if not re.fullmatch(r"[+-]?[0-9]+([.,][0-9]*)?", text):
        return text
    whole, _, part = text.replace(",", ".").partition(".")
    sign, digits = "-" * whole.startswith("-"), whole.lstrip("+-").lstrip("0") or "0"
    return f"{sign}{digits}.{part.rstrip('0')}".rstrip(".")


def twins(names: Iterable[str]) -> Iterator[str]:
    """A line on the classes that may be one, if there are such."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(alike(name), []).append(name)
    found = [group for group in groups.values() if len(group) > 1]
    if found:
        (one, two, *_), more = found[0], len(found) - 1
        hint = "pandas writes 1 as 1.0 where a cell is empty: read with dtype=str"
        hint = f" ({hint})" if alike(one).lstrip("-").replace(".", "").isdecimal() else ""
        rest = f", and {more} more such pairs" if more else ""
        yield f"two classes, or one? {one!r} and {two!r}{rest}{hint}"


def check_known(label: str, classes: Collection[str], place: str) -> None:
    if classes and label not in classes:
        near = [name for name in classes if alike(name) == alike(label)]
        near += difflib.get_close_matches(label, classes, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"{place}: {label!r} is not in classes.txt{hint}")
