"""Draw the metrics of one run, and print them as a table.

Reads:   RUN/metrics.csv, and where there are cycles also RUN/cycles.csv,
         RUN/per_class.csv, RUN/labeled/cycle_<i>.txt; where an annotator labels
         RUN/answers.csv and RUN/labeled/cycle_<i>.csv
Writes:  RUN/curves.png

Run:     python utils/plot_curves.py runs/cifar10-seed0/main-confidence
"""

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MPLBACKEND"] = "agg"  # as in pt4al/base/pictures.py

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator

from pt4al.base.console import Parser, UserError, run_script, say
from pt4al.base.files import read_lines
from pt4al.base.pictures import drawable, new_figure, save_picture
from pt4al.data.ids import by_path, class_of, sort_classes
from pt4al.run.curves import aulc
from pt4al.run.runs import KINDS, Table, read_table, sizes_of_test_sets, which_are_points
from pt4al.run.tables import wilson

FEW = 30  # points of a curve
UNSURE = None  # in place of a class: the annotator could not tell


class Plain(LogFormatter):
    """Labels of a logarithmic axis without exponents: 0.3 rather than 3e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def legend_above(axis: Axes, columns: int) -> None:
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, fontsize=9, frameon=False,
                columnspacing=1, handlelength=1.5)  # fmt: skip


def draw_interval(axis: Axes, x: np.ndarray, accuracy: np.ndarray, sizes: np.ndarray, color: str) -> None:
    """The 95 % interval of accuracies in percent that were measured on so many images, where that is known: a
    bar for each of a few, else a band."""
    known = ~np.isnan(sizes) & ~np.isnan(accuracy)
    if not known.any():
        return
    ends = [wilson(*point) for point in zip(accuracy[known], sizes[known], strict=True)]
    low, high = np.array(ends).T
    if len(ends) < FEW:
        axis.vlines(x[known], low, high, color=color, lw=1, alpha=0.6)
    else:
        axis.fill_between(x[known], low, high, color=color, alpha=0.2, lw=0)


def draw_epochs(axes: np.ndarray, metrics: Table, run: Path) -> None:
    """Loss and accuracy by epoch, counted through all cycles; a dotted line where a cycle begins."""
    # The pretext network is evaluated on the pool that it is trained on.
    judged_by = "test" if (run / "labeled").is_dir() else "evaluation"
    epochs = np.arange(len(metrics.rows))
    starts = np.flatnonzero(metrics.column("epoch") == 0)[1:]
    kinds = {"loss": "cross-entropy loss", "accuracy": "accuracy (%)"}
    for axis, (name, label) in zip(axes, kinds.items(), strict=True):
        axis.plot(epochs, metrics.column(f"train_{name}"), lw=0.8, label="training")
        test = metrics.column(f"test_{name}")
        known = ~np.isnan(test)
        if known.any():
            marker = "." if known.sum() < FEW else ""  # a single point is no line
            (line,) = axis.plot(epochs[known], test[known], lw=1.2, marker=marker, label=judged_by)
            if name == "accuracy":
                sizes = sizes_of_test_sets(run, metrics.column("cycle"))
                draw_interval(axis, epochs, test, sizes, line.get_color())
        for start in starts:
            axis.axvline(start, color="grey", lw=0.5, ls=":")
        axis.set(xlabel="epoch, all cycles", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_above(axis, 2)
    axes[0].set_yscale("log")  # the first epochs of a cycle can be far above the rest
    axes[0].yaxis.set_major_formatter(Plain())
    axes[0].yaxis.set_minor_formatter(Plain())


def draw_cycles(axis: Axes, cycles: Table, classes: Table, run: Path) -> None:
    """Test accuracy and macro precision, recall and F1, of the classes with test images, by number of
    labels; in words where there is no test set."""
    labels, numbers = cycles.column("labels"), cycles.column("cycle")
    sizes = sizes_of_test_sets(run, numbers)
    for kind in KINDS:
        accuracy = cycles.column(f"{kind}_accuracy")
        if not np.isnan(accuracy).all():
            (line,) = axis.plot(labels, accuracy, "o-", ms=3, label=f"accuracy, {kind} epoch")
            draw_interval(axis, labels, accuracy, sizes, line.get_color())
    if classes.rows:
        tested = classes.column("support") > 0
        of_cycle = (classes.column("cycle")[:, None] == numbers) & tested[:, None]
        for name in ("precision", "recall", "f1"):
            values = classes.column(name)
            macro = [100 * values[own].mean() if own.any() else np.nan for own in of_cycle.T]
            if not np.isnan(macro).all():
                axis.plot(labels, macro, "--", lw=1, label=f"macro {name.replace('f', 'F')}")
    if not axis.lines:
        axis.text(0.5, 0.5, "no test set", ha="center", va="center", transform=axis.transAxes)
        axis.set(xticks=[], yticks=[])
        return
    bars = "" if np.isnan(sizes).all() else "; bars: 95 % interval"
    axis.set(xlabel="number of labels", ylabel=f"test set (%){bars}")
    legend_above(axis, 3)


def read_picks(run: Path, cycle: int) -> Counter[str | None]:
    """How many images of each class a cycle chose: by the class folder in their ids, or, where an
    annotator labels, by the labels that were used."""
    path = run / "labeled" / f"cycle_{cycle}.txt"
    given = None
    if any(path.parent.glob("cycle_*.csv")):  # an annotator's: folders have no meaning
        used = read_table(path.with_suffix(".csv"))
        if not used.rows:
            raise UserError(f"{used.path} is missing or empty: the same command of main.py writes it again")
        given = dict(zip(map(by_path, used.texts("file_name")), used.texts("label"), strict=True))
    count: Counter[str | None] = Counter()
    for line, image_id in enumerate(read_lines(path), 1):
        label = class_of(image_id) if given is None else given.get(by_path(image_id), UNSURE)
        if label == "":
            raise UserError(f"{path} line {line}: {image_id!r} is not an image id, DATA/SPLIT/CLASS/FILE")
        count[label] += 1
    return count


def draw_class_mix(axis: Axes, picks: list[Counter[str | None]]) -> None:
    """How many images of each class every cycle chose, stacked. Of many classes none is named, but `?` is."""
    names = sort_classes(set().union(*picks) - {UNSURE})
    few = len(names) <= 10
    colors = colormaps["tab10" if few else "turbo"]
    looks = {
        name: (drawable(name), colors(i if few else i / (len(names) - 1))) for i, name in enumerate(names)
    }
    if any(UNSURE in count for count in picks):
        looks[UNSURE] = "? (cannot tell)", "lightgrey"
    bottom = np.zeros(len(picks))
    named = []
    for name, (text, color) in looks.items():
        height = np.array([count[name] for count in picks])
        bars = axis.bar(range(len(picks)), height, bottom=bottom, color=color, label=text)
        if name is UNSURE or len(names) <= 20:
            named.append(bars)
        bottom += height
    axis.set(xlabel="cycle", ylabel="images chosen, by class")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if named:
        axis.legend(handles=named, title="class", fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def print_table(metrics: Table, cycles: Table) -> None:
    """Accuracy by cycle and the area under the learning curve, divided by its range (AULC); without
    cycles, accuracy by epoch."""
    names = ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"]
    if cycles.rows:
        names = ["cycle", "labels", "best_accuracy", "best_epoch", "last_accuracy", "seconds"]
    columns = np.array([(cycles if cycles.rows else metrics).column(name) for name in names])
    print("  ".join(f"{name:>14}" for name in names))
    for row in columns.T if cycles.rows else columns.T[~np.isnan(columns[4])]:
        print("  ".join(f"{x:14.6g}" for x in row))
    if len(cycles.rows) > 1:
        points = columns[:, which_are_points(columns[1])]
        best, last = aulc(points[1], points[[2, 4]])
        print(f"{'AULC':>14}  {'':>14}  {best:14.6g}  {'':>14}  {last:14.6g}")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("run", type=Path, help="a run folder: runs/EXPERIMENT/RUN")
    parser.add_argument("--out", type=Path, help="the picture (default: RUN/curves.png)")
    parser.add_argument("--title", help="above the picture (default: the run's path)")
    options = parser.parse_args()
    run = options.run
    metrics, cycles, classes = (
        read_table(run / f"{name}.csv") for name in ("metrics", "cycles", "per_class")
    )
    if not metrics.rows:
        raise UserError(f"{metrics.path} is missing or empty: is {run} a run folder?")
    figure = new_figure(10, 7.4 if cycles.rows else 3.6)
    axes = figure.subplots(2 if cycles.rows else 1, 2, squeeze=False)
    draw_epochs(axes[0], metrics, run)
    if cycles.rows:
        draw_cycles(axes[1, 0], cycles, classes, run)
        draw_class_mix(axes[1, 1], [read_picks(run, i) for i in range(len(cycles.rows))])
    figure.suptitle(drawable(options.title or str(run)))
    out = options.out or run / "curves.png"
    save_picture(figure, out)
    print_table(metrics, cycles)
    say(out)


if __name__ == "__main__":
    run_script(main)
