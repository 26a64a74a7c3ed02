import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import TINY, rows, run


def is_picture(path: Path, width: int) -> bool:
    """A PNG at least so wide that is not one colour."""
    with Image.open(path) as image:
        return (
            image.format == "PNG"
            and image.width >= width
            and len(image.convert("RGB").getcolors(2**24)) > 20
        )


def test_plot_curves_draws_and_prints_a_run(finished: Path, tmp_path: Path):
    source = finished / "runs/digits-seed0/main-confidence"
    done = run(
        tmp_path, "utils/plot_curves.py", str(source), "--out", "a/b.png", "--title", "A title"
    )
    assert done.stdout.splitlines()[-1] == "a/b.png" and is_picture(tmp_path / "a/b.png", 1000)
    table = rows(source / "cycles.csv")
    best = [float(row["best_accuracy"]) for row in table]
    printed = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:-1]}
    assert [float(printed[str(i)][1]) for i in range(3)] == pytest.approx(best, rel=1e-4)
    assert float(printed["mean"][0]) == pytest.approx(np.mean(best), rel=1e-4)
    assert float(printed["std"][0]) == pytest.approx(np.std(best, ddof=1), rel=1e-4)


def test_plot_curves_draws_rotation_too(finished: Path, tmp_path: Path):
    run(
        tmp_path,
        "utils/plot_curves.py",
        str(finished / "runs/digits-seed0/rotation"),
        "--out",
        "r.png",
    )
    assert is_picture(tmp_path / "r.png", 1000)


def make_run(folder: Path, accuracies: list[float]) -> str:
    """A run folder with a hand-written cycles.csv: 10, 20, ... labels; last is 1 below best."""
    folder.mkdir(parents=True)
    with (folder / "cycles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["cycle", "labels", "best_accuracy", "best_epoch", "last_accuracy", "seconds"]
        )
        writer.writerows([i, 10 * i + 10, a, 0, a - 1, 1.0] for i, a in enumerate(accuracies))
    return str(folder)


def test_generate_acc_curves_pools_seeds_by_name(tmp_path: Path):
    runs = [
        make_run(tmp_path / "runs/s0/main-confidence", [50, 70, 80]),
        make_run(tmp_path / "runs/s1/main-confidence", [54, 70, 90]),
        make_run(tmp_path / "runs/s0/main-random", [40, 50, 60]),
        make_run(tmp_path / "runs/s0/whole-dataset", [95]),
    ]
    done = run(tmp_path, "utils/generate_acc_curves.py", *runs, "--out", "curves.png")
    assert is_picture(tmp_path / "curves.png", 800)
    table = {(row["method"], row["labels"]): row for row in rows(tmp_path / "curves.csv")}
    first, last = table["main-confidence", "10"], table["main-confidence", "30"]
    assert (first["n"], first["best_mean"], first["best_values"]) == (
        "2",
        "52.0000",
        "50.0000 54.0000",
    )
    assert (
        float(last["best_std"]) == pytest.approx(50**0.5, abs=1e-3)
        and last["last_mean"] == "84.0000"
    )
    # Trapezoids: (50+70)/2*10 + (70+80)/2*10 = 1350 over 20 labels = 67.5; the other seed 71.
    assert table["main-confidence", "area"]["best_values"] == "67.5000 71.0000"
    assert (
        table["main-random", "30"]["best_std"] == ""
        and table["main-random", "area"]["best_mean"] == "50.0000"
    )
    assert "85.00 ± 7.07" in done.stdout and "95.00" in done.stdout


def test_generate_acc_curves_refuses_runs_that_do_not_compare(tmp_path: Path):
    a, b = make_run(tmp_path / "a/m", [1, 2]), make_run(tmp_path / "b/m", [1, 2])
    text = (tmp_path / "b/m/cycles.csv").read_text()
    (tmp_path / "b/m/cycles.csv").write_text(text.replace(",20,", ",21,"))
    assert (
        "cannot be pooled" in run(tmp_path, "utils/generate_acc_curves.py", a, b, status=2).stderr
    )
    done = run(tmp_path, "utils/generate_acc_curves.py", str(tmp_path), status=2)
    assert "cycles.csv is missing" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "figures").exists()


def test_show_batches_draws_every_batch(finished: Path, tmp_path: Path):
    (tmp_path / "loss").symlink_to(finished / "loss")
    run(
        tmp_path,
        "utils/show_batches.py",
        "digits",
        *TINY,
        "--out",
        "batches.png",
        "--title",
        "Digits",
    )
    assert is_picture(tmp_path / "batches.png", 1000)
