"""The tables of README.md, docs/results.md and study/REPORT.md are those of the CSV files, which follow from
what is kept of the runs. A table is known by the first cell of its head; a changed digit must be found."""

import functools
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shell import ROOT, load_program, rows

STUDY = ROOT / "study"
TEXTS = {page: (ROOT / page).read_text() for page in ("README.md", "docs/results.md", "study/REPORT.md")}
CURVES = {
    "study": STUDY / "study.csv",
    "paper": STUDY / "paper_schedule.csv",
    "digits": ROOT / "docs/digits.csv",
}
OF_PAPER = sorted(STUDY.glob("figures/paper_schedule*_differences.csv"))
DIFFERENCES = {
    "study": sorted({*STUDY.glob("figures/*_differences.csv")} - {*OF_PAPER}),
    "paper": OF_PAPER,
    "digits": [ROOT / "docs/digits_differences.csv"],
}
# Methods in words; study/REPORT.md has the names of the CSV files, as code.
METHODS = {
    "random sampling": "random",
    "random": "random",
    "margin sampling, whole pool": "margin",
    "PT4AL": "pt4al",
    "PT4AL, lexicographic sort": "pt4al-text",
    "PT4AL, random order": "pt4al-shuffled",
    "PT4AL, easiest first": "pt4al-ascending",
    "PT4AL, interleaved": "interleaved",
    "entropy sampling, whole pool": "entropy",
    "BADGE, whole pool": "badge",
    "Core-set, whole pool": "coreset",
    "TypiClust, whole pool": "typiclust",
}
FIRST_PICKS = {
    "random sampling": "cold-random",
    "PT4AL: batch 0, the hardest": "cold-0",
    "batch 2": "cold-2",
    "batch 5": "cold-5",
    "batch 9, the easiest": "cold-9",
    "batch 0, lexicographic sort": "cold-0-text",
    "batch 5, lexicographic sort": "cold-5-text",
    "random, class counts of batch 0": "cold-mix",
    "hardest of each class, even classes": "cold-balanced",
    "TypiClust": "cold-typiclust",
}
# Tables on features: of a data set and its last number of labels, the CSV files, one for each series of runs.
ON_FEATURES = {
    f"{data} to {last}": [STUDY / f"features/{name}-{step}-minus-random" for name in names]
    for data, names in (("CIFAR-10", ("cifar", "cifar2", "cifar3")), ("Tiny-ImageNet", ("tiny", "tiny2")))
    for step, last in ((100, "1,000"), (1000, "10,000"))
}
DIGITS = {"PT4AL": "main-confidence", "random": "main-random", "random sampling": "main-random"}


# --- the values


@functools.cache
def curves(source: str) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["method"], row["labels"]): row for row in rows(CURVES[source])}


@functools.cache
def differences(source: str) -> dict[tuple[str, str, str], dict[str, str]]:
    """By baseline, method and number of labels, or else `first`, `final`, `area`."""
    return {
        (
            row["baseline"],
            row["method"],
            row["first_labels"] if row["quantity"] == "point" else row["quantity"],
        ): row
        for path in DIFFERENCES[source]
        for row in rows(path)
    }


@functools.cache
def on_features(place: str, method: str) -> dict[str, dict[str, str]]:
    """Differences from random sampling by quantity, of a method in words, in the first series that has it."""
    for path in ON_FEATURES[place]:
        name = f"{METHODS[method]}-{path.stem.split('-')[1]}"
        of_path = [row for row in rows(Path(f"{path}_differences.csv")) if row["method"] == name]
        if of_path:
            return {row["quantity"]: row for row in of_path if row["quantity"] != "point"}
    raise KeyError(method)


def accuracy(source: str, method: str, labels: str, kind: str = "last", digits: int = 2) -> str:
    """Mean ± standard deviation, which a single run lacks."""
    row = curves(source)[method, labels]
    return " ± ".join(f"{float(x):.{digits}f}" for x in (row[f"{kind}_mean"], row[f"{kind}_std"]) if x)


def difference(source: str, baseline: str, method: str, labels: str) -> str:
    return with_interval(differences(source)[baseline, method, labels])


def with_interval(row: dict[str, str]) -> str:
    """Mean difference and its interval, which that of a single pair lacks."""
    middle, *ends = (f"{float(row[x]):+.2f}" for x in ("difference", "low", "high") if row[x])
    return f"{middle} ({' to '.join(ends)})" if ends else middle


def value(method: str, labels: str, seed: str) -> float:
    row = curves("study")[method, labels]
    return float(row["last_values"].split()[row["seeds"].split().index(seed)])


@functools.cache
def classes(method: str) -> str:
    """Fewest and most images of a class that the first cycle labeled."""
    picks = [row for row in rows(STUDY / "first_picks.csv") if row["method"] == method]
    counts = [int(count) for row in picks for name, count in row.items() if name not in ("method", "seed")]
    return f"{min(counts)} to {max(counts)}"


# --- the tables


def tables(text: str) -> Iterator[tuple[int, list[str], list[list[str]]]]:
    """Where the rows of a table begin in a page, its head, its rows."""
    for block in re.finditer(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, line, *body = block[0].splitlines(keepends=True)
        cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in (head, *body)]
        yield block.start() + len(head + line), cells[0], cells[1:]


def labels_of(column: str) -> str:
    """`1,000`, `1,000 labels`, `AULC to 5,000` as the CSV files name them."""
    return "area" if column.startswith("AULC") else column.replace(",", "").split()[0]


def right(head: list[str], row: list[str], column: str) -> str | None:
    """What a cell must hold; None where no CSV file has it. KeyError: no CSV file has this row or column."""
    title, name = head[0], row[0].replace("**", "").strip("`")
    if title == "at":
        quantity = {"28 labels": "first", "280 labels": "final", "AULC": "area"}[name]
        found = differences("digits")["main-random", "main-confidence", quantity]
        middle, low, high = (f"{float(found[x]):+.2f}" for x in ("difference", "low", "high"))
        p = f"{float(found['p']) + 1e-9:.3f}"
        return {"mean difference": middle, "95 % t interval": f"{low} to {high}", "sign-flip p": p}[column]
    if title == "labels":
        labels = labels_of(name)
        if column == "n":
            return curves("digits")["main-random", labels]["n"]
        if " minus " in column:
            method, baseline = column.split(" minus ")
            return difference("digits", DIGITS[baseline], DIGITS[method], labels)
        kind = "best" if column.endswith(", best") else "last"
        method = DIGITS[re.sub(", (best|last)$", "", column)]
        if "every label" in name:
            return accuracy("digits", "whole-dataset", labels, kind) if method == "main-confidence" else ""
        return accuracy("digits", method, labels, kind)
    if title == "what is labeled":
        return classes(row[1].strip("`")) if column == "images of a class" else None
    if title == "cold start":
        method = FIRST_PICKS[name]
        if column == "images per class":
            return classes(method)
        if column == "minus random sampling":
            return difference("study", "cold-random", method, "1000") if method != "cold-random" else ""
        return curves("study")[method, "1000"]["n"] if column == "n" else accuracy("study", method, "1000")
    if title == "seeds 1 to 4":
        of = [labels_of(x) for x in head[2:-1]]
        points = np.array([[value(name, labels, seed) for labels in of] for seed in "1234"])
        area = (points[:, :-1] + points[:, 1:]).mean(axis=1) / 2  # by trapezoids of one width
        columns = dict(zip(head[2:], (*points.T, area), strict=True))
        return "4" if column == "n" else f"{columns[column].mean():.2f} ± {columns[column].std(ddof=1):.2f}"
    if title.endswith(" on features"):
        quantity = {"first cycle": "first", "last cycle": "final", "AULC": "area"}[
            title[: -len(" on features")]
        ]
        return with_interval(on_features(column, name)[quantity])
    source = "paper" if title.startswith("200 epochs, ") else "study"
    title = title.removeprefix("200 epochs, ")
    name, minus = METHODS.get(name, name), title.removeprefix("minus ").strip("`")
    if title == "arm" and head[1] == "cycles":
        return None
    if title.startswith("minus "):
        minus, labels = METHODS.get(minus, minus), labels_of(head[2] if column == "n" else column)
        row_of = differences(source)[minus, name, labels]
        return row_of["n"] if column == "n" else difference(source, minus, name, labels)
    if title == "arm" and "n" not in head:
        return f"{value(name, labels_of(column), '0'):.2f}"
    if title in ("arm", "last epoch") or title.startswith("CIFAR-10, "):
        if column == "n":
            return curves(source)[name, labels_of(head[2])]["n"]
        return accuracy(source, name, labels_of(column), digits=1 if title.startswith("CIFAR-10, ") else 2)
    return None


def check(text: str) -> tuple[int, list[str]]:
    """How many cells of a page's tables are a CSV file's, and those that are not as that file has them."""
    count, wrong = 0, []
    for _, head, body in tables(text):
        for row in body:
            for column, cell in zip(head[1:], row[1:], strict=True):
                try:
                    wanted = right(head, row, column)
                except KeyError:
                    wanted = "not in the CSV files"
                count += wanted is not None
                if wanted not in (None, cell):
                    wrong.append(f"{head[0]}, {row[0]}, {column}: {cell}, not {wanted}")
    return count, wrong


CELLS = {"README.md": 12, "docs/results.md": 243, "study/REPORT.md": 459}  # at least


@pytest.mark.parametrize("page", TEXTS)
def test_tables_are_their_csv_files(page: str):
    count, wrong = check(TEXTS[page])
    assert not wrong and count >= CELLS[page]


@pytest.mark.parametrize("page", TEXTS)
def test_a_digit_changed_in_a_table_is_found(page: str):
    text, changed = TEXTS[page], 0
    for start, head, body in tables(text):
        if right(head, body[0], head[-1]) is None:
            continue
        at = start
        for line in text[start:].splitlines()[: len(body)]:
            last = max(at + i for i, letter in enumerate(line) if letter.isdigit())
            other = text[:last] + str((int(text[last]) + 1) % 10) + text[last + 1 :]
            assert check(other)[1], line
            at += len(line) + 1
            changed += 1
    assert changed >= 3
    assert check(text.replace("±", "+"))[1] and check(text.replace("PT4AL", "PT5AL"))[1]


# --- the text


def test_results_are_short():
    lines = TEXTS["docs/results.md"].splitlines()
    prose = [line for line in lines if not line.startswith("|")]
    assert len(lines) <= 220 and len(" ".join(prose).split()) <= 1200
    assert not [line for line in lines if len(line) > 110 and not line.startswith("|")]


def test_numbers_of_the_prose_stand_in_a_table_or_in_the_report():
    """Those of docs/results.md that have decimals, rounded to as many."""
    text = TEXTS["docs/results.md"]
    prose = re.sub(r"^\|.*\n", "", text, flags=re.MULTILINE)
    numbers = re.findall(r"\d+\.\d+", prose)
    in_tables = re.findall(r"\d+\.\d+", text.replace(prose, ""))
    known = {f"{float(x):.{digits}f}" for x in in_tables for digits in (1, 2)}
    known |= {*re.findall(r"\d+\.\d+", TEXTS["study/REPORT.md"])}
    assert len(numbers) >= 4 and not [x for x in numbers if x not in known]


# --- the CSV files


def draw(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> None:
    """`utils/generate_acc_curves.py ARGUMENTS` in a folder, in this process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["generate_acc_curves.py", *map(str, arguments)])
    load_program("generate_acc_curves").main()


@pytest.mark.parametrize(
    "path", [path for series in ON_FEATURES.values() for path in series], ids=lambda path: path.stem
)
def test_differences_on_features_follow_from_what_is_kept(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name, step, *_ = path.stem.split("-")
    subprocess.run(["tar", "-xf", STUDY / "features/runs.tar.gz"], cwd=tmp_path, check=True)
    runs = sorted(tmp_path.glob(f"runs/features-{name}-*-seed?/*-{step}"))
    methods = dict.fromkeys(row["method"] for row in rows(Path(f"{path}.csv")))
    runs = [run for method in methods for run in runs if run.name == method]
    assert len(runs) == 10 * len(methods) >= 20
    assert f"random-{step}" in methods
    for baseline in {"random", "pt4al"} & {method.removesuffix(f"-{step}") for method in methods}:
        out = f"{name}-{step}-minus-{baseline}"
        draw(monkeypatch, tmp_path, *runs, "--baseline", f"{baseline}-{step}", "--out", f"{out}.png")
        for kind in (".csv", "_differences.csv"):
            assert (tmp_path / f"{out}{kind}").read_bytes() == (
                STUDY / "features" / f"{out}{kind}"
            ).read_bytes()


@pytest.mark.parametrize("path", [*DIFFERENCES["study"], *DIFFERENCES["paper"]], ids=lambda path: path.stem)
def test_differences_follow_from_the_curves(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = CURVES["paper" if path in OF_PAPER else "study"]
    methods = list(dict.fromkeys(row["method"] for row in rows(path)))
    out = path.name.replace("_differences.csv", ".svg")
    baseline = rows(path)[0]["baseline"]
    draw(monkeypatch, tmp_path, source, "--methods", *methods, "--baseline", baseline, "--out", out)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_curves_follow_from_what_is_kept_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tarfile.open(STUDY / "runs.tar.gz") as archive:
        members = archive.getmembers()
    subprocess.run(["tar", "-xf", STUDY / "runs.tar.gz"], cwd=tmp_path, check=True)
    assert [x.name for x in members] == sorted(x.name for x in members)
    assert {(x.mtime, x.uid, x.gid, x.mode, x.isfile()) for x in members} == {(0, 0, 0, 0o644, True)}
    methods = dict.fromkeys(row["method"] for row in rows(CURVES["study"]))
    runs = [run for name in methods for run in sorted(tmp_path.glob(f"runs/study-{name}-seed?/{name}"))]
    assert len(runs) == len([*tmp_path.glob("runs/study-*-seed?/*")]) == 100
    draw(monkeypatch, tmp_path, *runs, "--out", "study.csv")
    assert (tmp_path / "study.csv").read_bytes() == CURVES["study"].read_bytes()
    draw(monkeypatch, tmp_path, *sorted(tmp_path.glob("runs/paper-*/*")), "--out", "paper.csv")
    assert (tmp_path / "paper.csv").read_bytes() == CURVES["paper"].read_bytes()
    again = sorted(tmp_path.glob("runs/again/*/*"))
    draw(monkeypatch, tmp_path, *again, "--baseline", "pt4al", "--out", "again.csv")
    kept = (tmp_path / "runs/again/again_differences.csv").read_bytes()
    assert (tmp_path / "again_differences.csv").read_bytes() == kept
