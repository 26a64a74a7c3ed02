"""Draw the metrics of one run, and print them as a table.

Reads:   RUN/metrics.csv, and where there are cycles also RUN/cycles.csv,
         RUN/per_class.csv, RUN/labeled/cycle_<i>.txt (and .csv, where an
         annotator labels)
Writes:  RUN/curves.png

Run:     python utils/plot_curves.py runs/cifar10-seed0/main-confidence
"""

import sys
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pt4al.base.console import Parser, UserError, printable, run_script
from pt4al.base.files import read_lines
from pt4al.base.pictures import new_figure, save_picture
from pt4al.data.ids import class_of, sort_classes
from pt4al.run.curves import aulc
from pt4al.run.runs import KINDS, Table, read_table

UNLABELED = "no label"  # asked for, and the annotator could not tell


class Plain(LogFormatter):
    """Labels of a logarithmic axis without exponents: 0.3 rather than 3e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def draw_epochs(axes: np.ndarray, metrics: Table, judged_by: str) -> None:
    """Loss and accuracy by epoch, counted through all cycles; a dotted line where a cycle begins."""
    epochs = np.arange(len(metrics.rows))
    starts = np.flatnonzero(metrics.column("epoch") == 0)[1:]
    kinds = {"loss": "cross-entropy loss", "accuracy": "accuracy (%)"}
    for axis, (name, label) in zip(axes, kinds.items(), strict=True):
        axis.plot(epochs, metrics.column(f"train_{name}"), lw=0.8, label="training")
        test = metrics.column(f"test_{name}")
        known = ~np.isnan(test)
        marker = "." if known.sum() < 30 else ""  # a single point is no line
        axis.plot(epochs[known], test[known], lw=1.2, marker=marker, label=judged_by)
        for start in starts:
            axis.axvline(start, color="grey", lw=0.5, ls=":")
        axis.set(xlabel="epoch, all cycles", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    axes[0].set_yscale("log")  # the first epochs of a cycle can be far above the rest
    axes[0].yaxis.set_major_formatter(Plain())
    axes[0].yaxis.set_minor_formatter(Plain())


def draw_cycles(axis: Axes, cycles: Table, classes: Table) -> None:
    """Test accuracy and macro precision, recall and F1 by number of labels."""
    labels = cycles.column("labels")
    for kind in KINDS:
        axis.plot(labels, cycles.column(f"{kind}_accuracy"), "o-", ms=3, label=f"accuracy, {kind} epoch")
    if classes.rows:
        of_cycle = classes.column("cycle")[:, None] == cycles.column("cycle")
        for name in ("precision", "recall", "f1"):
            macro = 100 * classes.column(name) @ of_cycle / of_cycle.sum(0)
            axis.plot(labels, macro, "--", lw=1, label=f"macro {name.replace('f', 'F')}")
    axis.set(xlabel="number of labels", ylabel="test set (%)")
    axis.legend()


def read_picks(run: Path, cycle: int) -> Counter[str]:
    """How many images of each class a cycle labeled: by the class folder in their ids, or, where an
    annotator labels, by the labels that were used."""
    path = run / "labeled" / f"cycle_{cycle}.txt"
    used = read_table(path.with_suffix(".csv"))
    given = dict(zip(used.texts("file_name"), used.texts("label"), strict=True))
    count: Counter[str] = Counter()
    for line, image_id in enumerate(read_lines(path), 1):
        label = given.get(image_id, UNLABELED) if given else class_of(image_id)
        if not label:
            raise UserError(f"{path} line {line}: {image_id!r} is not an image id, DATA/SPLIT/CLASS/FILE")
        count[label] += 1
    return count


def draw_class_mix(axis: Axes, picks: list[Counter[str]]) -> None:
    """How many images of each class every cycle labeled, stacked."""
    names = sort_classes(set().union(*picks) - {UNLABELED})
    names += [UNLABELED] if any(UNLABELED in count for count in picks) else []
    bottom = np.zeros(len(picks))
    colors = matplotlib.colormaps["tab10" if len(names) <= 10 else "turbo"]
    for i, name in enumerate(names):
        height = np.array([count[name] for count in picks])
        color = colors(i if len(names) <= 10 else i / (len(names) - 1))
        axis.bar(range(len(picks)), height, bottom=bottom, color=color, label=printable(name))
        bottom += height
    axis.set(xlabel="cycle", ylabel="images labeled, by class")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(names) <= 20:
        axis.legend(title="class", fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


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
        best, last = aulc(columns[1], columns[[2, 4]])
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
    figure = new_figure(10, 7 if cycles.rows else 3.6)
    axes = figure.subplots(2 if cycles.rows else 1, 2, squeeze=False)
    # The pretext network is evaluated on the pool that it is trained on.
    draw_epochs(axes[0], metrics, "test" if (run / "labeled").is_dir() else "evaluation")
    if cycles.rows:
        draw_cycles(axes[1, 0], cycles, classes)
        draw_class_mix(axes[1, 1], [read_picks(run, i) for i in range(len(cycles.rows))])
    figure.suptitle(printable(options.title or str(run)))
    out = options.out or run / "curves.png"
    save_picture(figure, out)
    print_table(metrics, cycles)
    print(out)


if __name__ == "__main__":
    run_script(main)
