"""Query strategies: a `Query` -> k positions into its candidates, int64 (k,), the most wanted first.

Each strategy is a pure function; ties go to the earlier candidate. Only `random`, `badge` and
`typiclust` draw from the generator. A strategy is added here and nowhere else: its function, and its
line in `STRATEGIES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pt4al.data.features import Rows
from pt4al.method.diversity import k_centers, kmeans, spread_outer_products, typical_points


@dataclass(frozen=True)
class Query:
    """What a strategy may look at, all in host memory. What it does not ask for has no columns.

    Attributes:
        logits: float32 (n, classes) of the candidates by the current classifier.
        features: float32 (n, d), the input of the network's last layer: of the classifier, or of the
            pretext network. With --features they are `Rows`, made when they are read.
        labeled_features: (m, d), the same of the m images that are labeled already.
        k: how many to choose, n at most.
        generator: the only source of randomness.
    """

    logits: Tensor
    features: Tensor | Rows
    labeled_features: Tensor | Rows
    k: int
    generator: torch.Generator

    def __len__(self) -> int:
        return len(self.logits)


@dataclass(frozen=True)
class Strategy:
    """How to choose, and what that takes; nothing else is computed for it.

    Attributes:
        pick: Query -> int64 (k,).
        looks_at: logits of the classifier; nothing; logits and features of the classifier; or features
            of the pretext network.
        labeled: whether it looks at the features of the labeled images, too.
        ordered: whether it goes by the order of the candidates, hardest first.
    """

    pick: Callable[[Query], Tensor]
    looks_at: Literal["logits", "nothing", "features", "pretext"] = "logits"
    labeled: bool = False
    ordered: bool = False


def even_intervals(n: int, k: int) -> Tensor:
    """int64 (k,): positions floor(j * n / k), j = 0..k-1. The released code's `j * 5` is k = n /
    5."""
    return torch.arange(k) * n // k


def smallest(score: Tensor, k: int) -> Tensor:
    return score.argsort(stable=True)[:k]


def confidence(query: Query) -> Tensor:
    """Smallest top-1 softmax probability (paper, section 3.3; Lewis and Gale 1994)."""
    return smallest(query.logits.softmax(1).amax(1), query.k)


def normalized_confidence(query: Query) -> Tensor:
    """As `confidence`, with each row of logits divided by its L2 norm first (released code,
    `get_plabels2`)."""
    return smallest(F.normalize(query.logits, dim=1).softmax(1).amax(1), query.k)


def entropy(query: Query) -> Tensor:
    """Largest entropy of the softmax (Shannon 1948; Settles 2009, section 3.1)."""
    log_p = query.logits.log_softmax(1)
    return smallest((log_p.exp() * log_p).sum(1), query.k)


def margin(query: Query) -> Tensor:
    """Smallest difference between the two largest softmax probabilities (Scheffer et al. 2001)."""
    top = query.logits.softmax(1).topk(2, dim=1).values
    return smallest(top[:, 0] - top[:, 1], query.k)


def class_balanced(query: Query) -> Tensor:
    """Up to k // classes per predicted class in candidate order, the rest from what remains, in
    order.

    The set is that of the released code's `get_plabels`, which fills up class by class.
    """
    classes = query.logits.shape[1]
    predicted = F.one_hot(query.logits.argmax(1), classes)
    rank_in_class = (predicted.cumsum(0) * predicted).sum(1)  # from 1, by predicted class
    within_quota = rank_in_class <= query.k // classes
    return torch.cat([within_quota.nonzero()[:, 0], (~within_quota).nonzero()[:, 0]])[: query.k]


def interval(query: Query) -> Tensor:
    """Even intervals along the candidates, whatever the network says."""
    return even_intervals(len(query), query.k)


def random(query: Query) -> Tensor:
    """k candidates drawn without replacement."""
    return torch.randperm(len(query), generator=query.generator)[: query.k]


def coreset(query: Query) -> Tensor:
    """Greedy k-centers: time and again the candidate farthest from all that is labeled or chosen
    (Sener and Savarese 2018, algorithm 1; Euclidean distance of features).

    The paper refines this start by an integer program for a radius robust to outliers; like most
    comparisons since, ours stops at the greedy 2-approximation. With nothing labeled it begins at
    the candidate nearest to the mean (the paper does not say; JordanAsh/badge takes the first).
    Costs O(n d (m + k)) time at worst, about a tenth of that in practice: 1,000 of 50,000 at
    d = 1,280 with 9,000 labeled take 2 s on one core.
    """
    return k_centers(query.features, query.labeled_features, query.k)


def badge(query: Query) -> Tensor:
    """k-means++ seeding on gradient embeddings (Ash et al. 2020, algorithm 1).

    The embedding of a candidate is the gradient of the loss with respect to the last layer, were
    the predicted class the true one: (softmax - one-hot) outer features. As in the official code
    (JordanAsh/badge, badge_sampling.py) the first pick is the longest embedding, where k-means++
    draws it uniformly, and the bias is left out. Costs O(n (classes + d) k) time at worst; little
    more than O(n classes k) where most predictions are sure: 1,000 of 50,000 at d = 1,280 take 3 s on
    one core, and 4 s where features are standardized as they are read.
    """
    p = query.logits.double().softmax(1)  # of a sure prediction float32 would leave no 1 - p
    residual = p - F.one_hot(p.argmax(1), p.shape[1])
    return spread_outer_products(residual, query.features, query.k, query.generator)


def typiclust(query: Query) -> Tensor:
    """The most typical candidate of each cluster, clusters without labels and large ones first
    (Hacohen et al. 2022, section 3; TPC_RP, their variant with K-means).

    min(m + k, 500) clusters of candidates and labeled images, on L2-normalized features of a
    network trained without labels: that of the pretext task, or the ones given. Typicality is inverse mean
    distance to the nearest 20 in the cluster; the official code (avihu111/TypiClust, typiclust.py)
    measures squared distances, drops clusters of 5 as well as smaller ones, and clusters the whole
    pool. Neighbors are its min(20, half) of the cluster's images that are neither labeled nor
    chosen. Costs a clustering, O(n d * clusters) a pass: 1,000 of 50,000 at d = 1,280 take 18 s.
    """
    n, m = len(query), len(query.labeled_features)
    points = unit_length(query.features, query.labeled_features)
    seed = int(torch.randint(2**31, (1,), generator=query.generator))
    clusters = kmeans(points, min(m + query.k, 500), seed)
    return typical_points(points[:n], clusters[:n], clusters[n:], query.k)


def unit_length(*points: Tensor | Rows) -> Tensor:
    """All of them in one, float32 (n, d), each divided by its length. No other copy is made of them."""
    result = torch.empty(sum(map(len, points)), points[0].shape[1])
    parts = (part for some in points for part in some.split(1000))
    i = 0
    for part in parts:
        F.normalize(part, dim=1, out=result[i : i + len(part)])
        i += len(part)
    return result


STRATEGIES = {
    "confidence": Strategy(confidence),
    "normalized_confidence": Strategy(normalized_confidence),
    "entropy": Strategy(entropy),
    "margin": Strategy(margin),
    "class_balanced": Strategy(class_balanced, ordered=True),
    "interval": Strategy(interval, looks_at="nothing", ordered=True),
    "random": Strategy(random, looks_at="nothing"),
    "coreset": Strategy(coreset, looks_at="features", labeled=True),
    "badge": Strategy(badge, looks_at="features"),
    "typiclust": Strategy(typiclust, looks_at="pretext", labeled=True),
}
# Those of cycle 0: there is no classifier yet.
FIRST_PICKS = [name for name, strategy in STRATEGIES.items() if strategy.looks_at in ("nothing", "pretext")]
