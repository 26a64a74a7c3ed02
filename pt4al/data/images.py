"""One split of a data set in memory."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pt4al.base.threads import Threads, result
from pt4al.data.decoding import let_go
from pt4al.data.ids import by_last_three

AHEAD = 2  # parts of a stream that are on their way while one is worked on


class LabeledSet(NamedTuple):
    """What a cycle trains on and is judged by.

    Attributes:
        positions: int64 (n,), pool positions of what is labeled.
        pool, test: images with the labels and classes of that cycle.
    """

    positions: Tensor
    pool: "Images"
    test: "Images"


@dataclass
class Images:
    """One split of a data set.

    Attributes:
        pixels: uint8 (n, size, size, 3), on the training device, or in host memory when it streams; or, in
            their place, float32 (n, d), the features of another network.
        labels: int64 (n,), on the training device; indices into `classes`.
        ids: n image ids.
        classes: names of the classes, in label order.
        device: where `stream` delivers.
        streams: whether pixels stay in host memory and are sent over part by part.
        key: image id -> what an image is looked up by (`ids.by_last_three`, `ids.by_path`).
        labels_known: False where an annotator gives the labels: they and the classes then change from cycle
            to cycle, and are no part of the data.
        copies: for an image that is a copy of an earlier one, pixel for pixel, the position of that.
        drawn: positions of the images that are drawn to test by.
        features: what made the features, in words; empty where there are pixels.
        source: digest of the images and the network that features were made from; empty where not known.
        of_files: whether each image is a file, which may change from run to run.
        mapped: the array that is mapped from a file, if pixels are.
    """

    pixels: Tensor
    labels: Tensor
    ids: list[str]
    classes: list[str]
    device: torch.device
    streams: bool = False
    key: Callable[[str], str] = by_last_three
    labels_known: bool = True
    copies: dict[int, int] = field(default_factory=dict)
    drawn: tuple[int, ...] = ()
    features: str = ""
    source: str = ""
    of_files: bool = False
    mapped: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def are_features(self) -> bool:
        return bool(self.features)

    @property
    def bit_for_bit(self) -> str:
        """How two images are found to be one, in words."""
        return "by equal features" if self.are_features else "pixel for pixel"

    def stream(self, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images by position, one part after the other, without waiting for the device in between.

        Args:
            parts: pool positions, int64 (b,) each, in host memory.

        Yields:
            uint8 (b, 3, size, size) in channels_last order, or float32 (b, d), and the part's positions,
            both on `device`.
        """
        if not parts:
            return
        places = torch.cat(list(parts)).to(self.device).split([len(part) for part in parts])
        if not self.streams:
            for at in places:
                yield channels_first(self.pixels.index_select(0, at)), at
            return
        copy_stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with Threads(1) as sender:
            ahead = deque(sender.submit(self.send, part, copy_stream) for part in parts[:AHEAD])
            for i, at in enumerate(places):
                images, copied = result(ahead.popleft())
                if i + AHEAD < len(parts):
                    ahead.append(sender.submit(self.send, parts[i + AHEAD], copy_stream))
                if copied is not None:
                    copied.wait()  # the step does, this thread does not
                    images.record_stream(torch.cuda.current_stream(self.device))
                yield channels_first(images), at

    def send(
        self, positions: Tensor, copy_stream: "torch.cuda.Stream | None"
    ) -> tuple[Tensor, "torch.cuda.Event | None"]:
        """Gather images in host memory and send them to the device on a stream of their own; the
        event tells when they are there."""
        images = torch.from_numpy(self.pixels.numpy()[positions.numpy()])
        let_go(self.mapped)
        if copy_stream is None:
            return images, None
        with torch.cuda.stream(copy_stream):
            return images.pin_memory().to(self.device, non_blocking=True), copy_stream.record_event()

    def in_parts(self) -> Iterator[Tensor]:
        """All pixels, or features, in order, a thousand images at a time; of a mapped file no more is kept in
        memory."""
        for part in self.pixels.split(1000):
            yield part
            let_go(self.mapped)

    def fingerprint(self) -> str:
        """SHA-256 over pixels, the keys of the ids, and, where they are known, labels and class names: equal
        if and only if the data are."""
        return self._digest(tuple(self.pixels.shape), (part.cpu().numpy() for part in self.in_parts()))

    def source_digest(self) -> str | None:
        """The same over `source` in place of features, which machines round in different ways; None: it is
        not known."""
        if not self.source and len(self):
            return None
        return self._digest(tuple(self.pixels.shape), [self.source.encode()])

    def names_digest(self) -> str:
        """The same over ids, labels and class names alone."""
        return self._digest((len(self),), [])

    def _digest(self, shape: tuple[int, ...], parts: Iterable[Any]) -> str:
        classes = self.classes if self.labels_known else []
        digest = hashlib.sha256(str((shape, classes)).encode())
        for part in parts:
            digest.update(part)
        if self.labels_known:
            digest.update(self.labels.cpu().numpy())
        digest.update("\n".join(map(self.key, self.ids)).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def pixel_hashes(self) -> set[int]:
        """A hash of each image's pixels."""
        return {hash(image.tobytes()) for part in self.in_parts() for image in part.cpu().numpy()}

    def eligible(self, positions: Iterable[int]) -> list[int]:
        """Those that a cycle may choose: no copies, and none that is drawn to test by."""
        left_out = {*self.copies, *self.drawn}
        return [i for i in positions if i not in left_out]

    def positions_by_key(self) -> dict[str, int]:
        """Pool position by what an image is looked up by."""
        return {self.key(image_id): i for i, image_id in enumerate(self.ids)}


def channels_first(images: Tensor) -> Tensor:
    """(b, size, size, 3) as a view (b, 3, size, size); features as they are."""
    return images.permute(0, 3, 1, 2) if images.ndim == 4 else images
