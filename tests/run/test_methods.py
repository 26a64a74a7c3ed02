"""What methods are called in figures."""

from pathlib import Path

import pytest
from made_runs import INPUTS, make_record, make_run, make_runs

from pt4al.run.curves import Curve, read_curves
from pt4al.run.methods import describe, in_words

WHOLE_POOL = {"candidates": "all", "first_pick": "random"}
NO_BATCHES = {name: x for name, x in INPUTS.items() if not name.startswith("batches")}


@pytest.mark.parametrize(
    ("script", "parameters", "words"),
    [
        ("main.py", {}, "PT4AL"),
        ("main.py", {"strategy": "normalized_confidence"}, "PT4AL, normalized confidence"),
        ("main.py", {"strategy": "random"}, "PT4AL, random sampling"),
        ("main.py", {"init": "warm", "select": "best"}, "PT4AL, warm start, best test epoch"),
        ("main.py", {"init": "scratch", "select": "last"}, "PT4AL"),
        ("main.py", {"first_pick": "typiclust"}, "PT4AL, first TypiClust"),
        ("main.py", {"strategy": "a_new_one"}, "PT4AL, a new one"),
        ("main.py", {"strategy": "random", **WHOLE_POOL}, "random sampling"),
        ("main.py", {"strategy": "margin", **WHOLE_POOL}, "margin sampling, whole pool"),
        ("main.py", {"strategy": "badge", "candidates": "all"}, "BADGE, whole pool, first even intervals"),
        ("main_pt4al.py", {"cold_start_batch": 0}, "cold start, even intervals"),
        ("main_pt4al.py", {"cold_start_batch": 5}, "cold start, even intervals of batch 5"),
        ("main_pt4al.py", {"first_pick": "typiclust"}, "cold start, TypiClust"),
        ("whole_dataset.py", {}, "all labels"),
    ],
)
def test_a_record_is_told_in_words(script: str, parameters: dict, words: str):
    assert describe(make_record(script=script, parameters=parameters)) == words


@pytest.mark.parametrize(
    ("sort", "words"),
    [
        ("lexicographic", "PT4AL, lexicographic sort"),
        ("ascending", "PT4AL, easiest first"),
        ("shuffled", "PT4AL, random order"),
        ("a_new_one", "PT4AL, a_new_one"),
    ],
)
def test_the_order_is_that_of_the_batches(sort: str, words: str):
    """Not what the run's own field says, which has no effect once the batches are made."""
    assert describe(make_record(inputs={"batches_made_from": {"sort": sort}})) == words
    cold = make_record(script="main_pt4al.py", parameters={"sort": sort})
    cold["inputs"] = NO_BATCHES
    assert describe(cold) == "cold start, even intervals"
    foreign = make_record(inputs={"batches_made_from": None})
    assert describe(foreign) == "PT4AL, batches without a record"


def test_names_stand_for_methods_without_a_record(tmp_path: Path):
    names = ("main-random", "whole-dataset", "pt4al-text", "mine")
    words = in_words([*read_curves(make_run(tmp_path / name, [1]) for name in names).values()])
    assert [*words.values()] == ["random sampling", "all labels", "PT4AL, lexicographic sort", "mine"]


def test_a_record_is_believed_rather_than_a_name(tmp_path: Path):
    margin = make_record(parameters={"strategy": "margin", **WHOLE_POOL})
    curves = read_curves([make_run(tmp_path / "main-random", [1], margin)])
    assert in_words([*curves.values()]) == {"main-random": "margin sampling, whole pool"}


def test_methods_with_the_same_words_keep_their_names(tmp_path: Path):
    curves: dict[str, Curve] = read_curves([
        *make_runs(tmp_path, "lr-0.1", [1], [1]), *make_runs(tmp_path, "lr-0.2", [1]),
        make_run(tmp_path / "main-random", [1]),
    ])  # fmt: skip
    assert in_words([*curves.values()]) == {
        "lr-0.1": "PT4AL (lr-0.1)", "lr-0.2": "PT4AL (lr-0.2)", "main-random": "random sampling",
    }  # fmt: skip


def test_features_are_named_where_not_all_have_the_same(tmp_path: Path):
    def named(*runs: Path) -> list[str]:
        return [*in_words([*read_curves(list(runs)).values()]).values()]

    on = {"inputs": {"features": "some_net (weights 0123)"}}
    margin = {"parameters": {"strategy": "margin", **WHOLE_POOL}}
    (a,) = make_runs(tmp_path, "a", [1], **on)
    (b,) = make_runs(tmp_path, "b", [1], **on, **margin)
    (c,) = make_runs(tmp_path, "c", [1], inputs={"features": "other_net (weights 89)"}, **margin)
    assert named(a, b) == ["PT4AL", "margin sampling, whole pool"]
    assert named(a, c) == ["PT4AL, on some_net", "margin sampling, whole pool, on other_net"]
    assert named(a, make_run(tmp_path / "main-random", [1])) == ["PT4AL, on some_net", "random sampling"]
