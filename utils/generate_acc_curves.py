"""Compare methods: learning curves of test accuracy by number of labels, seeds
pooled into mean and band, and whether a difference is one.

Runs with the same folder name (main-confidence) are seeds of one method: their
config.json must agree in everything but seed, machine, precision and number of
cycles. Where precisions differ or runs end before others, a note says so; a
curve goes as far as its shortest run. It is the mean, its band one standard
deviation (n - 1) to each side. A run of a single cycle (whole-dataset,
cold-start-...) is a dashed line, or a single point; where all have one and the
same number of labels, each has a line of its own.

Methods judged on different test images are refused. Other settings in which a
method differs from the baseline, or else from the first, are noted; scripts are
compared in what both of them record.

With --baseline, every other method is compared with that one, joined on seed:
mean difference, 95 % t interval, exact sign-flip p (above 16 seeds: paired t
test) and p by Holm over the methods, at the first and the final number of
labels that both have, and of the area between (the mean height). Also the
labels that the baseline needs to reach a method's final accuracy, linear
between the points of its mean curve.

Reads:  RUN/cycles.csv and RUN/config.json of every RUN (without config.json the
        seed is unknown, and nothing is joined); or a table of curves, as this
        program writes it, of which --methods names those wanted
Writes: a picture (default: figures/learning_curves.png; none if --out is .csv)
        its name with .csv, where runs were given: the table of curves, a row a
        method and number of labels, and one for the area: n, mean and std of
        best and last accuracy in percent, the values, and the seeds in the
        order of the values
        with --baseline, its name with _differences.csv: a row a method and
        quantity, in percentage points, with interval, p, values and seeds.
        Quantities: first, final, area; point (each number of labels, not
        tested); labels_to_reach (baseline_labels, empty if not reached; left
        out where the baseline has a single number of labels)
Run:    python utils/generate_acc_curves.py runs/cifar10-seed*/main-confidence \\
            runs/cifar10-seed*/main-random runs/cifar10-seed*/whole-dataset \\
            --baseline main-random
        python utils/generate_acc_curves.py study/study.csv --baseline random \\
            --methods pt4al margin
"""

import argparse
import csv
import io
import json
import os
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtr, stdtrit  # Student's t: distribution and quantile

KINDS = ("best", "last")
COLUMNS = ("method", "labels", "n", "best_mean", "best_std", "last_mean", "last_std", "best_values",
           "last_values", "seeds")  # fmt: skip
DIFFERENCES = ("method", "baseline", "kind", "quantity", "first_labels", "last_labels", "n", "difference",
               "low", "high", "p", "p_holm", "baseline_labels", "values", "seeds")  # fmt: skip
TESTED = ("first", "final", "area")
MOST_FLIPPED = 16  # seeds of which all 2^n signs are tried: 65,536
READ = ("img_size", "resize", "channel_order")  # digests of images are of their pixels as read

# A method looks the same in every figure, with or without `main-` or `pt4al-` before its name. The colours are
# Okabe and Ito's, then Tol's muted ones: colour-blind people tell them apart.
STYLES = {
    "confidence": ("#0072B2", "o"), "pt4al": ("#0072B2", "o"), "cold-start-interval": ("#0072B2", "*"),
    "random": ("#777777", "s"), "cold-start-random": ("#777777", "p"), "whole-dataset": ("#000000", ""),
    "margin": ("#E69F00", "^"), "entropy": ("#CC79A7", "P"), "normalized": ("#56B4E9", "X"),
    "text": ("#D55E00", "D"), "shuffled": ("#009E73", "v"), "normalized_confidence": ("#56B4E9", "X"),
    "warm": ("#882255", "<"), "ascending": ("#AA4499", ">"), "class_balanced": ("#117733", "H"),
    "coreset": ("#332288", "h"), "badge": ("#44AA99", "d"), "typiclust": ("#661100", "8"),
    "interval": ("#999933", "s"), "interleaved": ("#CC6677", "p"),
}  # fmt: skip
OTHER_COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#009E73", "#882255", "#999933")
OTHER_MARKERS = "os^DvPXd"
WORDS = {
    "main-confidence": "PT4AL", "pt4al": "PT4AL", "cold-start-interval": "PT4AL cold start",
    "main-random": "random", "cold-start-random": "random cold start", "whole-dataset": "every label",
}  # fmt: skip

Row = dict[str, Any]


class Refused(Exception):
    """Input that cannot be used; the message is one line that says why."""


# --- statistics


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


def mean_height(labels: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Of curves (seeds, points) over labels (points,): the area by trapezoids over its width."""
    if len(labels) == 1:
        return curves[:, 0]
    return (curves[:, 1:] + curves[:, :-1]) / 2 @ np.diff(labels) / (labels[-1] - labels[0])


def labels_to_reach(accuracy: float, labels: np.ndarray, mean: np.ndarray) -> int | None:
    """Where a mean curve (points,) first gets to an accuracy, linear between points; else None."""
    reached = np.flatnonzero(mean >= accuracy)
    if not len(reached):
        return None
    around = slice(max(reached[0] - 1, 0), reached[0] + 1)
    return round(np.interp(accuracy, mean[around], labels[around]))


# --- runs


@dataclass(frozen=True)
class Run:
    """A run folder: labels, and best and last accuracy in percent, each (cycles,)."""

    path: Path
    labels: np.ndarray
    accuracy: dict[str, np.ndarray]
    record: dict[str, Any] | None  # config.json
    seed: int | None


@dataclass(frozen=True)
class Curve:
    """The runs of a method: labels (points,), best and last accuracy in percent (seeds, points).

    One that was read from a table has no `runs`.
    """

    name: str
    runs: list[Run]
    seeds: list[int | None]
    labels: np.ndarray
    accuracy: dict[str, np.ndarray]


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        Refused: cycles.csv is missing, empty or not one of ours, or config.json is damaged.
    """
    table = path / "cycles.csv"
    try:
        text = table.read_text("utf-8-sig") if table.is_file() else ""
        rows = list(csv.DictReader(io.StringIO(text)))
        if any(None in (*row, *row.values()) for row in rows):
            raise ValueError("a row has more or fewer fields than the header")
        names = ("labels", "best_accuracy", "last_accuracy")
        labels, best, last = (np.array([float(row[name]) for row in rows]) for name in names)
    except KeyError as error:
        raise Refused(f"{table} has no column {error}") from None
    except (ValueError, csv.Error) as error:
        hint = " (without a test set there is no accuracy)" if str(error).endswith("''") else ""
        raise Refused(f"{table} cannot be used: {error}{hint}") from None
    if not rows:
        text = f"is missing or empty: is {path} a run folder, and is its first cycle done?"
        raise Refused(f"{table} {text}")
    if not (labels[0] >= 1 and (np.diff(labels) >= 0).all() and (labels % 1 == 0).all()):
        raise Refused(f"{table}: labels must be whole numbers that do not fall from row to row")
    grown = np.append(np.diff(labels) > 0, True)  # a cycle may find all its images labelled already
    labels, best, last = labels[grown], best[grown], last[grown]
    if not all(0 <= x <= 100 for x in [*best, *last]):
        raise Refused(f"{table}: an accuracy is not between 0 and 100 %")
    record = read_record(path / "config.json")
    seed = record["parameters"]["seed"] if record else None
    return Run(path, labels.astype(int), {"best": best, "last": last}, record, seed)


def read_record(path: Path) -> dict[str, Any] | None:
    """What a run was made from; None where there is no config.json of version 2."""
    try:
        record = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except ValueError as error:
        raise Refused(f"{path} is damaged: {error}") from None
    match record:
        case {
            "version": 2,
            "script": _,
            "parameters": {"seed": int()},
            "inputs": {},
            "made_with": {},
        }:
            return record
        case {"version": 2}:
            raise Refused(f"{path} is damaged: it lacks what every run writes")
    return None


def settings(record: dict[str, Any]) -> dict[str, Any]:
    """What seeds of one method share: not the batches, which follow from the seed, but how they
    were made; not the images where the seed cuts the pool, nor a test set that it draws."""
    parameters, inputs = record["parameters"], record["inputs"]
    shared = {"script": record["script"], **parameters}
    del shared["seed"]
    made_from = inputs.get("batches_made_from") or {}
    for name in {"sort", "num_batches", "losses"} & {*made_from}:
        shared[f"batches_made_from.{name}"] = made_from[name]
    if not parameters.get("test_labels"):
        shared["test_data"] = inputs.get("test_data")
    if parameters.get("imbalance") in (None, 1):
        shared["data"] = inputs.get("data")
    return shared


def differing(a: Run, b: Run, of_one_method: bool = False) -> str:
    """The settings in which two runs differ, each with both values; empty where they agree.

    Left out is what follows from the method: fields of only one of two scripts (unless the runs are
    meant to be of one method), how batches were made where one run has none; and digests of images
    that were read in two ways. Of one method: precision, which is a matter of the machine, and
    cycles, which says only where a run stops.
    """
    ours, theirs = settings(a.record), settings(b.record)
    names = {*ours, *theirs}
    if of_one_method:
        names -= {"precision", "cycles"}
    elif ours["script"] != theirs["script"]:
        names = {*ours} & {*theirs} - {"script"}
    if not all("batches" in run.record["inputs"] for run in (a, b)):
        names -= {name for name in names if name.startswith("batches_made_from.")}
    if any(ours.get(name) != theirs.get(name) for name in READ):
        names -= {"data", "test_data"}
    pairs = {x: (ours.get(x, "absent"), theirs.get(x, "absent")) for x in sorted(names)}
    return ", ".join(f"{x} is {u!s:.24} and {v!s:.24}" for x, (u, v) in pairs.items() if u != v)


def precisions(runs: list[Run]) -> dict[int, str | None]:
    """By seed, of the runs whose settings are known."""
    return {run.seed: run.record["parameters"].get("precision") for run in runs if run.record}


def other_test_images(a: Run, b: Run) -> bool:
    """Whether two runs were judged on different images, as far as their records tell: not where both
    drew their test set from one pool, nor where one data set was read in two ways."""
    ours, theirs = a.record["parameters"], b.record["parameters"]
    drawn = ours.get("test_labels") and theirs.get("test_labels")
    digests = {run.record["inputs"].get("data" if drawn else "test_data") for run in (a, b)}
    if None in digests or len(digests) == 1:
        return False
    alike = all(ours.get(name) == theirs.get(name) for name in READ)
    return alike or ours.get("dataset") != theirs.get("dataset")


def pool(name: str, runs: list[Run], notes: list[str]) -> Curve:
    """The runs of one name as a curve, in the order of their seeds. `notes` takes what is amiss.

    Raises:
        Refused: they are not seeds of one method.
    """
    known = sorted((run for run in runs if run.record), key=lambda run: run.seed)
    runs = known + [run for run in runs if not run.record]
    for a, b in pairwise(known):
        if text := differing(a, b, of_one_method=True):
            raise Refused(f"{a.path} and {b.path} are not seeds of one method: {text}")
        if a.seed == b.seed:
            raise Refused(f"{a.path} and {b.path} are both seed {a.seed} of {name}: leave one out")
    if len({*precisions(known).values()}) > 1:
        each = ", ".join(f"seed {seed} {which}" for seed, which in precisions(known).items())
        notes.append(f"not all runs of {name} are of one precision: {each}")
    if len(known) < len(runs):
        paths = ", ".join(str(run.path) for run in runs[len(known) :])
        notes.append(f"no config.json of version 2 in {paths}: seed unknown, settings not compared")
    points = min(len(run.labels) for run in runs)
    for run in runs:
        if run.labels[:points].tolist() != runs[0].labels[:points].tolist():
            pair = f"{runs[0].path} and {run.path}"
            raise Refused(f"{pair} labelled different numbers of images: they cannot be pooled")
    of_main = [run.record["parameters"] for run in known if run.record["script"] == "main.py"]
    wanted = max([len(run.labels) for run in runs] + [p.get("cycles", 0) for p in of_main])
    if points < wanted:
        path = next(run.path for run in runs if len(run.labels) == points)
        notes.append(f"the curve of {name} ends after {points} of {wanted} cycles, as {path} does")
    accuracy = {kind: np.array([run.accuracy[kind][:points] for run in runs]) for kind in KINDS}
    return Curve(name, runs, [run.seed for run in runs], runs[0].labels[:points], accuracy)


def compare_settings(curves: list[Curve], notes: list[str]) -> None:
    """Note in what each method differs from the first, of those whose settings are known.

    Raises:
        Refused: they were judged on different test images.
    """
    known = [curve for curve in curves if curve.runs and curve.runs[0].record]
    for b, a in combinations([curve.runs[0] for curve in known], 2):
        if other_test_images(a, b):
            why = f"accuracies on different test images cannot be compared ({differing(a, b)})"
            raise Refused(f"{a.path} and {b.path}: {why}")
    for curve in known[1:]:
        a, b = curve.runs[0], known[0].runs[0]
        text = differing(a, b)
        if text or a.record["script"] == b.record["script"]:
            pair = f"{curve.name} and {known[0].name}"
            notes.append(f"{pair}: {text or 'the settings are the same'}")


def made_otherwise(runs: list[Run]) -> str:
    """Versions, machines and commits in which the runs differ."""
    records = [run.record["made_with"] for run in runs if run.record]
    parts = []
    for name in dict.fromkeys(name for record in records for name in record):
        values = dict.fromkeys(f"{record.get(name, 'absent')!s:.24}" for record in records)
        if len(values) > 1:
            parts.append(f"{name} ({' / '.join(values)})")
    return ", ".join(parts)


# --- differences


def subtract(curve: Curve, baseline: Curve, kind: str, notes: list[str]) -> list[Row]:
    """A method minus the baseline, at the seeds and the numbers of labels that both have."""
    pair = f"{curve.name} and {baseline.name}"
    labels, ours, theirs = np.intersect1d(curve.labels, baseline.labels, return_indices=True)
    seeds = [seed for seed in curve.seeds if seed is not None and seed in baseline.seeds]
    if not len(labels) or not seeds:
        what = "known seed" if len(labels) else "number of labels"
        notes.append(f"{pair} have no {what} in common: their difference cannot be told")
        return []
    if len(curve.labels) > 1 and len(labels) < max(len(curve.labels), len(baseline.labels)):
        notes.append(f"{pair} are compared where both have points: {span(labels)} labels")
    if len(seeds) < max(len(curve.seeds), len(baseline.seeds)):
        notes.append(f"{pair} are compared on the seeds that both have: {joined(seeds)}")
    if len(seeds) == 1 < max(len(curve.seeds), len(baseline.seeds)):
        notes.append(f"{pair} have one seed in common: a difference, no interval and no test")
    elif len(seeds) > 1 and (least := 2 / 2 ** len(seeds)) > 0.05:
        notes.append(f"{len(seeds)} seeds cannot give a sign-flip p below {least:g}, 6 can")
    mine, other = precisions(curve.runs), precisions(baseline.runs)
    if mixed := [x for x in seeds if x in mine and x in other and mine[x] != other[x]]:
        notes.append(f"{pair} are of two precisions with seed {joined(mixed)}")
    a, b = (c.accuracy[kind][[c.seeds.index(seed) for seed in seeds]] for c in (curve, baseline))
    values = a[:, ours] - b[:, theirs]
    rows = [difference("first", labels[:1], values[:, 0])]
    if len(labels) > 1:  # of a single number of labels all three are one
        rows.append(difference("final", labels[-1:], values[:, -1]))
        rows.append(difference("area", labels, mean_height(labels, values)))
    rows += [difference("point", labels[[i]], values[:, i]) for i in range(len(labels))]
    return [{**row, "seeds": joined(seeds)} for row in rows]


def difference(quantity: str, labels: np.ndarray, x: np.ndarray) -> Row:
    """Statistics of x (n,): one value alone has no interval, and a point of a curve is not tested."""
    x = x.round(12) + 0.0  # 70.3 - 70.0 is 0.3, and no difference is 0 rather than -0
    row = {"quantity": quantity, "first_labels": labels[0], "last_labels": labels[-1],
           "n": len(x), "difference": x.mean().round(12) + 0.0, "values": joined(x)}  # fmt: skip
    if len(x) > 1:
        row["low"], row["high"] = t_interval(x)
        if quantity in TESTED:
            row["p"] = (sign_flip if len(x) <= MOST_FLIPPED else t_test)(x)
    return row


def compare(curves: list[Curve], baseline: Curve, kind: str, notes: list[str]) -> list[Row]:
    """The table of differences: every other method from the baseline."""
    rows: list[Row] = []
    for curve in curves:
        if curve is not baseline:
            found = subtract(curve, baseline, kind, notes)
            if len(baseline.labels) > 1:  # a single number of labels is no curve to read them from
                mine, theirs = (c.accuracy[kind].mean(0) for c in (curve, baseline))
                found.append({"quantity": "labels_to_reach", "first_labels": curve.labels[-1],
                              "last_labels": curve.labels[-1],
                              "baseline_labels": labels_to_reach(mine[-1], baseline.labels, theirs)})  # fmt: skip
            about = {"method": curve.name, "baseline": baseline.name, "kind": kind}
            rows += [{**about, **row} for row in found]
    for quantity in TESTED:
        family = [row for row in rows if row["quantity"] == quantity and "p" in row]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
    return rows


# --- picture


def style(name: str) -> dict[str, str]:
    """Colour and marker, from the name alone; a name that STYLES lacks is dash-dotted, its markers hollow."""
    name = name.removeprefix("main-").removeprefix("pt4al-")
    if name in STYLES:
        return dict(zip(("color", "marker"), STYLES[name], strict=True))
    row, i = divmod(zlib.crc32(os.fsencode(name)), len(OTHER_COLOURS))
    look = {"color": OTHER_COLOURS[i], "marker": OTHER_MARKERS[row % len(OTHER_MARKERS)]}
    return {**look, "linestyle": "-.", "markerfacecolor": "white"}


def draw(curves: list[Curve], rows: list[Row], words: dict[str, str], options: argparse.Namespace) -> Figure:
    """Learning curves, and below them the differences from the baseline where there are any."""
    points = [row for row in rows if row["quantity"] == "point"]
    if len(curves) > 1 and len({tuple(x.labels) for x in curves}) == len(curves[0].labels) == 1:
        return draw_lines(curves, points, words, options)
    figure = Figure(figsize=(9, 8 if points else 4.5), layout="constrained")
    axes = figure.subplots(2 if points else 1, squeeze=False, sharex=True)[:, 0]
    for curve in curves:
        n = len(curve.labels)
        if points and curve.name == options.baseline:  # as far as another goes, if that is a curve
            common = np.sum(curve.labels <= max(row["first_labels"] for row in points))
            n = common if common > 1 else n
        label = f"{words[curve.name]} (n={len(curve.seeds)})"
        draw_curve(axes[0], curve, options.kind, label, n)
    axes[0].set_title(options.title, parse_math=False)
    axes[0].set_ylabel(f"test accuracy (%), {options.kind} epoch of a cycle")
    if points:
        draw_differences(axes[1], points)
        what = ",\nmean and 95 % t interval" if any("low" in row for row in points) else ""
        axes[1].set_ylabel(f"minus {words[options.baseline]} (points){what}", parse_math=False)
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("labelled images")
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    many = any(len(curve.seeds) > 1 for curve in curves)
    legend = figure.legend(loc="outside right upper", title="mean ± std of seeds" if many else None)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar sign in a name is one
    return figure


def draw_lines(
    curves: list[Curve], points: list[Row], words: dict[str, str], options: argparse.Namespace
) -> Figure:
    """Methods of one and the same number of labels: a line each, with every seed and their mean, and
    beside it the difference from the baseline."""
    colour = STYLES["confidence"][0]
    figure = Figure(figsize=(9, 1.4 + 0.36 * len(curves)), layout="constrained")
    axes = figure.subplots(1, 2 if points else 1, squeeze=False, sharey=True)[0]
    for line, curve in enumerate(curves):
        values = curve.accuracy[options.kind][:, 0]
        axes[0].plot(values, [line] * len(values), "o", ms=5, color=colour, alpha=0.5, mew=0)
        axes[0].plot(values.mean(), line, "|", ms=16, mew=2, color=colour)
        for row in (row for row in points if row["method"] == curve.name):
            half = (row["high"] - row["low"]) / 2 if "low" in row else None
            axes[1].errorbar(row["difference"], line, xerr=half, fmt="o", ms=5, capsize=3, color=colour)
    axes[0].set_yticks(
        range(len(curves)),
        [f"{words[curve.name]} (n={len(curve.seeds)})" for curve in curves],
        parse_math=False,
    )
    axes[0].invert_yaxis()
    labels = f"{curves[0].labels[0]:,} labels"
    axes[0].set_xlabel(f"test accuracy (%), {options.kind} epoch, {labels};\nevery seed, and the mean")
    if points:
        (baseline,) = (curve for curve in curves if curve.name == options.baseline)
        axes[0].axvline(baseline.accuracy[options.kind].mean(), color="black", lw=1)
        axes[1].axvline(0, color="black", lw=1)
        axes[1].locator_params(axis="x", nbins=7)
        what = ",\nmean and 95 % t interval" if any("low" in row for row in points) else ""
        axes[1].set_xlabel(f"minus {words[options.baseline]} (points){what}", parse_math=False)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(options.title, parse_math=False)
    return figure


def draw_curve(axis: Axes, curve: Curve, kind: str, label: str, n: int) -> None:
    """Mean of the seeds at the first n numbers of labels, and a band of one standard deviation to
    each side; a bar for one point."""
    labels, values = curve.labels[:n], curve.accuracy[kind][:, :n]
    mean, look = values.mean(0), style(curve.name)
    colour = look["color"]
    if curve.name == "whole-dataset":
        label = f"{label},\n{span(curve.labels)} labels"
        axis.axhline(mean[-1], ls="--", lw=1, color=colour, label=label)
        return
    single = len(mean) == 1
    look |= {"linestyle": ""} if single else {}
    axis.plot(labels, mean, ms=7 if single else 5, label=label, **look)
    if len(values) > 1:
        std = values.std(0, ddof=1)
        if single:
            axis.errorbar(labels, mean, std, fmt="none", ecolor=colour, capsize=3)
        else:
            axis.fill_between(labels, mean - std, mean + std, color=colour, alpha=0.15, lw=0)


def draw_differences(axis: Axes, points: list[Row]) -> None:
    """Mean and 95 % interval by number of labels, side by side at each: methods of several points,
    or all where each has one."""
    methods: dict[str, list[Row]] = {}
    for row in points:
        methods.setdefault(row["method"], []).append(row)
    spread = [method for method, own in methods.items() if len(own) > 1] or list(methods)
    places = sorted({row["first_labels"] for row in points})
    gap = min(np.diff(places), default=places[0])
    step = gap * min(0.1, 0.6 / max(len(spread), 1))
    shifts = {method: step * (i - (len(spread) - 1) / 2) for i, method in enumerate(spread)}
    axis.axhline(0, color="black", lw=1)
    for method, own in methods.items():
        x = [row["first_labels"] + shifts.get(method, 0) for row in own]
        y = [row["difference"] for row in own]
        half = [(row["high"] - row["low"]) / 2 for row in own if "low" in row] or None
        axis.errorbar(x, y, half, ms=4, lw=1, capsize=2, **style(method))


# --- tables


def mean_and_std(values: np.ndarray, digits: int) -> list[str]:
    """Of values (n,): the mean, and the sample standard deviation, empty for one value."""
    std = f"{values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return [f"{values.mean():.{digits}f}", std]


def curve_rows(curve: Curve) -> list[Row]:
    """A method's rows in the table of curves: one a number of labels, and one for the area."""
    values = {x: [curve.accuracy[k][:, i] for k in KINDS] for i, x in enumerate(curve.labels)}
    values["area"] = [mean_height(curve.labels, curve.accuracy[kind]) for kind in KINDS]
    seeds = joined("?" if seed is None else seed for seed in curve.seeds)
    rows = []
    for x, (best, last) in values.items():
        stats = [*mean_and_std(best, 4), *mean_and_std(last, 4), joined(best), joined(last)]
        fields = [curve.name, x, len(curve.seeds), *stats, seeds]
        rows.append(dict(zip(COLUMNS, fields, strict=True)))
    return rows


def curve_lines(curves: list[Curve]) -> list[str]:
    header = [f"{what}, {kind} (%)" for what in ("final", "area") for kind in KINDS]
    table = [["method", "n", "labels", *header]]
    for curve in curves:
        values = [curve.accuracy[kind][:, -1] for kind in KINDS]
        values += [mean_height(curve.labels, curve.accuracy[kind]) for kind in KINDS]
        stats = [" ± ".join(filter(None, mean_and_std(x, 2))) for x in values]
        table.append([curve.name, str(len(curve.seeds)), span(curve.labels), *stats])
    return aligned(table)


def difference_lines(rows: list[Row]) -> list[str]:
    """The differences that are tested as a table, then what the baseline needs, in words."""
    shown = [name for name in DIFFERENCES if name not in ("baseline", "kind", *DIFFERENCES[-3:])]
    table, reach = [shown], []
    for row in rows:
        if row["quantity"] in TESTED:
            values = [row.get(name, "") for name in shown]
            table.append([f"{x:.4g}" if isinstance(x, float) else str(x) for x in values])
        elif row["quantity"] == "labels_to_reach":
            needed = row["baseline_labels"]
            text = f"reached with {needed:,} labels" if needed else "not reached"
            end = f"the final accuracy of {row['method']} ({row['last_labels']:,} labels)"
            reach.append(f"{end} is {text} by {row['baseline']}")
    return [*aligned(table), *reach]


def joined(values: Iterable[Any]) -> str:
    return " ".join(f"{x:.8g}" if isinstance(x, float) else str(x) for x in values)


def span(labels: np.ndarray) -> str:
    return f"{labels[0]:,}" if len(labels) == 1 else f"{labels[0]:,} to {labels[-1]:,}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines, column under column."""
    widths = [max(map(len, fields)) for fields in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


# --- files and command line


def check(out: Path, tables: dict[Path, tuple[tuple[str, ...], list[Row]]], read: list[Path]) -> None:
    """Refuse names under which something would be lost that was read, or not written by this
    program."""
    if out.suffix.lower() not in (".png", ".pdf", ".svg") and out not in tables:
        tables_too = ", that of tables in .csv" if out.with_suffix(".csv") in tables else ""
        raise Refused(f"--out {out}: the name of a picture ends in .png, .pdf or .svg{tables_too}")
    if out.parent.is_file():
        raise Refused(f"{out.parent} is no folder: choose another --out")
    for path in (out, *tables):
        if path.is_dir():
            raise Refused(f"{path} is a folder: choose another --out")
    for path, (columns, _) in tables.items():
        if path.exists() and any(path.samefile(other) for other in read if other.exists()):
            raise Refused(f"{path} is read, and would be written: choose another --out")
        start = ",".join(columns[:2]).encode()
        if path.exists() and not path.read_bytes().startswith(start):
            raise Refused(f"{path} is no table of this program: choose another --out")


def write(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_table(path: Path, columns: tuple[str, ...], rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        floats = {k: f"{v:.6g}" for k, v in row.items() if isinstance(v, float)}
        writer.writerow({**row, **floats})
    write(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_table(path: Path) -> dict[str, Curve]:
    """The curves of a table that `curve_rows` made, by name."""
    rows: dict[str, list[Row]] = {}
    curves = {}
    try:
        for row in csv.DictReader(io.StringIO(path.read_text("utf-8", "surrogateescape"))):
            if row["labels"] != "area":
                rows.setdefault(row["method"], []).append(row)
        for name, own in rows.items():
            labels = np.array([int(row["labels"]) for row in own])
            seeds = [None if x == "?" else int(x) for x in own[0]["seeds"].split()]
            accuracy = {}
            for kind in KINDS:
                values = [[float(x) for x in row[f"{kind}_values"].split()] for row in own]
                accuracy[kind] = np.array(values).T.reshape(len(seeds), len(labels))
                if not ((np.diff(labels) > 0).all() and (abs(accuracy[kind] - 50) <= 50).all()):
                    raise ValueError(f"labels or accuracies of {name} are out of order or range")
            curves[name] = Curve(name, [], seeds, labels, accuracy)
    except (KeyError, ValueError, AttributeError, csv.Error) as error:
        raise Refused(f"{path} is no table of curves of this program: {error}") from None
    if not curves:
        raise Refused(f"{path} holds no curve")
    return curves


def read_runs(paths: list[Path], notes: list[str]) -> dict[str, Curve]:
    """The curves of run folders, by name."""
    seen: dict[Path, Path] = {}
    by_name: dict[str, list[Run]] = {}
    for path in paths:
        real = path.resolve()
        if real in seen:
            raise Refused(f"{seen[real]} and {path} are the same run: give it once")
        seen[real] = path
        by_name.setdefault(real.name, []).append(read_run(path))
    every = [run for runs in by_name.values() for run in runs]
    if text := made_otherwise(every):
        notes.append(f"not all runs were made with the same {text}")
    for run in every:
        if later := (run.record or {}).get("went_on_with"):
            notes.append(f"{run.path} was gone on with by {'; '.join(later)}")
    return {name: pool(name, runs, notes) for name, runs in by_name.items()}


def generate(options: argparse.Namespace) -> list[str]:
    """Write the picture and the tables; what to print."""
    notes: list[str] = []
    folders = [path for path in options.runs if not path.is_file()]
    by_name = read_runs(folders, notes)
    for path in {path.resolve(): path for path in options.runs if path.is_file()}.values():
        found = read_table(path)
        if twice := [name for name in found if name in by_name]:
            raise Refused(f"{path} holds {twice[0]}, which is given once more: rename one")
        by_name |= found
    if options.methods:
        wanted = [*options.methods, *filter(None, [options.baseline])]
        if missing := [name for name in wanted if name not in by_name]:
            raise Refused(f"there is no {missing[0]}, but {', '.join(by_name)}")
        by_name = {name: curve for name, curve in by_name.items() if name in wanted}
    if single := [name for name, curve in by_name.items() if len(curve.seeds) == 1]:
        notes.append(f"a single run tells nothing of the spread over seeds: {', '.join(single)}")
    curves, names = list(by_name.values()), ", ".join(by_name)
    words = {name: WORDS.get(name, name) for name in by_name}
    for label in options.label:
        name, _, text = label.partition("=")
        if name not in by_name or not text:
            raise Refused(f"--label {label}: it must be NAME=TEXT, NAME one of {names}")
        words[name] = text
    out = options.out
    tables: dict[Path, tuple[tuple[str, ...], list[Row]]] = {}
    if folders:
        content = [row for curve in curves for row in curve_rows(curve)]
        tables[out.with_suffix(".csv")] = (COLUMNS, content)
    lines, rows = curve_lines(curves), []
    compare_settings(sorted(curves, key=lambda curve: curve.name != options.baseline), notes)
    if options.baseline:
        if options.baseline not in by_name or len(curves) == 1:
            raise Refused(f"--baseline {options.baseline} asks for its runs and others, not {names}")
        rows = compare(curves, by_name[options.baseline], options.kind, notes)
        tables[out.with_name(f"{out.stem}_differences.csv")] = (DIFFERENCES, rows)
        lines += ["", f"minus {options.baseline}, {options.kind} epoch:"]
        lines += [*difference_lines(rows), ""]
    check(out, tables, options.runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out not in tables:
        picture = io.BytesIO()
        figure = draw(curves, rows, words, options)
        figure.savefig(picture, format=out.suffix[1:].lower(), dpi=120)
        write(out, picture.getvalue())
    for path, (columns, content) in tables.items():
        write_table(path, columns, content)
    lines += [f"note: {note}" for note in dict.fromkeys(notes)]
    return [*lines, *map(str, {out: None, **tables})]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main() -> None:
    out = Path("figures/learning_curves.png")
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    what = "a run folder, runs/EXPERIMENT/NAME, or a table of curves"
    add("runs", type=Path, nargs="+", metavar="RUN", help=what)
    add("--methods", nargs="+", default=[], metavar="NAME", help="only these, and the baseline")
    add("--baseline", metavar="NAME", help="the method that the others are compared with")
    add("--kind", choices=KINDS, default="last", help="the epoch that counts (default: last)")
    add("--label", action="append", default=[], metavar="NAME=TEXT", help="a method in the legend")
    add("--title", default="", help="above the picture")
    add("--out", type=Path, default=out, help=f"png, pdf, svg or csv (default: {out})")
    try:
        lines = generate(parser.parse_args())
    except (Refused, OSError) as error:
        parser.error(str(error))
    print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
