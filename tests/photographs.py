"""What tests of unlabeled pools share: an annotator by script, who answers when a run waits."""

import csv
import random
import subprocess
from pathlib import Path

from shell import Started, rows, run, says

from pt4al.person.labels import LabelFile

TINY = ["--img-size", "16", "--width", "8", "--rotation-epochs", "1", "--epochs", "2", "--milestones", "1",
        "--eval-every", "2", "--crop-padding", "1", "--lr", "0.03", "--batch-size", "16", "--threads", "1",
        "--no-flip"]  # fmt: skip
OWN = ["--dataset", "unlabeled", "--data-dir", "photos", "--experiment", "own"]
CYCLES = ["--num-batches", "5", "--cycles", "2", "--labels-per-cycle", "10"]
RUN = Path("runs/own/main-confidence")
WEIGHTS = Path("checkpoint/own/main-confidence")


# --- scripts


def flags_of(script: str, *flags: str) -> list[str]:
    return [*OWN, *TINY, *(CYCLES if script != "whole_dataset.py" else []), *flags]


def own(
    folder: Path, script: str = "main.py", *flags: str, status: int | None = 0
) -> subprocess.CompletedProcess:
    return run(folder, script, *flags_of(script, *flags), status=status)


def hold_own(folder: Path, *flags: str, epochs: int, **how) -> Started:
    """main.py, which has trained so many epochs and waits."""
    process = Started(folder, "main.py", *flags_of("main.py", *flags), hold=(epochs, 60), **how)
    while epochs:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        epochs -= " epoch " in line
    return process


def prepare(folder: Path) -> None:
    """Batches without a pretext network: a loss file drawn by a fixed seed."""
    source = random.Random(0)
    lines = [f"{source.random():.6f}_{name}" for name in truth_of(folder)]
    (folder / "losses.txt").write_text("\n".join(lines) + "\n")
    own(folder, "make_batches.py", "--losses", "losses.txt")


# --- an annotator


def truth_of(folder: Path) -> dict[str, str]:
    return {row["file_name"]: row["label"] for row in rows(folder / "truth.csv")}


def waiting(folder: Path, tables: Path = RUN) -> list[str]:
    """The images that a run waits for."""
    path = folder / tables / "to_label.csv"
    return [row.file for row in LabelFile(path).rows() if not row.label] if path.exists() else []


def waits(done: subprocess.CompletedProcess, cycle: int, missing: int, asked: int) -> None:
    """A run must have said that it waits for so many labels."""
    says(done.stdout, f"cycle {cycle} ", f" {missing} of {asked} ", "to_label.csv")


def say(folder: Path, labels: dict[str, str], more: tuple[str, ...] = ()) -> None:
    """Append rows to labels.csv."""
    path = folder / "photos/labels.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["file_name", "label", *(["annotator"] if more else [])])
        writer.writerows([name, label, *more] for name, label in labels.items())


def answer(folder: Path, tables: Path = RUN, **changed: str) -> list[str]:
    """Answer with the truth what a run waits for."""
    truth, asked = truth_of(folder), waiting(folder, tables)
    say(folder, {name: changed.get(name, truth[name]) for name in asked})
    return asked


def until_done(folder: Path, *flags: str, script: str = "main.py", tables: Path = RUN) -> int:
    """Run and answer in turns; how often it waited."""
    for stops in range(20):
        process = own(folder, script, *flags, status=None)
        if process.returncode == 0:
            return stops
        assert process.returncode == 3, process.stderr
        assert answer(folder, tables), process.stdout
    raise AssertionError("it never ends")
