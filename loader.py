"""Images in: data sets become uint8 tensors with labels and ids; crops, flips and turns work on
whole batches.

A data set is decoded once, at start-up. It lives on the training device where it fits, else in
host memory, mapped from a file, and streams over ahead of the training loop. Nothing in that loop
handles a single image in Python.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from config import Config
from utils.datasets import id_key, read_cifar, read_digits, read_folder

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # released code
AHEAD = 2  # parts of a stream that are on their way while one is worked on


@dataclass
class Images:
    """One split of a data set.

    Attributes:
        pixels: uint8 (n, size, size, 3), on the training device, or in host memory when it streams.
        labels: int64 (n,), on the training device; indices into `classes`.
        ids: n image ids.
        classes: names of the classes, in label order.
        device: where `stream` delivers.
        streams: whether pixels stay in host memory and are sent over part by part.
    """

    pixels: Tensor
    labels: Tensor
    ids: list[str]
    classes: list[str]
    device: torch.device
    streams: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def stream(self, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images by position, one part after the other, without waiting for the device in between.

        Args:
            parts: pool positions, int64 (b,) each, in host memory.

        Yields:
            uint8 (b, 3, size, size) in channels_last order and the part's positions, both on
            `device`.
        """
        if not parts:
            return
        places = torch.cat(list(parts)).to(self.device).split([len(part) for part in parts])
        if not self.streams:
            for at in places:
                yield self.pixels.index_select(0, at).permute(0, 3, 1, 2), at
            return
        lane = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with ThreadPoolExecutor(1) as courier:
            ahead = deque(courier.submit(self.send, part, lane) for part in parts[:AHEAD])
            for i, at in enumerate(places):
                images, arrival = ahead.popleft().result()
                if i + AHEAD < len(parts):
                    ahead.append(courier.submit(self.send, parts[i + AHEAD], lane))
                if arrival is not None:
                    arrival.wait()  # the step does, this thread does not
                    images.record_stream(torch.cuda.current_stream(self.device))
                yield images.permute(0, 3, 1, 2), at

    def send(
        self, positions: Tensor, lane: "torch.cuda.Stream | None"
    ) -> tuple[Tensor, "torch.cuda.Event | None"]:
        """Gather images in host memory and send them to the device on a stream of their own; the
        event tells when they are there."""
        images = torch.from_numpy(self.pixels.numpy()[positions.numpy()])
        if lane is None:
            return images, None
        with torch.cuda.stream(lane):
            return images.pin_memory().to(self.device, non_blocking=True), lane.record_event()

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


def load_images(
    config: Config, device: torch.device, splits: tuple[str, ...] = ("train", "test")
) -> list[Images]:
    """The asked-for splits of `config.dataset`, resized to `config.img_size`, in
    `config.channel_order`.

    Raises:
        UserError: the data are missing, cannot be read, or make no classification problem.
    """
    read = {"digits": read_digits, "folder": read_folder}.get(config.dataset, read_cifar)
    room = int(config.resident_share * memory_of(device))
    result = []
    for split in splits:
        pixels, labels, names, classes = read(config, split, room)
        if config.channel_order == "bgr":
            for i in range(0, len(pixels), 1000):
                pixels[i : i + 1000] = pixels[i : i + 1000, ..., ::-1].copy()
        streams = pixels.nbytes > room
        data = torch.from_numpy(pixels).to("cpu" if streams else device)
        ids = [f"{config.data_dir}/{split}/{name}" for name in names]
        result.append(
            Images(data, torch.from_numpy(labels).to(device), ids, classes, device, streams)
        )
    return result


def memory_of(device: torch.device) -> int:
    """Bytes of memory in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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


def normaliser(
    mean: list[float], std: list[float], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """uint8 (b, 3, h, w) -> float32 (pixel / 255 - mean) / std, in channels_last order.

    The constants are repeated along a row of pixels: on a CPU that is four times as fast as three
    at a time.
    """
    mean_, std_ = (torch.tensor(x, device=device) for x in (mean, std))

    def normalise(images: Tensor) -> Tensor:
        b, c, h, w = images.shape
        rows = images.permute(0, 2, 3, 1).reshape(b, h, w * c).float()
        rows.div_(255).sub_(mean_.repeat(w)).div_(std_.repeat(w))
        return rows.view(b, h, w, c).permute(0, 3, 1, 2)

    return normalise


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
    # Of the copies of an image, index_select takes the wanted one: torch.where is far slower on bytes.
    b, _, h, w = images.shape
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = (
        padded.unfold(1, h, 1).unfold(2, w, 1).permute(0, 1, 2, 4, 5, 3)
    )  # (b, 2p+1, 2p+1, h, w, 3), a view
    number = torch.arange(b, device=images.device)
    cropped = windows[number, rows, columns]
    both = torch.cat([cropped, cropped.flip(2)])
    return both.index_select(0, number + b * flips).permute(0, 3, 1, 2)


def turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image by its number of quarter turns counter-clockwise: `torch.rot90(image,
    turns[i], (1, 2))`."""
    b, pixels = len(images), images.permute(0, 2, 3, 1)
    views = torch.cat([torch.rot90(pixels, k, (1, 2)) for k in range(4)])
    number = torch.arange(b, device=images.device)
    return views.index_select(0, number + b * turns).permute(0, 3, 1, 2)
