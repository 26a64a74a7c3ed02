"""A folder of features: of each image the row of numbers that a network which others trained makes of it.

pool.npy, pool.txt    float32 (n, d), as numpy.save writes it; the image ids, one a line, row by row
test.npy, test.txt    the same of the test set, where the data set has one
made_from.json        what utils/extract_features.py made them from; rows of other tools have none
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.base.files import read_json, read_lines, sha256_of
from pt4al.data.decoding import Parts, new_array

FILES = {"train": "pool", "test": "test"}  # by split
MADE_FROM = "made_from.json"
BLOCK_BYTES = 2**24  # of rows that are read at a time
LARGEST = 1e15  # of which float32 holds the squares of a row, added up


class Wanted(NamedTuple):
    """The images of a split.

    Attributes:
        ids: in the order in which rows are wanted.
        key: what an id is looked up by.
        find: which image a line of the text file names, as its key; None: none of these.
        sizes: bytes of each image, see `sizes_of`; empty: not known.
        dataset: the name that ids are given under.
    """

    ids: list[str]
    key: Callable[[str], str]
    find: Callable[[str], str | None]
    sizes: Sequence[int] = ()
    dataset: str = ""


def read_features(
    folder: Path, wanted: dict[str, Wanted], memory_limit: int
) -> tuple[list[np.ndarray], str, list[str]]:
    """float32 (n, d) of each split, in the order of its ids; what made them, in words; and of each split a
    digest of what they were made from, empty where that is not known. More than `memory_limit` bytes are
    mapped from a temporary file. Rows of other images are left alone.

    Raises:
        UserError: a file is missing, cut short or no such array; an image has no row, or two; a number is not
            finite; pool and test are of different networks; an image was another file when its row was made.
    """
    if not folder.is_dir():
        raise UserError(f"features: {folder} is not a folder: make it with utils/extract_features.py")
    made_from = read_made_from(folder)
    result: list[np.ndarray] = []
    for split, images in wanted.items():
        path = folder / f"{FILES[split]}.npy"
        if not images.ids:
            result.append(np.empty((0, result[0].shape[1]), np.float32))
            continue
        if not path.is_file():
            what = "images of the pool" if split == "train" else "test images"
            raise UserError(
                f"{path} is not there, or no file, but there are {len(images.ids)} {what}: extract their "
                "features too (utils/extract_features.py)"
            )
        for file in (path, path.with_suffix(".txt")):
            digest = made_from.get("rows", {}).get(file.name)
            if digest and file.is_file() and digest != sha256_of(file):
                raise UserError(
                    f"{file} is not the file that {folder / MADE_FROM} tells of: extract the features again, "
                    f"or delete {MADE_FROM} if the rows are of another tool"
                )
        rows = read_rows(path, images, memory_limit)
        if result and rows.shape[1] != result[0].shape[1]:
            raise UserError(
                f"{path} has {rows.shape[1]} columns and pool.npy {result[0].shape[1]}: they are of "
                "different networks; extract both with one"
            )
        result.append(rows)
        check_images(path, made_from, split, images)
    backbone, weights = made_from.get("backbone"), str(made_from.get("weights"))[:8]
    origin = f"{backbone} (weights {weights})" if made_from else "rows of another tool"
    return result, origin, [source_of(made_from, split) for split in wanted]


def source_of(made_from: dict[str, Any], split: str) -> str:
    """SHA-256 over the network and the images of a split; empty if one of them is not known."""
    data = made_from.get("data")
    parts = [made_from.get(x) for x in ("backbone", "weights", "preprocessing")]
    parts.append(data.get(split) if isinstance(data, dict) else None)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest() if all(parts) else ""


def check_images(path: Path, made_from: dict[str, Any], split: str, wanted: Wanted) -> None:
    """Whether the images are those that the rows were made from, by name and size: cameras give the same
    names again, and to read all images once more would take minutes. What is told of some of the images is
    a warning.

    Raises:
        UserError: there are as many, but others.
    """
    was, now = made_from.get("sizes", {}).get(split), sum(wanted.sizes)
    listing = made_from.get("listings", {}).get(split)
    same_ids = len(wanted.ids) == shape_of(path)[0] and made_from.get("dataset") == wanted.dataset
    if wanted.sizes and listing and same_ids:
        if listing != listing_of([*map(wanted.key, wanted.ids)], wanted.sizes):
            raise UserError(
                f"{path} was made from other images: names or sizes of files have changed since; put the "
                "files back, or extract the features again (--restart)"
            )
    elif wanted.sizes and isinstance(was, int) and was != now:
        processes.say(
            f"warning: {path} was made from other images, of {was:,} bytes in all, not {now:,}: if not just "
            "some were removed, extract the features again (--restart)"
        )


def sizes_of(images: np.ndarray | list[Path] | Parts) -> list[int]:
    """Bytes of each file, or of the pixels of each."""
    if isinstance(images, list):
        return [path.stat().st_size for path in images]
    return [images.nbytes // max(1, len(images))] * len(images)


def listing_of(keys: Sequence[str], sizes: Sequence[int]) -> str:
    """SHA-256 over images by name and size, in any order."""
    lines = sorted(f"{key} {size}" for key, size in zip(keys, sizes, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def read_made_from(folder: Path) -> dict[str, Any]:
    """What utils/extract_features.py noted; empty for rows of another tool."""
    path = folder / MADE_FROM
    if not path.exists():
        return {}
    try:
        content = read_json(path)
    except UserError:
        content = None
    content = content if isinstance(content, dict) else {}
    parts = [content.get("rows"), content.get("sizes", {}), content.get("listings", {})]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path} is damaged, or none of utils/extract_features.py: move it away")
    return content


def read_rows(path: Path, wanted: Wanted, memory_limit: int) -> np.ndarray:
    """The rows of one file, by the ids beside it; see `read_features`."""
    n, d, offset = shape_of(path)
    lines = path.with_suffix(".txt")
    if not lines.is_file():
        raise UserError(f"{lines} is not there, or no file: it names the image of each row of {path.name}")
    names = read_lines(lines)
    if len(names) != n:
        raise UserError(f"{lines} has {len(names)} lines and {path.name} {n} rows: they must be as many")
    at = place(names, wanted, lines)
    rows = new_array((len(wanted.ids), d), np.dtype(np.float32), memory_limit)
    step = max(1, BLOCK_BYTES // (4 * d))
    with open(path, "rb") as file:
        file.seek(offset)
        for i in range(0, n, step):
            block = np.fromfile(file, np.float32, min(step, n - i) * d).reshape(-1, d)
            of_block = at[i : i + step]
            used = np.flatnonzero(of_block >= 0)
            block = block if len(used) == len(block) else block[used]
            if not (whole := (np.abs(block) <= LARGEST).all(1)).all():  # False of NaN
                name = names[i + used[np.flatnonzero(~whole)[0]]]
                raise UserError(
                    f"{path} holds NaN or infinity, or a number beyond {LARGEST:g}, in the row of {name}: "
                    "make it again"
                )
            rows[of_block[used]] = block
    return rows


def place(names: list[str], wanted: Wanted, where: Path) -> np.ndarray:
    """int64 (len(names),): the position of the image that each line names; -1: none of these.

    Raises:
        UserError: an image is named twice, or not at all.
    """
    position_of = {wanted.key(image_id): i for i, image_id in enumerate(wanted.ids)}
    at = np.full(len(names), -1)
    line_of = np.full(len(wanted.ids), -1)
    for line, name in enumerate(names):
        i = position_of.get(wanted.find(name))
        if i is None:
            continue
        if line_of[i] >= 0:
            raise UserError(
                f"{where} names {wanted.ids[i]} twice, in lines {line_of[i] + 1} and {line + 1}: keep one row"
            )
        at[line], line_of[i] = i, line
    missing = [wanted.ids[i] for i in np.flatnonzero(line_of < 0)]
    if missing:
        none = len(missing) == len(wanted.ids)
        what = f"it names {names[0]}, ..., not {missing[0]}" if none else f"{missing[0]} is missing"
        raise UserError(
            f"{where} names {len(wanted.ids) - len(missing)} of {len(wanted.ids)} images: {what}; extract "
            "the features of these images"
        )
    return at


def shape_of(path: Path) -> tuple[int, int, int]:
    """Rows, columns and the offset of the first number of a .npy file.

    Raises:
        UserError: it is no float32 (n, d) in C order, or cut short.
    """
    again = "save it with numpy.save as float32 (n, d) in C order"
    try:
        with open(path, "rb") as file:
            version, _ = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == 1 else npy.read_array_header_2_0
            shape, fortran, kind = read(file)
            offset = file.tell()
    except OSError:
        raise
    except Exception as error:  # numpy's reader, and Python's parser below it, raise many kinds
        raise UserError(f"{path} is no array of numpy.save ({error}): {again}") from None
    told, expected = f"{kind} {shape}", offset + kind.itemsize * math.prod(shape)
    if kind != np.dtype(np.float32) or len(shape) != 2 or min(shape) < 1:
        objects = ", a pickle, which is never opened" if kind.hasobject else ""
        raise UserError(f"{path} holds {told}{objects}: {again}")
    if fortran:
        raise UserError(f"{path} holds {told} in Fortran order: {again} (numpy.ascontiguousarray)")
    if (size := path.stat().st_size) != expected:
        how = "cut short" if size < expected else "too long"
        raise UserError(f"{path} is {how}: {size:,} bytes, where {told} takes {expected:,}; make it again")
    return shape[0], shape[1], offset


class Rows:
    """Features of some images, (n, d), standardized or not, made when they are read: a copy of a pool's would
    take as much memory as the pool. Of what a tensor can do it has what the strategies ask for.

    Args:
        source: float32 (m, d), on any device.
        positions: int64 (n,), the rows of `source` that are meant.
        normalize: float32 (b, d) -> (b, d).
    """

    dtype = torch.float32

    def __init__(self, source: Tensor, positions: Tensor, normalize: Callable[[Tensor], Tensor]) -> None:
        self.source, self.positions, self.normalize = source, positions, normalize
        self.shape = torch.Size([len(positions), source.shape[1]])

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, which: Tensor | slice) -> "Tensor | Rows":
        """(d,) of a number, int64 (); other Rows of a slice."""
        if isinstance(which, slice):
            return Rows(self.source, self.positions[which], self.normalize)
        return self.index_select(0, which.view(1))[0]

    def index_select(self, _: int, rows: Tensor) -> Tensor:
        """float32 (b, d) in host memory, of int64 (b,)."""
        at = self.positions.index_select(0, rows).to(self.source.device)
        return self.normalize(self.source.index_select(0, at)).cpu()

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in order, `size` at a time."""
        for rows in torch.arange(len(self)).split(size):
            yield self.index_select(0, rows)

    def mean(self, _: int) -> Tensor:
        """(d,), summed up in float64."""
        total = torch.zeros(self.shape[1], dtype=torch.float64)
        for part in self.split(1000):
            total += part.double().sum(0)
        return (total / len(self)).float()
