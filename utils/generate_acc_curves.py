"""Compare runs: learning curves of test accuracy by number of labels, seeds pooled into mean and band.

Runs with the same folder name (`main-confidence`) are seeds of one method. Their curve is the mean,
the band one standard deviation (n - 1) to each side. A run with a single cycle (`whole-dataset`,
`cold-start-...`) is a dashed line, or a single point.

Reads:  RUN/cycles.csv of every RUN
Writes: a PNG (default: figures/learning_curves.png) and a CSV beside it with the same name: a row a method and number
        of labels (n, mean and std of best and last accuracy, the raw values), and the area under each curve
Run:    python utils/generate_acc_curves.py runs/*/main-confidence runs/*/main-random runs/*/whole-dataset
"""

import argparse
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed
import matplotlib.pyplot as plt
import numpy as np

COLUMNS = ("final best (%)", "final last (%)", "area, best (%)", "area, last (%)")


class Curve:
    """The runs of one method: labels (points,), and best and last accuracy in percent, each (seeds,
    points)."""

    def __init__(self, name: str, runs: list[Path]) -> None:
        tables = [read_cycles(run) for run in runs]
        points = min(map(len, tables))
        self.name = name
        self.seeds = len(runs)
        self.labels = np.array([int(row["labels"]) for row in tables[0][:points]])
        for run, table in zip(runs, tables, strict=True):
            if [int(row["labels"]) for row in table[:points]] != self.labels.tolist():
                raise ValueError(
                    f"{run} labelled other numbers of images than {runs[0]}: they cannot be pooled"
                )
        if len({len(table) for table in tables}) > 1:
            print(
                f"note: the runs of {name} have different lengths; the first {points} cycles are compared"
            )
        self.accuracy = {
            kind: np.array(
                [[float(row[f"{kind}_accuracy"]) for row in table[:points]] for table in tables]
            )
            for kind in ("best", "last")
        }

    def mean(self, kind: str) -> np.ndarray:
        return self.accuracy[kind].mean(0)

    def std(self, kind: str) -> np.ndarray:
        """Sample standard deviation; NaN with one seed."""
        many = self.seeds > 1
        return self.accuracy[kind].std(0, ddof=1) if many else np.full(len(self.labels), np.nan)

    def area(self, kind: str) -> np.ndarray:
        """For each seed the mean height of the curve over labels, in percent (area by trapezoids / width)."""
        if len(self.labels) == 1:
            return self.accuracy[kind][:, 0]
        width = self.labels[-1] - self.labels[0]
        return np.trapezoid(self.accuracy[kind], self.labels, axis=1) / width


def read_cycles(run: Path) -> list[dict[str, str]]:
    """The rows of a run's cycles.csv.

    Raises:
        ValueError: there are none.
    """
    path = run / "cycles.csv"
    rows = []
    if path.is_file():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(
            f"{path} is missing or empty: is {run} a run folder, and is its first cycle done?"
        )
    return rows


def plus_minus(values: np.ndarray) -> str:
    return (
        f"{values.mean():.2f} ± {values.std(ddof=1):.2f}" if len(values) > 1 else f"{values[0]:.2f}"
    )


def draw(curves: list[Curve], kind: str, title: str, out: Path) -> None:
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for curve in curves:
        mean, text = curve.mean(kind), f"{curve.name} (n={curve.seeds})"
        if curve.name == "whole-dataset":
            axis.axhline(
                mean[-1], ls="--", color="black", lw=1, label=f"{text}, {curve.labels[-1]:,} labels"
            )
        else:
            line = axis.plot(curve.labels, mean, "o-", ms=4, label=text)[0]
            if curve.seeds > 1:
                std = curve.std(kind)
                axis.fill_between(
                    curve.labels, mean - std, mean + std, alpha=0.2, color=line.get_color()
                )
    axis.set(
        xlabel="labelled images", ylabel=f"test accuracy (%), {kind} epoch of a cycle", title=title
    )
    axis.grid(alpha=0.3)
    axis.legend(title="mean, band: ±1 std over seeds" if any(c.seeds > 1 for c in curves) else None)
    figure.savefig(out, dpi=120)


def write_table(curves: list[Curve], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [
                "method",
                "labels",
                "n",
                "best_mean",
                "best_std",
                "last_mean",
                "last_std",
                "best_values",
                "last_values",
            ]
        )
        for curve in curves:
            columns = [*(f(kind) for kind in ("best", "last") for f in (curve.mean, curve.std))]
            for i, labels in enumerate(curve.labels):
                numbers = ["" if np.isnan(c[i]) else f"{c[i]:.4f}" for c in columns]
                raw = [
                    " ".join(f"{x:.4f}" for x in curve.accuracy[kind][:, i])
                    for kind in ("best", "last")
                ]
                writer.writerow([curve.name, labels, curve.seeds, *numbers, *raw])
            areas = {kind: curve.area(kind) for kind in ("best", "last")}
            stats = [
                "" if statistic is np.std and curve.seeds == 1 else f"{statistic(a, **extra):.4f}"
                for a in areas.values()
                for statistic, extra in ((np.mean, {}), (np.std, {"ddof": 1}))
            ]
            raw = [" ".join(f"{x:.4f}" for x in a) for a in areas.values()]
            writer.writerow([curve.name, "area", curve.seeds, *stats, *raw])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders: runs/EXPERIMENT/RUN")
    parser.add_argument(
        "--out", type=Path, default=Path("figures/learning_curves.png"), help="the picture"
    )
    parser.add_argument("--title", default="", help="above the picture")
    parser.add_argument(
        "--kind",
        choices=("best", "last"),
        default="best",
        help="epoch that is drawn (default: best)",
    )
    options = parser.parse_args()
    by_name: dict[str, list[Path]] = {}
    for run in options.runs:
        by_name.setdefault(run.resolve().name, []).append(run)
    try:
        curves = [Curve(name, runs) for name, runs in by_name.items()]
    except ValueError as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(curves, options.kind, options.title, options.out)
    table = options.out.with_suffix(".csv")
    write_table(curves, table)
    print(f"{'method':<28}{'n':>3}{'labels':>8}  " + "".join(f"{title:<16}" for title in COLUMNS))
    for curve in curves:
        final = [curve.accuracy[kind][:, -1] for kind in ("best", "last")]
        cells = "".join(
            f"{plus_minus(c):<16}" for c in [*final, curve.area("best"), curve.area("last")]
        )
        print(f"{curve.name:<28}{curve.seeds:>3}{curve.labels[-1]:>8}  {cells}")
    print(options.out, table, sep="\n")


if __name__ == "__main__":
    main()
