"""Query strategies: (logits, k, generator) -> k positions into the candidates, the most wanted
first.

Logits are float32 (n, classes) in candidate order. Each strategy is a pure function; ties go to the
earlier candidate. Only `random` draws from the generator.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Strategy = Callable[[Tensor, int, torch.Generator], Tensor]


def no_logits(candidates: list[int]) -> Tensor:
    """What a strategy of `BLIND` gets instead of logits: zeros (n, 1)."""
    return torch.zeros(len(candidates), 1)


def even_intervals(n: int, k: int) -> Tensor:
    """int64 (k,): positions floor(j * n / k), j = 0..k-1. The released code's `j * 5` is k = n /
    5."""
    return torch.arange(k) * n // k


def smallest(score: Tensor, k: int) -> Tensor:
    return score.argsort(stable=True)[:k]


def confidence(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Smallest top-1 softmax probability (paper, section 3.3; Lewis and Gale 1994)."""
    return smallest(logits.softmax(1).amax(1), k)


def normalized_confidence(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """As `confidence`, with each row of logits divided by its L2 norm first (released code,
    `get_plabels2`)."""
    return smallest(F.normalize(logits, dim=1).softmax(1).amax(1), k)


def entropy(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Largest entropy of the softmax (Shannon 1948; Settles 2009, section 3.1)."""
    log_p = logits.log_softmax(1)
    return smallest((log_p.exp() * log_p).sum(1), k)


def margin(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Smallest difference between the two largest softmax probabilities (Scheffer et al. 2001)."""
    top = logits.softmax(1).topk(2, dim=1).values
    return smallest(top[:, 0] - top[:, 1], k)


def class_balanced(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Up to k // classes per predicted class in candidate order, the rest from what remains, in
    order.

    The set is that of the released code's `get_plabels`, which fills up class by class.
    """
    predicted = F.one_hot(logits.argmax(1), logits.shape[1])
    rank_in_class = (predicted.cumsum(0) * predicted).sum(1)  # from 1, by predicted class
    within_quota = rank_in_class <= k // logits.shape[1]
    return torch.cat([within_quota.nonzero()[:, 0], (~within_quota).nonzero()[:, 0]])[:k]


def interval(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Even intervals along the candidates, whatever the network says."""
    return even_intervals(len(logits), k)


def random(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k candidates drawn without replacement."""
    return torch.randperm(len(logits), generator=generator)[:k]


STRATEGIES: dict[str, Strategy] = {
    "confidence": confidence,
    "normalized_confidence": normalized_confidence,
    "entropy": entropy,
    "margin": margin,
    "class_balanced": class_balanced,
    "interval": interval,
    "random": random,
}
BLIND = {"interval", "random"}  # these look at no logits, so none need to be computed
