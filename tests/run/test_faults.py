"""Faults of disk, memory, clock, data and arithmetic: each ends in one line, or a recovery."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import Call
from PIL import Image
from shell import (
    EXPERIMENT,
    LABELS,
    LOSS,
    POOL,
    RANDOM_BASELINE,
    ROOT,
    SCRIPTS,
    content,
    copy,
    differences,
    one_error,
    rows,
    run_tiny,
    says,
)

from pt4al.base import files
from pt4al.base.files import load_checkpoint
from pt4al.data.images import Images
from pt4al.method import strategies
from pt4al.method.strategies import Strategy
from pt4al.run import run_folder
from pt4al.train import training

pytestmark = pytest.mark.slow  # many starts of a script

WEIGHTS = f"checkpoint/{EXPERIMENT}/main-confidence"


def refused(result: tuple[int, str], script: str, *parts: str) -> None:
    status, errors = result
    one_error(errors, script, *parts)
    assert status == 2


# --- disk


class FullDisk:
    """An fsync that works so many times and then finds no space, until it is told to work again."""

    def __init__(self, writes: int) -> None:
        self.left = writes

    def __call__(self, file: int) -> None:
        self.left -= 1
        if self.left < 0:
            os.ftruncate(file, os.fstat(file).st_size // 2)  # what a full disk leaves
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_at_any_write(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """The n-th write of the n-th start of main.py fails, for every n until it gets through, and three writes of
    each other script: one line each time, every checkpoint whole, and at the end the files of a run that had
    room."""
    failures = dict.fromkeys(SCRIPTS, 0)
    for script in SCRIPTS:
        for writes in range(100) if script == "main.py" else (0, 1, 3, 100):
            monkeypatch.setattr(files.os, "fsync", FullDisk(writes))
            result = call(tmp_path, script)
            if result[0] == 0:
                break
            refused(result, script, os.strerror(errno.ENOSPC))
            failures[script] += 1
            for path in tmp_path.rglob("*.pth"):
                load_checkpoint(path)
            assert not list(tmp_path.rglob("*.part"))
    assert failures.pop("main.py") >= 8 and set(failures.values()) <= {2, 3}, failures
    left_out = {name for name in content(finished) if "random" in name}
    assert set(differences(tmp_path, finished)) == left_out


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which even root makes no file")
@pytest.mark.parametrize("name", ["checkpoint", "runs", "loss"])
def test_a_folder_that_cannot_be_written(finished: Path, tmp_path: Path, call: Call, name: str):
    for other in {"checkpoint", "loss"} - {name}:
        (tmp_path / other).symlink_to(finished / other)
    (tmp_path / name).symlink_to("/proc/self/fdinfo")
    script = {"checkpoint": "rotation.py", "runs": "main.py", "loss": "make_batches.py"}[name]
    before = content(finished)
    refused(call(tmp_path, script), script, f"{name}/{EXPERIMENT}")
    assert content(finished) == before


def test_a_file_where_a_folder_should_be(tmp_path: Path, call: Call):
    (tmp_path / "runs").write_text("mine")
    refused(call(tmp_path, "whole_dataset.py"), "whole_dataset.py", "runs")
    assert (tmp_path / "runs").read_text() == "mine"


# --- clock and memory


def test_a_clock_that_is_set_back(
    finished: Path, stopped: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """Files from the future, and a wall clock of 1970: nothing looks at either."""
    folder = copy(stopped, tmp_path)
    for path in folder.rglob("*"):
        os.utime(path, (4e9, 4e9))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert call(folder, "main.py")[0] == 0
    assert differences(folder, finished) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads from /proc what is in use")
def test_out_of_memory_names_batch_size_and_width(tmp_path: Path, call: Call):
    """For real, under a limit of address space that the first layer of the first batch goes beyond."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 3 * 2**27, limits[1]))
    try:
        result = call(
            tmp_path, "whole_dataset.py", "--img-size", "128", "--batch-size", str(POOL), "--width", "64",
            "--precision", "float32", "--epochs", "1",
        )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    refused(result, "whole_dataset.py", "memory", f" {POOL} ", "width 64", "--batch-size")
    assert not list(tmp_path.rglob("last.pth"))


def test_no_thread_left_is_said(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch):
    """As where the limit of processes is reached; root has none, so here the start of a thread says so."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    refused(
        call(tmp_path, "whole_dataset.py", "--threads", "2"), "whole_dataset.py", "ulimit -u", "--threads 1"
    )


# --- arithmetic and the pool


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, call: Call):
    result = call(tmp_path, "whole_dataset.py", "--lr", "1e30")
    refused(result, "whole_dataset.py", "nan", "cycle 0", "epoch 1", "1e+30", "--lr")


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """In the third epoch of the second cycle; the second epoch was saved, and from there the run is resumed."""
    folder = copy(finished, tmp_path, "main-confidence")
    train_epoch = training.train_epoch

    def fail(net, optimizer, task, config, cycle, epoch):
        result = train_epoch(net, optimizer, task, config, cycle, epoch)
        return (float("inf"), 0.0) if (cycle, epoch) == (1, 2) else result

    monkeypatch.setattr(training, "train_epoch", fail)
    monkeypatch.setattr(run_folder, "SAVING_SHARE", 1e9)  # whatever these short epochs take
    refused(call(folder, "main.py"), "main.py", "inf", "cycle 1", "epoch 3")
    state = load_checkpoint(folder / WEIGHTS / "last.pth")
    assert (state["cycle"], state["finished_epoch"]) == (1, 1)
    monkeypatch.setattr(training, "train_epoch", train_epoch)
    assert call(folder, "main.py")[0] == 0
    assert differences(folder, finished) == []


def test_weights_that_blow_up_in_the_last_step_are_found(tmp_path: Path, call: Call):
    flags = ["--lr", "1e30", "--batch-size", "2000", "--epochs", "1", "--milestones", "1"]
    refused(call(tmp_path, "whole_dataset.py", *flags), "whole_dataset.py", "finite")
    assert not list(tmp_path.rglob("*.pth")) and not list(tmp_path.rglob("cycles.csv"))


@pytest.mark.parametrize("picks", [[0] * LABELS, "first"], ids=["twice", "labeled already"])
def test_a_pick_that_cannot_be_stops_the_run(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, picks
):
    folder = copy(finished, tmp_path, "main-confidence")
    if picks == "first":  # whatever is labeled is offered again, and taken
        monkeypatch.setattr("pt4al.method.learner.Learner.unlabeled", lambda self, _: list(range(POOL)))
        picks = list(range(LABELS))
    for name, chosen in (("confidence", torch.tensor(picks)), ("interval", torch.arange(LABELS))):
        monkeypatch.setitem(strategies.STRATEGIES, name, Strategy(lambda _, chosen=chosen: chosen))
    with pytest.raises(AssertionError, match="twice"):
        call(folder, "main.py")
    assert not (folder / f"runs/{EXPERIMENT}/main-confidence/labeled/cycle_1.txt").exists()


def test_a_pool_that_changes_while_it_is_scored_stops_the_run(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """As a random crop would do it that slipped into scoring."""
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    stream, shifts = Images.stream, iter(range(1, 100))

    def augmented(self: Images, parts):
        for images, positions in stream(self, parts):
            yield images.roll(next(shifts), 2), positions

    monkeypatch.setattr(Images, "stream", augmented)
    with pytest.raises(AssertionError, match="scored"):
        call(tmp_path, "make_batches.py")
    assert not [x for x in (tmp_path / LOSS).iterdir() if x.name not in (".lock", ".holder")]


# --- images between the steps


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished runs and of their images, which are in `data` now."""
    folder = copy(finished, tmp_path, "main-confidence")
    shutil.copytree(os.environ["TESTS_DIGITS"], folder / "data")
    return folder


def test_an_image_deleted_between_the_steps(moved: Path, call: Call):
    (moved / "data/train/3/07.png").unlink()
    data = "--data-dir", "data"
    gone = "1 went (train/3/07.png)", "--restart"
    refused(call(moved, "make_batches.py", *data), "make_batches.py", "rotation.pth", *gone)
    refused(call(moved, "main.py", *data), "main.py", "/train/3/07.png'")
    refused(call(moved, "rotation.py", *data), "rotation.py", "rotation.pth", *gone)


def test_an_image_replaced_between_the_steps(moved: Path, call: Call):
    """The ids are all there, so main.py goes on, says it, and records it."""
    Image.new("RGB", (16, 16), "red").save(moved / "data/train/3/07.png")
    data = "--data-dir", "data"
    changed = "1 changed (train/3/07.png)"
    refused(call(moved, "make_batches.py", *data), "make_batches.py", "rotation.pth", changed)
    done = run_tiny(moved, "main.py", *data, "--cycles", "1", "--epochs", "1")
    says(done.stdout, "warning", f"loss/{EXPERIMENT}", "other images", changed)
    record = files.read_json(moved / f"runs/{EXPERIMENT}/main-confidence/config.json")["inputs"]
    made_from = files.read_json(moved / f"loss/{EXPERIMENT}/made_from.json")
    assert record["batches_made_from"]["data"] == made_from["inputs"]["data"] != record["data"]
    assert record["files"] == made_from["files"]


def test_images_that_came_and_went_are_named(moved: Path, call: Call):
    """Five and their number, of the pool and of the test set."""
    for i in range(6):
        (moved / f"data/train/4/0{i}.png").rename(moved / f"data/train/4/new {i}.png")
    Image.new("RGB", (16, 16), "red").save(moved / "data/test/3/another.png")
    flags = ["--data-dir", "data", *RANDOM_BASELINE]
    five = ", ".join(f"train/4/new {i}.png" for i in range(5))
    told = f"pool: 6 came ({five}, ...), 6 went (", "test images: 1 came (test/3/another.png)"
    refused(call(moved, "main.py", *flags), "main.py", "runs/", *told, "--restart")
    refused(call(moved, "main.py", *flags, "--lr", "0.5"), "main.py", *told, "lr (was")
    (moved / "checkpoint").rename(moved / "gone")  # with the lists
    refused(call(moved, "main.py", *flags), "main.py", "which ones is not known")


def test_a_pool_smaller_than_a_position_that_was_chosen_is_another_pool(moved: Path, call: Call):
    """The state is whole: what is told is what became of the images."""
    flags = ["--data-dir", "data", *RANDOM_BASELINE]
    last = files.load_checkpoint(moved / f"checkpoint/{EXPERIMENT}/main-random/last.pth")
    chosen = max(i for picks in last["labeled"] for i in picks)
    gone = [*sorted((moved / "data/train/9").iterdir())[1:], *(moved / "data/train/8").iterdir()][
        : POOL - chosen
    ]
    for path in gone:
        path.unlink()
    refused(call(moved, "main.py", *flags), "main.py", f"pool: {len(gone)} went (train/", "put them back")


@pytest.mark.parametrize(
    ("script", "name", "was", "now"),
    [
        ("make_batches.py", "imbalance", "1.0", "5.0"),
        ("main.py", "imbalance", "1.0", "5.0"),
        ("make_batches.py", "resize", "crop", "squash"),
    ],
)
def test_a_forgotten_flag_is_named_and_not_the_images_that_it_changes(
    moved: Path, call: Call, script: str, name: str, was: str, now: str
):
    """With another value the pool is another, though no file is."""
    status, error = call(moved, script, "--data-dir", "data", f"--{name}", now)
    one_error(error, script, f"was made with {name} {was}, not {now}: give --{name} {was}")
    assert status == 2 and "went" not in error


def test_a_run_of_other_pixels_names_the_flag(moved: Path, call: Call):
    for script, *flags in (["rotation.py"], ["main.py", *RANDOM_BASELINE]):
        status, error = call(moved, script, "--data-dir", "data", "--img-size", "20", *flags)
        one_error(error, script, "other parameters: img_size (was 16, now 20). Give the same")
        assert status == 2 and "changed (" not in error


def test_images_that_train_and_test_share_are_counted(moved: Path):
    for i in range(3):
        shutil.copy(moved / f"data/train/4/0{i}.png", moved / f"data/test/5/1{i}.png")
    done = run_tiny(moved, "main.py", "--data-dir", "data", "--cycles", "1", "--epochs", "1")
    (line,) = (x for x in done.stdout.splitlines() if "warning" in x)
    says(line, " 3 ", "test set")


def test_provenance_is_recorded(finished: Path):
    """What a reader needs to repeat a run stands beside it."""
    record = files.read_json(finished / f"runs/{EXPERIMENT}/main-confidence/config.json")
    expected = "torch numpy device instructions threads processes git_commit git_clean"
    assert set(expected.split()) <= set(record["made_with"])
    head = ["git", "-C", ROOT, "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    assert record["made_with"]["git_commit"] == (commit or None)
    for name, digest in record["inputs"]["files"].items():
        assert digest == files.sha256_of(finished / f"loss/{EXPERIMENT}" / name)
    assert {"batch_0.txt", "batch_3.txt", "rotation_loss.txt"} <= set(record["inputs"]["files"])
    assert len(rows(finished / f"runs/{EXPERIMENT}/main-confidence/metrics.csv")) == 9


def test_a_batch_file_with_other_line_ends_is_the_same_batch(finished: Path, tmp_path: Path, call: Call):
    folder = copy(finished, tmp_path)
    batch = folder / f"loss/{EXPERIMENT}/batch_1.txt"
    batch.write_bytes(batch.read_bytes().replace(b"\n", b"\r\n"))
    assert call(folder, "main.py")[0] == 0
