"""coreset, badge and typiclust on a few points: cases worked by hand, plain implementations."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from queries import pick, query, quick, random_query, source
from torch import Tensor

from pt4al.data.features import Rows
from pt4al.data.transforms import column_statistics, normalizer
from pt4al.method import diversity
from pt4al.method.diversity import draw, k_centers, kmeans, spread_outer_products, typical_points
from pt4al.method.strategies import STRATEGIES, Query


def column(*values: float) -> Tensor:
    """Points on a line, (n, 1)."""
    return torch.tensor(values, dtype=torch.float32)[:, None]


# --- features that are standardized when they are read


@quick
@given(
    st.sampled_from(["coreset", "badge", "typiclust"]),
    st.integers(1, 80),
    st.integers(0, 40),
    st.integers(0, 9),
)
def test_standardized_rows_are_chosen_as_a_standardized_copy_is(name: str, n: int, m: int, seed: int):
    asked = random_query(n, n, seed=seed, m=m)
    raw = 5 + 3 * torch.cat([asked.features, asked.labeled_features])
    normalize = normalizer(*column_statistics(raw), raw.device)
    rows = Rows(raw.flip(0), torch.arange(n + m).flip(0), normalize)
    copy = replace(asked, features=normalize(raw[:n]), labeled_features=normalize(raw[n:]))
    lazy = replace(asked, features=rows[:n], labeled_features=rows[n:], generator=source(seed))
    assert STRATEGIES[name].pick(lazy).equal(STRATEGIES[name].pick(copy))


@pytest.mark.parametrize("name", ["coreset", "badge", "typiclust"])
def test_no_more_than_2048_rows_are_standardized_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch):
    asked, reads = random_query(9000, 300, m=3000), []
    read = Rows.index_select
    monkeypatch.setattr(Rows, "index_select", lambda self, _, at: reads.append(len(at)) or read(self, _, at))
    rows = Rows(torch.cat([asked.features, asked.labeled_features]), torch.arange(12000), torch.clone)
    lazy = replace(asked, features=rows[:9000], labeled_features=rows[9000:], generator=source())
    assert STRATEGIES[name].pick(lazy).equal(STRATEGIES[name].pick(asked))
    assert 9000 <= sum(reads) and max(reads) <= 2048


# --- coreset


def test_coreset_takes_the_farthest_from_all_that_is_labelled_or_chosen():
    points = column(1, 2, 10, 6)  # from the label at 0; 10 goes first, then 6 is 4 from it
    assert STRATEGIES["coreset"].pick(query(None, points, 4, column(0))).tolist() == [2, 3, 1, 0]


def test_coreset_begins_in_the_middle_where_nothing_is_labelled():
    points = column(0, 4, 5, 11)  # the mean is 5; then 11 is 6 off, 0 is 5 off
    assert STRATEGIES["coreset"].pick(query(None, points, 4)).tolist() == [2, 3, 0, 1]


def test_coreset_leaves_a_twin_of_a_labelled_image_to_the_end():
    points = torch.randn(30, 8, generator=source())
    picks = STRATEGIES["coreset"].pick(query(None, points, 30, points[17:18])).tolist()
    assert picks[-1] == 17


def brute_force_centers(points: Tensor, centers: Tensor, k: int) -> list[int]:
    """All distances to all centers anew for each pick, in float64."""
    points, centers, picks = points.double(), centers.double(), []
    for _ in range(k):
        distances = torch.cdist(points, centers, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.amin(1)
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
        centers = torch.cat([centers, points[picks[-1:]]])
    return picks


@quick
@given(st.integers(2, 40), st.integers(1, 300), st.integers(0, 9), st.sampled_from([0, 1000]))
def test_coreset_is_the_brute_force_greedy(n: int, m: int, seed: int, offset: int):
    """Also far from the origin, where inner products of float32 lose their digits."""
    query = random_query(n, n, seed=seed, m=m)
    query = replace(query, features=query.features + offset, labeled_features=query.labeled_features + offset)
    expected = brute_force_centers(query.features, query.labeled_features, n)
    assert STRATEGIES["coreset"].pick(query).tolist() == expected


def plain_k_centers(points: Tensor, centers: Tensor, k: int) -> list[int]:
    """`k_centers` without bounds: all points are compared with all centers, in float32 as there."""
    mean = points.mean(0)
    points, centers = points - mean, centers - mean
    squares = points.square().sum(1)
    nearest = torch.full((len(points),), torch.inf) if len(centers) else -squares
    for part in centers.split(256) if len(centers) else ():
        distances = (points @ part.T).mul_(-2).add_(squares[:, None]).add_(part.square().sum(1))
        nearest = torch.minimum(nearest, distances.amin(1))
    picks: list[int] = []
    for j in range(k):
        i = int(nearest.argmax())
        picks.append(i)
        distances = (squares + squares[i] - 2 * (points @ points[i])).clamp_(min=0)
        nearest = torch.minimum(nearest, distances) if j or len(centers) else distances
        nearest[picks] = -torch.inf
    return picks


def lazy_k_centers(points: Tensor, centers: Tensor, k: int, active: int, step: int) -> list[int]:
    """`k_centers` with so few active points that most of the picks are beyond the first of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ACTIVE", active), ("STEP", step), ("BLOCK", 16)):
            patch.setattr(diversity, name, value)
        return k_centers(points, centers, k).tolist()


def grid(n: int, d: int, draws: torch.Generator) -> Tensor:
    """n points of small integers and their negatives, mixed: the mean is 0, and float32 exact."""
    points = torch.randint(-2, 3, (n, d), generator=draws).float()
    return torch.cat([points, -points])[torch.randperm(2 * n, generator=draws)]


@quick
@given(st.data())
def test_coreset_gives_ties_to_the_earlier_of_all_points(data: st.DataObject):
    """Also to one that is not active. Many points are equal, and all are picked or some."""
    draws = source(data.draw(st.integers(0, 999)))
    points = grid(data.draw(st.integers(1, 60)), data.draw(st.integers(1, 3)), draws)
    centers = grid(60, points.shape[1], draws)[: data.draw(st.sampled_from([0, 1, 5, 40]))]
    k = data.draw(st.sampled_from([0, 1, len(points) // 2, len(points)]))
    active, step = data.draw(st.sampled_from([1, 2, 7, 50])), data.draw(st.sampled_from([1, 3, 32]))
    assert lazy_k_centers(points, centers, k, active, step) == plain_k_centers(points, centers, k)


@pytest.mark.parametrize("active", [20, 300, 2048])
@pytest.mark.parametrize("m", [0, 1, 600])
@pytest.mark.parametrize("kind", ["normal", "clusters", "twins", "far"])
def test_coreset_picks_what_comparing_all_with_all_does(kind: str, m: int, active: int):
    draws = source(m)
    points = torch.randn(1200 + m, 24, generator=draws).relu_()
    if kind == "clusters":
        points += 5 * torch.randn(12, 24, generator=draws)[torch.arange(len(points)) % 12]
    if kind == "twins":
        points[300:600] = points[:300]
    if kind == "far":
        points += 100
    points, centers = points[:1200], points[1200:]
    k = 1200 if active == 300 and kind != "twins" else 200  # between twins only rounding is left
    assert lazy_k_centers(points, centers, k, active, 32) == plain_k_centers(points, centers, k)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e25])
@pytest.mark.parametrize("m", [0, 5])
def test_coreset_takes_no_image_twice_where_distances_are_not_numbers(value: float, m: int):
    points = torch.randn(105, 4, generator=source())
    points[9, 2] = value
    assert len(set(lazy_k_centers(points[m:], points[:m], 60, 10, 32))) == 60


def test_coreset_compares_few_points_with_all_centers(monkeypatch: pytest.MonkeyPatch):
    """Control for the tests above: the bounds do spare most of the work."""
    draws, work = source(), []
    points = torch.randn(4000, 24, generator=draws) * torch.rand(4000, 1, generator=draws) ** 2
    gathered = diversity.gather
    monkeypatch.setattr(diversity, "ACTIVE", 100)
    monkeypatch.setattr(diversity, "gather", lambda x, rows: work.append(len(rows)) or gathered(x, rows))
    k_centers(points[:3000], points[3000:], 100)
    assert 3000 <= sum(work) < 3 * 3000  # there are 4 blocks of labeled and 4 of picked points


# --- badge


def test_badge_begins_with_the_longest_gradient_and_draws_none_at_distance_0():
    """Rows 0 to 2 are alike and unsure, row 3 is sure: whatever is drawn, it comes second."""
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    for seed in range(20):
        picks = STRATEGIES["badge"].pick(query(logits, torch.full((4, 1), 2.0), 4, seed=seed)).tolist()
        assert picks[:2] == [0, 3] and sorted(picks[2:]) == [1, 2]


def test_badge_measures_uncertainty_times_length():
    """Residuals (1/2, -1/2) and (1/4, -1/4): a feature of 3 makes the surer image's the longer."""
    logits = torch.tensor([[0.0, 0.0], [3.0, 1.0]]).log_softmax(1)
    logits[1] = torch.tensor([0.75, 0.25]).log()
    assert pick("badge", logits, 1, column(1, 1.9)) == [0]
    assert pick("badge", logits, 1, column(1, 2.1)) == [1]


def test_badge_measures_sure_predictions_to_the_last():
    """The residuals are e^-15 (1, -1) and e^-20 (1, -1): the lengths 4.3e-7 and 5.0e-7. In float32
    the second would be e^-20 (1, 0), and the shorter one."""
    assert pick("badge", torch.tensor([[0.0, 15.0], [0.0, 20.0]]), 1, column(1, 172)) == [1]


def test_badge_takes_no_image_twice_where_all_are_twins():
    two = random_query(2, 2, seed=3, d=64)
    for seed in range(10):
        logits, features = two.logits.repeat(20, 1), two.features.repeat(20, 1)
        picks = STRATEGIES["badge"].pick(query(logits, features, 40, seed=seed)).tolist()
        assert sorted(picks) == list(range(40)) and (picks[0] - picks[1]) % 2


def direct_badge(query: Query) -> list[int]:
    """With the whole matrix of gradient embeddings, (n, classes * d)."""
    logits = query.logits.double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum")
    (residual,) = torch.autograd.grad(loss, logits)
    points = (residual[:, :, None] * query.features.double()[:, None, :]).flatten(1)
    picks = [int(points.norm(dim=1).argmax())]
    while len(picks) < query.k:
        gaps = (points[:, None, :] - points[None, picks, :]).square().sum(2).amin(1)
        gaps[picks] = 0
        share = torch.rand(1, dtype=torch.float64, generator=query.generator).item() * gaps.sum()
        picks.append(int((gaps.cumsum(0) > share).nonzero()[0]))
    return picks


@quick
@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 99))
def test_badge_is_kmeans_plus_plus_on_gradient_embeddings(n: int, classes: int, seed: int):
    """The same draws give the same picks; n - 1 of n, so that something is left to draw from."""
    k = max(1, n - 1)
    picks = STRATEGIES["badge"].pick(random_query(n, k, classes, seed)).tolist()
    assert picks == direct_badge(random_query(n, k, classes, seed))


def plain_spread(a: Tensor, h: Tensor, k: int, generator: torch.Generator) -> list[int]:
    """`spread_outer_products` without bounds: each pick is compared with all points."""
    squares = a.square().sum(1) * torch.linalg.vector_norm(h, dim=1).double().square()
    nearest, taken = torch.full_like(squares, torch.inf), torch.zeros(len(h), dtype=torch.bool)
    picks: list[int] = []
    for j in range(k):
        i = int(draw(nearest, taken, generator)) if j else int(squares.argmax())
        picks.append(i)
        taken[i] = True
        distances = (squares + squares[i] - 2 * (a @ a[i]) * (h @ h[i])).clamp_(min=0)
        nearest = torch.minimum(nearest, distances).masked_fill_(taken, 0)
    return picks


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("kind", ["features", "signs", "parallel", "twins", "zeros", "flat"])
@pytest.mark.parametrize("sketch", [1, 4, 30])
def test_badge_draws_what_comparing_all_with_all_does(
    sketch: int, kind: str, scale: float, seed: int, monkeypatch: pytest.MonkeyPatch
):
    """From unsure to sure predictions; sketches of all, 6 or none of the 24 directions."""
    monkeypatch.setattr(diversity, "SKETCH", sketch)
    draws = source(seed)
    h = torch.randn(600, 24, generator=draws)
    if kind != "signs":
        h = h.relu_()
    if kind == "parallel":  # inner products as large as lengths allow, and exact
        h = h[0].round() * torch.randint(1, 50, (600, 1), generator=draws)
    if kind == "twins":
        h[300:] = h[:300]
    if kind == "zeros":
        h[::2] = 0
    if kind == "flat":  # in three of the directions, where sketches leave nothing out but rounding
        h[:, 3:] = 0
    p = (scale * (h @ torch.randn(24, 5, generator=draws))).double().softmax(1)
    a = p - torch.nn.functional.one_hot(p.argmax(1), 5)
    for n, k in ((600, 250), (96, 96), (1, 1), (0, 0)):
        expected = plain_spread(a[:n], h[:n], k, source(seed))
        assert spread_outer_products(a[:n], h[:n], k, source(seed)).tolist() == expected


def test_badge_reads_few_features_where_most_predictions_are_sure(monkeypatch: pytest.MonkeyPatch):
    """Control for the test above: lengths do spare most of the work, and sketches most of the rest."""
    draws = source()
    h = torch.randn(2000, 24, generator=draws).relu_()
    p = (5 * (h @ torch.randn(24, 5, generator=draws))).double().softmax(1)
    gathered = diversity.gather

    def rows_read(sketch: int) -> float:
        work: list[int] = []
        monkeypatch.setattr(diversity, "SKETCH", sketch)
        monkeypatch.setattr(diversity, "gather", lambda x, rows: work.append(len(rows)) or gathered(x, rows))
        spread_outer_products(p - torch.nn.functional.one_hot(p.argmax(1), 5), h, 100, source())
        return sum(work) / 100

    assert 0 < rows_read(sketch=1) < rows_read(sketch=4) < rows_read(sketch=30) < 200


def test_badge_depends_on_its_draws():
    picks = [STRATEGIES["badge"].pick(random_query(200, 20)).tolist() for _ in range(2)]
    other = STRATEGIES["badge"].pick(replace(random_query(200, 20), generator=source(1))).tolist()
    assert picks[0] == picks[1] != other and picks[0][0] == other[0]  # the first is not drawn


def test_draws_are_as_frequent_as_their_weights():
    weights, taken, draws = (
        torch.tensor([0.0, 1, 0, 3, 0]).double(),
        torch.zeros(5).bool(),
        source(),
    )
    counts = torch.stack([draw(weights, taken, draws) for _ in range(4000)]).bincount(minlength=5)
    assert counts[[0, 2, 4]].sum() == 0
    assert counts[3].item() / 4000 == pytest.approx(0.75, abs=0.03)  # four standard deviations


@pytest.mark.parametrize(("share", "weight"), [(0.0, 1.0), (1 - 2**-53, 1.0), (0.9, 5e-324)])
def test_the_ends_of_the_range_fall_on_a_weight(share: float, weight: float, monkeypatch: pytest.MonkeyPatch):
    """A share of the smallest number there is rounds to that number, which no sum exceeds."""
    monkeypatch.setattr(torch, "rand", lambda *_, dtype, generator: torch.tensor([share], dtype=dtype))
    weights = torch.tensor([0, weight, 0], dtype=torch.float64)
    assert draw(weights, torch.zeros(3).bool(), source()).item() == 1


@quick
@given(st.lists(st.sampled_from([0.0, 1e-300, 1e-9, 1.0, 1e9]), min_size=1, max_size=9), st.data())
def test_no_draw_falls_on_a_weight_of_0(weights: list[float], data: st.DataObject):
    taken = torch.tensor([w == 0 and data.draw(st.booleans()) for w in weights])
    taken[data.draw(st.integers(0, len(weights) - 1))] &= not taken.all()
    at = draw(torch.tensor(weights, dtype=torch.float64), taken, source(data.draw(st.integers(0, 999))))
    assert weights[at] > 0 or (not any(weights) and not taken[at])


# --- typiclust


def test_typiclust_takes_turns_between_clusters_from_the_middle_of_each():
    """Of a = 0 1 1.2 2 9 two neighbors count: 1.2 has a mean of 0.5. Then of 0 1 2 9: 1 has 1. Of b
    three count: the middle of a triangle, then its corner next to the points far out."""
    small, a = ([[x, 0.0] for x in line] for line in ((50, 51, 52, 53), (0, 1, 1.2, 2, 9)))
    triangle = [[101, 0], [99.5, 0.87], [99.5, -0.87], [100, 0]]
    points = torch.tensor([*small, *a, *triangle, [120, 0], [130, 0], [140, 0]])
    clusters, no_label = (
        torch.tensor([2] * 4 + [0] * 5 + [1] * 7),
        torch.zeros(0, dtype=torch.int64),
    )
    # b is larger, but of a no point is labeled. The small one comes when all is used up.
    turns = typical_points(points, clusters, torch.tensor([1]), 16).tolist()
    assert turns[:4] == [4 + 2, 9 + 3, 4 + 1, 9 + 0]
    assert [i in range(4) for i in turns] == [False] * 12 + [True] * 4
    assert typical_points(points, clusters, no_label, 2).tolist() == [9 + 3, 4 + 2]
    # A label makes the small one a cluster of 5.
    turns = typical_points(points, clusters, torch.tensor([2, 1, 1]), 3).tolist()
    assert turns[0] == 4 + 2 and turns[1] in range(4) and turns[2] == 9 + 3


def test_typiclust_looks_at_directions():
    """By distance the ten long ones of the first direction would be a cluster, all others another."""
    draws = source()
    angle = torch.tensor([0.0] * 30 + [1.5] * 10) + 0.01 * torch.randn(40, generator=draws)
    length = torch.tensor([100.0] * 10 + [1.0] * 30)
    points = torch.stack([angle.cos(), angle.sin()], 1) * length[:, None]
    picks = STRATEGIES["typiclust"].pick(query(None, points, 2)).tolist()
    assert picks[0] < 30 <= picks[1]  # the larger direction first


@pytest.mark.parametrize(("k", "m", "clusters"), [(1, 0, 1), (50, 0, 50), (50, 9, 59), (520, 9, 500)])
def test_typiclust_of_many_clusters(k: int, m: int, clusters: int, monkeypatch: pytest.MonkeyPatch):
    """As many as labels then, 500 at most; up to 50 by KMeans, above by MiniBatchKMeans."""
    asked = []

    def counted(points: Tensor, number: int, seed: int) -> Tensor:
        asked.append(number)
        return kmeans(points, number, seed)

    monkeypatch.setattr("pt4al.method.strategies.kmeans", counted)
    queries = [random_query(600, k, m=m, seed=0) for _ in range(3)]
    queries[2] = replace(queries[2], generator=source(1))
    picks = [STRATEGIES["typiclust"].pick(q).tolist() for q in queries]
    assert picks[0] == picks[1] and len(set(picks[0])) == k and asked == [clusters] * 3
    assert k == 1 or picks[0] != picks[2]  # where clusterings begin is drawn


# --- what two of them share


def clustered(seed: int) -> tuple[Tensor, Tensor]:
    """80 points in 8 far clusters in mixed order, in 8 directions; and the cluster of each."""
    draws = source(seed)
    of = torch.arange(8).repeat(10)[torch.randperm(80, generator=draws)]
    return torch.eye(8)[of] * 10 + 0.1 * torch.randn(80, 8, generator=draws), of


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["coreset", "typiclust"])
def test_the_picks_cover_separate_clusters(name: str, seed: int):
    points, of = clustered(seed)
    logits = torch.nn.functional.one_hot((of > 0).long(), 2) * torch.tensor([[0.1, 9.0]])
    q = query(logits.float(), points, 8, seed=seed)
    assert sorted(of[STRATEGIES[name].pick(q)].tolist()) == list(range(8))
    assert set(of[STRATEGIES["margin"].pick(q)].tolist()) == {0}  # control: the unsure are in one
    known = replace(q, k=4, labeled_features=points[[int((of == c).nonzero()[3]) for c in range(4)]])
    assert sorted(of[STRATEGIES[name].pick(known)].tolist()) == [4, 5, 6, 7]  # those without a label


@quick
@given(st.integers(30, 60), st.integers(0, 99))
def test_what_badge_and_typiclust_do_not_draw_is_free_of_order(n: int, seed: int):
    """The first pick of the one, and of the other all, once it has its clusters."""
    order, one = torch.randperm(n, generator=source(seed)), random_query(n, 1, seed=seed)
    other = replace(one, logits=one.logits[order], features=one.features[order])
    assert STRATEGIES["badge"].pick(one).tolist() == order[STRATEGIES["badge"].pick(other)].tolist()
    clusters, known = torch.arange(n) % 3, torch.tensor([0])
    # Half of the points: the last two of a cluster are as typical as each other.
    picks = typical_points(one.features, clusters, known, n // 2)
    others = typical_points(other.features, clusters[order], known, n // 2)
    assert picks.tolist() == order[others].tolist()
