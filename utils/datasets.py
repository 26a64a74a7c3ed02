"""Data sets as arrays: CIFAR from torchvision, scikit-learn's digits, and folders of images; and the
ids of their images.

An image id is `<data_dir>/<split>/<class>/<file>` as in the released code, e.g.
`./DATA/train/8/23583.png`. It is looked up by its last three parts without the extension
(`train/8/23583`), so that files move between machines.

Every reader takes (config, split, room) and gives (pixels uint8 (n, size, size, 3), labels int64
(n,), `<class>/<file>` by image, class names). Pixels of more than `room` bytes are mapped from a
temporary file instead of held in memory.
"""

import errno
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from config import Config
from utils import processes
from utils.console import UserError

Split = tuple[np.ndarray, np.ndarray, list[str], list[str]]


# --- ids


def image_suffixes() -> set[str]:
    """File name endings that Pillow reads, in lower case, with their dot."""
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


SUFFIXES: set[str] = image_suffixes()


def id_key(image_id: str) -> str:
    """`/any/where/train/8/23583.png` -> `train/8/23583`; backslashes count as slashes."""
    key = "/".join(image_id.replace("\\", "/").split("/")[-3:])
    stem, dot, suffix = key.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else key


# --- readers


def read_cifar(config: Config, split: str, room: int) -> Split:
    """CIFAR-10 or CIFAR-100 by torchvision, downloaded with its checksum verified if it is not
    there."""
    from torchvision import datasets  # only needed here

    kind = datasets.CIFAR10 if config.dataset == "cifar10" else datasets.CIFAR100

    def fetch() -> None:
        try:
            kind(config.data_dir, train=split == "train", download=True)
        # No network, a full disk, or an archive that is not the real one.
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{config.dataset} is not in {config.data_dir} and could not be downloaded ({error}): put its archive "
                "there, or try --dataset digits, which needs no network"
            ) from None

    processes.from_main(fetch)
    data = kind(config.data_dir, train=split == "train")
    labels = np.asarray(data.targets, dtype=np.int64)
    names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
    classes = [str(i) for i in range(len(data.classes))]
    return resize_all(data.data, config.img_size, room), labels, names, classes


def read_digits(config: Config, split: str, room: int) -> Split:
    """scikit-learn's 1,797 handwritten digits (8x8, grey); every fifth image is the test set (359),
    1,438 the pool."""
    from sklearn.datasets import load_digits  # only needed here

    digits = load_digits()
    index = np.arange(len(digits.target))
    index = index[(index % 5 == 4) == (split == "test")]
    grey = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
    labels = digits.target[index].astype(np.int64)
    names = [f"{label}/{i}.png" for i, label in zip(index, labels, strict=True)]
    return (
        resize_all(grey[..., None].repeat(3, 3), config.img_size, room),
        labels,
        names,
        [str(i) for i in range(10)],
    )


def new_pixels(n: int, size: int, room: int) -> np.ndarray:
    """uint8 (n, size, size, 3) to fill, mapped from a nameless temporary file if above `room` bytes.

    Raises:
        UserError: the disk of temporary files is too small.
    """
    shape = (n, size, size, 3)
    if n * size * size * 3 <= room:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="pt4al-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, n * size * size * 3)  # fail now, not at a write
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG):
                raise
            raise UserError(
                f"{tempfile.gettempdir()} has no room for {n * size * size * 3 / 2**20:.0f} MiB of decoded images: "
                "set TMPDIR to a folder on a larger disk, or raise --resident-share"
            ) from None
        return np.memmap(file, np.uint8, "r+", shape=shape)  # lives on when the file is closed


def resize_all(pixels: np.ndarray, size: int, room: int) -> np.ndarray:
    """uint8 (n, h, w, 3) -> (n, size, size, 3), bilinear as Pillow does it."""
    out = new_pixels(len(pixels), size, room)
    if pixels.shape == out.shape:
        out[:] = pixels
        return out
    for image, target in zip(pixels, out, strict=True):
        target[:] = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return out


def read_folder(config: Config, split: str, room: int) -> Split:
    """`<data_dir>/<split>/<class>/*`: any format that Pillow reads, any size."""
    classes = class_folders(config, split)
    if split == "test" and classes != (expected := class_folders(config, "train")):
        odd = sorted(set(classes) ^ set(expected))
        raise UserError(
            f"train and test of {config.data_dir} have different class folders: {', '.join(odd[:5])}"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = image_files(Path(config.data_dir, split, name))
        paths += files
        labels += [label] * len(files)
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    pixels = decode(paths, config.img_size, split, room)
    return pixels, np.asarray(labels, dtype=np.int64), names, classes


def class_folders(config: Config, split: str) -> list[str]:
    """Names of the class folders, in numerical order when all are numbers, else by name."""
    root = Path(config.data_dir, split)
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder: --dataset folder needs {config.data_dir}/{{train,test}}/CLASS/*"
        )
    names = [
        path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    ]
    if len(names) < 2:
        raise UserError(f"{root} has {len(names)} class folders: a classifier needs 2 or more")
    for name in names:
        if "\n" in name or "\r" in name:
            raise UserError(
                f"class folder {str(root / name)!r} has a line end in its name: rename it"
            )
    return sort_classes(names)


def sort_classes(names: Iterable[str]) -> list[str]:
    """Numerical order when all are numbers, else by name."""
    names = sorted(names)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def image_files(folder: Path) -> list[Path]:
    """The images of a class folder by name; what is no image by its ending is counted and left
    out."""
    files, keys, others = [], {}, 0
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix.lower() not in SUFFIXES:
            others += 1
            continue
        if "\n" in path.name or "\r" in path.name:
            raise UserError(f"{str(path)!r} has a line end in its name: rename it")
        if (key := id_key(path.name)) in keys:
            raise UserError(
                f"{path} and {keys[key]} differ in their ending only, so their ids clash: rename one"
            )
        keys[key] = path
        files.append(path)
    if others:
        processes.say(f"{folder}: {others} files are no images by their ending and are left out")
    if not files:
        raise UserError(f"class folder {folder} holds no image")
    return files


def decode(paths: list[Path], size: int, what: str, room: int) -> np.ndarray:
    """uint8 (n, size, size, 3), decoded by forked processes with a progress bar.

    Raises:
        UserError: names the first image that cannot be read, and how many there are.
    """
    pixels = new_pixels(len(paths), size, room)
    parts = [paths[i : i + 250] for i in range(0, len(paths), 250)]
    bad: list[str] = []
    method = "fork" if sys.platform == "linux" else "spawn"
    bar = tqdm(
        total=len(paths),
        desc=f"decoding {what}",
        unit="img",
        leave=False,
        disable=None if processes.is_main() else True,
    )
    with (
        multiprocessing.get_context(method).Pool(
            initializer=serve, initargs=(os.getpid(),)
        ) as pool,
        bar,
    ):
        done = 0
        for images, errors in pool.imap(partial(decode_part, size=size), parts):
            pixels[done : done + len(images)] = images
            bad += errors
            done += len(images)
            bar.update(len(images))
    if bad:
        raise UserError(
            f"{len(bad)} of {len(paths)} images cannot be read, the first: {bad[0]}; mend or remove them"
        )
    return pixels


def serve(parent: int) -> None:
    """Set up a decoding process: leave signals to the parent, and end with it even when it is
    killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode_part(paths: list[Path], size: int) -> tuple[np.ndarray, list[str]]:
    """Decoded images of some files, and a line for each that cannot be read (its pixels stay
    undefined)."""
    images, errors = np.zeros((len(paths), size, size, 3), np.uint8), []
    for i, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                images[i] = to_rgb(image, size)
        # Pillow's decoders raise many kinds; each is reported with its file.
        except Exception as error:
            errors.append(f"{path} ({type(error).__name__}: {error})")
    return images, errors


def to_rgb(image: Image.Image, size: int) -> np.ndarray:
    """uint8 (size, size, 3). 16-bit grey keeps its upper byte; of an animation the first frame is
    taken."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray(
            (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        )
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
