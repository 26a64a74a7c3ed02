import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pt4al.strategies import STRATEGIES, even_intervals

NO_DRAWS = torch.Generator()
# Probabilities (rows sum to 1), so that every ranking can be checked by eye.
FOUR = torch.tensor(
    [[0.90, 0.05, 0.05], [0.40, 0.35, 0.25], [0.48, 0.47, 0.05], [0.60, 0.20, 0.20]]
).log()


def pick(name: str, logits: torch.Tensor, k: int) -> list[int]:
    return STRATEGIES[name](logits, k, NO_DRAWS).tolist()


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
    draw = [
        STRATEGIES["random"](torch.rand(50, 3), 20, torch.Generator().manual_seed(s)).tolist()
        for s in (1, 1, 2)
    ]
    assert draw[0] == draw[1] != draw[2]


@given(st.integers(1, 40), st.integers(2, 6), st.data())
def test_every_strategy_gives_k_distinct_positions_in_range(
    n: int, classes: int, data: st.DataObject
):
    k = data.draw(st.integers(1, n))
    logits = torch.randn(
        n, classes, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    )
    logits *= data.draw(st.sampled_from([0.0, 1e-6, 1.0, 1e4]))
    for name, strategy in STRATEGIES.items():
        picks = strategy(logits, k, torch.Generator().manual_seed(0)).tolist()
        assert len(picks) == k == len(set(picks)), name
        assert 0 <= min(picks) and max(picks) < n, name
