"""SGD beside torch's: the same weights and momentum, bit for bit."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from config import DIGITS, Config
from models import LinearClassifier, build
from pt4al.train.optimizer import SGD, learning_rate

STEPS = 6


def networks(kind: str) -> tuple[nn.Module, nn.Module]:
    """Two of the same weights."""
    pair = tuple(build(18, 8, 4) if kind == "resnet" else LinearClassifier(768, 4) for _ in range(2))
    for net in pair:
        net.to(memory_format=net.memory_format).train().load_state_dict(pair[0].state_dict())
    return pair


def take_steps(net: nn.Module, optimizer: SGD | torch.optim.SGD, config: Config) -> None:
    """Steps on other images each, from the fourth on at a tenth of the rate."""
    for step in range(STEPS):
        images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        rate = learning_rate(config, (3,), step)
        if isinstance(optimizer, SGD):
            optimizer.lr = rate
        else:
            optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        outputs = net(images if hasattr(net, "conv1") else images.flatten(1))
        nn.functional.cross_entropy(outputs, torch.arange(8) % 4).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["resnet", "linear"])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 5e-4), (0.9, 0.0), (0.0, 5e-4), (0.0, 0.0)])
def test_steps_are_torchs(kind: str, momentum: float, weight_decay: float):
    config = replace(DIGITS, lr=0.05, momentum=momentum, weight_decay=weight_decay)
    net, other = networks(kind)
    before = [parameter.clone() for parameter in net.parameters()]
    ours = SGD(net, config)
    theirs = torch.optim.SGD(other.parameters(), config.lr, momentum, weight_decay=weight_decay)
    take_steps(net, ours, config)
    take_steps(other, theirs, config)
    for parameter, same, start in zip(net.parameters(), other.parameters(), before, strict=True):
        assert torch.equal(parameter, same) and not torch.equal(parameter, start)
    buffers = [theirs.state[parameter]["momentum_buffer"] for parameter in other.parameters() if momentum]
    assert all(map(torch.equal, ours.buffers, buffers)) and len(ours.buffers) == len(buffers)
