"""What is deleted or replaced is what we wrote; what a finished run lost is written again, or named."""

import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import torch
from shell import (
    EXPERIMENT,
    RUN,
    WEIGHTS,
    copy,
    differences,
    epochs_of,
    one_error,
    refused,
    run_tiny,
    says,
    start,
)

from pt4al.base.files import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow  # many starts of a script

COLD_START = f"checkpoint/{EXPERIMENT}/cold-start-interval"


# --- restart


def test_restart_follows_a_linked_folder_and_leaves_what_is_not_ours(finished: Path, tmp_path: Path):
    """It begins with other settings, and at the end with the first ones gives the first files."""
    folder, elsewhere = copy(finished, tmp_path), tmp_path / "elsewhere"
    (folder / COLD_START).rename(elsewhere)
    (folder / COLD_START).symlink_to(elsewhere)
    runs = folder / f"runs/{EXPERIMENT}/cold-start-interval"
    mine = [elsewhere / "mine.pth", runs / "notes.txt", runs / "labeled/mine.txt"]
    for path in mine:
        path.write_text("mine")
    before = (elsewhere / "main_0.pth").read_bytes()
    run_tiny(folder, "main_pt4al.py", "--restart", "--lr", "0.05")
    assert (elsewhere / "main_0.pth").read_bytes() != before
    assert (folder / COLD_START).is_symlink() and all(path.read_text() == "mine" for path in mine)
    run_tiny(folder, "main_pt4al.py", "--restart")
    (folder / COLD_START).unlink()
    elsewhere.rename(folder / COLD_START)
    left = {str(path.relative_to(folder)) for path in mine[1:]} | {f"{COLD_START}/mine.pth"}
    assert set(differences(folder, finished)) <= left


def test_restart_does_not_delete_a_run_of_another_script(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    name = ["--run-name", "main-confidence", "--restart"]
    for script in ("main_pt4al.py", "whole_dataset.py"):
        refused(folder, script, *name, says=("main-confidence", "of main.py", "--run-name"))
        (folder / RUN / "config.json").unlink(missing_ok=True)  # the state tells, too
    refused(folder, "rotation.py", *name, says=("rotation.pth", "of run rotation"))


@pytest.mark.parametrize("record", ["{}", '{"record": "x"}', '{"script": "main_pt4al.py"}'])
def test_a_damaged_record_does_not_give_a_run_away(finished: Path, tmp_path: Path, record: str):
    """The state names its script, too."""
    folder = copy(finished, tmp_path)
    (folder / RUN / "config.json").write_text(record)
    name = ["--run-name", "main-confidence", "--restart"]
    refused(folder, "main_pt4al.py", *name, says=("main-confidence", "of main.py"))


def test_restart_looks_before_it_deletes(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    (folder / WEIGHTS / "main_7.pth").mkdir()
    refused(folder, "main.py", "--restart", says=("main_7.pth", "is a folder"))


def test_restart_replaces_a_damaged_record(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    (folder / RUN / "config.json").write_text("{")
    refused(folder, "main.py", says=("config.json", "--restart"))
    run_tiny(folder, "main.py", "--restart")
    assert differences(folder, finished) == []


# --- files of others


@pytest.mark.parametrize(
    "name", [f"{WEIGHTS}/main_0.pth", f"{RUN}/metrics.csv", f"{RUN}/labeled/cycle_0.txt"]
)
def test_files_without_a_record_are_not_replaced(finished: Path, tmp_path: Path, name: str):
    folder = copy(finished, tmp_path, "main-confidence")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    refused(folder, "main.py", says=(name, "record", "--run-name", "--restart"))


def test_checkpoints_that_are_none(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    last = folder / WEIGHTS / "last.pth"
    shutil.copy(folder / WEIGHTS / "main_0.pth", last)
    refused(folder, "main.py", says=("last.pth", "state", "--restart"))
    torch.save({"net": {"conv1.weight": "text"}}, last)
    refused(folder, "main.py", says=("last.pth", "checkpoint"))


def test_links_are_not_followed(tmp_path: Path):
    folder = tmp_path / f"runs/{EXPERIMENT}/cold-start-random"
    folder.mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    for name in (".holder", ".metrics.csv.part", ".config.json.part", ".cycles.csv.part"):
        (folder / name).symlink_to(tmp_path / "mine")
    run_tiny(tmp_path, "main_pt4al.py", "--first-pick", "random", "--epochs", "1")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_weights_in_a_shared_folder_are_held_too(finished: Path, tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "loss").symlink_to(finished / "loss")
        (tmp_path / "scratch").mkdir(exist_ok=True)
        (folder / "checkpoint").symlink_to(tmp_path / "scratch")
    process = start(one, "main.py", hold=(1, 60))
    done = run_tiny(other, "main.py", "--lr", "0.01", status=2)
    process.kill()
    process.wait()
    one_error(done.stderr, "main.py", WEIGHTS, f"process {process.pid} ")


@pytest.mark.parametrize("lost", ["runs", "checkpoint"])
def test_a_run_whose_folder_was_deleted_writes_nothing_over_its_successor(
    finished: Path, tmp_path: Path, lost: str
):
    folder = copy(finished, tmp_path, "main-confidence")
    process = start(folder, "main.py", "--lr", "0.01", hold=(1, 60), saving_share=math.inf)
    shutil.rmtree(folder / lost / EXPERIMENT / "main-confidence")
    if lost == "checkpoint":  # a start that finds results without a state stops
        refused(folder, "main.py", "--lr", "0.01", says="in use by")
        shutil.rmtree(folder / "runs" / EXPERIMENT / "main-confidence")
    else:
        shutil.rmtree(folder / "checkpoint" / EXPERIMENT / "main-confidence")
    run_tiny(folder, "main.py")
    process.send_signal(signal.SIGTERM)  # it saves, or tries to
    errors = process.communicate(60)[1]
    assert process.returncode == 2
    one_error(errors, "main.py", "main-confidence", "deleted or replaced")
    assert differences(folder, finished) == []


# --- what was lost


@pytest.mark.parametrize("script", ["main.py", "main_pt4al.py", "whole_dataset.py", "rotation.py"])
def test_results_whose_state_is_lost_are_not_replaced(finished: Path, tmp_path: Path, script: str):
    """Only runs/ was copied, or all but the large file."""
    name = {"main.py": "main-confidence", "main_pt4al.py": "cold-start-interval"}
    run = f"{EXPERIMENT}/{name.get(script, script.removesuffix('.py').replace('_', '-'))}"
    folder = copy(finished, tmp_path)
    (folder / "checkpoint" / run / "last.pth").unlink()
    refused(folder, script, says=("last.pth", "--restart", "--run-name"))
    if script == "main.py":  # and the lists of what was labeled, alone
        for path in (folder / RUN).glob("*.csv"):
            path.unlink()
        refused(folder, script, says=("last.pth", "--restart", "--run-name"))
    shutil.rmtree(folder / "checkpoint" / run)
    refused(folder, script, says=("last.pth", "--restart", "--run-name"))
    if script != "rotation.py":  # an experiment has one pretext network
        run_tiny(folder, script, "--run-name", "other")


def test_a_finished_run_writes_its_lost_tables_again(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    record = folder / RUN / "config.json"
    made_with = {**json.loads(record.read_text())["made_with"], "device": "an abacus"}
    last = folder / WEIGHTS / "last.pth"
    save_checkpoint(last, {**load_checkpoint(last), "machines": {"made_with": made_with}})
    shutil.rmtree(folder / RUN)
    assert epochs_of(run_tiny(folder, "main.py").stdout) == []
    written = json.loads(record.read_text())
    assert written["made_with"] == made_with and "went_on_with" not in written  # not this machine
    assert differences(folder, finished) == [f"{WEIGHTS}/last.pth", f"{RUN}/config.json"]


def test_a_state_that_is_older_than_the_tables_is_refused(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    run_tiny(folder, "main.py", "--cycles", "2")
    shutil.copy(folder / WEIGHTS / "last.pth", tmp_path)
    run_tiny(folder, "main.py")
    shutil.copy(tmp_path / "last.pth", folder / WEIGHTS)
    for flags in ([], ["--cycles", "2"]):
        refused(folder, "main.py", *flags, says=("last.pth", "cycles.csv", "--restart"))


def test_what_a_finished_run_lost_is_written_again_or_named(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    (folder / RUN / "metrics.csv").write_text("cycle,labels\n")
    (folder / RUN / "labeled/cycle_1.txt").unlink()
    (folder / WEIGHTS / "main_2.pth").write_bytes(b"damaged")
    run_tiny(folder, "main.py")
    assert differences(folder, finished) == []
    (folder / WEIGHTS / "main_1.pth").unlink()
    says(line_of(run_tiny(folder, "main.py").stdout, "main_1.pth"), "--restart")


def test_swapped_weights_are_named(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    shutil.copy(folder / WEIGHTS / "main_0.pth", folder / WEIGHTS / "main_1.pth")
    shutil.copy(folder / f"checkpoint/{EXPERIMENT}/whole-dataset/main_0.pth", folder / WEIGHTS / "main_2.pth")
    text = run_tiny(folder, "main.py").stdout
    says(line_of(text, "main_1.pth"), "--restart")
    assert line_of(text, "main_2.pth") and differences(folder, finished) == [f"{WEIGHTS}/main_1.pth"]


def line_of(text: str, part: str) -> str:
    (line,) = (line for line in text.splitlines() if part in line)
    return line
