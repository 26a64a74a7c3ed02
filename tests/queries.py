"""What the tests of strategies share: queries of a few points."""

import torch
from hypothesis import settings
from torch import Tensor

from pt4al.method.strategies import STRATEGIES, Query

quick = settings(max_examples=40)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def query(
    logits: Tensor | None,
    features: Tensor | None,
    k: int,
    labeled: Tensor | None = None,
    seed: int = 0,
) -> Query:
    """None: as for a strategy that does not ask for it."""
    none = torch.zeros(len(features if logits is None else logits), 0)
    logits, features = (none if x is None else x for x in (logits, features))
    return Query(logits, features, features[:0] if labeled is None else labeled, k, source(seed))


def random_query(n: int, k: int, classes: int = 4, seed: int = 0, m: int = 5, d: int = 6) -> Query:
    """Everything that a strategy may ask for, of normal numbers."""
    draws = source(seed)
    logits, features, known = (torch.randn(*s, generator=draws) for s in ((n, classes), (n, d), (m, d)))
    return Query(logits, features, known, k, source(seed))


def pick(name: str, logits: Tensor, k: int, features: Tensor | None = None) -> list[int]:
    return STRATEGIES[name].pick(query(logits, features, k)).tolist()
