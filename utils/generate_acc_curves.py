"""Compare methods: learning curves of test accuracy by number of labels, seeds
pooled into mean and band, and whether a difference is one.

Runs with the same folder name (main-confidence) are seeds of one method: their
config.json must agree in everything but seed, machine, precision and number of
cycles. Where precisions differ or runs end before others, a note says so; a
curve goes as far as its shortest run. It is the mean, its band one standard
deviation (n - 1) to each side. A run of a single cycle (whole-dataset,
cold-start-...) is a dashed line, or a single point; where all have one and the
same number of labels, each has a line of its own. Where an annotator labeled,
bars are the 95 % interval (Wilson) that the size of the test set gives a mean.

Methods judged on different test images are refused. Other settings in which a
method differs from the baseline, or else from the first, are noted; scripts are
compared in what both of them record.

With --baseline, every other method is compared with that one, joined on seed:
mean difference, 95 % t interval, exact sign-flip p (above 16 seeds: paired t
test) and p by Holm over the methods, at the first and the final number of
labels that both have, and of the area under the learning curve between them,
divided by its range (AULC). Also the labels that the baseline needs to reach a
method's final accuracy, linear between the points of its mean curve.

Reads:  RUN/cycles.csv and RUN/config.json of every RUN (without config.json the
        seed is unknown, and nothing is joined), and RUN/answers.csv where an
        annotator labeled; or a table of curves, as this program writes it, of
        which --methods names those wanted
Writes: a picture (default: figures/learning_curves.png; none if --out is .csv)
        its name with .csv, where runs were given: the table of curves, one row
        per method and number of labels, and one for the AULC (area): n, mean
        and std of best and last accuracy in percent, the values, and the seeds
        in the order of the values; where an annotator labeled also test_images
        with --baseline, its name with _differences.csv: one row per method and
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
import codecs
import os
import sys
import textwrap
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MPLBACKEND"] = "agg"  # as in pt4al/base/pictures.py

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pt4al.base.console import Parser, UserError, printable, run_script
from pt4al.base.files import write_csv
from pt4al.base.pictures import check_name, drawable, new_figure, save_picture
from pt4al.run.command_line import hint
from pt4al.run.curves import (
    CURVE_COLUMNS,
    TEST_IMAGES,
    Curve,
    Row,
    aulc,
    curve_rows,
    mean_and_std,
    notes_of_runs,
    notes_of_settings,
    read_curve_table,
    read_curves,
    span,
)
from pt4al.run.differences import DIFFERENCE_COLUMNS, compare, notes_of_pairs
from pt4al.run.methods import in_words
from pt4al.run.runs import KINDS

# A method looks the same in every figure. The colors are Okabe and Ito's, then Tol's muted ones, which
# color-blind people can tell apart.
LOOKS = {
    "PT4AL": ("#0072B2", "o"), "random sampling": ("#777777", "s"), "all labels": ("#000000", ""),
    "margin sampling, whole pool": ("#E69F00", "^"), "entropy sampling, whole pool": ("#CC79A7", "P"),
    "PT4AL, normalized confidence": ("#56B4E9", "X"), "PT4AL, lexicographic sort": ("#D55E00", "D"),
    "PT4AL, random order": ("#009E73", "v"), "PT4AL, warm start": ("#882255", "<"),
    "PT4AL, easiest first": ("#AA4499", ">"), "PT4AL, interleaved batches": ("#CC6677", "p"),
    "Core-set, whole pool": ("#332288", "h"), "BADGE, whole pool": ("#44AA99", "d"),
    "TypiClust, whole pool": ("#661100", "8"), "class-balanced sampling, whole pool": ("#117733", "H"),
    "cold start, even intervals": ("#0072B2", "*"), "cold start, random sampling": ("#777777", "p"),
}  # fmt: skip
QUANTITIES = {"first": "first", "final": "final", "area": "AULC"}


def looks_of(words: Iterable[str]) -> dict[str, dict[str, str]]:
    """Color and marker of each method of a figure. One that LOOKS lacks takes what is free there: where it
    begins to look follows from its words, it is dash-dotted and its markers are hollow."""
    words = list(words)
    places = [text for text, (_, marker) in LOOKS.items() if marker]
    taken, looks = set(words), {}
    for text in words:
        place, look = text, {}
        if text not in LOOKS:
            first = zlib.crc32(os.fsencode(text)) % len(places)
            order = places[first:] + places[:first]
            place = next((x for x in order if x not in taken), order[0])
            taken.add(place)
            look = {"linestyle": "-.", "markerfacecolor": "white"}
        looks[text] = {"color": LOOKS[place][0], "marker": LOOKS[place][1], **look}
    return looks


@dataclass(frozen=True)
class Drawing:
    """What is drawn: of each method by its name the curve, its text in the legend and its look; the
    differences from the baseline, where there is one."""

    curves: list[Curve]
    texts: dict[str, str]
    looks: dict[str, dict[str, str]]
    points: list[Row]
    baseline: str | None
    kind: str

    def difference(self, text: str) -> str:
        """What the axis of the differences from a baseline of that text shows, in short lines."""
        interval = "\nmean and 95 % t interval" if any("low" in row for row in self.points) else ""
        return textwrap.fill(f"minus {text} (points)", 36) + interval

    def spreads(self) -> str | None:
        """What bands and bars about a curve are."""
        many = any(len(curve.seeds) > 1 for curve in self.curves)
        measured = any(curve.test_images is not None for curve in self.curves)
        parts = ["mean ± standard deviation over seeds"] * many
        return "; ".join([*parts, *["bars: 95 % interval of the test set"] * measured]) or None


def draw(drawing: Drawing, title: str) -> Figure:
    """Learning curves, and below them the differences from the baseline where there are any."""
    curves, points = drawing.curves, drawing.points
    if len(curves) > 1 and len({tuple(x.labels) for x in curves}) == len(curves[0].labels) == 1:
        return draw_lines(drawing, title)
    figure = new_figure(9, 8 if points else 4.8)
    axes = figure.subplots(2 if points else 1, squeeze=False, sharex=True)[:, 0]
    for curve in curves:
        n = len(curve.labels)
        if points and curve.name == drawing.baseline:  # as far as another goes, if that is a curve
            common = np.sum(curve.labels <= max(row["first_labels"] for row in points))
            n = common if common > 1 else n
        draw_curve(axes[0], curve, drawing, n)
    axes[0].set_title(title)
    axes[0].set_ylabel(f"test accuracy (%), {drawing.kind} epoch of each cycle")
    if points:
        draw_differences(axes[1], drawing)
        axes[1].set_ylabel(drawing.difference(drawing.texts[drawing.baseline]))
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("number of labels")
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    columns = 2 if max(map(len, drawing.texts.values())) > 24 else 3
    figure.legend(loc="outside lower center", ncols=columns, title=drawing.spreads())
    return figure


def draw_curve(axis: Axes, curve: Curve, drawing: Drawing, n: int) -> None:
    """Mean over seeds at the first n numbers of labels, and a band of one standard deviation to each
    side; a bar for one point."""
    labels, values = curve.labels[:n], curve.accuracy[drawing.kind][:, :n]
    mean, look = values.mean(0), drawing.looks[curve.name]
    text = f"{drawing.texts[curve.name]} (n={len(curve.seeds)})"
    if not look["marker"]:
        text = f"{text}, {span(curve.labels)} images"
        axis.axhline(mean[-1], ls="--", lw=1, color=look["color"], label=text)
    elif n > 1:
        axis.plot(labels, mean, ms=5, label=text, **look)
        if len(values) > 1:
            std = values.std(0, ddof=1)
            axis.fill_between(labels, mean - std, mean + std, color=look["color"], alpha=0.15, lw=0)
    else:
        axis.plot(labels, mean, ms=7, label=text, **{**look, "linestyle": ""})
        if len(values) > 1:
            axis.errorbar(labels, mean, values.std(0, ddof=1), fmt="none", ecolor=look["color"], capsize=3)
    if (ends := curve.interval(drawing.kind)) is not None:
        if look["marker"]:
            axis.vlines(labels, *ends[:, :n], color=look["color"], lw=1, alpha=0.6)
        else:
            axis.axhspan(*ends[:, -1], color=look["color"], alpha=0.08, lw=0)


def draw_differences(axis: Axes, drawing: Drawing) -> None:
    """Mean and 95 % interval by number of labels, side by side at each: methods of several points,
    or all where each has one."""
    methods: dict[str, list[Row]] = {}
    for row in drawing.points:
        methods.setdefault(row["method"], []).append(row)
    spread = [method for method, own in methods.items() if len(own) > 1] or list(methods)
    places = sorted({row["first_labels"] for row in drawing.points})
    gap = min(np.diff(places), default=places[0])
    step = gap * min(0.1, 0.6 / max(len(spread), 1))
    shifts = {method: step * (i - (len(spread) - 1) / 2) for i, method in enumerate(spread)}
    axis.axhline(0, color="black", lw=1)
    for method, own in methods.items():
        x = [row["first_labels"] + shifts.get(method, 0) for row in own]
        y = [row["difference"] for row in own]
        half = [(row["high"] - row["low"]) / 2 for row in own if "low" in row] or None
        axis.errorbar(x, y, half, ms=4, lw=1, capsize=2, **drawing.looks[method])


def draw_lines(drawing: Drawing, title: str) -> Figure:
    """Methods of one and the same number of labels: a line each, with every seed and their mean, and
    beside it the difference from the baseline."""
    curves, points, kind = drawing.curves, drawing.points, drawing.kind
    color = LOOKS["PT4AL"][0]
    group = drawing.texts[curves[0].name].partition(", ")[0]
    alike = all(text.startswith(f"{group}, ") for text in drawing.texts.values())
    texts = {name: text.removeprefix(f"{group}, " * alike) for name, text in drawing.texts.items()}
    figure = new_figure(9, 1.4 + 0.36 * len(curves))
    axes = figure.subplots(1, 2 if points else 1, squeeze=False, sharey=True)[0]
    for line, curve in enumerate(curves):
        values = curve.accuracy[kind][:, 0]
        axes[0].plot(values, [line] * len(values), "o", ms=5, color=color, alpha=0.5, mew=0)
        axes[0].plot(values.mean(), line, "|", ms=16, mew=2, color=color)
        if (ends := curve.interval(kind)) is not None:
            axes[0].hlines(line, *ends[:, 0], color=color, lw=1, alpha=0.6)
        for row in (row for row in points if row["method"] == curve.name):
            half = (row["high"] - row["low"]) / 2 if "low" in row else None
            axes[1].errorbar(row["difference"], line, xerr=half, fmt="o", ms=5, capsize=3, color=color)
    axes[0].set_yticks(
        range(len(curves)), [f"{texts[curve.name]} (n={len(curve.seeds)})" for curve in curves]
    )
    axes[0].set_ylabel(group * alike)  # what all begin with is said once
    axes[0].invert_yaxis()
    labels = f"{curves[0].labels[0]:,} labels"
    bars = "\nbars: 95 % interval of the test set" if any(x.test_images is not None for x in curves) else ""
    axes[0].set_xlabel(f"test accuracy (%), {kind} epoch\n{labels}: each seed, and the mean{bars}")
    if points:
        (baseline,) = (curve for curve in curves if curve.name == drawing.baseline)
        axes[0].axvline(baseline.accuracy[kind].mean(), color="black", lw=1)
        axes[1].axvline(0, color="black", lw=1)
        axes[1].locator_params(axis="x", nbins=7)
        axes[1].set_xlabel(drawing.difference(texts[drawing.baseline]))
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


# --- what is printed


def curve_lines(curves: list[Curve], texts: dict[str, str]) -> list[str]:
    header = [f"{what}, {kind} (%)" for what in ("final", "AULC") for kind in KINDS]
    table = [["method", "name", "n", "labels", *header]]
    for curve in curves:
        values = [curve.accuracy[kind][:, -1] for kind in KINDS]
        values += [aulc(curve.labels, curve.accuracy[kind]) for kind in KINDS]
        stats = [" ± ".join(filter(None, mean_and_std(x, 2))) for x in values]
        table.append([texts[curve.name], curve.name, str(len(curve.seeds)), span(curve.labels), *stats])
    return aligned(table)


def difference_lines(rows: list[Row], texts: dict[str, str]) -> list[str]:
    """The differences that are tested as a table, then what the baseline needs, in words."""
    table, reach = [["method", "quantity", "labels", "n", "difference", "95 % interval", "p", "p (Holm)"]], []
    for row in rows:
        method, last = texts[row["method"]], row["last_labels"]
        if row["quantity"] in QUANTITIES:
            labels = span(np.unique([row["first_labels"], last]))
            interval = f"{row['low']:.4g} to {row['high']:.4g}" if "low" in row else ""
            p = [f"{row[name]:.4g}" if name in row else "" for name in ("p", "p_holm")]
            start = [method, QUANTITIES[row["quantity"]], labels, str(row["n"])]
            table.append([*start, f"{row['difference']:.4g}", interval, *p])
        elif row["quantity"] == "labels_to_reach":
            needed, baseline = row["baseline_labels"], texts[row["baseline"]]
            text = f"needs {needed:,} labels for" if needed else "does not reach"
            reach.append(f"{baseline} {text} the final accuracy of {method} ({last:,} labels)")
    return [*aligned(table), "", *reach]


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines, column under column."""
    widths = [max(map(len, fields)) for fields in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


# --- files and command line

Tables = dict[Path, tuple[tuple[str, ...], list[Row]]]  # by file: its columns, and its rows


def check(out: Path, tables: Tables, read: list[Path]) -> None:
    """Refuse names under which something would be lost that was read, or not written by this program."""
    if out not in tables:
        check_name(out)
    for path, (columns, _) in tables.items():
        if path.is_dir():
            raise UserError(f"{path} is a folder: choose another --out")
        if path.exists() and any(path.samefile(other) for other in read if other.exists()):
            raise UserError(f"{path} is read, and would be written: choose another --out")
        start = ",".join(columns[:2]).encode()
        head = path.read_bytes()[:100].removeprefix(codecs.BOM_UTF8) if path.exists() else start
        if not head.replace(b";", b",").replace(b"\t", b",").startswith(start):
            raise UserError(f"{path} is not a table of this program: choose another --out")


def cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def read_methods(paths: list[Path], methods: list[str], baseline: str | None) -> dict[str, Curve]:
    """The curves of run folders and tables by name: of `methods` and the baseline, or all."""
    by_name = read_curves(path for path in paths if not path.is_file())
    for path in {path.resolve(): path for path in paths if path.is_file()}.values():
        found = read_curve_table(path)
        if twice := [name for name in found if name in by_name]:
            raise UserError(f"{path} holds {twice[0]}, which is given once more: rename one")
        by_name |= found
    wanted = [*(methods or by_name), *filter(None, [baseline])]
    if missing := [name for name in wanted if name not in by_name]:
        raise UserError(f"there is no {missing[0]}, but {', '.join(by_name)}{hint(missing[0], by_name)}")
    by_name = {name: curve for name, curve in by_name.items() if name in wanted}
    if baseline and len(by_name) == 1:
        raise UserError(f"--baseline {baseline} is the only method: give another to compare with it")
    return by_name


def read_labels(labels: list[str], names: Iterable[str]) -> dict[str, str]:
    """The text of each method that has one of its own, from NAME=TEXT."""
    texts = {}
    for label in labels:
        name, _, text = label.partition("=")
        if name not in names or not text:
            raise UserError(f"--label {label}: it must be NAME=TEXT, NAME one of {', '.join(names)}")
        texts[name] = text
    return texts


def parse() -> argparse.Namespace:
    default = Path("figures/learning_curves.png")
    parser = Parser(__doc__)
    add = parser.add_argument
    what = "a run folder, runs/EXPERIMENT/NAME, or a table of curves"
    add("runs", type=Path, nargs="+", metavar="RUN", help=what)
    add("--methods", nargs="+", default=[], metavar="NAME", help="only these, and the baseline")
    add("--baseline", metavar="NAME", help="the method that the others are compared with")
    add("--kind", choices=KINDS, default="last", help="the epoch that counts (default: last)")
    add("--label", action="append", default=[], metavar="NAME=TEXT", help="a method in the legend")
    add("--title", default="", help="above the picture")
    add("--out", type=Path, default=default, help=f"png, jpg, pdf, svg or csv (default: {default})")
    return parser.parse_args()


def main() -> None:
    options = parse()
    out, kind = options.out, options.kind
    by_name = read_methods(options.runs, options.methods, options.baseline)
    curves, baseline = [*by_name.values()], by_name.get(options.baseline)
    words = in_words(curves)
    texts = {**words, **read_labels(options.label, by_name)}
    texts = {name: printable(text) for name, text in texts.items()}

    tables: Tables = {}
    if any(curve.runs for curve in curves):
        content = [row for curve in curves for row in curve_rows(curve)]
        more = (TEST_IMAGES,) if any(curve.test_images is not None for curve in curves) else ()
        tables[out.with_suffix(".csv")] = ((*CURVE_COLUMNS, *more), content)
    lines, rows, notes = curve_lines(curves, texts), [], notes_of_runs(curves)
    notes += notes_of_settings(sorted(curves, key=lambda curve: curve is not baseline))
    if baseline:
        rows = compare(curves, baseline, kind)
        notes += notes_of_pairs(curves, baseline)
        tables[out.with_name(f"{out.stem}_differences.csv")] = (DIFFERENCE_COLUMNS, rows)
        lines += ["", f"minus {texts[baseline.name]}, {kind} epoch, in percentage points:"]
        lines += [*difference_lines(rows, texts), ""]

    check(out, tables, options.runs)
    if out not in tables:
        looks = looks_of(words.values())
        by_look = {name: looks[text] for name, text in words.items()}
        points = [row for row in rows if row["quantity"] == "point"]
        drawn = {name: drawable(text) for name, text in texts.items()}
        drawing = Drawing(curves, drawn, by_look, points, options.baseline, kind)
        save_picture(draw(drawing, drawable(options.title)), out)
    for path, (columns, content) in tables.items():
        write_csv(path, columns, [[cell(row.get(name)) for name in columns] for row in content])
    lines += [f"note: {note}" for note in dict.fromkeys(notes)]
    lines += map(str, dict.fromkeys([out, *tables]))
    print(*map(printable, lines), sep="\n", flush=True)


if __name__ == "__main__":
    run_script(main)
