"""How a classifier is judged."""

from types import SimpleNamespace

import pytest
import torch

from pt4al.data.images import Images
from pt4al.method.classifier import Classification


def test_of_a_class_without_test_images_nothing_is_known():
    """Two images of a and two of b; one of b is taken for c."""
    test = Images(
        pixels=torch.zeros(4, 16, 16, 3, dtype=torch.uint8),
        labels=torch.tensor([0, 0, 1, 1]), ids=list("wxyz"), classes=list("abcd"), device=torch.device("cpu"),
    )  # fmt: skip
    logits = torch.eye(4)[[0, 0, 1, 2]]
    judged = SimpleNamespace(test=test, test_logits=lambda net: logits)
    assert Classification.per_class(judged, None, 7) == [
        [7, "a", 2, 1.0, 1.0, 1.0], [7, "b", 2, 1.0, 0.5, pytest.approx(2 / 3)],
        [7, "c", 0, None, None, None], [7, "d", 0, None, None, None],
    ]  # fmt: skip
