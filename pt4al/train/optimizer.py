"""The optimizer of both tasks and its learning rate."""

import torch
from torch import Tensor, nn

from config import Config


class SGD:
    """Stochastic gradient descent with momentum and weight decay: what torch.optim.SGD computes, to the
    last bit.

    That class imports torch's compiler: two seconds and 135 MB, where ten cycles on features take a minute.

    Attributes:
        lr: learning rate.
        buffers: the momentum of each parameter, in their order; none before the first step or without
            momentum.
    """

    def __init__(self, net: nn.Module, config: Config) -> None:
        self.parameters = list(net.parameters())
        self.lr, self.momentum, self.weight_decay = config.lr, config.momentum, config.weight_decay
        self.buffers: list[Tensor] = []

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Needs a gradient of every parameter."""
        steps = [parameter.grad for parameter in self.parameters]
        if self.weight_decay:
            steps = torch._foreach_add(steps, self.parameters, alpha=self.weight_decay)
        if self.momentum and self.buffers:
            torch._foreach_mul_(self.buffers, self.momentum)
            torch._foreach_add_(self.buffers, steps)
        elif self.momentum:
            self.buffers = [step.clone() for step in steps]
        torch._foreach_add_(self.parameters, self.buffers or steps, alpha=-self.lr)

    def restore(self, buffers: list[Tensor]) -> None:
        """Put a copy of the buffers back, in the memory order of the parameters."""
        pairs = zip(self.parameters, buffers, strict=bool(buffers))
        self.buffers = [torch.empty_like(parameter).copy_(buffer) for parameter, buffer in pairs]


def learning_rate(config: Config, milestones: tuple[int, ...], epoch: int) -> float:
    """A tenth of `config.lr` for each milestone that has come."""
    return config.lr * 0.1 ** sum(epoch >= milestone for milestone in milestones)
