"""to_tensorboard.py: the events are what the CSV files hold."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from shell import ROOT, load_program, rows, run

from pt4al.base.console import UserError

PROGRAM = load_program("to_tensorboard")
RUN = "runs/digits-seed0/main-confidence"


def convert(monkeypatch: pytest.MonkeyPatch, *runs: Path) -> None:
    monkeypatch.setattr("sys.argv", ["to_tensorboard.py", *map(str, runs)])
    PROGRAM.main()


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag the steps and values that TensorBoard shows."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(x.step, x.value) for x in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected(path: Path, group: str, step: str | None) -> dict[str, list[tuple[int, float]]]:
    """What should be shown of a CSV file; where no column tells the step, rows are counted."""
    table = rows(path)
    names = [name for name in table[0] if name not in ("cycle", "labels", "epoch")]
    return {
        f"{group}/{name}": [
            (int(row[step]) if step else i, pytest.approx(float(row[name]), rel=1e-6))
            for i, row in enumerate(table)
            if row[name]
        ]
        for name in names
    }


def test_what_is_shown_is_what_the_tables_hold(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("tensorboard")
    folders = [tmp_path / name for name in ("main-confidence", "rotation")]
    for folder in folders:
        shutil.copytree(finished / "runs/digits-seed0" / folder.name, folder)
    convert(monkeypatch, *folders)
    of_epochs = expected(folders[0] / "metrics.csv", "epoch", None)
    of_cycles = expected(folders[0] / "cycles.csv", "cycle", "labels")
    assert scalars(folders[0]) == {**of_epochs, **of_cycles}
    assert [step for step, _ in of_epochs["epoch/train_loss"]] == list(range(9))
    assert len(of_epochs["epoch/test_accuracy"]) < 9  # epochs without evaluation have none
    labels = [int(row["labels"]) for row in rows(folders[0] / "cycles.csv")]
    assert [step for step, _ in of_cycles["cycle/last_accuracy"]] == labels and len(labels) == 3
    assert scalars(folders[1]) == expected(folders[1] / "metrics.csv", "epoch", None)


def test_converted_twice_no_epoch_is_doubled(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    shutil.copytree(finished / RUN, folder)
    lines = (folder / "metrics.csv").read_text().splitlines(True)
    (folder / "metrics.csv").write_text("".join(lines[:5]))  # as it was in the middle of the run
    (folder / "cycles.csv").write_text("".join((folder / "cycles.csv").read_text().splitlines(True)[:2]))
    convert(monkeypatch, folder)
    assert len(scalars(folder)["epoch/train_loss"]) == 4 and len(scalars(folder)["cycle/last_accuracy"]) == 1
    (folder / "metrics.csv").write_text("".join(lines))
    convert(monkeypatch, folder)
    files = {path: path.read_bytes() for path in (folder / "tensorboard").iterdir()}
    assert len(scalars(folder)["epoch/train_loss"]) == 9
    convert(monkeypatch, folder)
    assert {path: path.read_bytes() for path in (folder / "tensorboard").iterdir()} == files


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("metrics.csv", "", "metrics.csv is missing or empty"),
        ("metrics.csv", "cycle,epoch\n0,0\n", "metrics.csv has no column 'seconds'"),
        ("cycles.csv", "cycle,labels,best_accuracy\n0,10,x\n", "cycles.csv line 2: best_accuracy is 'x'"),
    ],
)
def test_a_folder_that_cannot_be_converted_changes_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, said: str
):
    pytest.importorskip("tensorboard")
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    for folder in (whole, damaged):
        shutil.copytree(finished / RUN, folder)
    (damaged / file).write_text(text)
    with pytest.raises(UserError, match=re.escape(f"{damaged}/{said}")):
        convert(monkeypatch, whole, damaged)
    assert not (whole / "tensorboard").exists() and not (damaged / "tensorboard").exists()


def test_without_the_package_it_says_how_to_get_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # what an import of it then fails at
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    shutil.copytree(finished / RUN, tmp_path / "run")
    with pytest.raises(UserError, match="pip install tensorboard"):
        convert(monkeypatch, tmp_path / "run")
    assert not (tmp_path / "run/tensorboard").exists()
    done = run(tmp_path, "utils/to_tensorboard.py", "nowhere", status=2)
    assert done.stderr.startswith("to_tensorboard.py: error: nowhere/metrics.csv")
    assert len(done.stderr.splitlines()) == 1 and (ROOT / "utils/to_tensorboard.py").is_file()
