"""generate_acc_curves.py: its files, what it prints and what it draws, within this process. What it
computes is tested in tests/run/."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_record, make_run, make_runs
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from shell import command, environment, is_picture, load_program, rows, run

from pt4al.base.console import UserError

CURVES = load_program("generate_acc_curves")
RANDOM = {"strategy": "random", "candidates": "all", "first_pick": "random"}
Curves = Callable[..., str]


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Curves:
    """Run the program in tmp_path. Gives what it prints."""

    def start(*arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["generate_acc_curves.py", *map(str, arguments)])
        CURVES.main()
        done = capsys.readouterr()
        assert not done.err and not re.search(r"\bnan\b", done.out, re.IGNORECASE)
        return done.out

    return start


@pytest.fixture
def refusal(tmp_path: Path, curves: Curves, capsys: pytest.CaptureFixture) -> Curves:
    """Run the program in tmp_path on what it cannot use. Gives its message; nothing is printed, and no
    file differs from before."""

    def start(*arguments: object) -> str:
        before = snapshot(tmp_path)
        with pytest.raises((UserError, OSError)) as error:
            curves(*arguments)
        assert snapshot(tmp_path) == before and capsys.readouterr() == ("", "")
        return str(error.value)

    return start


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    drawn, draw = [], CURVES.draw
    monkeypatch.setattr(CURVES, "draw", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    return drawn


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --- in a process of its own


def test_runs_become_a_picture_and_a_table(tmp_path: Path):
    runs = [
        make_run(tmp_path / "runs/s0/main-confidence", [50, 70, 80]),
        make_run(tmp_path / "runs/s1/main-confidence", [54, 70, 90]),
        make_run(tmp_path / "runs/s0/main-random", [40, 50, 60]),
        make_run(tmp_path / "runs/s0/whole-dataset", [95]),
    ]
    backend = "module://matplotlib_inline.backend_inline"  # of a notebook
    flags = ["--out", "curves.png"]
    done = run(tmp_path, "utils/generate_acc_curves.py", *map(str, runs), *flags, MPLBACKEND=backend)
    assert is_picture(tmp_path / "curves.png", 800) and not done.stderr
    table = {(row["method"], row["labels"]): row for row in rows(tmp_path / "curves.csv")}
    first, last = table["main-confidence", "10"], table["main-confidence", "30"]
    assert (first["n"], first["best_mean"], first["best_values"]) == ("2", "52.0000", "50 54")
    assert float(last["best_std"]) == pytest.approx(50**0.5, abs=1e-3)
    assert last["last_mean"] == "84.0000" and last["seeds"] == "? ?"
    # Trapezoids: (50+70)/2*10 + (70+80)/2*10 = 1350 over 20 labels = 67.5; the other seed 71.
    assert table["main-confidence", "area"]["best_values"] == "67.5 71"
    assert table["main-random", "30"]["best_std"] == ""
    assert table["main-random", "area"]["best_mean"] == "50.0000"
    assert re.search(r"^PT4AL +main-confidence +2 +10 to 30 +85.00 ± 7.07 ", done.stdout, re.MULTILINE)
    assert "95.00" in done.stdout and "settings not compared" in done.stdout
    assert not (tmp_path / "curves_differences.csv").exists()


def test_what_cannot_be_used_is_one_line_and_status_2(tmp_path: Path):
    for arguments, said in ((["none"], "none/cycles.csv"), (["x", "--kind", "worst"], "worst"), ([], "RUN")):
        done = run(tmp_path, "utils/generate_acc_curves.py", *arguments, status=2)
        assert re.fullmatch(rf"generate_acc_curves.py: error: .*{said}.*\n", done.stderr) and not done.stdout


def test_a_reader_may_leave_early(tmp_path: Path):
    folder = make_run(tmp_path / "a/m", [1, 2])
    process = subprocess.Popen(
        command("utils/generate_acc_curves.py", str(folder)), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) in (0, 128 + 13)
    assert is_picture(tmp_path / "figures/learning_curves.png", 800)


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_window(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, curves: Curves, columns: int
):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        curves("--help")
    printed = capsys.readouterr().out
    assert "--baseline NAME" in printed and "--kind {best,last}" in printed
    assert max(map(len, printed.splitlines())) <= columns


# --- runs


def test_what_a_run_writes_is_read(finished: Path, tmp_path: Path, curves: Curves):
    names = ("main-confidence", "main-random", "whole-dataset", "cold-start-interval", "cold-start-random")
    runs = [finished / "runs/digits-seed0" / name for name in names]
    printed = curves(*runs, "--out", "x.png", "--baseline", "main-random")
    assert {row["seeds"] for row in rows(tmp_path / "x.csv")} == {"0"}
    table = {(row["method"], row["quantity"]): row for row in rows(tmp_path / "x_differences.csv")}
    last = [float(rows(folder / "cycles.csv")[-1]["last_accuracy"]) for folder in runs[:2]]
    final = float(table["main-confidence", "final"]["difference"])
    assert final == pytest.approx(last[0] - last[1], abs=1e-3)
    # What a reader must know, and nothing that follows from another script or from batches that random lacks.
    notes = [line for line in printed.splitlines() if line.startswith("note: ") and "first_pick" in line]
    pick = "first_pick is interval and random"
    strategy = "strategy is confidence and random"
    assert notes == [
        f"note: main-confidence and main-random: candidates is batch and all, {pick}, {strategy}",
        f"note: cold-start-interval and main-random: {pick}",
    ]
    words = [line.split("  ")[0] for line in printed.splitlines()[1:6]]
    assert words == [
        "PT4AL", "random sampling", "all labels", "cold start, even intervals", "cold start, random sampling",
    ]  # fmt: skip
    assert printed.splitlines()[-3:] == ["x.png", "x.csv", "x_differences.csv"]


def test_runs_of_several_versions_are_never_pooled_unseen(tmp_path: Path, curves: Curves, refusal: Curves):
    older = make_runs(tmp_path, "m", [1, 2], [2, 3], version=2)
    newer = make_run(tmp_path / "c/m", [3, 4], make_record(2, version=3))
    assert "note" not in curves(*older, newer, "--out", "x.csv")
    assert {row["seeds"] for row in rows(tmp_path / "x.csv")} == {"0 1 2"}
    unknown = make_run(tmp_path / "d/m", [3, 4], make_record(3, version=99))
    assert f"{unknown}/config.json is a record of version 99" in refusal(*older, unknown)


def test_other_test_images_are_refused(tmp_path: Path, refusal: Curves):
    a, b = (make_run(tmp_path / x, [1, 2], make_record(inputs={"test_data": x})) for x in "ab")
    for arguments in ([a, b], [a, b, "--baseline", "a"]):
        assert "different test images" in refusal(*arguments)


def test_settings_of_the_compared_are_named(tmp_path: Path, curves: Curves):
    runs = make_runs(tmp_path, "a", [1, 2], parameters={"strategy": "confidence"})
    runs += make_runs(tmp_path, "b", [1, 2], parameters={"strategy": "random", "epochs": 60})
    told = "epochs is 30 and 60, strategy is confidence and random"
    assert f"note: a and b: {told}\n" in curves(*runs, "--baseline", "b", "--out", "x.csv")


def test_a_baseline_needs_another_method(tmp_path: Path, refusal: Curves):
    a, b = (make_run(tmp_path / x, [40], make_record()) for x in "ab")
    assert refusal(a, b, "--baseline", "c") == "there is no c, but a, b"
    only = "--baseline a is the only method: give another to compare with it"
    assert refusal(a, "--baseline", "a") == refusal(a, b, "--methods", "a", "--baseline", "a") == only
    pt4al = make_run(tmp_path / "pt4al", [40], make_record())
    assert refusal(a, pt4al, "--methods", "pt4") == "there is no pt4, but a, pt4al: did you mean pt4al?"


def test_differences_are_printed_and_written(tmp_path: Path, curves: Curves):
    paths = make_runs(tmp_path, "main-random", [40, 50, 70], [50, 60, 70], parameters=RANDOM)
    paths += make_runs(tmp_path, "part", [10, 60])
    paths += make_runs(tmp_path, "whole", [71], script="whole_dataset.py")
    printed = curves(*paths, "--baseline", "main-random", "--out", "x.csv", "--label", "main-random=chance")
    table = {(row["method"], row["quantity"]): row for row in rows(tmp_path / "x_differences.csv")}
    row = table["part", "final"]
    assert [row[x] for x in ("n", "difference", "low", "high", "p", "p_holm")] == ["1", "10", "", "", "", ""]
    assert re.search(r"^PT4AL +final +20 +1  10$", printed, re.MULTILINE)
    assert table["part", "labels_to_reach"]["baseline_labels"] == "23"
    assert "chance needs 23 labels for the final accuracy of PT4AL (20 labels)" in printed
    assert table["whole", "labels_to_reach"]["baseline_labels"] == ""
    assert "chance does not reach the final accuracy of all labels (10 labels)" in printed


def test_curves_over_other_ranges_are_told_apart(tmp_path: Path, curves: Curves):
    paths = make_runs(tmp_path, "a", [40, 50, 60], [40, 50]) + make_runs(tmp_path, "b", [40, 51, 60])
    printed = curves(*paths, "--out", "x.csv")
    assert re.search(r" a +2  10 to 20 ", printed) and re.search(r" b +1  10 to 30 ", printed)
    assert f"note: the curve of a ends after 2 of 3 cycles, as {paths[1]} does" in printed


# --- files


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("x.csv", "x.csv is not a table of this program"),
        ("x", "x: the name of a picture ends in .png"),
        ("x.pgf", "x.pgf: the name of a picture ends in .png"),
        ("folder", "folder: the name of a picture ends in .png"),
        ("folder.png", "folder.png is a folder"),
        ("taken.png", "taken.csv is a folder"),
        ("a/m/cycles.png", "a/m/cycles.csv is not a table of this program"),
        ("mine.png", "mine_differences.csv is not a table of this program"),
        ("a/m/cycles.csv/x.png", "a/m/cycles.csv"),
    ],
)
def test_names_under_which_something_would_be_lost_are_refused(
    tmp_path: Path, refusal: Curves, out: str, said: str
):
    runs = [make_run(tmp_path / "a" / name, [1, 2], make_record()) for name in "mr"]
    for folder in ("folder", "folder.png", "taken.csv"):
        (tmp_path / folder).mkdir()
    for name in ("x.csv", "mine_differences.csv"):
        (tmp_path / name).write_text("someone's,columns\n1,2\n")
    assert said in refusal(*runs, "--baseline", "r", "--out", out)


def test_a_table_of_curves_is_as_good_as_its_runs(tmp_path: Path, curves: Curves):
    """The same differences and picture, also from values with six decimals; and only what is
    asked for."""
    paths = make_runs(tmp_path, "main-confidence", [33.333333, 50], [41, 61.000001])
    paths += make_runs(tmp_path, "main-random", [42, 51], [40.5, 66.666667], parameters=RANDOM)
    other = make_runs(tmp_path, "c", [40])
    printed = curves(*paths, *other, "--baseline", "main-random", "--out", "all.csv")
    assert sorted(x.name for x in tmp_path.glob("*.*")) == ["all.csv", "all_differences.csv"]
    assert printed.endswith("\nall.csv\nall_differences.csv\n")
    curves("all.csv", "--baseline", "main-random", "--out", "again.png")
    differences = (tmp_path / "all_differences.csv").read_bytes()
    assert (tmp_path / "again_differences.csv").read_bytes() == differences
    assert not (tmp_path / "again.csv").exists()
    curves(*paths, "--baseline", "main-random", "--out", "x.png")
    methods = ["--methods", "main-confidence", "--baseline", "main-random"]
    assert "single run" not in curves("all.csv", *methods, "--out", "y.png")
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
    mine = make_runs(tmp_path, "mine", [43, 52])
    curves(*mine, "all.csv", "--out", "z.csv")
    names = {"mine", "main-confidence", "main-random", "c"}
    assert {row["method"] for row in rows(tmp_path / "z.csv")} == names


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("all.csv --methods a d", "there is no d, but a, b"),
        ("all.csv runs/m --out all.png --baseline b", "all.csv is read, and would be written"),
        ("all.csv --out new.csv", "new.csv: the name of a picture ends in .png"),
        ("all.csv s0/a", "all.csv holds a, which is given once more"),
        ("all_differences.csv", "all_differences.csv is not a table of curves of this program: 'labels'"),
        ("s0/a/cycles.csv", "s0/a/cycles.csv is not a table of curves of this program: 'method'"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, curves: Curves, refusal: Curves, command: str, said: str):
    paths = make_runs(tmp_path, "a", [40, 50], [41, 60]) + make_runs(tmp_path, "b", [42, 51])
    make_run(tmp_path / "runs/m", [40, 50], make_record())
    curves(*paths, "--baseline", "b", "--out", "all.csv")
    assert said in refusal(*command.split())


def test_files_are_replaced_whole_or_not_at_all(
    tmp_path: Path, curves: Curves, refusal: Curves, monkeypatch: pytest.MonkeyPatch
):
    runs = make_runs(tmp_path, "m", [1, 2], [2, 3])
    curves(*runs, "--out", "x.png")
    curves(*runs[:1], "--out", "x.png")  # one's own files are replaced
    assert {row["n"] for row in rows(tmp_path / "x.csv")} == {"1"}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left" in refusal(*runs, "--out", "x.png")


# --- the picture


def test_a_method_looks_the_same_in_every_figure(tmp_path: Path, curves: Curves, figures: list[Figure]):
    runs = {
        name: make_run(tmp_path / name, [40, 50])
        for name in ("main-random", "main-confidence", "mine", "text")
    }
    curves(*runs.values())
    curves(runs["mine"], runs["main-confidence"])
    lines = [{line.get_label().split(" (")[0]: line for line in figure.axes[0].lines} for figure in figures]
    assert set(lines[0]) == {"random sampling", "PT4AL", "mine", "text"}
    for name in ("PT4AL", "mine"):
        looks = [(x[name].get_color(), x[name].get_marker()) for x in lines]
        assert looks[0] == looks[1]
    assert len({line.get_color() for line in lines[0].values()}) == 4
    # Pinned: another color tomorrow would contradict yesterday's figures.
    looks = CURVES.looks_of(["PT4AL", "mine"])
    assert looks["PT4AL"] == {"color": "#0072B2", "marker": "o"}
    assert looks["mine"] == {
        "color": "#CC79A7", "marker": "P", "linestyle": "-.", "markerfacecolor": "white",
    }  # fmt: skip


@pytest.mark.parametrize("others", [1, 5, 10])
def test_methods_of_a_figure_look_different(others: int):
    words = [*list(CURVES.LOOKS)[:6], *(f"method {i}" for i in range(others))]
    looks = CURVES.looks_of(words)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == 6 + others
    assert len(set(CURVES.LOOKS.values())) == len(CURVES.LOOKS)
    colors = {color for words, (color, _) in CURVES.LOOKS.items() if not words.startswith("cold start")}
    assert len(colors) == len(CURVES.LOOKS) - 2  # the cold starts have the colors of their cycle 0
    crowd = CURVES.looks_of([f"method {i}" for i in range(40)])  # more than there are looks
    assert len(crowd) == 40


def test_the_legend_reads_as_words(tmp_path: Path, curves: Curves, refusal: Curves, figures: list[Figure]):
    names = ("main-confidence", "main-random", "cold-start-interval", "my-arm", "b")
    runs = [make_run(tmp_path / name, [40]) for name in names]
    whole = make_run(tmp_path / "whole-dataset", [90], step=50_000)
    lexicographic = make_record(inputs={"batches_made_from": {"sort": "lexicographic"}})
    runs.append(make_run(tmp_path / "sorted", [40], lexicographic))
    curves(*runs, whole, "--label", "b=$\\x$", "--label", "main-random=by = chance", "--title", "a $t$")
    assert legend(figures[0]) == [
        "PT4AL (n=1)", "by = chance (n=1)", "cold start, even intervals (n=1)", "my-arm (n=1)", "$\\x$ (n=1)",
        "PT4AL, lexicographic sort (n=1)", "all labels (n=1), 50,000 images",
    ]  # fmt: skip
    shown = [*figures[0].legends[0].get_texts(), figures[0].axes[0].title]
    assert not any(text.get_parse_math() for text in shown)  # a dollar sign in a name is one
    for wrong in ("b", "=text", "b=", "none=text"):
        assert f"--label {wrong}: it must be NAME=TEXT" in refusal(*runs, "--label", wrong)


def test_an_annotated_run_has_the_interval_of_its_test_set(
    tmp_path: Path, curves: Curves, figures: list[Figure]
):
    """A single run, too; also where its table is drawn, which has a column more."""
    folder, other = (make_run(tmp_path / name, [12.5, 50], make_record()) for name in ("_mine", "other"))
    (folder / "answers.csv").write_text("cycle,test_images\n0,24\n1,24\n")
    curves(folder, other, "--kind", "best", "--out", "x.png")
    curves("x.csv", "--kind", "best", "--out", "y.png")
    assert [row["test_images"] for row in rows(tmp_path / "x.csv")] == ["24", "24", "", "", "", ""]
    for figure in figures:
        (bars,) = (x for x in figure.axes[0].collections if isinstance(x, LineCollection))
        expected = [[[10, 4.344334], [10, 31.003881]], [[20, 31.428571], [20, 68.571429]]]
        assert np.array(bars.get_segments()) == pytest.approx(np.array(expected), abs=1e-1)
        assert figure.legends[0].get_title().get_text() == "bars: 95 % interval of the test set"
    assert legend(figures[1]) == [" _mine (n=1)", "other (n=1)"]


def test_a_table_that_a_spreadsheet_saved(tmp_path: Path, curves: Curves):
    """It is read, and replaced where it is one of this program."""
    runs = make_runs(tmp_path, "m", [1, 2], [2, 3])
    curves(*runs, "--out", "x.csv")
    table = tmp_path / "x.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b",", b";").replace(b"\n", b"\r\n"))
    assert " m " in curves("x.csv", "--out", "x.png")
    curves(*runs, "--out", "x.csv")
    assert table.read_bytes().startswith(b"method,labels,")


def test_names_of_any_bytes_are_drawn(tmp_path: Path, curves: Curves):
    odd = [make_run(tmp_path / os.fsdecode(name), [40, 50]) for name in (b"\xff", b"\x1b[1m")]
    curves(*odd, "--out", "x.svg", "--title", "\udcff")
    assert "? (n=1)" in (tmp_path / "x.svg").read_text() and "?[1m" in (tmp_path / "x.svg").read_text()
    assert b"\xff,10,1," in (tmp_path / "x.csv").read_bytes()


def test_the_second_panel_is_the_table(tmp_path: Path, curves: Curves, figures: list[Figure]):
    paths = make_runs(tmp_path, "a", [40, 50], [42, 54], [47, 59])
    paths += make_runs(tmp_path, "main-random", [50, 60], [51, 61], [52, 62], parameters=RANDOM)
    curves(*paths, "--baseline", "main-random", "--kind", "best", "--out", "x.png")
    curves(*paths)
    above, below = figures[0].axes
    assert "best epoch" in above.get_ylabel() and "minus random sampling" in below.get_ylabel()
    (bars,) = below.containers
    table = [row for row in rows(tmp_path / "x_differences.csv") if row["quantity"] == "point"]
    expected = [[float(row["low"]), float(row["high"])] for row in table]
    drawn = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert np.array(drawn) == pytest.approx(np.array(expected), rel=1e-4)
    zero = [line for line in below.lines if set(line.get_ydata()) == {0}]
    assert len(zero) == 1 and {row["kind"] for row in table} == {"best"}
    assert len(figures[1].axes) == 1 and "last epoch" in figures[1].axes[0].get_ylabel()


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_methods_of_several_points_stand_about_the_number_of_labels(
    tmp_path: Path, curves: Curves, figures: list[Figure], names: str
):
    paths = [make_run(tmp_path / x, [40, 50, 60], make_record()) for x in (*names, "main-random")]
    singles = [
        make_run(tmp_path / x, [40], make_record(script="main_pt4al.py"))
        for x in ("cold-start-interval", "cold-start-random")
    ]
    curves(singles[0], *paths, singles[1], "--baseline", "main-random")
    drawn = [bars.lines[0].get_xdata() for bars in figures[0].axes[1].containers]
    assert [x.tolist() for x in drawn if len(x) == 1] == [[10], [10]]
    several = np.array([x for x in drawn if len(x) > 1])
    assert len(set(several[:, 0])) == len(names)
    middle = (several + several[::-1]) / 2
    assert middle == pytest.approx(np.array([[10, 20, 30]] * len(names)))


def test_an_interval_is_named_where_there_is_one(tmp_path: Path, curves: Curves, figures: list[Figure]):
    paths = make_runs(tmp_path, "a", [40, 50], [42, 54])
    paths += make_runs(tmp_path, "b", [50, 60], [51, 61], parameters=RANDOM)
    curves(*paths, "--baseline", "b")
    curves(*paths[::2], "--baseline", "b")
    labels = [figure.axes[1].get_ylabel() for figure in figures]
    assert ["95 % t interval" in label for label in labels] == [True, False]
    assert all(label.startswith("minus random sampling (points)") for label in labels)


def test_the_baseline_is_drawn_as_far_as_another_goes(tmp_path: Path, curves: Curves, figures: list[Figure]):
    short = make_run(tmp_path / "main-random", [40, 50], make_record(parameters=RANDOM))
    long = make_run(tmp_path / "main-confidence", [41, 51, 61], make_record())
    curves(short, long, "--baseline", "main-confidence")
    curves(short, long, "--baseline", "main-random")
    drawn = [
        {line.get_label(): line.get_xdata().tolist() for line in figure.axes[0].lines} for figure in figures
    ]
    assert drawn[0] == {"random sampling (n=1)": [10, 20], "PT4AL (n=1)": [10, 20]}
    assert drawn[1] == {"random sampling (n=1)": [10, 20], "PT4AL (n=1)": [10, 20, 30]}


def test_methods_of_one_number_of_labels_are_lines(tmp_path: Path, curves: Curves, figures: list[Figure]):
    cold = {"script": "main_pt4al.py"}
    paths = make_runs(tmp_path, "a", [40], [42], [47], **cold)
    paths += make_runs(
        tmp_path, "b", [50], [51], [55], **cold, parameters={"first_pick": "random"}, inputs={}
    )
    curves(*paths, "--baseline", "b", "--out", "x.png")
    left, right = figures[0].axes
    # What all begin with is said once.
    ticks = [text.get_text() for text in left.get_yticklabels()]
    assert ticks == ["even intervals (n=3)", "random sampling (n=3)"] and left.get_ylabel() == "cold start"
    *drawn, of_baseline = left.lines
    seeds, means = drawn[::2], drawn[1::2]
    assert [line.get_xdata().tolist() for line in seeds] == [[39, 41, 46], [49, 50, 54]]
    assert [line.get_xdata().tolist() for line in means] == [[42], [51]]
    assert list(of_baseline.get_xdata()) == [51, 51]
    (bar,) = right.containers
    row = next(row for row in rows(tmp_path / "x_differences.csv") if row["quantity"] == "point")
    (ends,) = (segment[:, 0].tolist() for segment in bar.lines[2][0].get_segments())
    assert ends == pytest.approx([float(row["low"]), float(row["high"])], rel=1e-4)
    mixed = make_run(tmp_path / "c", [40], make_record())
    curves(*paths, mixed, "--out", "y.png")
    first = figures[1].axes[0].get_yticklabels()[0].get_text()
    assert first == "cold start, even intervals (n=3)" and not figures[1].axes[0].get_ylabel()
