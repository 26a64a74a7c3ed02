"""Images, weights and draws made from whole numbers alone, so that the released code and ours can be
given the same ones with no file between them.

No library's random stream is used: every value is a 32-bit mix of its indices, computed in unsigned
integers, so it is the same on every machine and for every version of numpy and torch.
"""

import math
import zlib

import numpy as np

U = np.uint64  # of every operand below: numpy 1 makes a float of a uint64 and a Python integer
MASK = U(0xFFFFFFFF)
SALT = 3  # of the first few, the one with which accuracies change and best is not always last
TEST = 10_000  # test images are numbered from here


def bits(*keys) -> np.ndarray:
    """Whole numbers in 0..2**32-1, one for each combination of keys (integers or arrays that
    broadcast).

    Each key is added to a running hash, which then passes the finaliser `lowbias32` of Chris
    Wellons' hash-prospector (public domain); products of two 32-bit numbers fit 64 bits.
    """
    h = np.zeros((), U)
    for key in (SALT, *keys):
        h = (h + U(0x9E3779B9) + np.asarray(key).astype(U)) & MASK
        h = (h ^ (h >> U(16))) * U(0x7FEB352D) & MASK
        h = (h ^ (h >> U(15))) * U(0x846CA68B) & MASK
        h = h ^ (h >> U(16))
    return h


def uniform(*keys) -> np.ndarray:
    """float64 in [-1, 1): exact, for 32 bits fit a double."""
    return bits(*keys).astype(np.float64) / 2**31 - 1


def key_of(text: str) -> int:
    return zlib.crc32(text.encode())


def label(number):
    """Class of an image: whole stretches of the pool's numbers, so that sorting paths sorts
    numbers."""
    return np.where(np.asarray(number) < TEST, np.asarray(number) // 30, np.asarray(number)) % 10


def images(numbers) -> np.ndarray:
    """uint8 (n, 32, 32, 3), red first: a light that falls from above, patches of 8x8 pixels that a
    class shares (four parts of seven), such patches of the image's own, and noise."""
    n, y, x, c = np.ix_(np.asarray(numbers), np.arange(32), np.arange(32), np.arange(3))
    shared, own, noise = (
        (bits(key_of("class"), label(n), y // 8, x // 8, c) >> U(24)).astype(int),
        (bits(key_of("patches"), n, y // 8, x // 8, c) >> U(24)).astype(int),
        (bits(key_of("noise"), n, y, x, c) >> U(24)).astype(int),
    )
    return ((8 * (31 - y) + 4 * shared + own + noise) // 7).astype(np.uint8)


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64: a parameter or a buffer of the network by its name.

    Convolutions and the last layer lie evenly within PyTorch's default bound, 1/sqrt(inputs). Batch
    norm is made different from its default everywhere, so that no part of it can be left out.
    """
    u = uniform(key_of(name), np.arange(math.prod(shape))).reshape(shape)
    if len(shape) > 1:
        return u / math.sqrt(math.prod(shape[1:]))
    if name.endswith("running_mean"):
        return u / 16
    if name.endswith("running_var"):
        return (5 + u) / 16
    if name.endswith("weight"):
        return 1 + u / 4
    return u / 8


def state(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """All but the counters of batch norm, which begin at 0."""
    return {name: tensor(name, tuple(s)) for name, s in shapes.items() if "num_batches" not in name}


def logits(n: int, classes: int) -> np.ndarray:
    """float64 (n, classes), between -4 and 4, of rows between a tenth and the whole of that
    length."""
    row = np.arange(n)[:, None]
    length = 0.55 + 0.45 * uniform(key_of("length"), row)
    return 4 * length * uniform(key_of("logits"), row, np.arange(classes))


# --- draws, by image number


def order(numbers, cycle: int, epoch: int) -> np.ndarray:
    """The numbers in the order in which an epoch visits them."""
    numbers = np.sort(np.asarray(numbers))
    return numbers[np.argsort(bits(key_of("order"), numbers, cycle, epoch), kind="stable")]


def crop(numbers, cycle: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column offsets, 0..8, and whether to flip."""
    draw = [bits(key_of(what), numbers, cycle, epoch) for what in ("row", "column", "flip")]
    rows, columns = ((draw[i] % U(9)).astype(int) for i in (0, 1))
    return rows, columns, draw[2] % U(2) == 0


def turns(numbers, epoch: int) -> np.ndarray:
    """int (n, 4): the quarter turns of each image, in the order of the four passes."""
    draw = bits(key_of("turn"), np.asarray(numbers)[:, None], epoch, np.arange(4))
    return np.argsort(draw, axis=1, kind="stable")


# --- what is recorded of a tensor


def summary(values: np.ndarray) -> list[float]:
    """Sum, L2 norm, and the four elements at 0, 1/3, 2/3 and the end, in float64."""
    flat = np.asarray(values, np.float64).reshape(-1)
    places = [j * (flat.size - 1) // 3 for j in range(4)]
    return [math.fsum(flat), math.sqrt(math.fsum(flat * flat)), *flat[places].tolist()]
