"""Pictures of more than eight bits a channel: by their upper eight, and never black without a word."""

import sys
from typing import BinaryIO

import numpy as np
from PIL import Image

BITS_PER_SAMPLE, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF tags
ROUNDED = ("PPM", "JPEG2000")  # where Pillow rounds to eight bits; else it cuts
BLACK = {"ppm": b"\0", "SGI16": b"\0", "ppm_plain": b"0 \t\r\n"}  # bytes of a black picture, by decoder
CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000; 38 bytes later, the depth of its first channel


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, or 12-bit grey of a TIFF file, by its upper eight bits; 8-bit images as they are.

    Raises:
        ValueError: float or 32-bit values, or 16-bit values that fill less than a sixteenth of their
            range: their scale is not in the file.
    """
    tags = getattr(image, "tag_v2", {})
    bits, signed = tags.get(BITS_PER_SAMPLE, (16,))[0], 2 in tags.get(SAMPLE_FORMAT, ())
    if image.mode == "F" or (image.mode == "I" and bits == 32):
        kind = "float" if image.mode == "F" else "32-bit"
        raise ValueError(f"{kind} values of unknown range: save it with 8 or 16 bits")
    if signed and bits == 8:
        raise ValueError("signed 8-bit values of unknown range: save it with 8 bits, unsigned")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    check_filled(values, bits)
    if tags.get(PHOTOMETRIC) == 0:  # white is zero
        values = 2**bits - 1 - values
    grey = Image.fromarray((values >> (bits - 8 - signed)).clip(0, 255).astype(np.uint8))
    grey.info = image.info
    return grey


def check_filled(values: np.ndarray, bits: int) -> None:
    """
    Raises:
        ValueError: values that are no such numbers, or lie in the lowest sixteenth of their range; all may be
            zero.
    """
    highest, full = int(values.max()), 2**bits - 1
    if values.min() < 0 or highest > full or 0 < highest <= full // 16:
        raise ValueError(
            f"{bits}-bit values from {values.min()} to {highest}: it would come out black; "
            "scale it to its full range"
        )


def check_cut(image: Image.Image, file: BinaryIO) -> None:
    """Look at a picture of which Pillow keeps the upper eight bits by itself, as of all in color.

    Args:
        image: opened, and not loaded yet.
        file: that it was opened from.

    Raises:
        ValueError: it would come out black, as in `check_filled`, or Pillow cannot read it; where the
            lower bytes are out of reach, also a picture that is black.
    """
    bits = stored_bits(image, file)
    if bits <= 8 or image.mode.startswith(("I", "F")):
        return
    codec, rawmode, offset = image.tile[0][0], raw_mode(image), image.tile[0][2]
    if image.format == "TIFF" and ";16" not in rawmode:
        raise ValueError(f"{bits}-bit channels in planes of their own: save it with interleaved channels")
    apart = codec == "libtiff" and image.tag_v2.get(PLANES) == 2
    image.load()
    colors = [i for i, band in enumerate(image.getbands()) if band not in "AaX"]
    dark = 16 if image.format in ROUNDED else 15  # of 255: a sixteenth
    if max(image.getchannel(i).getextrema()[1] for i in colors) > dark:
        return
    if ";16" in rawmode and not apart:
        low = low_bytes(image.format, file)
        upper = [np.asarray(image.getchannel(i)).astype(np.int64) for i in colors]
        lower = [np.asarray(low.getchannel(1 if rawmode.startswith("LA") else i)) for i in colors]
        check_filled(256 * np.stack(upper) + np.stack(lower), bits)
        return
    if codec in BLACK:
        file.seek(offset)
        if not file.read().strip(BLACK[codec]):
            return
    raise ValueError(
        f"{bits}-bit values in the lowest sixteenth of their range: it would come out black; "
        "scale it to its full range"
    )


def stored_bits(image: Image.Image, file: BinaryIO) -> int:
    """Bits a channel in the file; 8 may stand for fewer."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    if image.format == "PPM":
        args = image.tile[0][3]
        return args[1].bit_length() if isinstance(args, tuple) and isinstance(args[1], int) else 8
    at = file.tell()
    try:
        if image.format == "SGI":
            file.seek(3)
            return 8 * file.read(1)[0]
        if image.format == "JPEG2000":
            file.seek(0)
            head = file.read()
            return (head[head.index(CODESTREAM) + 42] & 0x7F) + 1
    finally:
        file.seek(at)
    return 16 if ";16" in raw_mode(image) else 8


def raw_mode(image: Image.Image) -> str:
    """What Pillow calls the order of bytes and channels in the file, as `RGB;16B`."""
    args = image.tile[0][3] if image.tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def low_bytes(kind: str, file: BinaryIO) -> Image.Image:
    """The lower bytes of 16-bit channels, by reading them in the wrong order; of grey with alpha they are the
    second channel."""
    native = "B" if sys.byteorder == "little" else "L"
    file.seek(0)
    image = Image.open(file, formats=[kind])
    rawmode, tiles = raw_mode(image), image.tile
    swapped = rawmode[:-1] + {"B": "L", "L": "B", "N": native}[rawmode[-1]]
    if rawmode.startswith("LA"):  # which Pillow knows in one order only: four bytes as they are
        image._mode, swapped = "RGBA", "RGBA"
    image.tile = []
    for tile in tiles:
        args = (swapped, *tile[3][1:]) if isinstance(tile[3], tuple) else swapped
        image.tile.append(tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args))
    image.load()
    return image
