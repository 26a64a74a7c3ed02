"""Pictures of more than eight bits a channel, in every form that Pillow opens: scaled right, or refused in words,
never black by themselves."""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from config import DIGITS
from pt4al.base.console import UserError
from pt4al.data.decoding import decode, read_image

SIDE = 20
RAMP = np.arange(SIDE * SIDE, dtype=np.float64).reshape(SIDE, SIDE) / (SIDE * SIDE - 1)


def channels(n: int, top: int, kind: type = np.uint16) -> np.ndarray:
    """(SIDE, SIDE, n): ramps from 0 to `top`, opaque where there is an alpha channel (of 2 or 4)."""
    ramps = [RAMP, RAMP.T, RAMP[::-1]][: n - (n % 2 == 0)]
    values = [np.round(ramp * top).astype(kind) for ramp in ramps]
    opaque = [np.full((SIDE, SIDE), 65535, kind)] if n % 2 == 0 else []
    return np.stack(values + opaque, -1)


def png(values: np.ndarray) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    color = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, color, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(
    values: np.ndarray, order: str = "<", planes: int = 1, deflate: bool = False, extra: int | None = None
) -> bytes:
    """Grey or RGB of (SIDE, SIDE, n). `planes`: 2 stores each channel apart; `extra`: what a fourth is."""
    n, bits = values.shape[2], 8 * values.dtype.itemsize
    stored = values.astype(values.dtype.newbyteorder(order))
    parts = [stored[..., i] for i in range(n)] if planes == 2 else [stored]
    strips = [zlib.compress(part.tobytes()) if deflate else part.tobytes() for part in parts]
    kind = 2 if values.dtype.kind == "i" else 1
    size = [len(strip) for strip in strips]
    at = [8 + sum(size[:i]) for i in range(len(strips))]
    tags = {256: [SIDE], 257: [SIDE], 258: [bits] * n, 259: [8 if deflate else 1], 262: [1 if n == 1 else 2],
            273: at, 277: [n], 278: [SIDE], 279: size, 284: [planes], 339: [kind] * n,
            **({} if extra is None else {338: [extra]})}  # fmt: skip
    data, entries = b"".join(strips), b""
    for tag in sorted(tags):
        numbers = b"".join(struct.pack(order + "I", x) for x in tags[tag])
        if len(numbers) > 4:
            data, numbers = data + numbers, struct.pack(order + "I", 8 + len(data))
        entries += struct.pack(order + "HHI", tag, 4, len(tags[tag])) + numbers
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return mark + struct.pack(order + "I", 8 + len(data)) + data + directory


def ppm(values: np.ndarray, plain: bool = False) -> bytes:
    numbers = b" ".join(b"%d" % x for x in values.ravel()) if plain else values.astype(">u2").tobytes()
    return b"P%d %d %d 65535\n" % (3 if plain else 6, SIDE, SIDE) + numbers


def sgi(values: np.ndarray) -> bytes:
    n = values.shape[2]
    head = struct.pack(">HBBHHHH", 474, 0, 2, 3 if n > 1 else 2, SIDE, SIDE, n)
    return head.ljust(512, b"\0") + values[::-1].transpose(2, 0, 1).astype(">u2").tobytes()


FORMS: dict[str, tuple[Callable[[np.ndarray], bytes], int]] = {
    **{f"{n}.png": (png, n) for n in (1, 2, 3, 4)},
    "grey.tif": (tiff, 1),
    "grey big.tif": (partial(tiff, order=">"), 1),
    "grey deflate.tif": (partial(tiff, deflate=True), 1),
    "rgb.tif": (tiff, 3),
    "rgb big.tif": (partial(tiff, order=">"), 3),
    "rgb deflate.tif": (partial(tiff, deflate=True), 3),
    "rgb big deflate.tif": (partial(tiff, order=">", deflate=True), 3),
    "planes deflate.tif": (partial(tiff, planes=2, deflate=True), 3),
    "alpha.tif": (partial(tiff, extra=2), 4),
    "more.tif": (partial(tiff, extra=0), 4),
    "3.ppm": (ppm, 3),
    "3 plain.ppm": (partial(ppm, plain=True), 3),
    "1.sgi": (sgi, 1),
    "3.sgi": (sgi, 3),
}


@pytest.mark.parametrize("name", FORMS)
def test_more_than_eight_bits_are_scaled_right_or_refused(tmp_path: Path, name: str):
    """Full values by their upper eight bits, also where they fill an eighth; 12, 10 and 8 bits in 16 are refused
    with one line, and a black picture is black."""
    make, n = FORMS[name]
    path = tmp_path / name
    for top in (65535, 8191):
        path.write_bytes(make(values := channels(n, top)))
        expected = np.broadcast_to(values[..., : 3 if n > 2 else 1] >> 8, (SIDE, SIDE, 3))
        rounding = int(name.endswith("ppm"))
        assert np.abs(read_image(path, SIDE, "crop").astype(int) - expected).max() <= rounding
    for top in (4095, 1023, 255):
        path.write_bytes(make(channels(n, top)))
        with pytest.raises(UserError, match=f"{name} .*16-bit values .* come out black; scale it"):
            decode([path], DIGITS, "train", 1 << 30)
    path.write_bytes(make(channels(n, 0)))
    if name.startswith("planes"):  # its lower bytes are out of reach
        with pytest.raises(ValueError, match="it would come out black"):
            read_image(path, SIDE, "crop")
    else:
        assert not read_image(path, SIDE, "crop").any()


@pytest.mark.parametrize("how", [{}, {"order": ">"}, {"deflate": True}])
def test_signed_values_are_scaled_by_their_positive_half_or_refused(tmp_path: Path, how: dict[str, object]):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(values := channels(1, 32767, np.int16), **how))
    assert np.array_equal(read_image(path, SIDE, "crop")[..., :1], values >> 7)
    for wrong, told in (
        (values - 100, "16-bit values from -100"),
        (channels(1, 4095, np.int16), "from 0 to 4095"),
        (channels(1, 127, np.int8), "signed 8-bit values"),
    ):
        path.write_bytes(tiff(wrong, **how))
        with pytest.raises(ValueError, match=told):
            read_image(path, SIDE, "crop")


@pytest.mark.parametrize("order", "<>")
def test_planes_of_16_bits_are_refused(tmp_path: Path, order: str):
    """Pillow takes each byte of them for a pixel: noise."""
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(channels(3, 65535), order, planes=2))
    with pytest.raises(ValueError, match="16-bit channels in planes of their own: save it with interleaved"):
        read_image(path, SIDE, "crop")
