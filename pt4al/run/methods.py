"""What a method is called in figures and printed tables: words of the field, from a run's record."""

from collections import Counter

from pt4al.run.curves import Curve
from pt4al.run.record import Record

STRATEGIES = {
    "confidence": "least confidence", "normalized_confidence": "normalized confidence",
    "entropy": "entropy sampling", "margin": "margin sampling", "class_balanced": "class-balanced sampling",
    "interval": "even intervals", "random": "random sampling", "coreset": "Core-set", "badge": "BADGE",
    "typiclust": "TypiClust",
}  # fmt: skip
ORDERS = {
    "numeric": "", "lexicographic": "lexicographic sort", "ascending": "easiest first",
    "shuffled": "random order", "interleaved": "interleaved batches",
}  # fmt: skip
# Where there is no record, as in a table of curves: the names that run.sh and the study give their runs.
NAMES = {
    "main-confidence": "PT4AL", "main-random": "random sampling", "whole-dataset": "all labels",
    "cold-start-interval": "cold start, even intervals", "cold-start-random": "cold start, random sampling",
    "pt4al": "PT4AL", "random": "random sampling", "margin": "margin sampling, whole pool",
    "pt4al-shuffled": "PT4AL, random order", "pt4al-text": "PT4AL, lexicographic sort",
    "pt4al-ascending": "PT4AL, easiest first", "interleaved": "PT4AL, interleaved batches",
    "normalized": "PT4AL, normalized confidence", "warm": "PT4AL, warm start",
    "entropy": "entropy sampling, whole pool", "coreset": "Core-set, whole pool",
    "badge": "BADGE, whole pool",
    "own-pretext": "PT4AL, own pretext network", "pt4al-again": "PT4AL, repeated",
    "cold-0": "cold start, even intervals", "cold-2": "cold start, even intervals of batch 2",
    "cold-5": "cold start, even intervals of batch 5", "cold-9": "cold start, even intervals of batch 9",
    "cold-0-text": "cold start, even intervals, lexicographic sort",
    "cold-5-text": "cold start, even intervals of batch 5, lexicographic sort",
    "cold-random": "cold start, random sampling", "cold-mix": "cold start, random with PT4AL's class counts",
    "cold-balanced": "cold start, hardest of each class", "cold-typiclust": "cold start, TypiClust",
}  # fmt: skip


def in_words(curves: list[Curve]) -> dict[str, str]:
    """What each method is called, by its name. Methods whose words would be the same keep their name
    behind them. Features are named where not all have the same."""
    records = {curve.name: curve.runs[0].record if curve.runs else None for curve in curves}
    features = {record["inputs"].get("features") if record else None for record in records.values()}
    words = {
        name: describe(record, len(features) > 1) if record else NAMES.get(name, name)
        for name, record in records.items()
    }
    count = Counter(words.values())
    return {name: text if count[text] == 1 else f"{text} ({name})" for name, text in words.items()}


def describe(record: Record, features: bool = True) -> str:
    """The method of a run: how it chooses, and where it departs from the paper; `features`: on what."""
    settings, inputs = {"init": None, "select": None, **record["parameters"]}, record["inputs"]

    def words(field: str) -> str:
        value = str(settings.get(field))
        return STRATEGIES.get(value, value.replace("_", " "))

    if record["script"] == "whole_dataset.py":
        parts = ["all labels"]
    elif record["script"] == "main_pt4al.py":
        batch = settings.get("cold_start_batch") if "batches" in inputs else 0
        parts = ["cold start", words("first_pick") + (f" of batch {batch}" if batch else "")]
    elif settings.get("candidates") == "all":
        parts = [words("strategy"), "whole pool" if settings.get("strategy") != "random" else ""]
        parts += [f"first {words('first_pick')}"] if settings.get("first_pick") != "random" else []
    else:
        parts = ["PT4AL", words("strategy") if settings.get("strategy") != "confidence" else ""]
        parts += [f"first {words('first_pick')}"] if settings.get("first_pick") != "interval" else []
    if "batches" in inputs:
        made_from = inputs["batches_made_from"]
        order = str(made_from.get("sort", settings.get("sort"))) if made_from else "batches without a record"
        parts.append(ORDERS.get(order, order))
    parts += [f"on {inputs['features'].partition(' (')[0]}"] if features and "features" in inputs else []
    parts += ["warm start"] if settings["init"] == "warm" else []
    parts += ["best test epoch"] if settings["select"] == "best" else []
    return ", ".join(filter(None, parts))
