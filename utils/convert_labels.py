"""Bring labels in from other tools, or take the labeled images out as a data set.

import  adds what FILE_OR_FOLDER says to PHOTOS/labels.csv. It may be
          *.json        an export of Label Studio: JSON or JSON_MIN
          *.csv, *.tsv  a table with a column that names images of the pool and
                        one of labels, as from Label Studio, Kaggle, or
                        metadata.csv of Hugging Face
          *.jsonl       metadata.jsonl of Hugging Face
          a folder      FOLDER/CLASS/*, or with folders such as train/ above
                        the classes: copies of the images, links, or they
                        themselves
        An image is known by its path below PHOTOS/pool, else by its name, with
        or without ending, if one alone has it, else by its content; and where a
        file shows another image of the pool than its name says, by its content.
        Names that Roboflow, CVAT and Label Studio have changed are understood.
        Labels are text; empty ones and skipped tasks say nothing. If a label in
        labels.csv would change, or anything is wrong, nothing is written;
        --replace changes labels.

export  makes OUT of what is labeled, for --dataset folder --data-dir OUT and
        for Hugging Face: hard links, or copies where there can be none. Its
        test set is what RUN has drawn to test by, else PHOTOS/test/CLASS/*;
        without --run what was drawn is in OUT/train with the others. Answers in
        RUN/to_label.csv count with --run alone.
        Left out: no label, `?`, and where annotators disagree.

Reads:  PHOTOS/pool/**, PHOTOS/labels.csv, PHOTOS/classes.txt
        import: FILE_OR_FOLDER
        export: PHOTOS/test/CLASS/*, RUN/to_label.csv, RUN/labeled/test.txt,
        RUN/config.json
Writes: import: PHOTOS/labels.csv
        export: OUT/train/CLASS/*, OUT/test/CLASS/*, OUT/metadata.csv
Run:    python utils/convert_labels.py import project-1.json --data-dir PHOTOS
        python utils/convert_labels.py export OUT --data-dir PHOTOS --run RUN
"""

import argparse
import contextlib
import filecmp
import os
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pt4al.base.console import Parser, UserError, run_script
from pt4al.base.files import read_json, sha256_of, write_csv
from pt4al.data.ids import by_path
from pt4al.data.listing import folders_in, images_below, what_is_left_out
from pt4al.person.agreement import read_answers
from pt4al.person.label_forms import ROBOFLOW, Claim, originals, path_in, read_source
from pt4al.person.labels import (
    UNSURE,
    LabelFile,
    check_class,
    check_known,
    class_of_folder,
    clean,
    decoded,
    doubts_first,
    editing,
    read_classes,
    twins,
)
from pt4al.person.naming import Finder, below_pool, nfc, one_line

MOST_BYTES = 240  # of a file name


# --- the pool


class Pool:
    """The images of PHOTOS/pool.

    Attributes:
        files: their paths below PHOTOS, in order.
        position_of: their positions by id key.
        named: positions by name without ending.
    """

    def __init__(self, photos: Path) -> None:
        """
        Raises:
            UserError: there is no image, or two have one id.
        """
        root = photos / "pool"
        if not root.is_dir():
            raise UserError(f"{root} is not a folder: the images of --data-dir PHOTOS are in pool/")
        self.photos, self.position_of, self.named = photos, {}, defaultdict(list)
        self.files = sorted(x.relative_to(photos).as_posix() for x in images_below(root))
        for i, file in enumerate(self.files):
            if (j := self.position_of.setdefault(by_path(file), i)) != i:
                raise UserError(f"{self.files[j]} and {file} differ in their ending only: rename one")
            self.named[stem(file)].append(i)
        if not self.files:
            raise UserError(f"{root} holds no image")

    def by_path(self, path: str) -> int | None:
        """Position of the image with this path below PHOTOS or PHOTOS/pool, in whichever Unicode
        form its letters are."""
        return self.position_of.get(self.finder.path(path))

    @cached_property
    def finder(self) -> Finder:
        return Finder(self.position_of)

    def find(self, text: str) -> str | None:
        """Which image a text of a table names, by path or name: a `Find`."""
        path = self.called(path_in(text))
        i = self.by_path(path)
        found = self.named.get(stem(path), []) if i is None else [i]
        return None if not found else by_path(self.files[found[0]]) if len(found) == 1 else ""

    def called(self, path: str, label: str = "") -> str:
        """A path as it stands, or, where the pool has no such name, as it was before a tool renamed it."""
        if stem(path) in self.named:
            return path
        return next((name for name in originals(path, label) if stem(name) in self.named), path)

    @cached_property
    def real(self) -> dict[Path, int]:
        """Position by where a file is, links followed."""
        return {(self.photos / file).resolve(): i for i, file in enumerate(self.files)}

    @cached_property
    def by_size(self) -> dict[int, list[Path]]:
        """The files of so many bytes whose content was not asked for yet."""
        sizes = defaultdict(list)
        for path in self.real:
            if path.is_file():
                sizes[path.stat().st_size].append(path)
        return sizes

    @cached_property
    def by_content(self) -> dict[str, list[int]]:
        """Positions by SHA-256."""
        return defaultdict(list)

    def copies_of(self, path: Path) -> list[int]:
        """Positions of the images with this content."""
        for other in self.by_size.pop(path.stat().st_size, []):
            self.by_content[sha256_of(other)].append(self.real[other])
        return self.by_content.get(sha256_of(path), [])

    def is_copy(self, path: Path, i: int) -> bool:
        mine = self.photos / self.files[i]
        return mine.is_file() and filecmp.cmp(mine, path, shallow=False)

    @cached_property
    def flat_names(self) -> list[str]:
        """A file name for each image that no other has, also where case does not count: its own, or
        its path with `_` for `/` (pool/a/x.jpg: a_x.jpg) where others have its name."""
        names = [file.rpartition("/")[2] for file in self.files]
        count = Counter(stem(name).casefold() for name in names)
        taken = {name for name, n in count.items() if n == 1}
        for i, file in enumerate(self.files):
            if count[stem(file).casefold()] > 1:
                names[i] = untaken(file.removeprefix("pool/").replace("/", "_"), taken)
        return names

    @cached_property
    def by_flat_name(self) -> dict[str, int]:
        return {stem(name): i for i, name in enumerate(self.flat_names)}


def stem(path: str) -> str:
    """The name of a file without its ending, in composed form."""
    return nfc(by_path(path).rpartition("/")[2])


def untaken(name: str, taken: set[str]) -> str:
    """A file name that is not too long, and whose stem is not taken yet; it is taken then."""
    while len(os.fsencode(name)) > MOST_BYTES:
        name = name[1:].lstrip(".")
    first, n = Path(name), 1
    while stem(name).casefold() in taken:
        n += 1
        name = f"{first.stem}-{n}{first.suffix}"
    taken.add(stem(name).casefold())
    return name


# --- import


def match(said: list[Claim], pool: Pool) -> Iterator[tuple[Claim, list[int]]]:
    """With what is said, if it is something, the positions of the images that are meant: one; none if it is
    not in the pool; several where images are copies of one another."""
    raw = [path_in(s.image) for s in said]
    called = [pool.called(path, s.label if s.copy else "") for path, s in zip(raw, said, strict=True)]
    # Roboflow makes several images of one, by augmentation; others of one name are strangers.
    sources = {
        (below_pool(path), None if ROBOFLOW.search(old) else (below_pool(old), s.copy))
        for path, old, s in zip(called, raw, said, strict=True)
    }
    clashing = {name for name, n in Counter(stem(path) for path, _ in sources).items() if n > 1}
    twice = {path for path, n in Counter(path for path, _ in sources).items() if n > 1}
    for path, old, s in zip(called, raw, said, strict=True):
        if not s.label:  # it says nothing, but may have the name of another
            continue
        name, sure = stem(path), path == old or below_pool(path) not in twice
        found = [i for i in [pool.by_path(path)] if i is not None and sure]
        if not found and name not in clashing and len(pool.named.get(name, ())) == 1:
            found = pool.named[name]
        if s.copy and s.copy.is_file():
            found = by_content(s.copy, pool, found, name, name in clashing)
        yield s, found


def by_content(path: Path, pool: Pool, found: list[int], name: str, clashes: bool) -> list[int]:
    """As `match`, of a file that is there: its content decides between what its name says and other
    images. A content that is not in the pool (compressed anew) leaves what the name says."""
    if (i := pool.real.get(path.resolve())) is not None:
        return [i]
    flat = [pool.by_flat_name[name]] if name in pool.by_flat_name else []
    for i in found + flat:
        if pool.is_copy(path, i):
            return [i]
    return pool.copies_of(path) or ([] if clashes else found)


def bring_in(options: argparse.Namespace) -> None:
    pool = Pool(options.data_dir)
    classes = frozenset(read_classes(options.data_dir))
    said = read_source(options.source, pool.find, options.label_column, options.image_column)
    if options.source.is_dir() and (left_out := what_is_left_out(options.source)):
        print(f"{options.source}: {left_out}")
    said = [s._replace(annotator=s.annotator or clean(options.annotator)) for s in said]
    labeled = [s for s in said if s.label]
    new: dict[tuple[int, str], Claim] = {}
    strange: dict[tuple[str, Path | None], Claim] = {}
    for s, positions in match(said, pool):
        if not positions:
            strange.setdefault((s.image, s.copy), s)
        elif s.label != UNSURE:
            check_class(s.label, f"{s.place}: ")
            check_known(s.label, classes, s.place)
        for i in positions:
            first = new.setdefault((i, s.annotator), s)
            if first.label == UNSURE:
                new[i, s.annotator] = s
            elif s.label not in (first.label, UNSURE):
                raise UserError(
                    f"{s.place}: {pool.files[i]} is {s.label!r}, but {first.label!r} in {first.place}: "
                    "keep one"
                )
    first = next((one_line(f"{s.image} ({s.place})") for s in strange.values()), "")
    if strange and not new:
        raise UserError(f"none of {len(strange)} images is in {pool.photos}/pool, the first: {first}")
    with editing(options.data_dir, pool.finder) as file:
        count = merge(new, pool, file, classes, options.replace)
    if strange:
        print(f"{len(strange)} images are not in {pool.photos}/pool, the first: {first}")
    if unread := sorted({kind for s in said for kind in s.unread}):
        n = sum(bool(s.unread) for s in said)
        print(f"{n} entries hold answers that are not read: {', '.join(unread)} (choices and text are)")
    empty = len(said) - len(labeled)
    if nothing := sum(not (s.label or s.unread) for s in said):
        print(f"{nothing} entries hold no label: empty, or skipped")
    if by_class := Counter(s.label for s in new.values()).most_common(20):
        print("by class:", ", ".join(f"{n} {name}" for name, n in by_class))
    for note in twins({row.label for row in file.rows()} - {"", UNSURE}):
        print(f"note: {note}")
    print(
        f"{file.path}: {count['new']} labels are new, {count['same']} the same, "
        f"{count['replaced']} replaced, {len(strange) + empty} left out"
    )


def merge(
    new: dict[tuple[int, str], Claim],
    pool: Pool,
    file: LabelFile,
    classes: Collection[str],
    replace: bool,
) -> Counter[str]:
    """Set labels by image and annotator in labels.csv; how many are new, the same, replaced. Two
    annotators may differ; who names nobody decides, so differs with all.

    Raises:
        UserError: labels.csv cannot be used, or labels would change without `replace`.
    """
    decided = read_answers([file.path], pool.position_of, classes).labels
    rows = {
        (pool.by_path(row.file), row.annotator): row.label for row in doubts_first(file.rows()) if row.label
    }
    count: Counter[str] = Counter()
    against = []
    for (i, who), s in new.items():
        mine, of_nobody = rows.get((i, who), ""), rows.get((i, ""), "")
        stands = (mine or of_nobody) if who else decided.get(i, "")
        if s.label == (mine if who else stands):
            count["same"] += 1
            continue
        changes = stands not in ("", s.label)
        count["replaced" if changes else "new"] += 1
        if changes:
            against.append(f"{pool.files[i]} is {stands!r}, but {s.label!r} in {s.place}")
        file.answer(pool.files[i], s.label, who)
        if of_nobody:
            file.answer(pool.files[i], s.label)
    if against and not replace:
        raise UserError(
            f"{len(against)} labels of {file.path} would change, the first: {against[0]}; "
            "--replace changes them"
        )
    return count


# --- export


class Copy(NamedTuple):
    """A file of the data set: from where, and its split, class and name."""

    source: Path
    split: str
    label: str
    name: str

    @property
    def path(self) -> Path:
        return Path(self.split, self.label, self.name)


def take_out(options: argparse.Namespace) -> None:
    photos, run = options.data_dir, options.run
    pool = Pool(photos)
    drawn = read_drawn(run, pool) if run else set()
    files = [photos / "labels.csv", *([run / "to_label.csv"] if run else [])]
    answers = read_answers(files, pool.position_of, read_classes(photos))
    for note in answers.notes:
        print(note)
    sure = {i: label for i, label in sorted(answers.labels.items()) if label != UNSURE}
    if not sure:
        raise UserError(f"{files[0]} holds no label of an image of the pool: nothing to export")
    copies = [
        Copy(photos / pool.files[i], "test" if i in drawn else "train", label, pool.flat_names[i])
        for i, label in sure.items()
    ]
    if not drawn:
        copies += given_test(photos)
    for label in {copy.label for copy in copies}:
        check_folder_name(label)
    with building(options.out, photos) as folder:
        for split, label in sorted({(copy.split, copy.label) for copy in copies}):
            make_folder(folder / split / label)
        for copy in copies:
            put(copy.source, folder / copy.path)
        rows = [(copy.path.as_posix(), copy.label) for copy in copies]
        write_csv(folder / "metadata.csv", ("file_name", "label"), rows)
    disputed = len({file for file, _, _ in answers.disagreements})
    unsure, unlabeled = len(answers.labels) - len(sure), len(pool.files) - len(answers.labels)
    for note in shortcomings(copies, run):
        print(f"note: {note}")
    size = Counter(copy.split for copy in copies)
    print(
        f"{options.out}: {size['train']} images to train, {size['test']} to test, "
        f"{len({copy.label for copy in copies})} classes; left out: "
        f"{unlabeled - disputed} without label, {unsure} unsure, {disputed} disputed"
    )


def read_drawn(run: Path, pool: Pool) -> set[int]:
    """Positions of the images that a run has drawn to test by; none where it has drawn none."""
    path, record = run / "labeled" / "test.txt", run / "config.json"
    if not any(x.exists() for x in (path.parent, record, run / "to_label.csv")):
        raise UserError(f"{run} is not a run folder: give --run runs/EXPERIMENT/RUN")
    if not path.exists():
        content = read_json(record) if record.exists() else {}
        if isinstance(content, dict) and content.get("parameters", {}).get("test_labels"):
            raise UserError(f"{path} is not there: it names the images that {run} has drawn to test by")
        return set()
    drawn = set()
    for line in filter(str.strip, decoded(path).splitlines()):
        if (i := pool.by_path(line.strip())) is None:
            raise UserError(f"{path}: {line} is not in {pool.photos}/pool")
        drawn.add(i)
    if not drawn:
        raise UserError(f"{path} names no image")
    return drawn


def given_test(photos: Path) -> Iterator[Copy]:
    """The images of PHOTOS/test/CLASS/*."""
    taken: dict[str, set[str]] = defaultdict(set)
    for folder in folders_in(photos / "test") if (photos / "test").is_dir() else []:
        label = class_of_folder(folder)
        for path in sorted(images_below(folder)):
            yield Copy(path, "test", label, untaken(path.name, taken[label]))


def check_folder_name(name: str) -> None:
    if name.startswith(".") or set(name) & set("/\\\r\n") or len(os.fsencode(name)) > MOST_BYTES:
        raise UserError(f"class {name!r} can be no folder: rename it in labels.csv and classes.txt")


def make_folder(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        raise UserError(
            f"class {path.name!r} differs from another by its case alone, which this disk ignores"
        ) from None


def put(source: Path, target: Path) -> None:
    """A hard link, or a copy where there can be none: on another disk, or if the disk has none."""
    source = source.resolve(strict=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def building(out: Path, photos: Path) -> Iterator[Path]:
    """A folder beside OUT that becomes OUT at the end; after an error or a signal nothing is left of
    it, and what a kill leaves the next export removes.

    Raises:
        UserError: OUT is there and no empty folder, or it would be part of the pool.
    """
    out = out.resolve()
    if out.is_relative_to((photos / "pool").resolve()):
        raise UserError(f"{out} would be part of the pool: name a folder elsewhere")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already, and no empty folder: name another")
    near = next(folder for folder in out.parents if folder.exists())
    part = near / f".{out.name}.part"
    mark = part / ".pt4al-export"  # what bears it is ours to remove
    if mark.is_file():
        shutil.rmtree(part)
    elif part.is_symlink() or (part.exists() and (not part.is_dir() or any(part.iterdir()))):
        raise UserError(f"{part} is in the way, and not of an export: move it away")
    try:
        part.mkdir(exist_ok=True)
        mark.touch()
        yield part
        out.parent.mkdir(parents=True, exist_ok=True)
        mark.unlink()
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def shortcomings(copies: list[Copy], run: Path | None) -> Iterator[str]:
    """Why --dataset folder would not take it."""
    train, test = ({x.label for x in copies if x.split == split} for split in ("train", "test"))
    if len(train) < 2:
        yield "one class only: a classifier needs 2 or more"
    if not test:
        note = "no image to test by: --dataset folder needs OUT/test/CLASS/*"
        hint = "; if a run has drawn some, they are in OUT/train: give --run RUN"
        yield note if run else note + hint
    elif odd := sorted(train ^ test):
        yield f"class {odd[0]!r} is not in both train and test, as --dataset folder needs it"


# --- the command


def main() -> None:
    parser = Parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="{import,export}")
    into = actions.add_parser("import", help="add labels to PHOTOS/labels.csv")
    add = into.add_argument
    add("source", type=Path, metavar="FILE_OR_FOLDER", help="what holds the labels")
    add("--data-dir", type=Path, required=True, metavar="PHOTOS", help="the folder with pool/")
    add("--annotator", default="", metavar="NAME", help="who says so, where the file names nobody")
    add("--label-column", metavar="NAME", help="where the labels stand (default: label)")
    add("--image-column", metavar="NAME", help="what names the images (default: what is in the pool)")
    add("--replace", action="store_true", help="change labels that stand in labels.csv")
    out = actions.add_parser("export", help="make a data set of what is labeled")
    add = out.add_argument
    add("out", type=Path, metavar="OUT", help="a new or empty folder")
    add("--data-dir", type=Path, required=True, metavar="PHOTOS", help="the folder with pool/")
    add("--run", type=Path, metavar="RUN", help="its answers count, and its test set if it has drawn one")
    options = parser.parse_args()
    (bring_in if options.action == "import" else take_out)(options)


if __name__ == "__main__":
    run_script(main)
