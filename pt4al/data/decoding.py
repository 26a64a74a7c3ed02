"""Image files become pixels: in threads, upright, square, eight bits a channel."""

import errno
import logging
import math
import mmap
import os
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.base.threads import Threads
from pt4al.data.depth import check_cut, eight_bits
from pt4al.data.ids import FORMATS

# Most pixels of a picture as decoded: 2 GB of memory in each thread. A JPEG is shrunk while it is decoded.
LARGEST = 500_000_000
SHRUNK_TO = 4  # times the size asked for, or more: the shorter side of a JPEG of twice that, as decoded
TURNS = {  # by EXIF's orientation tag
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
NAMED = 20  # pictures that cannot be read, by name
# Formats are tried in this order: first the two that their first bytes tell from all others.
FORMAT_ORDER = sorted(FORMATS, key=lambda name: (name not in ("JPEG", "PNG"), name))


class Unreadable(UserError):
    """Pictures that cannot be read.

    Attributes:
        errors: a line for each, beginning with its path.
        images: how many were tried.
    """

    def __init__(self, errors: list[str], images: int) -> None:
        self.errors, self.images = errors, images
        more = f"; and {len(errors) - NAMED} more" if len(errors) > NAMED else ""
        super().__init__(
            f"{len(errors)} of {images} images cannot be read: {'; '.join(errors[:NAMED])}{more}; "
            "mend or remove them"
        )


# --- arrays of pixels


@dataclass(frozen=True)
class Parts:
    """Images in files that are read part by part, as they are too many to hold.

    Attributes:
        shape: (n, h, w, 3), of all together.
        read: gives uint8 (any, h, w, 3), one part after the other.
    """

    shape: tuple[int, int, int, int]
    read: Callable[[], Iterable[np.ndarray]]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)


def new_array(shape: tuple[int, ...], kind: np.dtype, memory_limit: int) -> np.ndarray:
    """An array to fill, mapped from a nameless temporary file if above `memory_limit` bytes.

    Raises:
        UserError: the disk of temporary files is too small, or TMPDIR is no folder.
    """
    if (size := math.prod(shape) * kind.itemsize) <= memory_limit:
        return np.empty(shape, kind)
    if (folder := os.environ.get("TMPDIR")) and not os.access(folder, os.W_OK | os.X_OK):
        # Python would take /tmp, which may be small.
        raise UserError(
            f"TMPDIR is {folder}, where nothing can be written: make that folder, or unset TMPDIR"
        )
    with tempfile.TemporaryFile(prefix="pt4al-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # fail now, not at a write
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG):
                raise
            raise UserError(
                f"{tempfile.gettempdir()} has no room for {size / 2**20:.0f} MiB of images: "
                "set TMPDIR to a folder on a larger disk, or raise --resident-share"
            ) from None
        return np.memmap(file, kind, "r+", shape=shape)  # lives on when the file is closed


def select(array: np.ndarray, at: np.ndarray, memory_limit: int) -> np.ndarray:
    """Its rows at positions, int64 (n,), in an array as `new_array` makes it."""
    out = new_array((len(at), *array.shape[1:]), array.dtype, memory_limit)
    for i in range(0, len(at), 1000):
        out[i : i + 1000] = array[at[i : i + 1000]]
        let_go(array)
        let_go(out)
    return out


def let_go(array: np.ndarray | None) -> None:
    """Keep nothing of an array that is mapped from a file in the memory of this process. The system keeps it
    in what it has to spare, and brings back what is looked at."""
    if isinstance(array, np.memmap):
        array.base.madvise(mmap.MADV_DONTNEED)


def new_pixels(n: int, size: int, memory_limit: int) -> np.ndarray:
    """uint8 (n, size, size, 3) to fill, see `new_array`."""
    return new_array((n, size, size, 3), np.dtype(np.uint8), memory_limit)


def resize_all(
    pixels: "np.ndarray | Parts", size: int, resize: str, memory_limit: int, what: str = ""
) -> np.ndarray:
    """uint8 (n, h, w, 3), or (n, h, w) of greys -> (n, size, size, 3), each as `to_rgb` does it, with a
    progress bar that says `what`.

    Raises:
        UserError: it is another array.
    """
    shape = pixels.shape
    if not isinstance(pixels, Parts) and (
        pixels.dtype != np.uint8 or not (pixels.ndim == 3 or shape[3:] == (3,))
    ):
        raise UserError(
            f"resize_all takes uint8 (n, h, w, 3), or (n, h, w) of greys, not {pixels.dtype} {shape}"
        )
    out, done = new_pixels(len(pixels), size, memory_limit), 0
    with progress(len(pixels), what) as bar:
        for part in pixels.read() if isinstance(pixels, Parts) else [pixels]:
            for i in range(0, len(part), 1000):
                images = part[i : i + 1000]
                target = out[done : done + len(images)]
                if images.shape == target.shape:
                    target[:] = images
                else:
                    for image, place in zip(images, target, strict=True):
                        place[:] = to_rgb(Image.fromarray(image), size, resize)
                done += len(images)
                bar.update(len(images))
                let_go(out)
            part = images = None  # before the next is read
    return out


# --- one image


def to_rgb(image: Image.Image, size: int, resize: str) -> np.ndarray:
    """uint8 (size, size, 3) of an image as `plain` makes it.

    Args:
        resize: crop (the shorter side to `size`, then the center) or squash (both sides).

    Raises:
        ValueError: values of an unknown range, which would come out black.
    """
    image = plain(image)
    if image.size == (size, size):
        return np.asarray(image)
    if resize == "crop":
        return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def plain(image: Image.Image) -> Image.Image:
    """RGB, eight bits a channel, turned upright by its EXIF tag; of an animation the first frame.

    Raises:
        ValueError: values of an unknown range, which would come out black.
    """
    image = upright(eight_bits(image))
    return image if image.mode == "RGB" else image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Turned by its EXIF tag; the same image if there is nothing to turn. Damaged EXIF counts as none.

    Pillow's `exif_transpose` writes all of the EXIF anew, and fails where any other tag is damaged.
    """
    image.load()  # damaged pixels fail here, outside of the `try`
    try:
        tag = image.getexif().get(ExifTags.Base.Orientation)
    # No such block, a block that is cut, a text that is no hexadecimal number: the pixels are sound.
    except (SyntaxError, struct.error, ValueError):
        return image
    return image.transpose(TURNS[tag]) if tag in TURNS else image


# --- many images


def decode(paths: list[Path], config: Config, what: str, memory_limit: int) -> np.ndarray:
    """uint8 (n, img_size, img_size, 3), with a progress bar that says `what`. In threads: Pillow releases the
    GIL while it decodes (but for JPEG 2000) and resizes.

    Raises:
        Unreadable: names the images that cannot be read.
    """
    pixels = new_pixels(len(paths), config.img_size, memory_limit)
    workers = 1 if not config.threads and are_small(paths) else count_workers(config.threads, len(paths))
    step = min(16, len(paths) // (32 * workers) + 1)  # one tiny image per task costs a seventh more
    parts = [range(i, min(i + step, len(paths))) for i in range(0, len(paths), step)]
    stop = Event()

    def read(part: range) -> list[str]:
        """A line for each image that cannot be read."""
        errors = []
        for i in part:
            if stop.is_set():
                break
            try:
                pixels[i] = read_image(paths[i], config.img_size, config.resize)
            # Pillow's decoders raise many kinds; each is reported with its file.
            except Exception as error:
                errors.append(f"{paths[i]} ({reason(error)})")
        return errors

    quiet()
    bad: list[str] = []
    with progress(len(paths), what) as bar, Threads(workers) as pool:
        try:
            work = pool.map if workers > 1 else map
            for part, errors in zip(parts, work(read, parts), strict=True):
                bad += errors
                bar.update(len(part))
        finally:  # a signal arrives here: the threads end with the image in hand
            stop.set()
    if bad:
        raise Unreadable(bad, len(paths))
    return pixels


def progress(images: int, what: str) -> tqdm:
    """A progress bar, on the terminal of the first process only."""
    hidden = None if processes.is_main() else True  # None: shown on a terminal only
    return tqdm(total=images, desc=f"reading {what}", unit="img", leave=False, disable=hidden)


def quiet() -> None:
    """Let Pillow keep what it remarks on pictures to itself, and leave their size to `open_picture`; and tqdm
    start no thread."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    Image.MAX_IMAGE_PIXELS = None
    tqdm.monitor_interval = 0  # no thread beside ours


def reason(error: Exception) -> str:
    """Why a picture cannot be read, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "UnidentifiedImageError: no picture that Pillow reads"
    return f"{type(error).__name__}: {error}"


def are_small(paths: list[Path]) -> bool:
    """Whether a hundred of these files, evenly chosen, are below 20 kB on average. Of such files so little is
    decoding that threads wait for each other's Python: two take 1.6 times as long as one."""
    sample = paths[:: len(paths) // 100 + 1]
    return sum(path.stat().st_size for path in sample if path.exists()) < 20_000 * len(sample)


def count_workers(threads: int, images: int) -> int:
    """Decoding threads: `threads` if set, else this process's share of the cores that it may use; no more
    than there are images."""
    if not threads:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        side_by_side = processes.launched("LOCAL_WORLD_SIZE", 1) if processes.world_size() > 1 else 1
        threads = cores // max(side_by_side, 1)
    return max(1, min(threads, images))


def read_image(path: Path, size: int, resize: str) -> np.ndarray:
    """uint8 (size, size, 3), see `to_rgb`.

    A JPEG whose shorter side is 8 times `size` or more is decoded to a half, a quarter or an eighth, so that
    4 times `size` are left. That takes a third of the time, and pixels differ by a grey level or two.

    Raises:
        Exception: of any kind, it cannot be read.
    """
    # By path, Pillow maps uncompressed TIFF files with the sides that turning upright will give them.
    with open(path, "rb") as file, open_picture(file, SHRUNK_TO * size) as image:
        return to_rgb(image, size, resize)


def open_picture(file: BinaryIO, side: int) -> Image.Image:
    """A picture that is about to be decoded. A JPEG that has twice `side` pixels each way, or more, will be
    shrunk meanwhile, to `side` or more.

    Raises:
        Exception: of any kind, it cannot be read.
    """
    image = Image.open(file, formats=FORMAT_ORDER)
    if image.format in ("JPEG", "MPO") and min(image.size) >= 2 * side:
        image.draft(None, (side, side))
    if image.width * image.height > LARGEST:
        million = image.width * image.height / 1e6
        raise ValueError(f"{million:.0f} megapixels, and {LARGEST / 1e6:.0f} are read: shrink it")
    check_cut(image, file)
    return image
