"""A linear classifier on features: multinomial logistic regression."""

import torch
from torch import Tensor, nn


class ScaledLinear(nn.Linear):
    """A linear layer whose outputs are divided by the root of its inputs' number, so that of inputs of
    variance 1 one learning rate and one weight decay serve 64 and 2,000 of them.

    It begins at 0, as logistic regression does: what is drawn at random would stay in all directions
    that few labels say nothing about.
    """

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.in_features**0.5


class LinearClassifier(nn.Module):
    """One linear layer, with the parts that are asked of a network here."""

    memory_format = torch.contiguous_format

    def __init__(self, dimensions: int, num_classes: int) -> None:
        super().__init__()
        self.linear = ScaledLinear(dimensions, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The input of the last layer: float (n, dimensions) as they are."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """float (n, dimensions) -> (n, num_classes)."""
        return self.linear(x)
