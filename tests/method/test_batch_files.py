"""Batches as files: whose they are, what they were made from, and lists that people write by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import EXPERIMENT, LOSS, POOL, RUN, copy, differences, refused, run_tiny, says, times

pytestmark = pytest.mark.slow  # many starts of a script


@pytest.fixture
def by_hand(finished: Path, tmp_path: Path) -> Path:
    """A folder with hand-written batch files alone: 8 ids each."""
    (tmp_path / LOSS).mkdir(parents=True)
    for i in range(4):
        lines = (finished / LOSS / f"batch_{i}.txt").read_text().splitlines()
        (tmp_path / LOSS / f"batch_{i}.txt").write_text("\n".join(lines[:8]))
    return tmp_path


def test_batches_that_leave_out_images_are_said(by_hand: Path):
    done = run_tiny(by_hand, "main.py", "--labels-per-cycle", "7", "--cycles", "1", "--epochs", "1")
    says(done.stdout, " 32 of ", f" {POOL} ")
    record = json.loads((by_hand / RUN / "config.json").read_text())
    assert record["inputs"]["batches_made_from"] is None


def test_a_cycle_that_cannot_label_its_images_stops_before_training(by_hand: Path):
    flags = ["--candidates", "all", "--labels-per-cycle", "11"]
    refused(by_hand, "main.py", *flags, says=("labels_per_cycle", " 11 ", " 3,", " 32 "))
    refused(by_hand, "main.py", "--labels-per-cycle", "9", says=("labels_per_cycle", " 9 ", " 8 "))


def test_a_line_of_several_ids_is_refused(by_hand: Path):
    path = by_hand / LOSS / "batch_2.txt"
    for separator in (" ", ",", "; ", "\t"):
        path.write_text(separator.join(path.read_text().split()))
        refused(by_hand, "main.py", "--labels-per-cycle", "1", says="batch_2.txt line 1 ")
        path.write_text(path.read_text().replace(separator, "\n"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--sort lexicographic", ("sort", "numeric", "lexicographic")),
        ("--channel-order bgr", ("channel_order", "rgb", "bgr")),
        ("--seed 1", ("seed 0", " 1")),
    ],
)
@pytest.mark.parametrize("script", ["main.py", "main_pt4al.py"])
def test_batches_of_other_settings_are_refused(
    finished: Path, tmp_path: Path, flags: str, says: tuple[str, ...], script: str
):
    (tmp_path / "loss").symlink_to(finished / "loss")
    refused(tmp_path, script, *flags.split(), says=(LOSS, *says))
    assert not (tmp_path / "runs").exists()


def test_make_batches_deletes_only_its_own_files(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    loss, before = folder / LOSS, times(folder)
    run_tiny(folder, "make_batches.py")
    assert times(folder) == before
    shutil.copy(loss / "rotation_loss.txt", loss / "released.txt")
    for name in ("notes.txt", "batch_x.txt"):
        (loss / name).write_text("mine")
    given = ["--losses", f"{LOSS}/released.txt", "--num-batches", "3"]
    refused(folder, "make_batches.py", *given, says="num_batches (was 4, now 3)")
    run_tiny(folder, "make_batches.py", *given, "--restart")
    ours = {"rotation_loss.txt", "batch_0.txt", "batch_1.txt", "batch_2.txt"}
    assert {p.name for p in loss.glob("*.txt")} == {*ours, "notes.txt", "batch_x.txt", "released.txt"}
    assert (loss / "notes.txt").read_text() == (loss / "batch_x.txt").read_text() == "mine"


def test_batches_by_hand_are_not_replaced(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    path = folder / LOSS / "batch_1.txt"
    path.write_text("\n".join(reversed(path.read_text().split())))
    refused(folder, "make_batches.py", says=("batch_1.txt", "--restart"))
    path.unlink()
    run_tiny(folder, "make_batches.py")  # what is missing can be written
    assert differences(folder, finished) == []
    other = tmp_path / "other"
    (other / LOSS).mkdir(parents=True)
    (other / LOSS / "class_distribution.csv").write_text("mine")
    given = f"{folder}/{LOSS}/rotation_loss.txt"
    refused(other, "make_batches.py", "--losses", given, says=(LOSS, "--restart", "--experiment"))


def test_batches_that_are_half_written_are_refused(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    part = folder / LOSS / ".batch_1.txt.part"
    part.mkdir()  # what the writing of batch 1 fails at
    flags = ["--sort", "ascending"]
    run_tiny(folder, "make_batches.py", *flags, "--restart", status=2)
    part.rmdir()
    refused(folder, "main.py", *flags, says=("make_batches.py", LOSS))
    run_tiny(folder, "make_batches.py", *flags)
    run_tiny(folder, "main.py", *flags, "--cycles", "1", "--epochs", "1")


@pytest.mark.parametrize("change", [{"files": None}, {"files": []}])
def test_a_damaged_note_of_the_batches(finished: Path, tmp_path: Path, change: dict):
    folder = copy(finished, tmp_path)
    path = folder / LOSS / "made_from.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(folder, "main.py", says=f"{LOSS}/made_from.json")


def test_a_loss_file_that_is_given_stays_as_it_is(finished: Path, tmp_path: Path):
    (tmp_path / LOSS).mkdir(parents=True)
    path = tmp_path / LOSS / "rotation_loss.txt"
    data = (finished / LOSS / path.name).read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(data)
    flags = ["--losses", f"{LOSS}/rotation_loss.txt", "--experiment", EXPERIMENT]
    run_tiny(tmp_path, "make_batches.py", *flags, "--restart")
    assert path.read_bytes() == data
    before = times(tmp_path)
    run_tiny(tmp_path, "make_batches.py", *flags)
    assert times(tmp_path) == before


def test_a_finished_pool_is_not_scored_again(
    finished: Path, tmp_path: Path, call: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
):
    """Nor is one scored that cannot be cut, or whose folder is taken."""

    def score(*_: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr("pt4al.method.pretext.rotation_scores", score)
    folder = copy(finished, tmp_path)
    assert call(folder, "make_batches.py") == (0, "")
    for flags, said in (
        (["--num-batches", "2000"], "only 100 images"),
        (["--sort", "ascending"], "sort (was"),
    ):
        status, error = call(folder, "make_batches.py", *flags)
        assert status == 2 and said in error
    with pytest.raises(AssertionError, match="scored"):
        call(folder, "make_batches.py", "--restart")
