import re

import pytest
import torch
import torchvision
from torch import nn

from models import build


def torchvision_network(depth: int) -> nn.Module:
    """torchvision's ResNet with the stem for 32x32 images."""
    net = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, 3, 1, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_network_is_torchvisions_with_another_stem(depth: int):
    """The same function once weights are copied across names, in training and in evaluation."""
    theirs = torchvision_network(depth)
    names = {
        re.sub("downsample", "shortcut", name).replace("fc.", "linear."): w
        for name, w in theirs.state_dict().items()
    }
    ours = build(depth, 64, 10)
    ours.load_state_dict(names)
    images = torch.randn(4, 3, 32, 32)
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        with torch.no_grad():
            assert torch.allclose(ours(images), theirs(images), atol=1e-4, rtol=1e-4)


def test_parameter_names_are_those_of_pytorch_cifar():
    names = set(build(18, 64, 10).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.bn1.weight", "layer1.1.conv2.weight",
            "layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.bias", "layer4.1.bn2.weight",
            "linear.weight", "linear.bias"} <= names  # fmt: skip
    assert len(names) == 122
    assert sum(p.numel() for p in build(18, 64, 10).parameters()) == 11_173_962


@pytest.mark.parametrize(
    ("width", "size", "images"), [(8, 16, 7), (12, 32, 1), (16, 16, 33), (20, 32, 5)]
)
def test_odd_sizes_train_without_writing_outside_memory(width: int, size: int, images: int):
    """channels_last corrupted memory below 16 channels: a crash here is the failure."""
    net = build(18, width, 10)
    net.to(memory_format=net.memory_format)
    for _ in range(20):
        net(
            torch.randn(images, 3, size, size).to(memory_format=torch.channels_last)
        ).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
