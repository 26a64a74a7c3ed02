"""Images in: data sets become uint8 tensors with labels and ids; crops, flips and turns work on
whole batches.

A data set is decoded once, at start-up, and stays in memory: on the GPU where it fits, in host
memory otherwise. Nothing in the training loop handles a single image in Python.

An image id is `<data_dir>/<split>/<class>/<file>` as in the released code, e.g.
`./DATA/train/8/23583.png`. It is looked up by its last three parts without the extension
(`train/8/23583`), so that files move between machines.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from config import Config
from utils import processes
from utils.console import UserError

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # released code


@dataclass
class Images:
    """One split of a data set.

    Attributes:
        pixels: uint8 (n, size, size, 3), on the training device or in host memory.
        labels: int64 (n,), on the training device; indices into `classes`.
        ids: n image ids.
        classes: names of the classes, in label order.
        device: where `batch` delivers.
    """

    pixels: Tensor
    labels: Tensor
    ids: list[str]
    classes: list[str]
    device: torch.device

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, positions: Tensor) -> Tensor:
        """uint8 (b, 3, size, size) in channels_last order on `device`; positions are int64 (b,) in
        host memory."""
        if self.pixels.device == self.device:
            chosen = self.pixels[positions.to(self.device)]
        else:
            chosen = self.pixels[positions].pin_memory().to(self.device, non_blocking=True)
        return chosen.permute(0, 3, 1, 2)

    def fingerprint(self) -> str:
        """SHA-256 over pixels, labels, class names and id keys: equal if and only if the data
        are."""
        digest = hashlib.sha256(str((tuple(self.pixels.shape), self.classes)).encode())
        digest.update(self.pixels.cpu().numpy())
        digest.update(self.labels.cpu().numpy())
        digest.update("\n".join(map(id_key, self.ids)).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def pixel_hashes(self) -> set[int]:
        """A hash of each image's pixels."""
        return {hash(image.tobytes()) for image in self.pixels.cpu().numpy()}

    def positions_by_key(self) -> dict[str, int]:
        """Pool position by the last three parts of the id."""
        return {id_key(image_id): i for i, image_id in enumerate(self.ids)}


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


# --- data sets


def load_images(
    config: Config, device: torch.device, splits: tuple[str, ...] = ("train", "test")
) -> list[Images]:
    """The asked-for splits of `config.dataset`, resized to `config.img_size`, in
    `config.channel_order`.

    Raises:
        UserError: the data are missing, cannot be read, or make no classification problem.
    """
    read = {"digits": read_digits, "folder": read_folder}.get(config.dataset, read_cifar)
    result = []
    for split in splits:
        pixels, labels, names, classes = read(config, split)
        if config.channel_order == "bgr":
            pixels = pixels[..., ::-1]
        room = (
            torch.cuda.get_device_properties(device).total_memory
            if device.type == "cuda"
            else float("inf")
        )
        resident = device if pixels.nbytes <= config.resident_share * room else torch.device("cpu")
        ids = [f"{config.data_dir}/{split}/{name}" for name in names]
        data = torch.from_numpy(np.ascontiguousarray(pixels)).to(resident)
        result.append(Images(data, torch.from_numpy(labels).to(device), ids, classes, device))
    return result


def read_cifar(config: Config, split: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
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
    return resize_all(data.data, config.img_size), labels, names, classes


def read_digits(config: Config, split: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
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
        resize_all(grey[..., None].repeat(3, 3), config.img_size),
        labels,
        names,
        [str(i) for i in range(10)],
    )


def resize_all(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (n, h, w, 3) -> (n, size, size, 3), bilinear as Pillow does it."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    return np.stack(
        [
            np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR))
            for p in pixels
        ]
    )


def read_folder(config: Config, split: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
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
    pixels = decode(paths, config.img_size, split)
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


def decode(paths: list[Path], size: int, what: str) -> np.ndarray:
    """uint8 (n, size, size, 3), decoded by forked processes with a progress bar.

    Raises:
        UserError: names the first image that cannot be read, and how many there are.
    """
    pixels = np.empty((len(paths), size, size, 3), np.uint8)
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


# --- whole batches


def channel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of the training images, in 0..1; CIFAR-10 has
    published ones."""
    total, squares = torch.zeros(2, 3, dtype=torch.float64, device=images.pixels.device)
    for part in images.pixels.split(1000):  # sums of whole numbers are exact in float64
        values = part.reshape(-1, 3).double()
        total += values.sum(0)
        squares += values.square_().sum(0)
    n = 255 * images.pixels[..., 0].numel()
    mean = total.cpu() / n
    variance = squares.cpu() / (255 * n) - mean**2
    return mean.tolist(), variance.sqrt().clamp(min=1e-3).tolist()


def normalisation(config: Config, pool: Images) -> tuple[list[float], list[float]]:
    """Per-channel mean and standard deviation for a data set: CIFAR-10's for cifar10, else computed
    from the pool."""
    return (
        (list(CIFAR10_MEAN), list(CIFAR10_STD))
        if config.dataset == "cifar10"
        else channel_statistics(pool)
    )


def normalise(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """uint8 (b, 3, h, w) -> float32 (pixel / 255 - mean) / std, in the same memory order."""
    shape = (1, 3, 1, 1)
    mean_, std_ = (torch.tensor(x, device=images.device).view(shape) for x in (mean, std))
    return images.float().div_(255).sub_(mean_).div_(std_)


def crop_and_flip(
    images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor, padding: int
) -> Tensor:
    """Random crop and horizontal flip of a whole batch, each image with its own offsets.

    Args:
        images: uint8 (b, 3, h, w) in channels_last order.
        rows, columns: int64 (b,), 0..2*padding: upper left corner in the image with its black
            border.
        flips: bool (b,).
        padding: pixels of black on each side.
    """
    b, _, h, w = images.shape
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = (
        padded.unfold(1, h, 1).unfold(2, w, 1).permute(0, 1, 2, 4, 5, 3)
    )  # (b, 2p+1, 2p+1, h, w, 3), a view
    cropped = windows[torch.arange(b, device=images.device), rows, columns]
    return torch.where(flips.view(b, 1, 1, 1), cropped.flip(2), cropped).permute(0, 3, 1, 2)


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image by its number of quarter turns counter-clockwise: `torch.rot90(image,
    turns[i], (1, 2))`."""
    turned = images.clone()
    for k in (1, 2, 3):
        chosen = (turns == k).view(-1, 1, 1, 1)
        turned = torch.where(chosen, torch.rot90(images, k, (2, 3)), turned)
    return turned
