"""Data sets in. A new one is added here and nowhere else: a reader, and its name in `READERS`.

A reader takes (config, split), split being "train" or "test", and gives
    images   their files; or uint8 (n, h, w, 3), RGB, or (n, h, w) of greys, of any size; or `Parts`, of so
             many that they are read part by part
    labels   int64 (n,), indices into the classes
    names    `<class>/<file>` of each image, the end of its id
    classes  their names, in label order
Of a pool that an annotator labels, labels are -1, names are paths below the data directory, and there
are no classes. `check_split` refuses anything else.

Images become pixels of `img_size`, or, with --features, are taken by their features instead.
"""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import torch

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.base.files import read_lines, take_lock
from pt4al.data import imagenet64
from pt4al.data.decoding import Parts, Unreadable, decode, resize_all, select
from pt4al.data.features import Wanted, read_features, sizes_of
from pt4al.data.folders import because, class_folders, files_of_class, image_files, tell, unpacked, warn
from pt4al.data.ids import by_last_three, by_path
from pt4al.data.images import Images
from pt4al.data.listing import images_in
from pt4al.person.agreement import read_answers
from pt4al.person.labels import read_classes
from pt4al.person.naming import Finder
from pt4al.train.seeding import generator


class Split(NamedTuple):
    """What a reader gives of a split; `read_split` makes ids of the names."""

    images: np.ndarray | list[Path] | Parts
    labels: np.ndarray
    names: list[str]
    classes: list[str]


def load_images(
    config: Config, device: torch.device, splits: tuple[str, ...] = ("train", "test"), features: str = ""
) -> list[Images]:
    """The asked-for splits of `config.dataset`, `config.img_size` pixels a side, in
    `config.channel_order`; or, of the same images, the rows of the folder `features`.

    A data set is decoded once, at start-up. It lives on the training device where it fits, else in
    host memory, mapped from a file, and streams over ahead of the training loop.

    Raises:
        UserError: the data are missing, cannot be read, or make no classification problem.
    """
    memory_limit = int(config.resident_share * memory_of(device))
    if config.dataset == "unlabeled" and "test" in splits:
        processes.from_main(lambda: check_label_file(config))
    read = [read_split(config, split) for split in splits]
    if features:
        wanted = {x: rows_of(config, x, y) for x, y in zip(splits, read, strict=True)}
        values, origin, sources = read_features(Path(features), wanted, memory_limit)
    else:
        values, origin, sources = read_pixels(config, splits, read, memory_limit), "", [""] * len(splits)
    result = []
    for split, data, source, (found, labels, ids, classes) in zip(splits, values, sources, read, strict=True):
        if split == "train" and config.imbalance > 1:
            keep = imbalanced(labels, config.imbalance, config.imbalance_kind, config.seed)
            data, labels, ids = select(data, keep, memory_limit), labels[keep], [ids[i] for i in keep]
        streams = data.nbytes > memory_limit
        pixels = torch.from_numpy(np.ascontiguousarray(data)).to("cpu" if streams else device)
        targets = torch.from_numpy(labels).to(device)
        labels_known = config.dataset != "unlabeled" or split == "test"
        key = key_rule(config, split)
        images = Images(
            pixels, targets, ids, classes, device, streams, key, labels_known, features=origin, source=source,
            of_files=isinstance(found, list), mapped=data if isinstance(data, np.memmap) else None,
        )  # fmt: skip
        if not labels_known:
            find_copies(images)
            draw_test(images, config.test_labels if "test" in splits else 0, config.seed)
        result.append(images)
    return result


def read_split(config: Config, split: str) -> Split:
    """What the reader of the data set gives, checked, with ids in place of names.

    Raises:
        UserError: the data are missing, or make no classification problem.
    """
    read = Split(*READERS[config.dataset](config, split))
    unlabeled = config.dataset == "unlabeled"
    root = split if unlabeled else f"{config.data_dir}/{split}"
    names = read.names if unlabeled and split == "train" else [f"{root}/{name}" for name in read.names]
    read = read._replace(names=names)
    check_split(config, split, read)
    return read


def read_pixels(
    config: Config, splits: tuple[str, ...], read: list[Split], memory_limit: int
) -> list[np.ndarray]:
    """uint8 (n, img_size, img_size, 3) of each split, in `config.channel_order`. More than `memory_limit`
    bytes are mapped from a temporary file instead of held in memory.

    Raises:
        Unreadable: names the images of all splits that cannot be read.
    """
    result, unreadable = [], []
    for split, (images, *_) in zip(splits, read, strict=True):
        what = "pool" if config.dataset == "unlabeled" and split == "train" else split
        try:
            if isinstance(images, list):
                pixels = decode(images, config, what, memory_limit)
            else:
                pixels = resize_all(images, config.img_size, config.resize, memory_limit, what)
        except Unreadable as error:  # those of the next split are named with them
            unreadable.append(error)
            continue
        if config.channel_order == "bgr":
            for i in range(0, len(pixels), 1000):
                pixels[i : i + 1000] = pixels[i : i + 1000, ..., ::-1].copy()
        result.append(pixels)
    if unreadable:
        errors = [line for error in unreadable for line in error.errors]
        raise Unreadable(errors, sum(error.images for error in unreadable))
    return result


def rows_of(config: Config, split: str, read: Split) -> Wanted:
    """Whose features are wanted. Of photographs, other tools may name the path from anywhere above."""
    key = key_rule(config, split)
    find = Finder({*map(key, read.names)}).path if key is by_path else key
    return Wanted(read.names, key, find, sizes_of(read.images), config.dataset)


def check_label_file(config: Config) -> None:
    """Look at labels.csv before thousands of pictures are decoded.

    Raises:
        UserError: it cannot be used.
    """
    folder = Path(config.data_dir)
    path, pool = folder / "labels.csv", folder / "pool"
    if path.exists() and pool.is_dir():
        ids = [f"pool/{name}" for name in image_files(pool, Counter())]
        position_of = {by_path(image_id): i for i, image_id in enumerate(ids)}
        read_answers([path], position_of, read_classes(folder))


def key_rule(config: Config, split: str = "train") -> Callable[[str], str]:
    """What an image is looked up by, in batches, losses and labels."""
    return by_path if config.dataset == "unlabeled" and split == "train" else by_last_three


def check_split(config: Config, split: str, read: Split) -> None:
    """Raise a UserError where a reader gives something else than stands at the top of this file; `read` has
    ids for names."""
    images, labels, ids, classes = read
    n, wrong = len(images), ""
    unlabeled = config.dataset == "unlabeled" and not classes
    lowest, highest = (-1, -1) if unlabeled else (0, len(classes) - 1)
    most = Counter(map(key_rule(config, split), ids)).most_common(1)
    shape = images.shape[1:] if isinstance(images, np.ndarray) else ()
    grey = len(shape) == 2 and min(shape) > 0
    arrays = not isinstance(images, list | Parts)
    if arrays and (images.dtype != np.uint8 or not (grey or (len(shape) == 3 and shape[2] == 3))):
        wrong = f"images are {kind(images)}, not files, nor uint8 (n, h, w, 3) or (n, h, w) of greys"
    elif kind(labels) != (right := f"int64 {(n,)}"):
        wrong = f"labels are {kind(labels)}, not {right}"
    elif len(ids) != n:
        wrong = f"{n} images have {len(ids)} names"
    elif not unlabeled and (n == 0 or len(classes) < 2):
        wrong = f"{n} images of {len(classes)} classes: there is nothing to learn"
    elif n and (labels.min() < lowest or labels.max() > highest):
        wrong = f"labels go from {labels.min()} to {labels.max()}, not from {lowest} to {highest}"
    elif n and most[0][1] > 1:
        wrong = f"{most[0][1]} images have one name, {most[0][0]} (endings do not count)"
    if wrong:
        reader = READERS[config.dataset].__name__
        raise UserError(f"{reader} of loader.py, {split} of {config.dataset}: {wrong}")


def kind(array: object) -> str:
    """`uint8 (60, 8, 8)`; of anything but an array, its type."""
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__


def imbalanced(labels: np.ndarray, ratio: float, kind: str, seed: int) -> np.ndarray:
    """Positions of the images that are kept, ascending, int64.

    n being the size of the largest of C classes, class c keeps n / ratio ** (c / (C - 1)) images (kind
    exponential: long-tailed CIFAR of Cui et al. 2019), or n / ratio where c is even and n where it is odd
    (kind step: TA-VAAL, load_dataset.py); at least one, and all where it has fewer. Which ones is drawn by
    seed.
    """
    sizes = np.bincount(labels)
    order = torch.randperm(len(labels), generator=generator(seed, "imbalance")).numpy()
    of_class = np.split(order[np.argsort(labels[order], kind="stable")], sizes.cumsum()[:-1])
    kept = []
    for c, size in enumerate(sizes):
        share = c / max(len(sizes) - 1, 1) if kind == "exponential" else 1 - c % 2
        target = int(sizes.max() / ratio**share)
        kept.append(of_class[c][: min(max(target, 1), size)])
    return np.sort(np.concatenate(kept))


def find_copies(images: Images) -> None:
    """Note the images that are copies of an earlier one, pixel for pixel (or by equal features), and say how
    many."""
    first: dict[bytes, int] = {}
    for i, image in enumerate(images.pixels.cpu().numpy()):
        earlier = first.setdefault(hashlib.sha256(image).digest(), i)
        if earlier != i:
            images.copies[i] = earlier
    if images.copies:
        processes.say(
            f"{len(images.copies)} images are copies of others, {images.bit_for_bit}: each is asked for once"
        )


def draw_test(images: Images, n: int, seed: int) -> None:
    """Draw n images to test by, uniformly by seed, the same for all strategies.

    Raises:
        UserError: there are not so many.
    """
    candidates = images.eligible(range(len(images)))
    if n >= len(candidates):
        raise UserError(f"test_labels is {n} but the pool holds {len(candidates)} different images: lower it")
    order = torch.randperm(len(candidates), generator=generator(seed, "test")).tolist()
    images.drawn = tuple(candidates[i] for i in sorted(order[:n]))


def memory_of(device: torch.device) -> int:
    """Bytes of memory in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# --- data sets that come with a library


def read_cifar(config: Config, split: str) -> Split:
    """CIFAR-10 or CIFAR-100 by torchvision, downloaded with its checksum verified if it is not
    there."""
    from torchvision import datasets  # only needed here

    kind = datasets.CIFAR10 if config.dataset == "cifar10" else datasets.CIFAR100

    def fetch() -> None:
        try:
            if not is_there(kind, config.data_dir):
                download(kind, Path(config.data_dir))
        # No network, a full disk, or an archive that is not the real one.
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{config.dataset} is not in {config.data_dir} and could not be downloaded ({error}): "
                "put its archive there, or try the preset digits, which needs no network: "
                "python rotation.py digits"
            ) from None

    processes.from_main(fetch)
    data = kind(config.data_dir, train=split == "train")
    labels = np.asarray(data.targets, dtype=np.int64)
    names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
    classes = [str(i) for i in range(len(data.classes))]
    return Split(data.data, labels, names, classes)


def is_there(kind: Any, folder: Path | str) -> bool:
    """Whether the files of a data set of torchvision (its class) are there, by their checksums."""
    try:
        kind(folder)
    except RuntimeError:  # "Dataset not found or corrupted"
        return False
    return True


def download(kind: Any, folder: Path) -> None:
    """Fetch the archive of a data set of torchvision, unless it is there, and unpack it. Of runs that start
    together one does so, and the others wait; an archive appears whole or not at all.

    Raises:
        UserError: the archive that is there is damaged; it stays.
        OSError, RuntimeError: it cannot be fetched, or is not the real one.
    """
    from torchvision.datasets.utils import calculate_md5, download_url

    folder.mkdir(parents=True, exist_ok=True)
    path, archive = folder / ".download.lock", folder / kind.filename
    try:
        lock = take_lock(path, 0)
    except filelock.Timeout:
        processes.say(f"another run downloads {kind.filename} into {folder}: waiting for it")
        lock = take_lock(path, -1)
    try:
        if is_there(kind, folder):
            return
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as part:
                download_url(kind.url, part, kind.filename, kind.tgz_md5)
                os.replace(Path(part, kind.filename), archive)
        elif (found := calculate_md5(archive)) != kind.tgz_md5:
            raise UserError(
                f"{archive} is damaged, or cut short: its MD5 is {found}, not {kind.tgz_md5}; delete it to "
                "have it downloaded again, or put a whole one there"
            )
        kind(folder, download=True)  # unpacks it
    finally:
        lock.release()


def read_digits(config: Config, split: str) -> Split:
    """scikit-learn's 1,797 handwritten digits (8x8, grey); every fifth image is the test set (359),
    1,438 the pool."""
    from sklearn.datasets import load_digits  # only needed here

    digits = load_digits()
    index = np.arange(len(digits.target))
    index = index[(index % 5 == 4) == (split == "test")]
    grey = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
    labels = digits.target[index].astype(np.int64)
    names = [f"{label}/{i}.png" for i, label in zip(index, labels, strict=True)]
    return Split(grey, labels, names, [str(i) for i in range(10)])


# --- folders of images


def read_folder(config: Config, split: str) -> Split:
    """`<data_dir>/<split>/<class>/**`: any format that Pillow reads, any size. A folder below that of the
    class is part of the name: `<class>/a/x.png` is the image `<class>/a_x.png`."""
    root, left_out = Path(config.data_dir, split), Counter[str]()
    classes = class_folders(root, config.dataset, left_out)
    beside = Path(config.data_dir, "train")
    of_train = class_folders(beside, config.dataset, Counter()) if config.dataset == "folder" else classes
    if odd := sorted({*classes} ^ {*of_train}):
        raise UserError(
            f"train and test of {config.data_dir} have different class folders: {', '.join(odd[:5])}"
        )
    found = [files_of_class(root / name, left_out) for name in classes]
    tell(root, left_out)
    return split_of(found, classes)


def split_of(found: list[dict[str, Path]], classes: list[str]) -> Split:
    """Of each class its files, by their names in it."""
    paths = [path for files in found for path in files.values()]
    names = [f"{name}/{file}" for name, files in zip(classes, found, strict=True) for file in files]
    return Split(paths, np.repeat(np.arange(len(classes)), [len(files) for files in found]), names, classes)


def read_unlabeled(config: Config, split: str) -> Split:
    """`<data_dir>/pool/**`, images at any depth, whose folders mean nothing; the test set is
    `<data_dir>/test/CLASS/*`, or empty where there is no such folder."""
    root = Path(config.data_dir, "pool")
    if split == "test" and Path(config.data_dir, "test").exists():
        if config.test_labels:
            raise UserError(
                f"{config.data_dir}/test is there to test by: leave out --test-labels, or move it away"
            )
        return read_folder(config, split)
    if split == "test":
        return Split([], np.empty(0, np.int64), [], [])
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: --dataset unlabeled needs the images to label in {root}/")
    left_out = Counter[str]()
    files = image_files(root, left_out)
    if len(files) < 2:
        raise UserError(
            f"{root} holds {len(files)} images: there is nothing to choose from{because(left_out)}"
        )
    tell(root, left_out)
    paths, names = list(files.values()), [f"pool/{name}" for name in files]
    for name in names:
        if any("\udc80" <= c <= "\udcff" for c in name):
            raise UserError(f"the name of {name!r} is not UTF-8, as labels.csv must be: rename it")
    return Split(paths, np.full(len(paths), -1, np.int64), names, [])


# --- archives that somebody has unpacked


def read_caltech101(config: Config, split: str) -> Split:
    """Caltech-101 (Fei-Fei et al. 2004) without its class of backgrounds. There is no official split: every
    fifth image of a class, by file name, is the test set."""
    root = unpacked(
        config.data_dir, "101_ObjectCategories", ("caltech101", "caltech-101", "."),
        "the .tar.gz that is in caltech-101.zip of https://data.caltech.edu/records/mzrjq-6wc02",
    )  # fmt: skip
    left_out = Counter[str]()
    classes = [name for name in class_folders(root, config.dataset, left_out) if name != "BACKGROUND_Google"]
    warn(root, split, len(classes), 101)
    found = [[*files_of_class(root / name, left_out).items()] for name in classes]
    tell(root, left_out)
    kept = [dict(x for i, x in enumerate(files) if (i % 5 == 4) == (split == "test")) for files in found]
    return split_of(kept, classes)


def read_tiny_imagenet(config: Config, split: str) -> Split:
    """Tiny-ImageNet of Stanford's CS231n: 200 classes of 500 images of 64 pixels. The test set is its
    validation set, 50 images a class, as the labels of its own test set were never published."""
    root = unpacked(
        config.data_dir, "val/val_annotations.txt", ("tiny-imagenet-200", "."),
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    ).parents[1]  # fmt: skip
    classes = class_folders(root / "train", config.dataset, Counter())
    warn(root / "train", split, len(classes), 200)
    if split == "train":
        return split_of(
            [files_of_class(root / "train" / name / "images", Counter()) for name in classes], classes
        )
    found: dict[str, dict[str, Path]] = {name: {} for name in classes}
    annotations, pictures = root / "val/val_annotations.txt", root / "val/images"
    left = {path.name: path for path in images_in(pictures)} if pictures.is_dir() else {}
    for number, line in enumerate(read_lines(annotations), 1):
        file, name, *_ = [*line.split("\t"), ""]
        if name not in found or file not in left:
            wrong = f"no picture {file} in {pictures}, or twice" if name in found else f"no class '{name}'"
            raise UserError(f"{annotations}, line {number}: {wrong}: unpack the archive again")
        found[name][file] = left.pop(file)
    if left:
        raise UserError(f"{annotations} lacks {len(left)} pictures, as {min(left)}: unpack the archive again")
    return split_of([*found.values()], classes)


def read_imagenet64(config: Config, split: str) -> Split:
    """ImageNet at 64 pixels (Chrabaszcz et al. 2017): 1,281,167 images, with their 50,000 to validate by as
    the test set."""
    paths = imagenet64.find_parts(Path(config.data_dir), split)
    if split == "train":  # that the test set is not there is better known before days of training
        imagenet64.find_parts(Path(config.data_dir), "test")
    labels = [imagenet64.read_labels(path) for path in paths]

    def read() -> Iterator[np.ndarray]:
        for path, of_part in zip(paths, labels, strict=True):
            yield imagenet64.read_pixels(path, len(of_part))

    every = np.concatenate(labels)
    if len(every) != (official := {"train": 1_281_167, "test": 50_000}[split]):
        processes.say(f"warning: {paths[0].name} ... hold {len(every):,} images, not {official:,}")
    names = [f"{label + 1}/{i}.png" for i, label in enumerate(every)]
    classes = [str(i + 1) for i in range(imagenet64.CLASSES)]
    return Split(Parts((len(every), imagenet64.SIZE, imagenet64.SIZE, 3), read), every, names, classes)


READERS: dict[str, Callable[[Config, str], Split]] = {
    "cifar10": read_cifar,
    "cifar100": read_cifar,
    "digits": read_digits,
    "folder": read_folder,
    "unlabeled": read_unlabeled,
    "caltech101": read_caltech101,
    "tiny-imagenet": read_tiny_imagenet,
    "imagenet64": read_imagenet64,
}
