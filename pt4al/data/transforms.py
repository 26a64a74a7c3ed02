"""What is done to whole batches: normalization, random crops and flips, quarter turns."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from config import Config
from pt4al.data.images import Images

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # released code


def channel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in 0..1."""
    total, squares = torch.zeros(2, 3, dtype=torch.float64, device=images.pixels.device)
    for part in images.in_parts():
        for some in part.split(256):  # whose squares add up to less than 2 ** 24: exact in float32
            values = some.reshape(len(some), -1).float()
            total += values.sum(0).double().view(-1, 3).sum(0)
            squares += values.square_().sum(0).double().view(-1, 3).sum(0)
    n = 255 * images.pixels[..., 0].numel()
    mean = total.cpu() / n
    variance = squares.cpu() / (255 * n) - mean**2
    return mean.tolist(), variance.clamp(min=0).sqrt().clamp(min=1e-3).tolist()


def column_statistics(features: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column of float32 (n, d); of a constant one, 1 in its place."""
    total, squares = torch.zeros(2, features.shape[1], dtype=torch.float64, device=features.device)
    for part in features.split(1000):
        total += part.double().sum(0)
    mean = total / len(features)
    for part in features.split(1000):
        squares += (part.double() - mean).square_().sum(0)
    std = (squares / len(features)).sqrt()
    std[std <= (1e-6 * mean.abs()).clamp(min=1e-30)] = 1.0  # float32 ends at 1e-38
    return mean.tolist(), std.tolist()


def normalization(config: Config, pool: Images) -> tuple[list[float], list[float]]:
    """Per-channel mean and standard deviation that `config.normalization` asks for, in the order
    red, green, blue of the images as read: `channel_order` swaps pixels, never constants. Of features those
    of each column."""
    if pool.are_features:
        return column_statistics(pool.pixels)
    auto = "cifar10" if config.dataset == "cifar10" else "computed"
    if (auto if config.normalization == "auto" else config.normalization) == "cifar10":
        return list(CIFAR10_MEAN), list(CIFAR10_STD)
    mean, std = channel_statistics(pool)
    return (mean[::-1], std[::-1]) if config.channel_order == "bgr" else (mean, std)


def normalizer(mean: list[float], std: list[float], device: torch.device) -> Callable[[Tensor], Tensor]:
    """uint8 (b, 3, h, w) -> float32 (pixel / 255 - mean) / std, in channels_last order; features,
    float32 (b, d) -> (feature - mean) / std.

    The constants are repeated along a row of pixels: on a CPU that is four times as fast as three
    at a time.
    """
    mean_, std_ = (torch.tensor(x, device=device) for x in (mean, std))

    def normalize(images: Tensor) -> Tensor:
        if images.ndim == 2:
            return (images - mean_).div_(std_)
        b, c, h, w = images.shape
        rows = images.permute(0, 2, 3, 1).reshape(b, h, w * c).float()
        rows.div_(255).sub_(mean_.repeat(w)).div_(std_.repeat(w))
        return rows.view(b, h, w, c).permute(0, 3, 1, 2)

    return normalize


def crop_and_flip(images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor, padding: int) -> Tensor:
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
    # A view, (b, 2p+1, 2p+1, h, w, 3):
    windows = padded.unfold(1, h, 1).unfold(2, w, 1).permute(0, 1, 2, 4, 5, 3)
    number = torch.arange(b, device=images.device)
    cropped = windows[number, rows, columns]
    both = torch.cat([cropped, cropped.flip(2)])
    return both.index_select(0, number + b * flips).permute(0, 3, 1, 2)


def rotate(images: Tensor, rotations: Tensor) -> Tensor:
    """Rotate each image counter-clockwise by its number of quarter turns, int64 (b,):
    `torch.rot90(images[i], rotations[i], (1, 2))`."""
    b, pixels = len(images), images.permute(0, 2, 3, 1)
    views = torch.cat([torch.rot90(pixels, k, (1, 2)) for k in range(4)])
    number = torch.arange(b, device=images.device)
    return views.index_select(0, number + b * rotations).permute(0, 3, 1, 2)
