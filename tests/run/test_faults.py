"""Faults of disk, memory, clock, data and arithmetic: each ends in a clear message or a recovery."""

import errno
import io
import os
import random
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shell import (
    ROOT,
    SCRIPTS,
    TINY,
    content,
    copy,
    differences,
    environment,
    rows,
    run,
    stop_after,
)

from pt4al.base import files
from pt4al.base.files import load_checkpoint
from pt4al.data.images import Images
from pt4al.method import strategies
from pt4al.method.strategies import Strategy
from pt4al.run import run_folder
from pt4al.train import training

pytestmark = pytest.mark.slow  # many starts of a script, seconds each

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Run a script's own `__main__` in this process, where a fault can be put in its way: its status and its errors."""

    def run_here(folder: Path, script: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), *arguments])
        try:
            with pytest.raises(SystemExit) as stop:
                runpy.run_path(str(ROOT / script), run_name="__main__")
        finally:
            files.HELD.clear()  # the locks that would have ended with the process
        return stop.value.code, capfd.readouterr().err

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the scripts have that made the runs to compare with
    yield run_here
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def refused(result: tuple[int, str], message: str) -> None:
    status, errors = result
    assert status == 2 and message in errors and len(errors.splitlines()) == 1, errors


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
    """The n-th write of the n-th start fails, for every n until a script gets through: one line each time, every
    checkpoint whole, and at the end the files of a run that had room."""
    failures = 0
    for script in SCRIPTS:
        for writes in range(100):
            monkeypatch.setattr(files.os, "fsync", FullDisk(writes))
            result = call(tmp_path, script, "digits", *TINY)
            if result[0] == 0:
                break
            refused(result, "No space left on device: ")
            failures += 1
            for path in tmp_path.rglob("*.pth"):
                load_checkpoint(path)
            assert not list(tmp_path.rglob("*.part"))
        assert writes >= 2, script
    assert failures >= 25, failures
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
    refused(call(tmp_path, script, "digits", *TINY), f"{name}/digits-seed0")
    assert content(finished) == before


def test_a_file_where_a_folder_should_be(tmp_path: Path, call: Call):
    (tmp_path / "runs").write_text("mine")
    refused(call(tmp_path, "whole_dataset.py", "digits", *TINY), "runs")
    assert (tmp_path / "runs").read_text() == "mine"


def test_last_pth_cut_short_falls_back_to_the_one_before(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    stop_after(folder, 5, signal.SIGTERM)
    last = folder / "checkpoint/digits-seed0/main-confidence/last.pth"
    last.write_bytes(last.read_bytes()[: random.randrange(last.stat().st_size)])
    done = run(folder, "main.py", "digits", *TINY)
    assert "last.pth is not a usable checkpoint" in done.stdout and "previous.pth" in done.stdout
    assert differences(folder, finished) == []


def saved(content: dict) -> bytes:
    """What torch writes of it, which depends on the content alone."""
    buffer = io.BytesIO()
    torch.save(files.canonical(content), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small_checkpoint() -> bytes:
    """3 kB with every kind of value that ours hold."""
    weights = {"a": torch.randn(3, 4), "b": torch.tensor(7), "c": torch.randn(5).bfloat16()}
    record = {"script": "main.py", "parameters": {"lr": 0.1, "name": "Größe", "losses": None, "flip": True}}
    content = {"net": weights, "acc": 91.25, "momentum": [torch.randn(2, 3)], "labeled": [[1], [70000]]}
    return saved({**content, "record": record})


def test_no_change_of_a_checkpoint_goes_unseen(small_checkpoint: bytes, tmp_path: Path):
    """A bit changed in every third byte, and the file cut short: what comes out is what went in, or it is
    refused in one line. Every bit and length were tried once, of files that torch 2.4.1 and 2.14.1 wrote."""
    path, refusals, source = tmp_path / "a.pth", 0, random.Random(0)
    flips = [(i, 1 << source.randrange(8)) for i in range(source.randrange(3), len(small_checkpoint), 3)]
    # Attributes of the entries in the archive's directory: one bit there makes torch skip the content.
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", small_checkpoint)]
    directories = [(start + 38, 0x10) for start in entries]
    for i, bit in (*flips, *directories):
        spoiled = bytearray(small_checkpoint)
        spoiled[i] ^= bit
        path.write_bytes(spoiled)
        try:
            # Padding and dates carry nothing.
            assert saved(load_checkpoint(path)) == small_checkpoint and (i, bit) not in directories
        except files.UserError as error:
            refusals += 1
            assert "\n" not in str(error) and "is not a usable checkpoint" in str(error)
    assert len(entries) > 6 and refusals > len(flips) // 2
    for n in (*range(0, len(small_checkpoint), 20), len(small_checkpoint) - 1):
        path.write_bytes(small_checkpoint[:n])
        with pytest.raises(files.UserError, match="is not a usable checkpoint"):
            load_checkpoint(path)


def test_torch_alone_does_not_see_a_changed_weight(small_checkpoint: bytes, tmp_path: Path):
    """Else nothing above would be needed."""
    content = torch.load(io.BytesIO(small_checkpoint), weights_only=True)
    weights = content["net"]["a"].numpy().tobytes()
    spoiled = small_checkpoint.replace(weights, bytes(len(weights)))
    assert not torch.load(io.BytesIO(spoiled), weights_only=True)["net"]["a"].any()
    (tmp_path / "a.pth").write_bytes(spoiled)
    with pytest.raises(files.UserError, match="data/0 does not match its checksum"):
        load_checkpoint(tmp_path / "a.pth")


def test_checkpoints_of_earlier_code_load(small_checkpoint: bytes, tmp_path: Path):
    """A checksum of the content was a value of theirs; those older than torch 1.6 are no zip archives."""
    content = torch.load(io.BytesIO(small_checkpoint), weights_only=True)
    for zipped in (True, False):
        old = {**content, "checksum": "0" * 64}
        torch.save(old, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        assert saved(load_checkpoint(tmp_path / "a.pth")) == small_checkpoint


# --- clock and memory


def test_a_clock_that_is_set_back(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """Files from the future, and a wall clock of 1970: nothing looks at either."""
    folder = copy(finished, tmp_path, "main-confidence")
    stop_after(folder, 5, signal.SIGTERM)
    for path in folder.rglob("*"):
        os.utime(path, (4e9, 4e9))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert call(folder, "main.py", "digits", *TINY)[0] == 0
    assert differences(folder, finished) == []


def test_out_of_memory_names_batch_size_and_width(finished: Path, tmp_path: Path):
    """For real, under a limit of address space; the run then goes on with more memory."""
    folder = copy(finished, tmp_path, "whole-dataset")
    flags = [
        *TINY,
        "--width",
        "64",
        "--batch-size",
        "1438",
        "--precision",
        "float32",
        "--epochs",
        "1",
    ]
    words = [sys.executable, str(ROOT / "whole_dataset.py"), "digits", *flags, "--threads", "1"]
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 4000000; exec {shlex.join(words)}"], cwd=folder, env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    refused(
        (done.returncode, done.stderr),
        "out of memory with a batch of 1438 and width 64: lower --batch-size",
    )
    assert not (folder / "checkpoint/digits-seed0/whole-dataset/last.pth").exists()


# --- arithmetic and the pool


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path):
    done = run(tmp_path, "whole_dataset.py", "digits", *TINY, "--lr", "1e30", status=2)
    assert "the loss is nan in cycle 0, epoch 1, at learning rate 1e+30: lower --lr" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """In the third epoch of the second cycle; the second epoch was saved, and from there the run can go on."""
    folder = copy(finished, tmp_path, "main-confidence")
    train_epoch = training.train_epoch

    def fail(net, optimizer, task, config, cycle, epoch):
        result = train_epoch(net, optimizer, task, config, cycle, epoch)
        return (float("inf"), 0.0) if (cycle, epoch) == (1, 2) else result

    monkeypatch.setattr(training, "train_epoch", fail)
    monkeypatch.setattr(run_folder, "SAVING_SHARE", 1e9)  # whatever these short epochs take
    refused(call(folder, "main.py", "digits", *TINY), "the loss is inf in cycle 1, epoch 3")
    state = load_checkpoint(folder / "checkpoint/digits-seed0/main-confidence/last.pth")
    assert (state["cycle"], state["finished_epoch"]) == (1, 1)
    monkeypatch.setattr(training, "train_epoch", train_epoch)
    assert call(folder, "main.py", "digits", *TINY)[0] == 0
    assert differences(folder, finished) == []


@pytest.mark.parametrize("picks", [[0] * 71, "first"], ids=["twice", "labelled already"])
def test_a_pick_that_cannot_be_stops_the_run(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, picks
):
    folder = copy(finished, tmp_path, "main-confidence")
    if picks == "first":  # whatever is labelled is offered again, and taken
        monkeypatch.setattr("pt4al.method.learner.Learner.unlabeled", lambda self, _: list(range(1438)))
        picks = list(range(71))
    for name, chosen in (("confidence", torch.tensor(picks)), ("interval", torch.arange(71))):
        monkeypatch.setitem(strategies.STRATEGIES, name, Strategy(lambda _, chosen=chosen: chosen))
    with pytest.raises(AssertionError, match="chose an image twice or one that is labeled already"):
        call(folder, "main.py", "digits", *TINY)
    assert not (folder / "runs/digits-seed0/main-confidence/labeled/cycle_1.txt").exists()


def test_a_pool_that_changes_while_it_is_scored_stops_the_run(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """As a random crop would do it that slipped into scoring."""
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    stream = Images.stream

    def augmented(self: Images, parts):
        for images, positions in stream(self, parts):
            yield images.roll(random.randrange(1, 8), 2), positions

    shifts = iter(range(100))
    monkeypatch.setattr(random, "randrange", lambda *_: next(shifts))
    monkeypatch.setattr(Images, "stream", augmented)
    with pytest.raises(AssertionError, match="images to be scored change from read to read"):
        call(tmp_path, "make_batches.py", "digits", *TINY)
    assert not (tmp_path / "loss").exists()


# --- images between the steps

FOLDER = ["digits", "--dataset", "folder", "--data-dir", "data", *TINY, "--labels-per-cycle", "4"]
EXPERIMENT = "folder-seed0"


@pytest.fixture
def folder(tmp_path: Path, call: Call) -> Path:
    """Two classes of 30 images, rotation.py and make_batches.py done."""
    source = np.random.default_rng(0)
    for split, n in (("train", 30), ("test", 5)):
        for label in "ab":
            path = tmp_path / "data" / split / label
            path.mkdir(parents=True)
            for i in range(n):
                pixels = source.integers(256, size=(16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / f"{split} {i}.png")
    for script in ("rotation.py", "make_batches.py"):
        assert call(tmp_path, script, *FOLDER)[0] == 0
    return tmp_path


def test_an_image_deleted_between_the_steps(folder: Path, call: Call):
    (folder / "data/train/a/train 7.png").unlink()
    refused(call(folder, "make_batches.py", *FOLDER), "rotation.pth was made with another data")
    refused(call(folder, "main.py", *FOLDER), "train 7.png' is not in the pool")
    refused(call(folder, "rotation.py", *FOLDER), "was made with other parameters: data (was")


def test_an_image_replaced_between_the_steps(folder: Path, call: Call, capfd: pytest.CaptureFixture[str]):
    """The ids are all there, so main.py goes on, says it, and records it."""
    Image.new("RGB", (16, 16), "red").save(folder / "data/train/a/train 7.png")
    refused(call(folder, "make_batches.py", *FOLDER), "rotation.pth was made with another data")
    done = run(folder, "main.py", *FOLDER)
    assert f"warning: loss/{EXPERIMENT} was made from other images than those of data" in done.stdout
    record = files.read_json(folder / f"runs/{EXPERIMENT}/main-confidence/config.json")["inputs"]
    made_from = files.read_json(folder / f"loss/{EXPERIMENT}/made_from.json")
    assert record["batches_made_from"]["data"] == made_from["inputs"]["data"] != record["data"]
    assert record["files"] == made_from["files"]


def test_images_that_train_and_test_share_are_counted(folder: Path):
    for i in range(3):
        source = folder / f"data/train/b/train {i}.png"
        (folder / f"data/test/a/test {i}.png").write_bytes(source.read_bytes())
    done = run(folder, "main.py", *FOLDER)
    assert "warning: 3 images of the pool are in the test set too, pixel for pixel" in done.stdout


def test_provenance_is_recorded(finished: Path):
    """What a reader needs to repeat a run stands beside it."""
    record = files.read_json(finished / "runs/digits-seed0/main-confidence/config.json")
    expected = "torch numpy device instructions threads processes git_commit git_clean"
    assert set(expected.split()) <= set(record["made_with"])
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert record["made_with"]["git_commit"] == (commit.stdout.strip() or None)
    for name, digest in record["inputs"]["files"].items():
        assert digest == files.sha256_of(finished / "loss/digits-seed0" / name)
    assert {"batch_0.txt", "batch_3.txt", "rotation_loss.txt"} <= set(record["inputs"]["files"])
    assert len(rows(finished / "runs/digits-seed0/main-confidence/metrics.csv")) == 9


def test_a_batch_file_with_other_line_ends_is_the_same_batch(finished: Path, tmp_path: Path, call: Call):
    folder = copy(finished, tmp_path)
    batch = folder / "loss/digits-seed0/batch_1.txt"
    batch.write_bytes(batch.read_bytes().replace(b"\n", b"\r\n"))
    assert call(folder, "main.py", "digits", *TINY)[0] == 0
