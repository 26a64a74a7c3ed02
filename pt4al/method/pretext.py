"""The pretext task: predict by which of 0, 90, 180 and 270 degrees an image was rotated (Gidaris et al.
2018)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.base.files import hashed
from pt4al.data.images import Images
from pt4al.data.transforms import normalization, normalizer, rotate
from pt4al.run.pictures import changes
from pt4al.train.network import check_weights_record, describe, fresh_network, load_weights
from pt4al.train.scoring import score
from pt4al.train.seeding import rotation_draws
from pt4al.train.training import Task

ROTATIONS = 4


def rotation_task(config: Config, pool: Images, mean: list[float], std: list[float]) -> Task:
    """Rotation training on the whole pool, judged by rotation accuracy on it, as the released code
    does."""
    precision = processes.choose_precision(config.precision, pool.device)
    normalize = normalizer(mean, std, pool.device)

    def draw(cycle: int, epoch: int, repeat: int) -> tuple[Tensor, ...]:
        return (rotation_draws(config.seed, len(pool), epoch).to(pool.device),)

    def passes(
        images: Tensor, positions: Tensor, draws: tuple[Tensor, ...]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        rotations = draws[0][positions]
        for k in range(ROTATIONS):  # each image once per pass, its rotations in random order over the passes
            yield normalize(rotate(images, rotations[:, k])), rotations[:, k]

    def evaluate(net: nn.Module) -> tuple[float, float]:
        loss, accuracy = rotation_scores(net, pool, mean, std, config, precision).mean(0).tolist()
        return loss, 100 * accuracy

    return Task(
        pool=pool,
        positions=torch.arange(len(pool)),
        draw=draw,
        passes=passes,
        num_passes=ROTATIONS,
        evaluate=evaluate,
        eval_cost=ROTATIONS * len(pool),
        labels=0,
        epochs=config.rotation_epochs,
        batch_size=config.rotation_batch_size,
        milestones=config.rotation_milestones,
    )


def rotation_scores(
    net: nn.Module,
    pool: Images,
    mean: list[float],
    std: list[float],
    config: Config,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """float32 (n, 2): for each image the mean cross-entropy over its four rotations, and the share
    of rotations that are predicted."""

    normalize = normalizer(mean, std, pool.device)

    def forward(net: nn.Module, images: Tensor, positions: Tensor) -> Tensor:
        inputs = normalize(images)
        total = torch.zeros(len(images), 2, device=pool.device)
        for k in range(ROTATIONS):
            logits = net(torch.rot90(inputs, k, (2, 3))).float()
            targets = torch.full((len(images),), k, device=pool.device)
            total[:, 0] += F.cross_entropy(logits, targets, reduction="none")
            total[:, 1] += logits.argmax(1) == targets
        return total / ROTATIONS

    return score(net, pool, torch.arange(len(pool)), forward, 2, config, precision)


# --- the trained network


class Pretext(NamedTuple):
    """The network of checkpoint/EXP/rotation.pth.

    Attributes:
        mean, std: the constants that its images were normalized with, a number a channel.
        digest: SHA-256 of the file.
        made_from: the parameters that it was trained with; None of released weights.
    """

    net: nn.Module
    mean: list[float]
    std: list[float]
    digest: str
    made_from: dict[str, Any] | None


def find_pretext(config: Config, instead: str = "") -> Path:
    """The file of the pretext weights.

    Raises:
        UserError: it is not there; the line ends with `instead`.
    """
    path = config.checkpoint_dir / "rotation.pth"
    if not path.exists():
        raise UserError(f"{path} does not exist: run rotation.py first{instead}")
    return path


def load_pretext(config: Config, pool: Images) -> Pretext:
    """The pretext network of this experiment, on the device of `pool`.

    Where the file names other normalization constants than `config`, or none, that is said.

    Raises:
        UserError: it is missing, or was made with another seed, network, data, or reading of them.
    """
    path = find_pretext(config)
    mean, std = normalization(config, pool)
    net = fresh_network(config, ROTATIONS, 0, pool.device)
    description = describe(config, pool, ROTATIONS, mean, std)

    def explain(checkpoint: dict[str, Any]) -> str:
        check_weights_record(config, checkpoint, path)  # a forgotten flag makes other images, too
        return changes(config, {"data": checkpoint["data"]}, description, {"data": pool}, "rotation.py")

    with hashed(path) as digest:
        checkpoint = load_weights(path, net, description, explain)
    check_weights_record(config, checkpoint, path)
    constants = checkpoint.get("mean", mean), checkpoint.get("std", std)
    if "mean" not in checkpoint and config.normalization == "auto" and config.dataset != "cifar10":
        processes.say(
            f"warning: {path} does not say how its images were normalized; mean and std are computed from "
            "these images; for the released code's weights give --normalization cifar10"
        )
    elif constants != (mean, std):
        processes.say(f"{path} was made with mean and std {constants}, not {mean, std}: they are used")
    record = checkpoint.get("record")
    return Pretext(net, *constants, digest, record["parameters"] if record else None)


def pretext_features(pretext: Pretext, pool: Images, positions: Tensor, config: Config) -> Tensor:
    """float32 (len(positions), d): the input of its last layer for images that are not rotated, in
    eval mode."""
    net, normalize = pretext.net, normalizer(pretext.mean, pretext.std, pool.device)

    def forward(net: nn.Module, images: Tensor, _: Tensor) -> Tensor:
        return net.features(normalize(images))

    return score(net, pool, positions, forward, net.linear.in_features, config)
