"""The pretext task: tell by which of 0, 90, 180 and 270 degrees an image was turned (Gidaris et al.
2018)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config
from pt4al.images import Images
from pt4al.processes import choose_precision
from pt4al.seeding import turn_draws
from pt4al.training import Task, score
from pt4al.transforms import normaliser, turn

TURNS = 4


def rotation_task(config: Config, pool: Images, mean: list[float], std: list[float]) -> Task:
    """Rotation training on the whole pool, judged by rotation accuracy on it, as the released code
    does."""
    precision = choose_precision(config.precision, pool.device)
    normalise = normaliser(mean, std, pool.device)

    def passes(cycle: int, epoch: int, repeat: int):
        turns = turn_draws(config.seed, len(pool), epoch).to(pool.device)

        def of(images: Tensor, positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            chosen = turns[positions]
            # each image once a pass, its turns in random order over the passes
            for k in range(TURNS):
                yield normalise(turn(images, chosen[:, k])), chosen[:, k]

        return of

    def evaluate(net: nn.Module) -> tuple[float, float]:
        loss, accuracy = rotation_scores(net, pool, mean, std, config, precision).mean(0).tolist()
        return loss, 100 * accuracy

    return Task(
        pool=pool,
        positions=torch.arange(len(pool)),
        passes=passes,
        num_passes=TURNS,
        evaluate=evaluate,
        eval_cost=TURNS * len(pool),
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
    """float32 (n, 2): for each image the mean cross-entropy over its four turns, and the share of
    turns told right."""

    normalise = normaliser(mean, std, pool.device)

    def forward(images: Tensor, positions: Tensor) -> Tensor:
        inputs = normalise(images)
        total = torch.zeros(len(images), 2, device=pool.device)
        for k in range(TURNS):
            logits = net(torch.rot90(inputs, k, (2, 3))).float()
            targets = torch.full((len(images),), k, device=pool.device)
            total[:, 0] += F.cross_entropy(logits, targets, reduction="none")
            total[:, 1] += logits.argmax(1) == targets
        return total / TURNS

    return score(net, pool, torch.arange(len(pool)), forward, 2, config, precision)
