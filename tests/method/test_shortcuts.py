"""The guard of the pretext task: networks that are known to look at the picture, at its border, or at nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from config import Config
from pt4al.data.images import Images
from pt4al.method.shortcuts import check_pretext, hide_shortcuts

CONFIG = Config(dataset="unlabeled", eval_batch_size=100)


def pictures(n: int, size: int = 32, border: bool = False) -> Images:
    """Skies over darker grounds, with noise; `border`: noise alone, and a dark line at the bottom."""
    source = np.random.default_rng(0)
    pixels = source.integers(60, 120, size=(n, size, size, 3))
    if border:
        pixels[:, -2:] = 0
    else:
        pixels[:, : size // 2] += 90
    ids = [f"pool/{i}.png" for i in range(n)]
    images = torch.from_numpy(pixels.astype(np.uint8))
    return Images(images, torch.full((n,), -1), ids, [], torch.device("cpu"), labels_known=False)


class Brightest(nn.Module):
    """Tells the turn by the darkest side of what it looks at: `rows` at each edge."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        n = self.rows
        bottom, right, top, left = x[:, :, -n:], x[..., -n:], x[:, :, :n], x[..., :n]
        sides = [side.mean((1, 2, 3)) for side in (bottom, right, top, left)]
        return -torch.stack(sides, 1)  # a quarter turn counter-clockwise takes bottom to right


def check(net: nn.Module, images: Images) -> str:
    return check_pretext(net, images, [0.0] * 3, [1.0] * 3, CONFIG)


def test_a_network_that_sees_the_picture_is_trusted(capsys: pytest.CaptureFixture):
    assert check(Brightest(10), pictures(300)) == ""
    assert (
        "rotation accuracy on 300 images 100.00 %, with shortcuts removed 100.00 %" in capsys.readouterr().out
    )


def test_a_network_that_reads_a_border_is_not():
    text = check(Brightest(2), pictures(300, border=True))
    assert text.startswith("warning: rotation accuracy is 100.0 %, but 2")
    assert "--candidates all --first-pick random" in text


def test_a_network_at_chance_is_said():
    images = pictures(300, border=True)
    images.pixels[:, -2:] = images.pixels[:, :2]
    text = check(Brightest(8), images)
    assert "chance 25: training was too short or diverged (see runs/unlabeled-seed0/" in text
    assert "rotation/metrics.csv; --restart with more --rotation-epochs" in text
    assert "or these images have no up and down; then the order" in text


@pytest.mark.parametrize("size", [16, 32, 64, 100])
def test_hidden_traces_are_not_seen(size: int):
    """Every turn, mirroring and offset is undone: the picture stands where it stood."""
    rows, columns = np.mgrid[:size, :size] / size
    image = np.stack([200 * rows, 200 * columns, 100 + 50 * rows], 2).astype(np.uint8)
    source = np.random.default_rng(0)
    for _ in range(40):
        hidden = hide_shortcuts(image, source)
        assert hidden.shape == image.shape and hidden.dtype == np.uint8
        inner = slice(size // 16, size - size // 16)
        assert np.abs(hidden.astype(int) - image)[inner, inner].mean() < 4
        assert (hidden != image).any()
