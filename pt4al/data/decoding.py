"""Image files become pixels: in parallel, upright, square, eight bits a channel."""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.data.ids import FORMATS

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF tags
LAST_IMAGE = 60.0  # seconds that decoding processes get for the image in hand when they are to end
stopping = ctypes.c_byte(0)  # in a decoding process: shared with the parent, 1 when it is to end


# --- arrays of pixels


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


def resize_all(pixels: np.ndarray, size: int, resize: str, room: int) -> np.ndarray:
    """uint8 (n, h, w, 3), or (n, h, w) of greys -> (n, size, size, 3), each as `to_rgb` does it.

    Raises:
        UserError: it is another array.
    """
    if pixels.dtype != np.uint8 or not (pixels.ndim == 3 or pixels.shape[3:] == (3,)):
        raise UserError(
            f"resize_all takes uint8 (n, h, w, 3), or (n, h, w) of greys, not {pixels.dtype} {pixels.shape}"
        )
    out = new_pixels(len(pixels), size, room)
    if pixels.shape == out.shape:
        out[:] = pixels
        return out
    for image, target in zip(pixels, out, strict=True):
        target[:] = to_rgb(Image.fromarray(image), size, resize)
    return out


# --- one image


def to_rgb(image: Image.Image, size: int, resize: str) -> np.ndarray:
    """uint8 (size, size, 3), turned upright by its EXIF tag; of an animation the first frame.

    Args:
        resize: crop (the shorter side to `size`, then the centre) or squash (both sides).

    Raises:
        ValueError: values of an unknown range, which would come out black.
    """
    # An animation has no EXIF turn to undo, and transposing would read all its frames.
    image = ImageOps.exif_transpose(eight_bits(image))
    image = image.convert("RGB")
    if image.size == (size, size):
        return np.asarray(image)
    if resize == "crop":
        return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, or 12-bit grey of a TIFF file, by its upper eight bits; 8-bit images as they are.

    Raises:
        ValueError: float or 32-bit values, or 16-bit values that fill less than a sixteenth of their
            range: their scale is not in the file.
    """
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]
    if image.mode == "F" or (image.mode == "I" and bits == 32):
        kind = "float" if image.mode == "F" else "32-bit"
        raise ValueError(f"{kind} values of unknown range: save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    highest, full = int(values.max()), 2**bits - 1
    if values.min() < 0 or highest > full or 0 < highest <= full // 16:
        raise ValueError(
            f"{bits}-bit values from {values.min()} to {highest}: it would come out black; "
            "scale it to its full range"
        )
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0:  # white is zero
        values = full - values
    grey = Image.fromarray((values >> (bits - 8)).clip(0, 255).astype(np.uint8))
    grey.info = image.info
    return grey


# --- many images


def decode(paths: list[Path], size: int, resize: str, what: str, room: int) -> np.ndarray:
    """uint8 (n, size, size, 3), decoded by forked processes with a progress bar.

    Raises:
        UserError: names the first image that cannot be read, and how many there are; or a decoding
            process was killed.
    """
    pixels = new_pixels(len(paths), size, room)
    parts = [paths[i : i + 250] for i in range(0, len(paths), 250)]
    bad: list[str] = []
    hidden = None if processes.is_main() else True  # None: shown on a terminal only
    bar = tqdm(total=len(paths), desc=f"decoding {what}", unit="img", leave=False, disable=hidden)
    work = partial(decode_part, size=size, resize=resize)
    with bar, decoders() as pool:
        done = 0
        try:
            for images, errors in pool.map(work, parts):
                pixels[done : done + len(images)] = images
                bad += errors
                done += len(images)
                bar.update(len(images))
        except BrokenProcessPool:
            raise UserError(
                f"a process that decoded {what} images was killed (is memory out?): start again"
            ) from None
    if bad:
        raise UserError(
            f"{len(bad)} of {len(paths)} images cannot be read, the first: {bad[0]}; mend or remove them"
        )
    return pixels


@contextlib.contextmanager
def decoders() -> Iterator[ProcessPoolExecutor]:
    """Decoding processes, one a core. At the end they finish the image in hand and end by themselves:
    one killed while it hands over what it has leaves the parent waiting for the rest for ever."""
    method = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    others = set(multiprocessing.active_children())
    stop = method.RawValue("b", 0)  # without a lock, which a killed process could keep
    pool = ProcessPoolExecutor(os.cpu_count(), method, initializer=serve, initargs=(os.getpid(), stop))
    deadline = None
    try:
        yield pool
    except BrokenProcessPool:  # the others are asked to end by a signal that they ignore
        deadline = time.monotonic()
        raise
    finally:
        stop.value = 1
        deadline = deadline or time.monotonic() + LAST_IMAGE
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.join(max(0, deadline - time.monotonic()))
            process.kill()
        pool.shutdown()


def serve(parent: int, stop: ctypes.c_byte) -> None:
    """Set up a decoding process: leave signals to the parent, look at `stop`, and end with the parent
    even when it is killed."""
    global stopping
    stopping = stop
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode_part(paths: list[Path], size: int, resize: str) -> tuple[np.ndarray, list[str]]:
    """Decoded images of some files, and a line for each that cannot be read (its pixels stay
    black). No images if the parent wants an end before the last."""
    images, errors = np.zeros((len(paths), size, size, 3), np.uint8), []
    for i, path in enumerate(paths):
        if stopping.value:
            return images[:0], []
        try:
            # By path, Pillow maps uncompressed TIFF files with the sides that a turn will give them.
            with open(path, "rb") as file, Image.open(file, formats=sorted(FORMATS)) as image:
                images[i] = to_rgb(image, size, resize)
        # Pillow's decoders raise many kinds; each is reported with its file.
        except Exception as error:
            errors.append(f"{path} ({type(error).__name__}: {error})")
    return images, errors
