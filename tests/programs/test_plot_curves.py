"""plot_curves.py and show_batches.py: pictures, tables, and what cannot be drawn."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from shell import TINY, is_picture, load_program, rows, run

from pt4al.base import pictures
from pt4al.base.console import UserError
from pt4al.run.curves import aulc

PLOT, SHOW = load_program("plot_curves"), load_program("show_batches")
RUN = "runs/digits-seed0/main-confidence"
NOTEBOOK = "module://matplotlib_inline.backend_inline"  # not in requirements-test.txt


@pytest.fixture
def copied(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, to be changed; the working folder is the one above it."""
    shutil.copytree(finished / RUN, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def plot(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Figure:
    """Run plot_curves.py within this process; the figure that it saves."""
    figures = []
    monkeypatch.setattr("sys.argv", ["plot_curves.py", *arguments])
    monkeypatch.setattr(PLOT, "save_picture", lambda figure, path: figures.append(figure))
    PLOT.main()
    return figures[0]


def test_a_run_is_drawn_and_printed(finished: Path, tmp_path: Path):
    source = finished / RUN
    flags = ["--out", "a/b.png", "--title", "A title"]
    done = run(tmp_path, "utils/plot_curves.py", str(source), *flags, MPLBACKEND=NOTEBOOK)
    assert done.stdout.splitlines()[-1] == "a/b.png" and is_picture(tmp_path / "a/b.png", 1000)
    table = rows(source / "cycles.csv")
    best, last = ([float(row[f"{kind}_accuracy"]) for row in table] for kind in ("best", "last"))
    printed = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:-1]}
    assert [float(printed[str(i)][1]) for i in range(3)] == pytest.approx(best, rel=1e-4)
    labels = np.array([float(row["labels"]) for row in table])
    assert [float(x) for x in printed["AULC"]] == pytest.approx(
        aulc(labels, np.array([best, last])), rel=1e-4
    )


def test_rotation_is_drawn_too(finished: Path, tmp_path: Path):
    done = run(
        tmp_path, "utils/plot_curves.py", str(finished / "runs/digits-seed0/rotation"), "--out", "r.png"
    )
    assert is_picture(tmp_path / "r.png", 1000) and "AULC" not in done.stdout


def test_the_figure_shows_the_tables(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    figure = plot(monkeypatch, "run", "--title", "$x$")
    assert figure.get_suptitle() == "$x$" and not figure._suptitle.get_parse_math()
    loss, accuracy, by_labels, mix = figure.axes
    metrics, cycles, classes = (rows(copied / f"{name}.csv") for name in ("metrics", "cycles", "per_class"))
    training, test = accuracy.lines[:2]
    assert training.get_ydata().tolist() == pytest.approx([float(row["train_accuracy"]) for row in metrics])
    known = [(i, float(row["test_accuracy"])) for i, row in enumerate(metrics) if row["test_accuracy"]]
    assert test.get_xydata().tolist() == pytest.approx(np.array(known)) and len(known) < len(metrics)
    assert len(loss.lines) == 2 + 2  # a dotted line where each later cycle begins
    f1 = next(line for line in by_labels.lines if line.get_label() == "macro F1")
    expected = [
        np.mean([float(row["f1"]) for row in classes if row["cycle"] == cycle["cycle"]]) for cycle in cycles
    ]
    assert f1.get_ydata() == pytest.approx(100 * np.array(expected))
    ids = [(copied / f"labeled/cycle_{i}.txt").read_text().split() for i in range(3)]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in mix.containers}
    counts = [Counter(image_id.split("/")[-2] for image_id in own) for own in ids]
    assert heights == {name: [count[name] for count in counts] for name in heights}
    assert [*heights] == sorted(set().union(*counts), key=int)


@pytest.fixture
def annotated(copied: Path) -> Path:
    """A run whose labels an annotator gave: three cycles of 10 images, the first of which nobody could tell."""
    for cycle in range(3):
        lines = [f"pool/{i}.png" for i in range(10 * cycle, 10 * cycle + 10)]
        (copied / f"labeled/cycle_{cycle}.txt").write_text("\n".join(lines) + "\n")
        used = [f"pool/{i}.png,{'cat' if i % 2 else '_dog'}" for i in range(1, 10 * cycle + 10)]
        (copied / f"labeled/cycle_{cycle}.csv").write_text("\n".join(["file_name,label", *used]) + "\n")
    (copied / "answers.csv").write_text("cycle,asked,test_images\n0,10,24\n1,20,24\n2,30,24\n")
    return copied


def heights(mix: Axes) -> dict[str, list[float]]:
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in mix.containers}


def test_labels_of_an_annotator_are_counted(annotated: Path, monkeypatch: pytest.MonkeyPatch):
    """Folders mean nothing there; an image without a label is counted as such. All classes are in the legend."""
    mix = plot(monkeypatch, "run").axes[3]
    assert heights(mix) == {" _dog": [4, 5, 5], "cat": [5, 5, 5], "? (cannot tell)": [1, 0, 0]}
    assert [text.get_text() for text in mix.get_legend().get_texts()] == [*heights(mix)]
    (annotated / "labeled/cycle_1.csv").unlink()
    with pytest.raises(UserError, match="run/labeled/cycle_1.csv is missing or empty"):
        plot(monkeypatch, "run")


def test_a_cycle_that_chose_nothing_is_drawn(
    annotated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """All of its batch was labeled already: the last at a number of labels is the point of the curve."""
    (annotated / "labeled/cycle_1.txt").write_text("")
    text = "cycle,labels,best_accuracy,best_epoch,last_accuracy,seconds\n0,9,40,0,40,1\n1,9,60,0,60,1\n"
    (annotated / "cycles.csv").write_text(text)
    mix = plot(monkeypatch, "run").axes[3]
    assert heights(mix) == {" _dog": [4, 0], "cat": [5, 0], "? (cannot tell)": [1, 0]}
    assert capsys.readouterr().out.splitlines()[-2].split() == ["AULC", "60", "60"]


def test_an_annotated_run_has_the_interval_of_its_test_set(annotated: Path, monkeypatch: pytest.MonkeyPatch):
    text = "cycle,labels,best_accuracy,best_epoch,last_accuracy,seconds\n0,9,12.5,0,0,1\n"
    (annotated / "cycles.csv").write_text(text)
    bars = plot(monkeypatch, "run").axes[2].collections
    drawn = [bar.get_segments()[0] for bar in bars]
    # Wilson (1927), of 3 and of 0 in 24.
    expected = [[[9, 4.344334], [9, 31.003881]], [[9, 0], [9, 13.797620]]]
    assert np.array(drawn) == pytest.approx(np.array(expected), abs=1e-5)
    (annotated / "answers.csv").unlink()
    assert not plot(monkeypatch, "run").axes[2].collections


def test_legends_name_what_is_drawn(annotated: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a test set, training; and of more classes than a legend holds, the images without one."""
    for name in ("metrics", "cycles", "per_class"):
        table = rows(annotated / f"{name}.csv")
        unknown = [column for column in table[0] if re.match("test_|best_|last_|precision|recall|f1", column)]
        lines = [",".join("" if column in unknown else row[column] for column in row) for row in table]
        text = "\n".join([",".join(table[0]), *lines]) + "\n"
        (annotated / f"{name}.csv").write_text(text)
    used = [f"pool/{i}.png,{i}" for i in range(1, 30)]
    for path in annotated.glob("labeled/cycle_*.csv"):
        path.write_text("\n".join(["file_name,label", *used]) + "\n")
    loss, accuracy, by_labels, mix = plot(monkeypatch, "run").axes
    for axes, names in ((loss, ["training"]), (accuracy, ["training"]), (mix, ["? (cannot tell)"])):
        assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    assert len(mix.containers) == 30
    assert not by_labels.lines and by_labels.get_legend() is None
    assert [text.get_text() for text in by_labels.texts] == [
        "no test set"
    ] and not by_labels.get_xticks().size


def test_a_class_without_test_images_is_left_out(copied: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where an older version of this code wrote zeros."""
    lines = ["cycle,class,support,precision,recall,f1"]
    for cycle in range(3):
        lines += [
            f"{cycle},a,5,0.9,0.8,0.88",
            f"{cycle},b,5,0.7,0.6,0.86",
            f"{cycle},c,0,,,",
            f"{cycle},d,0,0,0,0",
        ]
    (copied / "per_class.csv").write_text("\n".join(lines) + "\n")
    drawn = {line.get_label(): line.get_ydata() for line in plot(monkeypatch, "run").axes[2].lines}
    for name, mean in (("precision", 80), ("recall", 70), ("F1", 87)):
        assert drawn[f"macro {name}"] == pytest.approx([mean] * 3)


def test_legends_lie_off_the_curves(annotated: Path, monkeypatch: pytest.MonkeyPatch):
    figure = plot(monkeypatch, "run")
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert not axes.get_legend().get_window_extent().overlaps(axes.patch.get_window_extent())


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("cycles.csv", "cycle,lab\n0,1\n", "run/cycles.csv has no column 'labels'"),
        ("cycles.csv", "cycle,labels\n0\n", "run/cycles.csv line 2 has more or fewer fields"),
        ("cycles.csv", "cycle,labels,best_accuracy\n0,x,1\n", "run/cycles.csv line 2: labels is 'x'"),
        (
            "cycles.csv",
            "cycle,labels,best_accuracy,last_accuracy\n0,5,1,1\n",
            "cycles.csv has no column 'best_epoch'",
        ),
        ("metrics.csv", "", "run/metrics.csv is missing or empty"),
        ("metrics.csv", "epoch\n0\n", "run/metrics.csv has no column 'train_loss'"),
        ("labeled/cycle_0.txt", "a/b/c/d.png\nx\n", "run/labeled/cycle_0.txt line 2: 'x'"),
        ("labeled/cycle_0.csv", "file,label\nx,y\n", "run/labeled/cycle_0.csv has no column 'file_name'"),
    ],
)
def test_what_is_wrong_is_said_in_words(
    copied: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, said: str
):
    (copied / file).write_text(text)
    with pytest.raises(UserError, match=re.escape(said)):
        plot(monkeypatch, "run")


def test_a_run_that_cannot_be_drawn_ends_in_one_line(copied: Path, tmp_path: Path):
    (copied / "labeled/cycle_1.txt").rename(copied / "kept")
    done = run(tmp_path, "utils/plot_curves.py", "run", status=2)
    assert len(done.stderr.splitlines()) == 1 and "run/labeled/cycle_1.txt" in done.stderr
    assert not (copied / "curves.png").exists()


@pytest.mark.parametrize("name", ["x.foo", "x", "/proc/x.png", "folder.png"])
def test_names_that_no_picture_can_have(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises((UserError, OSError)) as refusal:
        pictures.save_picture(pictures.new_figure(1, 1), Path(name))
    assert name.removeprefix("/proc/") in f"{refusal.value} {getattr(refusal.value, 'filename', '')}"


def test_letters_that_the_own_font_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Another font of the machine has them, or they are said; without a warning of matplotlib's."""
    figure = pictures.new_figure(2, 1)
    title = figure.suptitle("\u210a")
    pictures.save_picture(figure, tmp_path / "x.png")
    assert len(title.get_fontfamily()) == 2 and capsys.readouterr() == ("", "")
    monkeypatch.setattr(pictures.font_manager.fontManager, "ttflist", [])
    title.set_text("猫 and 犬")
    pictures.save_picture(figure, tmp_path / "\x1b[1m.png")
    said = capsys.readouterr()
    assert said.out.startswith("note: no font of this machine has 犬 猫: ") and "?[1m.png" in said.out
    assert said.out.count("\n") == 1 and not said.err


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([[9, 8], [8, 7], [6]], [", hardest", "", ", easiest"]),
        ([[1, 2], [2, 3], [4]], [", easiest", "", ", hardest"]),
        ([[9, 1], [8, 2], [7, 3]], ["", "", ""]),  # interleaved
        ([[9], [], [8]], ["", "", ""]),
        ([[9]], [""]),
    ],
)
def test_the_hardest_batch_is_named(losses: list[list[float]], said: list[str]):
    assert [SHOW.place(losses, i) for i in range(len(losses))] == said


def test_every_batch_is_drawn(finished: Path, tmp_path: Path):
    (tmp_path / "loss").symlink_to(finished / "loss")
    flags = ["digits", *TINY, "--title", "Digits"]
    run(tmp_path, "utils/show_batches.py", *flags, "--out", "batches.png", MPLBACKEND=NOTEBOOK)
    assert is_picture(tmp_path / "batches.png", 1000)
    with Image.open(tmp_path / "batches.png") as image:
        strip = np.asarray(image.convert("L"))[:, image.width // 5 : image.width // 2]
    rows_of_images = np.flatnonzero((strip < 100).mean(1) > 0.3)
    between = strip[rows_of_images[0] : rows_of_images[-1]].min(1) == 255
    assert between.mean() < 0.25
    done = run(tmp_path, "utils/show_batches.py", *flags, "--out", "x.foo", status=2)
    assert len(done.stderr.splitlines()) == 1 and "x.foo" in done.stderr
