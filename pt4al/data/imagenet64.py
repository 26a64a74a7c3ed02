"""The part files of ImageNet at 64 pixels (Chrabaszcz et al. 2017), as pickles or as .npz: nothing in them is
executed.

A part is a dict of `data`, uint8 (n, 12288), of each image 4,096 reds, greens and blues, and `labels`, n
numbers from 1 to 1000 in the order of the authors' map_clsloc.txt, not of the sorted WordNet ids.
"""

import errno
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from pt4al.base.console import UserError

SIZE, CLASSES = 64, 1000
PARTS = {"train": [f"train_data_batch_{i}" for i in range(1, 11)], "test": ["val_data"]}
ARCHIVES = "Imagenet64_train_part1, _part2 and _val (.zip or _npz.zip, after login) of https://image-net.org"


def find_parts(folder: Path, split: str) -> list[Path]:
    """The part files of a split, in a folder or in folders in it, as unpacking the archives leaves them.

    Raises:
        UserError: one is missing, or there twice.
    """
    paths = []
    for name in PARTS[split]:
        places = [
            path
            for start in ("", "[!.]*/")
            for end in ("", ".npz")
            for path in folder.glob(start + name + end)
        ]
        found = list({path.resolve(): path for path in reversed(places)}.values())
        if not found:
            raise UserError(
                f"{folder / name} is not there, with or without .npz, nor in a folder beside it: unpack "
                f"{ARCHIVES} in {folder}"
            )
        if len(found) > 1:
            raise UserError(
                f"{found[-1]} and {found[0]} have one name: move one away, or give the folder of one as "
                "--data-dir"
            )
        paths += found
    return paths


def read_labels(path: Path) -> np.ndarray:
    """int64 (n,) from 0 to 999, of a part.

    Raises:
        UserError: it is cut short, holds anything else, or would run code.
    """
    labels = read(path, "labels")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise UserError(
            f"{path} has labels of {labels.dtype} {labels.shape}: they must be whole numbers (n,)"
        )
    if labels.min() < 1 or labels.max() > CLASSES:
        raise UserError(
            f"{path} has labels from {labels.min()} to {labels.max()}: they must be from 1 to {CLASSES}"
        )
    return labels.astype(np.int64) - 1


def read_pixels(path: Path, n: int) -> np.ndarray:
    """uint8 (n, 64, 64, 3) of a part of n images, as a view of planes.

    Raises:
        UserError: as `read_labels`.
    """
    data, shape = read(path, "data"), (n, 3 * SIZE**2)
    if data.dtype != np.uint8 or data.shape != shape:
        raise UserError(
            f"{path} has data of {data.dtype} {data.shape}: for its {n} labels they must be uint8 {shape}"
        )
    return data.reshape(n, 3, SIZE, SIZE).transpose(0, 2, 3, 1)


def read(path: Path, name: str) -> np.ndarray:
    """One array of a part."""
    try:
        with open(path, "rb") as file:
            return read_npz(file, name) if file.read(2) == b"PK" else read_pickle(file, name)
    # zipfile, numpy and pickle raise many kinds for what is no such file: all mean the same here.
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # no permission, a disk that fails
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:120]
        if isinstance(error, MemoryError):
            reason = "it asks for more memory than there is"
        raise UserError(f"{path} is no part of ImageNet at 64 pixels, or cut short: {reason}") from None


def read_npz(file: BinaryIO, name: str) -> np.ndarray:
    file.seek(0)
    with np.load(file, allow_pickle=False) as part:
        return np.asarray(part[name])


# --- pickles


def read_pickle(file: BinaryIO, name: str) -> np.ndarray:
    file.seek(0)
    part = Unpickler(file, encoding="latin1").load()
    if not isinstance(part, dict) or name not in part:
        raise ValueError(f"it holds no '{name}'")
    return part[name].array() if isinstance(part[name], Values) else np.asarray(part[name])


class Kind:
    """In place of numpy.dtype."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch("[iuf][1248]", name):
            raise ValueError(f"numbers of kind {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class Values:
    """In place of numpy.ndarray: bytes, and how they are to be read."""

    def __init__(self, *_: object) -> None:
        """As numpy's `_reconstruct` makes it, empty."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, self.fortran, self.raw = state

    def array(self) -> np.ndarray:
        return np.frombuffer(as_bytes(self.raw), self.kind.dtype).reshape(
            self.shape, order="F" if self.fortran else "C"
        )


def from_buffer(raw: bytes, kind: Kind, shape: tuple[int, ...], order: str) -> Values:
    """In place of numpy's `_frombuffer`, which pickles of protocol 5 name."""
    values = Values()
    values.__setstate__((1, shape, kind, order == "F", raw))
    return values


def scalar(kind: Kind, raw: bytes | str) -> int | float:
    """In place of numpy's function of that name: one number."""
    return np.frombuffer(as_bytes(raw), kind.dtype)[0].item()


def as_bytes(raw: bytes | str) -> bytes:
    """Python 2 wrote bytes as its text."""
    return raw.encode("latin1") if isinstance(raw, str) else raw


def encode(text: str, encoding: str) -> bytes:
    """In place of codecs.encode, by which Python 3 writes bytes up to protocol 2."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding}")
    return text.encode("latin1")


KNOWN = {
    "_reconstruct": Values,
    "ndarray": Values,
    "dtype": Kind,
    "_frombuffer": from_buffer,
    "scalar": scalar,
}
# Sets, other objects, references to outside.
LEFT_OUT = (
    "EMPTY_SET ADDITEMS FROZENSET INST OBJ NEWOBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID BINPERSID NEXT_BUFFER"
)
OPERATIONS = {*pickle._Unpickler.dispatch} - {getattr(pickle, name)[0] for name in LEFT_OUT.split()}


class Unpickler(pickle._Unpickler):
    """Makes dicts, lists, numbers, text, and what stands here in place of numpy; refuses all else.

    It is Python's own in Python: that in C cannot leave out operations, and some crash it.
    """

    dispatch: ClassVar = {code: pickle._Unpickler.dispatch[code] for code in OPERATIONS}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return encode
        if module.split(".")[0] == "numpy" and name in KNOWN:
            return KNOWN[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in it")

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Kind | Values):
            raise pickle.UnpicklingError("a state of something else than an array")
        self.stack[-1].__setstate__(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put(key, value)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.put(key, value)

    def put(self, key: Any, value: Any) -> None:
        if not isinstance(key, str):  # the hash of tuples in tuples in tuples ... would crash
            raise pickle.UnpicklingError("a key that is no text")
        self.stack[-1][key] = value

    dispatch |= {
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }
