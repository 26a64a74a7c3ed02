"""Whether a difference between methods is one: statistics over pairs of runs with the same seed. No torch
here: programs that draw use it."""

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t: distribution and quantile

from pt4al.run.curves import Curve, Row, aulc, joined, precisions, span

DIFFERENCE_COLUMNS = (
    "method", "baseline", "kind", "quantity", "first_labels", "last_labels", "n", "difference", "low", "high",
    "p", "p_holm", "baseline_labels", "values", "seeds",
)  # fmt: skip
TESTED = ("first", "final", "area")
MOST_FLIPPED = 16  # seeds of which all 2^n signs are tried: 65,536


def t_interval(x: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of x (n >= 2,): -+ t(.975, n - 1) s / sqrt(n) (Student 1908)."""
    half = stdtrit(len(x) - 1, 0.975) * x.std(ddof=1) / len(x) ** 0.5
    return float(x.mean() - half), float(x.mean() + half)


def t_test(x: np.ndarray) -> float:
    """Two-sided p of x (n >= 2,) under "the mean is 0" (Student 1908)."""
    error = x.std(ddof=1) / len(x) ** 0.5
    return float(2 * stdtr(len(x) - 1, -abs(x.mean()) / error)) if error else float(not x.any())


def sign_flip(x: np.ndarray) -> float:
    """Exact two-sided p of x (n,) under "either sign was as likely" (Fisher 1935, section 21): the
    share of the 2^n choices of signs that give a sum as far from 0 as the one seen, itself included.

    So it is never below 2 / 2^n. Sums within a billionth are equal, however binary fractions round.
    """
    signs = 1 - 2 * (np.arange(2 ** len(x))[:, None] >> np.arange(len(x)) & 1)
    return float(np.mean(abs(signs @ x) >= abs(x.sum()) - 1e-9))


def holm(p: list[float]) -> list[float]:
    """The p of one family, adjusted: those up to alpha hold together at level alpha (Holm 1979)."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def labels_to_reach(accuracy: float, labels: np.ndarray, mean: np.ndarray) -> int | None:
    """Where a mean curve (points,) first gets to an accuracy, linear between points; else None."""
    reached = np.flatnonzero(mean >= accuracy)
    if not len(reached):
        return None
    around = slice(max(reached[0] - 1, 0), reached[0] + 1)
    return round(np.interp(accuracy, mean[around], labels[around]))


# --- methods and their baseline


def in_common(curve: Curve, baseline: Curve) -> tuple[np.ndarray, list[int]]:
    """The numbers of labels, and the known seeds, that two methods have both."""
    seeds = [seed for seed in curve.seeds if seed is not None and seed in baseline.seeds]
    return np.intersect1d(curve.labels, baseline.labels), seeds


def compare(curves: list[Curve], baseline: Curve, kind: str) -> list[Row]:
    """The table of differences: every other method minus the baseline."""
    rows: list[Row] = []
    for curve in curves:
        if curve is not baseline:
            found = subtract(curve, baseline, kind)
            if len(baseline.labels) > 1:  # a single number of labels is no curve to read them from
                mine, theirs = (c.accuracy[kind].mean(0) for c in (curve, baseline))
                needed, end = labels_to_reach(mine[-1], baseline.labels, theirs), curve.labels[-1]
                reach = {"quantity": "labels_to_reach", "first_labels": end, "last_labels": end}
                found.append({**reach, "baseline_labels": needed})
            about = {"method": curve.name, "baseline": baseline.name, "kind": kind}
            rows += [{**about, **row} for row in found]
    for quantity in TESTED:
        family = [row for row in rows if row["quantity"] == quantity and "p" in row]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
    return rows


def subtract(curve: Curve, baseline: Curve, kind: str) -> list[Row]:
    """A method minus the baseline, at the seeds and the numbers of labels that both have."""
    labels, seeds = in_common(curve, baseline)
    if not len(labels) or not seeds:
        return []
    a, b = (
        c.accuracy[kind][np.ix_([c.seeds.index(x) for x in seeds], np.searchsorted(c.labels, labels))]
        for c in (curve, baseline)
    )
    values = a - b
    rows = [difference("first", labels[:1], values[:, 0])]
    if len(labels) > 1:  # of a single number of labels all three are one
        rows.append(difference("final", labels[-1:], values[:, -1]))
        rows.append(difference("area", labels, aulc(labels, values)))
    rows += [difference("point", labels[[i]], values[:, i]) for i in range(len(labels))]
    return [{**row, "seeds": joined(seeds)} for row in rows]


def difference(quantity: str, labels: np.ndarray, x: np.ndarray) -> Row:
    """Statistics of x (n,): one value alone has no interval, and a point of a curve is not tested."""
    x = x.round(12) + 0.0  # 70.3 - 70.0 is 0.3, and no difference is 0 rather than -0
    row = {"quantity": quantity, "first_labels": labels[0], "last_labels": labels[-1], "n": len(x)}
    row |= {"difference": x.mean().round(12) + 0.0, "values": joined(x)}
    if len(x) > 1:
        row["low"], row["high"] = t_interval(x)
        if quantity in TESTED:
            row["p"] = (sign_flip if len(x) <= MOST_FLIPPED else t_test)(x)
    return row


def notes_of_pairs(curves: list[Curve], baseline: Curve) -> list[str]:
    """What limits the comparison of each other method with the baseline."""
    return [text for curve in curves if curve is not baseline for text in notes_of_pair(curve, baseline)]


def notes_of_pair(curve: Curve, baseline: Curve) -> list[str]:
    pair, notes = f"{curve.name} and {baseline.name}", []
    labels, seeds = in_common(curve, baseline)
    if not len(labels) or not seeds:
        what = "known seed" if len(labels) else "number of labels"
        return [f"{pair} have no {what} in common: their difference is unknown"]
    if len(curve.labels) > 1 and len(labels) < max(len(curve.labels), len(baseline.labels)):
        notes.append(f"{pair} are compared where both have points: {span(labels)} labels")
    most = max(len(curve.seeds), len(baseline.seeds))
    if len(seeds) < most:
        notes.append(f"{pair} are compared on the seeds that both have: {joined(seeds)}")
    if len(seeds) == 1 < most:
        notes.append(f"{pair} have one seed in common: a difference, no interval and no test")
    elif len(seeds) > 1 and (least := 2 / 2 ** len(seeds)) > 0.05:
        notes.append(f"{len(seeds)} seeds cannot give a sign-flip p below {least:g}, 6 can")
    mine, other = precisions(curve), precisions(baseline)
    if mixed := [x for x in seeds if x in mine and x in other and mine[x] != other[x]]:
        notes.append(f"{pair} are of two precisions with seed {joined(mixed)}")
    return notes
