"""The network and its weights: made, described, loaded and copied."""

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from config import Config
from models import LinearClassifier, build
from pt4al.base.console import UserError
from pt4al.base.files import load_checkpoint
from pt4al.data.images import Images
from pt4al.run.record import VERSION, check_record, other_value, shorten
from pt4al.train.seeding import derive_seed


def fresh_network(
    config: Config, num_classes: int, cycle: int, device: torch.device, dimensions: int = 0
) -> nn.Module:
    """A network with weights drawn for this seed and cycle, in its own memory order; no global draw
    is left behind. On features of `dimensions` numbers it is one linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "weights", cycle))
        net = (
            LinearClassifier(dimensions, num_classes)
            if dimensions
            else build(config.depth, config.width, num_classes, config.stem)
        )
    return net.to(device, memory_format=net.memory_format)


def describe(
    config: Config, pool: Images, num_classes: int, mean: list[float], std: list[float]
) -> dict[str, Any]:
    """What a checkpoint says of its weights beside `net`, `acc` and `epoch`: the network, its data
    and how they are read."""
    network = {"depth": config.depth, "width": config.width, "stem": config.stem}
    reading = {"img_size": config.img_size, "channel_order": config.channel_order}
    return {
        "version": VERSION, **({} if pool.are_features else network | reading), "num_classes": num_classes,
        "dataset": config.dataset, "classes": pool.classes, "mean": mean, "std": std,
        "data": pool.fingerprint(),
    }  # fmt: skip


def load_weights(
    path: Path,
    net: nn.Module,
    description: dict[str, Any],
    explain: Callable[[dict[str, Any]], str] = lambda _: "",
) -> dict[str, Any]:
    """Load a checkpoint's weights into a network and return the checkpoint, if it fits what we
    expect of it.

    The released code's files say nothing of themselves but `net`, `acc` and `epoch`; their names
    may begin with `module.`. For them the shapes alone are compared.

    Args:
        explain: given a checkpoint of other data, says how they differ from ours, if that is known.

    Raises:
        UserError: other shapes, or made from other data or with another reading of them.
    """
    checkpoint = load_checkpoint(path)
    for name in ("mean", "std"):
        values = checkpoint.get(name, [1.0, 1.0, 1.0])
        good = (
            isinstance(values, list)
            and len(values) == 3
            and all(isinstance(x, float) and (0 if name == "std" else -1e3) < x < 1e3 for x in values)
        )
        if not good:
            raise UserError(
                f"{path} holds {name} {shorten(values)}, which cannot normalize images: make it again"
            )
    for name in ("num_classes", "depth", "width", "stem", "img_size", "channel_order", "dataset", "data"):
        found, wanted = checkpoint.get(name), description[name]
        if name in checkpoint and (type(found) is not type(wanted) or found != wanted):
            if name == "data" and (told := explain(checkpoint)):
                raise UserError(f"{path} {told}")
            other = "other data" if name == "data" else f"another {name}"
            raise UserError(
                f"{path} was made with {other} ({shorten(found)}, not {shorten(wanted)}): make it again"
            )
    weights = {name.removeprefix("module."): value for name, value in checkpoint["net"].items()}
    for name, value in weights.items():
        if value.is_nested or value.is_meta:
            raise UserError(f"{path} holds {name} as a nested or an empty tensor: it must be a plain one")
    if twice := [name for name in checkpoint["net"] if f"module.{name}" in checkpoint["net"]]:
        raise UserError(f"{path} holds {twice[0]} twice, as module.{twice[0]} too: keep one")
    ours = net.state_dict()
    for name in sorted(set(weights) | set(ours)):
        if name not in weights or name not in ours or weights[name].shape != ours[name].shape:
            found, wanted = (list(x[name].shape) if name in x else "nothing" for x in (weights, ours))
            raise UserError(
                f"{path} holds another network: {name} is {found}, not {wanted}; is --width "
                f"{description['width']}, --depth {description['depth']}, --stem {description['stem']} or "
                "the number of classes another?"
            )
        found, wanted = weights[name], ours[name]
        plain = found.layout == torch.strided and not found.is_quantized and not found.is_complex()
        if not plain or found.is_floating_point() != wanted.is_floating_point():
            kind = f"{found.dtype}, {found.layout}".replace("torch.", "")
            raise UserError(f"{path} holds {name} as {kind}: it must be a plain tensor of {wanted.dtype}")
    net.load_state_dict(weights)
    return checkpoint


def check_weights_record(config: Config, checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse weights that were made with another seed, or from another cut of the images. The released
    code's have no record: they are taken as they are.

    Raises:
        UserError: one of them differs, or the record is none of ours.
    """
    if "record" not in checkpoint:
        return
    was = check_record(checkpoint["record"], path)["parameters"]
    names = ("seed", "imbalance", "imbalance_kind", "resize")
    if told := other_value(was, {name: getattr(config, name) for name in names}):
        raise UserError(f"{path} was made with {told}, or another --experiment")


def fold_batchnorm(net: nn.Module) -> nn.Module:
    """A copy in eval mode that takes each batch norm into the convolution before it: the same
    function within float32 rounding, 1.1 to 1.3 times as fast (bench/benchmark.py --folding).

    A pair is a convolution and the batch norm that follows it among a module's children, as in all
    of models/.
    """
    net = deepcopy(net).eval()
    for module in list(net.modules()):
        children = list(module.named_children())
        for (before, conv), (after, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(conv, norm))
                setattr(module, after, nn.Identity())
    return net


def carry_over(old: nn.Module, old_classes: list[str], new: nn.Module, new_classes: list[str]) -> None:
    """Give a network the weights of one that knows other classes: of the last layer the rows of the
    classes that both know, by name; the other rows stay as they are."""
    weights, ours = old.state_dict(), new.state_dict()
    for name in ("linear.weight", "linear.bias"):
        for row, label in enumerate(new_classes):
            if label in old_classes:
                ours[name][row] = weights[name][old_classes.index(label)]
        weights[name] = ours[name]
    new.load_state_dict(weights)


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers (a reference would turn into the last epoch's
    weights)."""
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def is_finite(net: nn.Module) -> bool:
    """Whether every weight and running statistic is a number."""
    values = [x for x in net.state_dict().values() if x.is_floating_point()]
    return bool(torch.stack([x.isfinite().all() for x in values]).all())
