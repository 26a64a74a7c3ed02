"""Points that cover a space: what the strategies coreset, badge and typiclust rest on.

Pure functions of float tensors in host memory, or of `Rows` in the place of one; they know nothing of images,
networks or queries.
"""

import warnings
from collections import deque

import torch
from torch import Tensor

from pt4al.data.features import Rows

ACTIVE = 2048  # points that are compared with all centers at a time
BLOCK = 256  # centers that are compared with at a time
READ = 2**19  # numbers that are read at a time where many rows are: 2 MB stay in a cache
SKETCH = 20  # numbers of a row for each of its sketch
STEP = 32  # picks that are, by points that come late


def gather(points: Tensor | Rows, rows: Tensor) -> Tensor:
    """points[rows], (s, d), filled up with copies of points[0] to a multiple of 16.

    BLAS (MKL) rounds the products of the last rows, those beyond a multiple of 4, in another way.
    Filled up, the product of two points is the same to the last digit whatever is gathered with them,
    and ties stay ties.
    """
    return points.index_select(0, torch.cat([rows, rows.new_zeros(-len(rows) % 16)]))


def rows_at_a_time(d: int) -> int:
    """How many rows of d numbers `READ` is: a multiple of 16, `ACTIVE` at most."""
    return min(ACTIVE, max(16, READ // d // 16 * 16))


# --- coreset


def k_centers(points: Tensor | Rows, centers: Tensor | Rows, k: int) -> Tensor:
    """k times the point that is farthest from the nearest center, which then is a center too.

    Without centers the first pick is the point nearest to the mean. Ties go to the earlier point.

    The distance to the nearest of some centers is an upper bound of that to the nearest of all.
    So only the 2,048 points of the highest bounds are compared with more centers, and only until they
    fall below the highest bound of the others. Those that do not fall are picked from, and compared
    with each pick, until one of the others may be farther. Then the 2,048 are chosen again.

    Args:
        points: float32 (n, d), n >= k.
        centers: float32 (m, d), m may be 0.

    Returns:
        int64 (k,). Time O(n * d * (m + k)) at worst; where most points are nearer to one of the first
        256 centers than the last pick is to all, about a tenth of that. Memory: a copy of the
        centers, 2,048 points, O(n).
    """
    n, d = points.shape
    mean = points.mean(0)  # off the origin, distances from inner products lose digits
    step = rows_at_a_time(d)
    squares = torch.empty(n)
    for part, out in zip(points.split(step), squares.split(step), strict=True):
        out.copy_((part - mean).square().sum(1))
    centered, center_squares = torch.empty(len(centers), d), torch.empty(len(centers))
    for part, *out in zip(centers.split(step), centered.split(step), center_squares.split(step), strict=True):
        torch.sub(part, mean, out=out[0])
        out[1].copy_(out[0].square().sum(1))
    labeled = blocks(centered, center_squares, BLOCK)
    nearest = torch.full((n,), torch.inf)  # -inf where picked
    seen = torch.zeros(n, dtype=torch.int64)  # with how many of the blocks `nearest` is up to date
    picks, picked = torch.empty(k, dtype=torch.int64), torch.empty(k, d)
    j = 0
    if k and not labeled:
        i = picks[0] = (-squares).argmax()
        picked[0], nearest[i], j = points[i] - mean, -torch.inf, 1
    while j < k:
        order = nearest.sort(descending=True, stable=True).indices
        rows, others = order[:ACTIVE].sort().values, order[ACTIVE:]
        first = int(others[0]) if len(others) else n  # of the farthest others
        bound = nearest[first].item() if len(others) else -torch.inf

        full = len(labeled) + j // STEP  # the last block of picks grows
        for b, block in enumerate(labeled + blocks(picked[:j], squares[picks[:j]], STEP)):
            late = rows[(seen[rows] <= b) & (nearest[rows] >= bound)]
            distances = from_block if b < len(labeled) else from_each
            for part in late.split(step) if len(late) else ():
                found = distances(gather(points, part).sub_(mean), squares[part], *block)
                nearest[part] = torch.fmin(nearest[part], found)  # passes over what is not a number
                seen[part] = min(b + 1, full)

        rows = rows[nearest[rows] >= bound]
        x, lengths, near = gather(points, rows).sub_(mean), squares[rows], nearest[rows]
        for _ in range(min(k - j, len(rows))):
            at = int(near.argmax())
            best, row = near[at].item(), int(rows[at])
            if best < bound or (best == bound and row > first):
                break
            picks[j], picked[j] = row, x[at]
            near = torch.fmin(near, from_one(x, lengths, x[at], lengths[at]))
            near[at] = -torch.inf
            j += 1
        nearest[rows], seen[rows] = near, len(labeled) + j // STEP
    return picks


def blocks(centers: Tensor, squares: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Both cut into parts of that size, none of 0."""
    parts = zip(centers.split(size), squares.split(size), strict=True)
    return [part for part in parts if len(part[0])]


def from_block(points: Tensor, squares: Tensor, centers: Tensor, center_squares: Tensor) -> Tensor:
    """Squared distance (s,) from the nearest of the centers, (b, d), of the first s points, where
    squares are those of lengths, (s,) and (b,)."""
    products = (points @ centers.T)[: len(squares)]
    return products.mul_(-2).add_(squares[:, None]).add_(center_squares).amin(1)


def from_each(points: Tensor, squares: Tensor, centers: Tensor, center_squares: Tensor) -> Tensor:
    """As `from_block`, rounded as if each point had been compared with each pick when it was made."""
    pairs = zip(centers, center_squares, strict=True)
    return torch.stack([from_one(points, squares, *pair) for pair in pairs]).amin(0)


def from_one(points: Tensor, squares: Tensor, center: Tensor, center_square: Tensor) -> Tensor:
    """As `from_block`, from a single center (d,)."""
    products = (points @ center)[: len(squares)]
    return (squares + center_square - 2 * products).clamp_(min=0)


# --- badge


def spread_outer_products(a: Tensor, h: Tensor | Rows, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ seeding (Arthur and Vassilvitskii 2007) of the n points `a[i] outer h[i]`.

    The first pick is the longest; each later one is drawn with a probability proportional to its
    squared distance from the nearest pick. |a x h|^2 is |a|^2 |h|^2, and the inner product of two
    such points is that of their `a` times that of their `h`, so the n points of c * d numbers are
    never made. Where no point is left that differs from all picks, each is as likely.

    The inner product of two h is |h| |h'| at most, and better bounds come from sketches (`sketch_of`). Where
    even these would bring a point no nearer to the pick than it is to another, its h is not read: of 41,000
    images (CIFAR-10, 1,280 features) all but some 2,500 a pick by lengths, all but 1,100 by sketches.

    Args:
        a: float64 (n, c).
        h: float32 (n, d), n >= k.
        generator: one number is drawn from it for each pick but the first.

    Returns:
        int64 (k,). Time O(n * (c + d) * k) at worst, O((n * c + r * d) * k) with r points read a pick;
        memory O(n * d / 20).
    """
    lengths, sketch, rest = sketch_of(h)
    squares = a.square().sum(1) * lengths.square()
    nearest = torch.full_like(squares, torch.inf)
    taken = torch.zeros(len(h), dtype=torch.bool)
    picks = torch.empty(k, dtype=torch.int64)
    slack = 1 + 4 * h.shape[1] * torch.finfo(h.dtype).eps  # rounding of h @ h[i] and of lengths
    step = rows_at_a_time(h.shape[1])
    for j in range(k):
        i = picks[j] = draw(nearest, taken, generator) if j else squares.argmax()
        taken[i] = True
        inner, sums = a @ a[i], squares + squares[i]
        least = sums - (inner.abs() * lengths).mul_(2 * slack * lengths[i])
        rows = where(~(least >= nearest))  # the others are no nearer, whatever their h
        inner, sums, near, kept, left = take(rows, inner, sums, nearest, sketch, rest)
        most = inner * (kept @ sketch[i]) + inner.abs() * (left * rest[i])
        rows, inner, sums, near = take(where(~(sums - 2 * most >= near)), rows, inner, sums, near)
        pick, products = h[i], torch.empty(len(rows))
        for part, out in zip(rows.split(step), products.split(step), strict=True):
            out.copy_((gather(h, part) @ pick)[: len(part)])
        distances = (sums - 2 * (inner * products)).clamp_(min=0)
        nearest[rows] = torch.minimum(near, distances)
        nearest[i] = 0
    return picks


def where(mask: Tensor) -> Tensor:
    """int64 (r,): the rows where a mask, (n,), is true; numpy finds them in a fifth of torch's time."""
    return torch.from_numpy(mask.numpy().nonzero()[0])


def take(rows: Tensor, *values: Tensor) -> list[Tensor]:
    """x[rows] of each x in values; that notation takes three to five times as long."""
    return [x.index_select(0, rows) for x in values]


def sketch_of(h: Tensor | Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths, float64 (n,); sketches, float32 (n, d // 20), the parts along the directions in which the
    points lie widest; and what these leave out, float64 (n,): the inner product of two points differs from
    that of their sketches by the product of their rests at most."""
    n, d = h.shape
    some = h.index_select(0, torch.arange(0, n, -(-n // ACTIVE) or 1))
    directions = some[: d // SKETCH].T
    for _ in range(2):  # of power iteration
        directions = torch.linalg.qr(some.T @ (some @ directions)).Q
    lengths, sketch = torch.empty(n), torch.empty(n, directions.shape[1])
    step = rows_at_a_time(d)
    for part, *out in zip(h.split(step), lengths.split(step), sketch.split(step), strict=True):
        out[0].copy_(torch.linalg.vector_norm(part, dim=1))
        out[1].copy_(part @ directions)
    lengths, kept = lengths.double(), torch.linalg.vector_norm(sketch, dim=1).double()
    slack = 1 + 32 * d * torch.finfo(h.dtype).eps  # more than rounding
    return lengths, sketch, (slack * lengths.square() - kept.square()).clamp_(min=0).sqrt()


def draw(weights: Tensor, taken: Tensor, generator: torch.Generator) -> Tensor:
    """A position with a probability proportional to its weight, float64 (n,); taken ones have none.

    One uniform number, looked up in the running sum. Where all weights are 0, every position that
    is not taken is as likely.
    """
    share = torch.rand(1, dtype=torch.float64, generator=generator)
    upto = weights.cumsum(0)
    if upto[-1] == 0:
        upto = (~taken).cumsum(0, dtype=torch.float64)
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
