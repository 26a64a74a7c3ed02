"""A linear classifier on features: multinomial logistic regression."""

import torch
from torch import Tensor, nn


class LinearClassifier(nn.Module):
    """One linear layer. It begins at 0, as logistic regression does: what is drawn at random would stay
    in all directions that few labels say nothing about."""

    memory_format = torch.contiguous_format

    def __init__(self, dimensions: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimensions, num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def features(self, x: Tensor) -> Tensor:
        """The input of the last layer: float (n, dimensions) as they are."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """float (n, dimensions) -> (n, num_classes)."""
        return self.linear(x)
