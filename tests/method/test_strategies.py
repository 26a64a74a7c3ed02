"""Query strategies on a few points: cases worked by hand, and what holds for all of them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from queries import pick, query, quick, random_query, source
from torch import Tensor

from config import PRESETS
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES, even_intervals

# Probabilities (rows sum to 1), so that every ranking can be checked by eye.
FOUR = torch.tensor([[0.90, 0.05, 0.05], [0.40, 0.35, 0.25], [0.48, 0.47, 0.05], [0.60, 0.20, 0.20]]).log()


def test_confidence_takes_the_smallest_top_probability():
    assert pick("confidence", FOUR, 4) == [1, 2, 3, 0]  # 0.40 0.48 0.60 0.90


def test_margin_takes_the_closest_two():
    assert pick("margin", FOUR, 4) == [2, 1, 3, 0]  # 0.01 0.05 0.40 0.85


def test_entropy_takes_the_most_even():
    # -sum p ln p: row 0 0.394, row 1 1.081, row 2 0.857, row 3 0.950
    assert pick("entropy", FOUR, 4) == [1, 3, 2, 0]


def test_normalized_confidence_ranks_by_direction_not_by_length():
    logits = torch.tensor([[10.0, 9.0, 0.0], [0.2, 0.0, 0.0]])
    # Softmax: 0.731 and 0.379, so plain confidence wants row 1. Divided by their norms the rows are
    # (0.743, 0.669, 0) and (1, 0, 0): 0.410 and 0.576, so the released code wants row 0.
    assert pick("confidence", logits, 1) == [1]
    assert pick("normalized_confidence", logits, 1) == [0]


def test_class_balanced_fills_quotas_then_the_rest_in_order():
    predicted = [0, 0, 0, 1, 0, 2, 1, 0]
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 3).float()
    # k=6: two each of 0 (0, 1), 1 (3, 6), one of 2 (5), then the first that is left over (2)
    assert pick("class_balanced", logits, 6) == [0, 1, 3, 5, 6, 2]


def test_class_balanced_chooses_the_same_images_as_the_released_codes_loop():
    def released(predicted: list[int], k: int, classes: int) -> list[int]:
        quota, chosen, rest = k // classes, {c: [] for c in range(classes)}, []
        for i, c in enumerate(predicted):
            (chosen[c] if len(chosen[c]) < quota else rest).append(i)
        picks = []
        for members in chosen.values():
            picks += members
            missing = quota - len(members)
            picks += rest[:missing]
            rest = rest[missing:]
        return picks

    predicted = torch.randint(5, (200,), generator=torch.Generator().manual_seed(3)) ** 2 % 5
    logits = torch.nn.functional.one_hot(predicted, 5).float()
    assert sorted(pick("class_balanced", logits, 50)) == sorted(released(predicted.tolist(), 50, 5))


@pytest.mark.parametrize("name", ["confidence", "normalized_confidence", "entropy", "margin"])
def test_ties_go_to_the_earlier_candidate(name: str):
    assert pick(name, torch.ones(9, 4), 5) == [0, 1, 2, 3, 4]


def test_even_intervals_are_the_released_every_fifth():
    assert even_intervals(5000, 1000).tolist() == [5 * j for j in range(1000)]
    assert even_intervals(7, 3).tolist() == [0, 2, 4]


def test_random_depends_on_the_generator_alone():
    picks = [
        STRATEGIES["random"].pick(query(torch.rand(50, 3), None, 20, seed=seed)).tolist()
        for seed in (1, 1, 2)
    ]
    assert picks[0] == picks[1] != picks[2]


# --- what holds for all


@quick
@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 7), st.data())
def test_every_strategy_gives_k_distinct_positions_of_its_query_alone(
    n: int, classes: int, m: int, data: st.DataObject
):
    """Twice the same, and the query stays as it was."""
    k, seed = data.draw(st.integers(1, n)), data.draw(st.integers(0, 99))
    scale = data.draw(st.sampled_from([0.0, 1e-6, 1.0, 1e4]))
    for name, strategy in STRATEGIES.items():
        queries = [random_query(n, k, classes, seed, m) for _ in range(3)]
        for x in (x for q in queries for x in vars(q).values() if isinstance(x, Tensor)):
            x *= scale
        picks = strategy.pick(queries[0]).tolist()
        assert len(picks) == k == len(set(picks)), name
        assert 0 <= min(picks) and max(picks) < n, name
        torch.manual_seed(seed)
        assert picks == strategy.pick(queries[1]).tolist(), name
        for field in ("logits", "features", "labeled_features"):
            assert torch.equal(getattr(queries[0], field), getattr(queries[2], field)), name


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_looks_at_nothing_that_it_does_not_ask_for(name: str):
    full, strategy = random_query(30, 10), STRATEGIES[name]
    least = replace(
        full,
        logits=full.logits if strategy.looks_at in ("logits", "features") else torch.zeros(30, 0),
        features=full.features if strategy.looks_at in ("features", "pretext") else torch.zeros(30, 0),
        labeled_features=full.labeled_features if strategy.labeled else torch.zeros(0, 6),
        generator=source(),
    )
    assert strategy.pick(full).tolist() == strategy.pick(least).tolist()


# Positions count for the others: class_balanced and interval go by order, random and badge look up
# their draws by position, typiclust's clustering begins at drawn positions.
@pytest.mark.parametrize("name", ["confidence", "normalized_confidence", "entropy", "margin", "coreset"])
@quick
@given(st.integers(1, 40), st.integers(0, 99))
def test_the_order_of_the_candidates_changes_nothing(name: str, n: int, seed: int):
    order = torch.randperm(n, generator=source(seed))
    k = 1 + n // 2
    one, other = random_query(n, min(k, n), seed=seed), random_query(n, min(k, n), seed=seed)
    other = replace(other, logits=other.logits[order], features=other.features[order])
    assert STRATEGIES[name].pick(one).tolist() == order[STRATEGIES[name].pick(other)].tolist()


def test_cycle_0_is_chosen_without_a_classifier():
    assert FIRST_PICKS == ["interval", "random", "typiclust"]
    assert not [name for name in FIRST_PICKS if STRATEGIES[name].looks_at in ("logits", "features")]
    for preset in PRESETS.values():
        assert preset.strategy in STRATEGIES and preset.first_pick in FIRST_PICKS
