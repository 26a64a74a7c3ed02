"""A network's outputs for many images: exact, shared out over the processes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.data.images import Images
from pt4al.train.network import fold_batchnorm


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager:
    return torch.autocast(device.type, precision) if precision == torch.bfloat16 else nullcontext()


def score(
    net: nn.Module,
    images: Images,
    positions: Tensor,
    forward: Callable[[nn.Module, Tensor, Tensor], Tensor],
    columns: int,
    config: Config,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """`forward` of all positions, int64 (n,), in eval mode without gradients, shared out over the
    processes.

    `forward` takes a network that computes what `net` does in eval mode (a copy with its batch norm
    folded), uint8 images (b, 3, h, w) and their positions (b,), and gives (b, columns).

    Returns float32 (n, columns) in host memory, the same on every process. No padding: each row is
    computed once, by one process, and the others add zero to it. What ranks images is scored in
    float32, the default.

    Raises:
        UserError: a score is not finite, so it ranks and judges nothing.
    """
    net.eval()
    folded = fold_batchnorm(net)
    rows = torch.zeros(len(positions), columns, device=images.device)
    mine = processes.my_shard(rows)  # a view
    if len(mine):
        parts = processes.my_shard(positions).split(config.eval_batch_size)
        first, again = (next(images.stream(parts[:1]))[0] for _ in range(2))
        if not torch.equal(first, again):
            raise AssertionError("internal error: the images to be scored change from read to read")
        one_thread = processes.one_thread(images.are_features)
        with torch.no_grad(), autocast(images.device, precision), one_thread:
            for part, out in zip(images.stream(parts), mine.split(config.eval_batch_size), strict=True):
                out.copy_(forward(folded, *part))
    scores = processes.add_up(rows).cpu()
    if not scores.isfinite().all():
        raise UserError(
            "the network's outputs are not finite (NaN or infinity), so they rank nothing: train again "
            "with a lower --lr and --restart"
        )
    return scores
