"""Draw the metrics of one run, and print them as a table.

Reads:   RUN/metrics.csv, and where there are cycles also RUN/cycles.csv,
         RUN/per_class.csv, RUN/labeled/cycle_<i>.txt
Writes:  RUN/curves.png

Run:     python utils/plot_curves.py runs/cifar10-seed0/main-confidence
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column name; none where the file is missing."""
    if not path.is_file():
        return []
    with path.open(newline="", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    if any(None in (*row, *row.values()) for row in rows):
        raise ValueError(f"{path.name} has a row of more or fewer fields than its header")
    return rows


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """A column as float64; an empty field becomes NaN."""
    return np.array([float(row[name] or "nan") for row in rows])


def plain(text: str) -> str:
    """As matplotlib should show it: a dollar sign begins no formula, a byte that is no UTF-8 shows as
    a question mark."""
    return text.encode(errors="replace").decode().replace("$", r"\$")


def class_order(names: set[str]) -> list[str]:
    """Numerical order when all are numbers, else by name."""
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def draw_epochs(axes: np.ndarray, metrics: list[dict[str, str]]) -> None:
    """Loss and accuracy by epoch, counted through all cycles; a dotted line where a cycle begins."""
    epochs = np.arange(len(metrics))
    starts = [i for i, row in enumerate(metrics) if row["epoch"] == "0"][1:]
    kinds = {"loss": "cross-entropy", "accuracy": "accuracy (%)"}
    for axis, (name, label) in zip(axes, kinds.items(), strict=True):
        axis.plot(epochs, column(metrics, f"train_{name}"), lw=0.8, label="training")
        test = column(metrics, f"test_{name}")
        known = ~np.isnan(test)
        axis.plot(epochs[known], test[known], lw=1.2, label="test")
        for start in starts:
            axis.axvline(start, color="grey", lw=0.5, ls=":")
        axis.set(xlabel="epoch, all cycles", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    axes[0].set_yscale("log")  # the first epochs of a cycle can be far above the rest


def draw_cycles(axis: plt.Axes, cycles: list[dict[str, str]], classes: list[dict[str, str]]) -> None:
    """Test accuracy and macro precision, recall and F1 by number of labels."""
    labels = column(cycles, "labels")
    for name, text in (("best", "best epoch"), ("last", "last epoch")):
        axis.plot(labels, column(cycles, f"{name}_accuracy"), "o-", ms=3, label=f"accuracy, {text}")
    for name in ("precision", "recall", "f1") if classes else ():
        macro = [
            100 * np.mean([float(row[name]) for row in classes if row["cycle"] == cycle["cycle"]])
            for cycle in cycles
        ]
        axis.plot(labels, macro, "--", lw=1, label=f"macro {'F1' if name == 'f1' else name}")
    axis.set(xlabel="labelled images", ylabel="test set (%)")
    axis.legend()


def draw_class_mix(axis: plt.Axes, run: Path, cycles: int) -> None:
    """How many images of each class every cycle chose, from the class folders in their ids."""
    picks = [
        Counter(
            line.replace("\\", "/").split("/")[-2]
            for line in path.read_text(errors="surrogateescape").rstrip("\n").split("\n")
        )
        for path in (run / "labeled" / f"cycle_{i}.txt" for i in range(cycles))
    ]
    names = class_order(set().union(*picks))
    bottom = np.zeros(len(picks))
    colours = plt.get_cmap("tab10" if len(names) <= 10 else "turbo")
    for i, name in enumerate(names):
        height = np.array([count[name] for count in picks])
        colour = colours(i if len(names) <= 10 else i / (len(names) - 1))
        axis.bar(range(len(picks)), height, bottom=bottom, color=colour, label=plain(name))
        bottom += height
    axis.set(xlabel="cycle", ylabel="images chosen, by true class")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(names) <= 20:
        axis.legend(title="class", fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def print_table(metrics: list[dict[str, str]], cycles: list[dict[str, str]]) -> None:
    """Accuracy by cycle, and its mean over cycles: the height of the curve; without cycles, by epoch."""
    rows = cycles or [row for row in metrics if row["test_accuracy"]]
    wanted = ("cycle", "labels", "best_accuracy", "best_epoch", "last_accuracy", "seconds")
    names = (
        wanted
        if cycles
        else ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
    )
    print("  ".join(f"{name:>14}" for name in names))
    for row in rows:
        print("  ".join(f"{float(row[name] or 'nan'):14.6g}" for name in names))
    if len(cycles) > 1:
        best, last = (column(cycles, f"{kind}_accuracy").mean() for kind in ("best", "last"))
        print(f"{'mean':>14}  {'':>14}  {best:14.6g}  {'':>14}  {last:14.6g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder: runs/EXPERIMENT/RUN")
    parser.add_argument("--out", type=Path, help="the picture (default: RUN/curves.png)")
    parser.add_argument("--title", help="above the picture (default: the run's path)")
    options = parser.parse_args()
    try:
        show(options.run, options.out or options.run / "curves.png", options.title)
    except (OSError, ValueError, KeyError, IndexError) as error:
        bare = {KeyError: f"no column {error}", IndexError: "a line of labeled/ is no image id"}
        reason = " ".join(bare.get(type(error), str(error)).split())
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {options.run} cannot be drawn: {reason}\n")


def show(run: Path, out: Path, title: str | None) -> None:
    """Print the tables of a run and draw its picture."""
    metrics = read_table(run / "metrics.csv")
    if not metrics:
        raise ValueError("metrics.csv is missing or empty: is it a run folder?")
    cycles, classes = (read_table(run / name) for name in ("cycles.csv", "per_class.csv"))
    figure, axes = plt.subplots(
        2 if cycles else 1,
        2,
        figsize=(10, 7 if cycles else 3.6),
        squeeze=False,
        layout="constrained",
    )
    draw_epochs(axes[0], metrics)
    if cycles:
        draw_cycles(axes[1, 0], cycles, classes)
        draw_class_mix(axes[1, 1], run, len(cycles))
    figure.suptitle(plain(title or str(run)))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    print_table(metrics, cycles)
    print(out)


if __name__ == "__main__":
    main()
