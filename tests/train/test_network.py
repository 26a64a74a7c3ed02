import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from shell import user_error
from torch import Tensor, nn

from config import DIGITS
from loader import load_images
from models import build
from pt4al.method.classifier import Classification
from pt4al.train.network import fold_batchnorm, load_weights, weights_of


def torchvision_network(depth: int, stem: str) -> nn.Module:
    """torchvision's ResNet, with its own stem or with that for 32x32 images."""
    net = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    if stem == "small":
        net.conv1 = nn.Conv2d(3, 64, 3, 1, padding=1, bias=False)
        net.maxpool = nn.Identity()
    return net


@pytest.mark.parametrize("depth", [18, 34, 50])
@pytest.mark.parametrize(("stem", "size"), [("small", 32), ("imagenet", 64), ("imagenet", 97)])
def test_network_is_torchvisions(depth: int, stem: str, size: int):
    """The same function once weights are copied across names, in training, in evaluation, and with batch norm
    folded as for scoring: in float64, where only the order of sums differs."""
    theirs = torchvision_network(depth, stem).double()
    names = {
        re.sub("downsample", "shortcut", name).replace("fc.", "linear."): w.clone()
        for name, w in theirs.state_dict().items()
    }
    ours = build(depth, 64, 10, stem).double()
    ours.load_state_dict(names)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        for mode in (True, False):
            ours.train(mode)
            theirs.train(mode)
            assert (ours(images) - theirs(images)).abs().max() < 1e-10
        assert (fold_batchnorm(ours)(images) - theirs(images)).abs().max() < 1e-10
    assert (ours.bn1.running_mean - theirs.bn1.running_mean).abs().max() < 1e-10


def test_parameter_names_are_those_of_pytorch_cifar():
    names = set(build(18, 64, 10).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.bn1.weight", "layer1.1.conv2.weight",
            "layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.bias", "layer4.1.bn2.weight",
            "linear.weight", "linear.bias"} <= names  # fmt: skip
    assert len(names) == 122
    assert sum(p.numel() for p in build(18, 64, 10).parameters()) == 11_173_962


@pytest.mark.parametrize(("width", "size", "images"), [(8, 16, 7), (12, 32, 1), (16, 16, 33), (20, 32, 5)])
def test_odd_sizes_train_without_writing_outside_memory(width: int, size: int, images: int):
    """channels_last corrupted memory below 16 channels: a crash here is the failure."""
    net = build(18, width, 10)
    net.to(memory_format=net.memory_format)
    for _ in range(20):
        net(torch.randn(images, 3, size, size).to(memory_format=torch.channels_last)).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


# --- weights that someone made by hand


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("linear.bias", lambda w: w.to_sparse(), "sparse_coo"),
        ("linear.bias", lambda w: w.to(torch.complex64), "complex64"),
        ("linear.bias", lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "qint8"),
        ("linear.bias", lambda w: w.int(), "int32"),
        ("linear.bias", lambda w: w.to("meta"), "linear.bias"),
        ("linear.bias", lambda w: torch.nested.nested_tensor([w]), "linear.bias"),
        ("module.linear.bias", lambda w: w, "linear.bias twice"),
        (7, lambda w: w, "no dict of weights"),
    ],
)
def test_weights_that_are_no_plain_tensors_are_refused(
    tmp_path: Path, name: object, change: Callable[[Tensor], Tensor], said: str
):
    net = build(18, 4, 10)
    weights = net.state_dict()
    description = {"width": 4, "depth": 18, "stem": "small", "num_classes": 10}
    described = {**dict.fromkeys(("img_size", "channel_order", "dataset", "data")), **description}
    torch.save({"net": weights}, tmp_path / "a.pth")
    load_weights(tmp_path / "a.pth", net, described)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to drop quantized tensors
        torch.save({"net": {**weights, name: change(weights["linear.bias"])}}, tmp_path / "a.pth")
    with user_error(str(tmp_path / "a.pth"), said):
        load_weights(tmp_path / "a.pth", net, described)


def test_a_description_of_another_kind_is_refused(tmp_path: Path):
    net = build(18, 4, 10)
    torch.save({"net": net.state_dict(), "width": torch.ones(3)}, tmp_path / "a.pth")
    with user_error("a.pth", "another width"):
        load_weights(tmp_path / "a.pth", net, {"num_classes": 10, "depth": 18, "width": 4})


# --- features, and batch norm folded


def used_network(depth: int, width: int) -> nn.Module:
    """Weights and running statistics as after some training: no channel has mean 0 or variance 1."""
    torch.manual_seed(depth + width)
    net = build(depth, width, 10)
    with torch.no_grad():
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            for x in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                x.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize(("depth", "width"), [(18, 8), (18, 16), (34, 8), (50, 16)])
def test_folding_changes_rounding_only_and_no_weight(depth: int, width: int):
    net, images = used_network(depth, width).eval(), torch.randn(5, 3, 32, 32)
    before = weights_of(net)
    folded = fold_batchnorm(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    with torch.no_grad():
        plain, quick = net(images), folded(images)
        assert (plain - quick).abs().max() <= 1e-5 * plain.abs().max()
        features = net.features(images)
        assert torch.equal(net.linear(features), plain)
        assert features.shape == (5, net.linear.in_features)
        net.layer4[-1].bn2.running_mean += 1  # control: a statistic that it must have seen
        assert (net(images) - quick).abs().max() > 1e-3 * plain.abs().max()


def test_logits_and_features_come_from_one_pass(monkeypatch: pytest.MonkeyPatch):
    """They are the logits of a query without features, and its network's features, image by image;
    the network comes out as it went in, and twice the same."""
    pool, test = load_images(DIGITS, torch.device("cpu"))
    classification, net = Classification(DIGITS, pool, test), build(18, 16, 10)
    net.to(memory_format=net.memory_format)
    net.load_state_dict(used_network(18, 16).state_dict())
    before, some = weights_of(net), torch.tensor([5, 700, 3, 1437])
    logits, features = classification.logits_and_features(net, some)
    assert torch.allclose(logits, classification.logits(net, pool, some), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        images = classification.normalize(pool.pixels[some].permute(0, 3, 1, 2))
        assert torch.allclose(features, net.eval().features(images), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())
    again = classification.logits_and_features(net, some)
    assert torch.equal(logits, again[0]) and torch.equal(features, again[1])
    passes = []
    features_of = type(net).features
    monkeypatch.setattr(type(net), "features", lambda self, x: passes.append(len(x)) or features_of(self, x))
    classification.logits_and_features(net, some)
    assert passes == [4]
