"""The training loop itself: what it asks of the device, and how it behaves when training fails."""

import contextlib
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from config import DIGITS, Config
from pt4al import network, training
from pt4al.classifier import Classification
from pt4al.images import Images
from pt4al.pretext import rotation_task

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
    monkeypatch.setattr(training, "autocast", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr("pt4al.classifier.normalisation", lambda *_: ([0.5] * 3, [0.2] * 3))
    pool = pool_on(META)
    if kind == "rotation":
        net = network.fresh_network(config, 4, 0, META)
        task = rotation_task(config, pool, [0.5] * 3, [0.2] * 3)
        task = task._replace(positions=torch.arange(images))
    else:
        net = network.fresh_network(config, 2, 0, META)
        task = Classification(config, pool, pool).task(torch.arange(images))
    with Transfers() as seen, pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        training.train_epoch(
            net, network.make_optimizer(net, config), task, config, 0, 0, META
        )  # its totals are read at the end, which a device without values refuses
    return seen.names


@pytest.mark.parametrize("kind", ["rotation", "classifier"])
def test_an_epoch_waits_for_the_device_at_its_end_only(kind: str, monkeypatch: pytest.MonkeyPatch):
    """Two steps and eight move the same few things: what an epoch needs, nothing that a step needs."""
    config = replace(DIGITS, width=8, batch_size=16, rotation_batch_size=16, precision="float32")
    few, many = (transfers(config, kind, n, monkeypatch) for n in (32, 128))
    assert few == many and 0 < len(few) < 8, (few, many)
