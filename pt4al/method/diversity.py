"""Points that cover a space: what the strategies coreset, badge and typiclust rest on.

Pure functions of float tensors in host memory; they know nothing of images, networks or queries.
"""

import warnings
from collections import deque

import torch
from torch import Tensor

BLOCK = 256  # points whose distances to all others are held at a time


# --- coreset


def k_centers(points: Tensor, centers: Tensor, k: int) -> Tensor:
    """k times the point that is farthest from the nearest center, which then is a center too.

    Without centers the first pick is the point nearest to the mean. Ties go to the earlier point.

    Args:
        points: float32 (n, d), n >= k.
        centers: float32 (m, d), m may be 0.

    Returns:
        int64 (k,). Time O(n * d * (m + k)); memory a copy of both inputs and O(n).
    """
    mean = points.mean(0)  # off the origin, distances from inner products lose digits
    points, centers = points - mean, centers - mean
    squares = points.square().sum(1)
    if len(centers):
        nearest = torch.full((len(points),), torch.inf)
        for part in centers.split(BLOCK):
            products = points @ part.T
            distances = products.mul_(-2).add_(squares[:, None]).add_(part.square().sum(1))
            nearest = torch.minimum(nearest, distances.amin(1))
    else:
        nearest = -squares
    picks = torch.empty(k, dtype=torch.int64)
    taken = torch.zeros(len(points), dtype=torch.bool)
    for j in range(k):
        i = picks[j] = nearest.masked_fill(taken, -torch.inf).argmax()
        taken[i] = True
        distances = (squares + squares[i] - 2 * (points @ points[i])).clamp_(min=0)
        first = j == 0 and not len(centers)
        nearest = distances if first else torch.minimum(nearest, distances)
    return picks


# --- badge


def spread_outer_products(a: Tensor, h: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ seeding (Arthur and Vassilvitskii 2007) of the n points `a[i] outer h[i]`.

    The first pick is the longest; each later one is drawn with a probability proportional to its
    squared distance from the nearest pick. |a x h|^2 is |a|^2 |h|^2, and the inner product of two
    such points is that of their `a` times that of their `h`, so the n points of c * d numbers are
    never made. Where no point is left that differs from all picks, each is as likely.

    Args:
        a: float64 (n, c).
        h: float32 (n, d), n >= k.
        generator: one number is drawn from it for each pick but the first.

    Returns:
        int64 (k,). Time O(n * (c + d) * k), memory O(n).
    """
    lengths = torch.linalg.vector_norm(h, dim=1).double()
    squares = a.square().sum(1) * lengths.square()
    nearest = torch.full_like(squares, torch.inf)
    taken = torch.zeros(len(h), dtype=torch.bool)
    picks = torch.empty(k, dtype=torch.int64)
    for j in range(k):
        i = picks[j] = draw(nearest, taken, generator) if j else squares.argmax()
        taken[i] = True
        products = (a @ a[i]) * (h @ h[i])
        distances = (squares + squares[i] - 2 * products).clamp_(min=0)
        nearest = torch.minimum(nearest, distances).masked_fill_(taken, 0)
    return picks


def draw(weights: Tensor, taken: Tensor, generator: torch.Generator) -> Tensor:
    """A position with a probability proportional to its weight, float64 (n,); taken ones have none.

    One uniform number, looked up in the running sum. Where all weights are 0, every position that
    is not taken is as likely.
    """
    share = torch.rand(1, dtype=torch.float64, generator=generator)
    if not weights.any():
        weights = (~taken).double()
    upto = weights.cumsum(0)
    # min: of a total near the smallest number there is, a share may round to all of it.
    last = torch.searchsorted(upto, upto[-1:])
    return torch.minimum(torch.searchsorted(upto, share * upto[-1], right=True), last)[0]


# --- typiclust

SMALL = 5  # clusters of fewer points are outliers
NEIGHBOURS = 20


def kmeans(points: Tensor, clusters: int, seed: int) -> Tensor:
    """int64 (n,): the cluster of each point, float32 (n, d); scikit-learn's KMeans up to 50 clusters,
    MiniBatchKMeans above.

    One thread: several add up in the order in which they end, and the sums round differently.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans  # takes a second to import
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if clusters <= 50:
        method = KMeans(clusters, n_init=1, random_state=seed)
    else:
        method = MiniBatchKMeans(clusters, batch_size=5000, n_init=1, random_state=seed)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        return torch.from_numpy(method.fit_predict(points.numpy())).long()


def typical_points(points: Tensor, clusters: Tensor, others: Tensor, k: int) -> Tensor:
    """The most typical point of each cluster in turn, those without labels first, then the largest.

    Turns go round until there are k; clusters of fewer than 5 points come when all larger ones are
    used up.

    Args:
        points: float (n, d), n >= k.
        clusters: int64 (n,), the cluster of each point.
        others: int64 (m,), those of the points that are labeled already: they count for the size
            and the turn of a cluster.

    Returns:
        int64 (k,). Time O(s * s * d) for a pick from a cluster with s points left.
    """
    number = 1 + int(torch.cat([clusters, others]).max())
    labeled = others.bincount(minlength=number)
    sizes = clusters.bincount(minlength=number) + labeled
    order = sorted(range(number), key=lambda c: (labeled[c].item(), -sizes[c].item()))
    picks: list[int] = []
    for small in (False, True):
        turns = deque((clusters == c).nonzero()[:, 0] for c in order if (sizes[c] < SMALL) == small)
        while turns and len(picks) < k:
            left = turns.popleft()
            if len(left):
                i = most_typical(points[left])
                picks.append(left[i].item())
                turns.append(torch.cat([left[:i], left[i + 1 :]]))
    return torch.tensor(picks)


def most_typical(points: Tensor) -> int:
    """The point with the smallest mean distance to its 20 nearest neighbors, or to half of the
    points where these are fewer than 40."""
    k = min(NEIGHBOURS, len(points) // 2)
    if k == 0:
        return 0
    points = points.double()  # neighbors are close: float32's inner products would not tell them
    means = [
        torch.cdist(part, points).topk(k + 1, largest=False).values.sum(1) / k  # itself at 0
        for part in points.split(1024)
    ]
    return int(torch.cat(means).argmin())
