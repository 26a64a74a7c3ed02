"""The training loop itself: what it asks of the device, and how it behaves when training fails."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from config import DIGITS, Config
from loader import load_images
from pt4al.data.images import Images
from pt4al.method.classifier import Classification
from pt4al.method.pretext import rotation_task
from pt4al.train import network, training
from pt4al.train.optimizer import SGD

META = torch.device("meta")  # shapes without values: whatever needs a value fails or is a transfer


class Transfers(TorchDispatchMode):
    """Counts the operations that move data between devices or need a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        moved = name in ("_to_copy", "copy_") and (
            {x.device for x in args if isinstance(x, torch.Tensor)} | {result.device}
        ) == {META, torch.device("cpu")}
        if moved or name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2"):
            self.names.append(name)
        return result


def pool_on(device: torch.device, n: int = 200) -> Images:
    pixels = torch.zeros(n, 16, 16, 3, dtype=torch.uint8, device=device)
    labels = torch.zeros(n, dtype=torch.int64, device=device)
    return Images(pixels, labels, [f"{i}" for i in range(n)], ["0", "1"], device)


def transfers(config: Config, kind: str, images: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an epoch on so many images moves, on a device that has no values at all."""
    for name in ("fingerprint", "pixel_hashes"):
        monkeypatch.setattr(Images, name, lambda self: "")
    monkeypatch.setattr("pt4al.method.classifier.normalization", lambda *_: ([0.5] * 3, [0.2] * 3))
    pool = pool_on(META)
    if kind == "rotation":
        net = network.fresh_network(config, 4, 0, META)
        task = rotation_task(config, pool, [0.5] * 3, [0.2] * 3)
        task = task._replace(positions=torch.arange(images))
    else:
        net = network.fresh_network(config, 2, 0, META)
        task = Classification(config, pool, pool).task(torch.arange(images))
    with Transfers() as seen, pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        # Its totals are read at the end, which a device without values refuses.
        training.train_epoch(net, SGD(net, config), task, config, 0, 0)
    return seen.names


@pytest.mark.parametrize("kind", ["rotation", "classifier"])
def test_an_epoch_waits_for_the_device_at_its_end_only(kind: str, monkeypatch: pytest.MonkeyPatch):
    """Two steps and eight move the same few things: what an epoch needs, nothing that a step needs."""
    config = replace(
        DIGITS,
        width=8,
        batch_size=16,
        min_epoch_images=0,
        rotation_batch_size=16,
        precision="float32",
    )
    few, many = (transfers(config, kind, n, monkeypatch) for n in (32, 128))
    assert few == many and 0 < len(few) < 8, (few, many)


def order_seen(config: Config, images: int, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The positions of each step of an epoch on the digits, and how its images were cut out."""
    (pool,) = load_images(config, torch.device("cpu"), ("train",))
    classification = Classification(config, pool, pool)
    task = classification.task(torch.arange(images))
    seen: list[list[int]] = []

    def draw(cycle: int, epoch: int, repeat: int) -> tuple[torch.Tensor, ...]:
        return *task.draw(cycle, epoch, repeat), torch.tensor(repeat)

    def passes(pixels: torch.Tensor, at: torch.Tensor, draws: tuple[torch.Tensor, ...]):
        for inputs, targets in task.passes(pixels, at, draws[:-1]):
            seen.append([int(draws[-1]), *at.tolist(), hash(inputs[:, 0].sum((1, 2)).numpy().tobytes())])
            yield inputs, targets

    net = network.fresh_network(config, 10, 0, pool.device)
    optimizer = SGD(net, config)
    training.train_epoch(net, optimizer, task._replace(draw=draw, passes=passes), config, 1, 2)
    return seen


def test_an_epoch_shows_as_many_images_as_it_is_told(monkeypatch: pytest.MonkeyPatch):
    """50 images, at least 120 an epoch: three passes of 16 + 16 + 16 + 2, each in an order and with crops of its own,
    the first as if there were no other."""
    config = replace(DIGITS, width=8, batch_size=16, min_epoch_images=120)
    steps = order_seen(config, 50, monkeypatch)
    assert [len(step) - 2 for step in steps] == 3 * [16, 16, 16, 2]
    passes = [[i for step in steps if step[0] == k for i in step[1:-1]] for k in range(3)]
    assert all(sorted(one) == list(range(50)) for one in passes)
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert order_seen(replace(config, min_epoch_images=0), 50, monkeypatch) == steps[:4]
    assert order_seen(config, 50, monkeypatch) == steps
    assert len(order_seen(config, 200, monkeypatch)) == 13  # enough in one pass
