"""The part files of ImageNet at 64 pixels (Chrabaszcz et al. 2017), as pickles or as .npz: nothing in them is
executed.

A part is a dict of `data`, uint8 (n, 12288), of each image 4,096 reds, greens and blues, and `labels`, n
numbers from 1 to 1000 in the order of the authors' map_clsloc.txt, not of the sorted WordNet ids.
"""

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pt4al.base.console import UserError

SIZE, CLASSES = 64, 1000
PARTS = {"train": [f"train_data_batch_{i}" for i in range(1, 11)], "test": ["val_data"]}
ARCHIVES = "Imagenet64_train_part1, _part2 and _val, .zip or _npz.zip, of https://image-net.org"


def find_parts(folder: Path, split: str) -> list[Path]:
    """The part files of a split, in a folder or in folders in it, as unpacking the archives leaves them.

    Raises:
        UserError: one is missing, or there twice.
    """
    paths = []
    for name in PARTS[split]:
        found = [
            path for place in ("", "*/") for end in ("", ".npz") for path in folder.glob(place + name + end)
        ]
        if not found:
            raise UserError(
                f"{folder / name} is not there, with or without .npz, nor in a folder beside it: unpack "
                f"{ARCHIVES} (login needed) in {folder}"
            )
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1]} are the same part: move one away")
        paths += found
    return paths


def read_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 64, 64, 3), as a view of planes, and int64 (n,) from 0 to 999.

    Raises:
        UserError: it is cut short, holds anything else, or would run code.
    """
    try:
        with open(path, "rb") as file:
            data, labels = read_npz(file) if file.read(2) == b"PK" else read_pickle(file)
    except OSError:  # the disk's, or no permission: `run_script` says which
        raise
    # zipfile, numpy and pickle raise many kinds for what is no such file: all mean the same here.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:120]
        raise UserError(f"{path} is no part of ImageNet at 64 pixels, or cut short: {reason}") from None
    labels = np.asarray(labels)
    n, columns = len(labels), 3 * SIZE**2
    if (data.dtype, data.shape, labels.shape) != (np.uint8, (n, columns), (n,)) or not n:
        raise UserError(
            f"{path} holds data of {data.dtype} {data.shape} and labels of shape {labels.shape}: they must "
            f"be uint8 (n, {columns:,}) and (n,)"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 1 or labels.max() > CLASSES:
        raise UserError(
            f"{path} has labels of {labels.dtype} from {labels.min()} to {labels.max()}: they must be whole "
            f"numbers from 1 to {CLASSES}"
        )
    return data.reshape(n, 3, SIZE, SIZE).transpose(0, 2, 3, 1), labels.astype(np.int64) - 1


def read_npz(file: BinaryIO) -> tuple[np.ndarray, np.ndarray]:
    file.seek(0)
    with np.load(file, allow_pickle=False) as part:
        return part["data"], part["labels"]


# --- pickles


def read_pickle(file: BinaryIO) -> tuple[np.ndarray, Any]:
    file.seek(0)
    part = Unpickler(file, encoding="latin1").load()
    data, labels = part["data"], part["labels"]
    return data.array(), labels.array() if isinstance(labels, Values) else labels


class Kind:
    """In place of numpy.dtype."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch("[iuf][1248]", name):
            raise ValueError(f"numbers of kind {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class Values:
    """In place of numpy.ndarray: its bytes are looked at, never copied."""

    def __init__(self, *_: object) -> None:
        """As numpy's `_reconstruct` makes it, empty."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, self.fortran, self.raw = state

    def array(self) -> np.ndarray:
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw  # str: of Python 2
        return np.frombuffer(raw, self.kind.dtype).reshape(self.shape, order="F" if self.fortran else "C")


def from_buffer(raw: bytes, kind: Kind, shape: tuple[int, ...], order: str) -> Values:
    """In place of numpy's `_frombuffer`, which pickles of protocol 5 name."""
    values = Values()
    values.__setstate__((1, shape, kind, order == "F", raw))
    return values


def scalar(kind: Kind, raw: bytes | str) -> int | float:
    """In place of numpy's function of that name: one number."""
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, kind.dtype)[0].item()


def encode(text: str, encoding: str) -> bytes:
    """In place of codecs.encode, by which Python 3 writes bytes in protocol 2."""
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


class Unpickler(pickle.Unpickler):
    """Makes dicts, lists, numbers, text, and what stands here in place of numpy; refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return encode
        if module.split(".")[0] == "numpy" and name in KNOWN:
            return KNOWN[name]
        raise pickle.UnpicklingError(f"it would run {module}.{name}")
