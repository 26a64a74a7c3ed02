"""Records: what stands in them, and what becomes of those of other versions."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shell import (
    LOSS,
    RANDOM_BASELINE,
    ROOT,
    RUN,
    SCRIPTS,
    WEIGHTS,
    copy,
    differences,
    epochs_of,
    refused,
    run_tiny,
    says,
    times,
)

from config import DIGITS
from pt4al.base.console import UserError
from pt4al.base.files import load_checkpoint, save_checkpoint
from pt4al.run import record
from pt4al.run.record import VERSION, check_record, compare, make_record

RECORD = make_record(DIGITS, "main.py", "main-confidence", {"data": "0" * 64})


def test_a_record_holds_what_its_script_uses_and_where_it_says_what():
    parameters = RECORD["parameters"]
    assert parameters["lr"] == DIGITS.lr and parameters["milestones"] == [24]  # a tuple, once stored
    assert parameters["precision"] in ("bf16", "float32")  # not `auto`
    assert not {"rotation_epochs", "losses", "cold_start_batch"} & parameters.keys()  # of other scripts
    assert not {"threads", "device", "data_dir", "run_name", "restart"} & parameters.keys()  # where and how


def test_the_code_is_that_of_this_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not that of one that git is pointed to, as in a hook, nor of one around it."""
    here, other = record.code_version(), tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert record.code_version() == here and "(" in here
    module = other / "pt4al/pt4al/run/record.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(record, "__file__", str(module))
    assert record.git("rev-parse", "--git-dir") is None


def test_a_git_that_may_not_be_started_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "git").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.git("rev-parse", "HEAD") is None


def test_another_user_may_own_the_repository(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    here, run = record.code_version(), subprocess.run

    def with_owner(command: list[str], env: dict[str, str], **how: Any) -> subprocess.CompletedProcess:
        return run(command, env={**env, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, **how)

    assert run(["git", "-C", ROOT, "rev-parse"], capture_output=True, check=False).returncode != 0
    monkeypatch.setattr(subprocess, "run", with_owner)
    assert record.code_version() == here and "(" in here


def test_more_than_a_record_may_be_read():
    assert check_record({**RECORD, "made_with": {}}, "config.json") == RECORD


def test_what_was_made_before_there_was_an_option_was_made_with_its_default():
    """Else an option that is added would refuse every run there is."""
    parameters = {name: value for name, value in RECORD["parameters"].items() if name != "candidates"}
    before = {**RECORD, "parameters": parameters}
    compare(before, RECORD, "config.json")
    ours = make_record(replace(DIGITS, candidates="all"), "main.py", "main-confidence", RECORD["inputs"])
    with pytest.raises(UserError, match="candidates .was batch, now all"):
        compare(before, ours, "config.json")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({**RECORD, "version": VERSION - 1}, f"is of version {VERSION - 1}, this code writes {VERSION}"),
        ({**RECORD, "version": VERSION + 1}, f"is of version {VERSION + 1}, this code writes {VERSION}"),
        ({**RECORD, "version": "x"}, "is of version x"),
        ({**RECORD, "inputs": []}, "damaged"),
        ({"version": VERSION}, "damaged"),
        ({}, "no record"),
        ([], "no record"),
        (None, "no record"),
    ],
)
def test_a_record_of_another_kind_is_refused(record: Any, said: str):
    with pytest.raises(UserError, match=f"^config.json .*{said}"):
        check_record(record, "config.json")


def test_a_reader_may_accept_older_records():
    old = {**RECORD, "version": 2}
    assert check_record(old, "config.json", versions=(2, 3)) == old
    with pytest.raises(UserError, match="is of version 1"):
        check_record({**RECORD, "version": 1}, "config.json", versions=(2, 3))


@pytest.mark.slow
def test_runs_of_an_older_version_are_refused_in_a_line(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    for path in [*folder.glob("runs/*/*/config.json"), *folder.glob("loss/*/made_from.json")]:
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    for path in folder.rglob("*.pth"):
        weights = load_checkpoint(path)
        save_checkpoint(path, {**weights, "record": {**weights["record"], "version": 2}})
    for script in SCRIPTS:
        refused(folder, script, says=("version 2", f" {VERSION}"))


# --- runs, weights and batches carry them


def change_state(path: Path, **values: object) -> None:
    """Rewrite a checkpoint of ours with other values; None drops one."""
    content = {**load_checkpoint(path), **values}
    save_checkpoint(path, {k: v for k, v in content.items() if v is not None})


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["config.json", "the folder"])
def test_a_state_is_not_resumed_under_other_parameters(
    finished: Path, stopped: Path, tmp_path: Path, lost: str
):
    folder = copy(stopped, tmp_path)
    if lost == "config.json":
        (folder / RUN / lost).unlink()
    else:
        shutil.rmtree(folder / RUN)
    other = ["--lr", "0.001", "--init", "warm", "--batch-size", "64"]
    refused(folder, "main.py", *other, "--channel-order", "bgr", says=("channel_order", "rgb", "bgr"))
    changed = "lr (was 0.03, now 0.001)", "init (was scratch, now warm)", "batch_size (was 4, now 64)"
    refused(folder, "main.py", *other, says=changed)
    assert epochs_of(run_tiny(folder, "main.py").stdout)[0] > (1, 0)
    assert differences(folder, finished) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", ["main.py", "whole_dataset.py"])
def test_a_run_of_another_script_is_refused(finished: Path, tmp_path: Path, script: str):
    folder = copy(finished, tmp_path)
    flags = [*(RANDOM_BASELINE[2:] if script == "main.py" else []), "--run-name", "cold-start-random"]
    refused(folder, script, *flags, says=("cold-start-random", f"script (was main_pt4al.py, now {script})"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{RUN}/config.json", f"{LOSS}/made_from.json"])
@pytest.mark.parametrize("record", ["{}", "[]", '{"version": 1}'])
def test_files_that_carry_no_record_are_refused(finished: Path, tmp_path: Path, name: str, record: str):
    folder = copy(finished, tmp_path)
    (folder / name).write_text(record)
    refused(folder, "main.py", says=(name, "version 1" if "version" in record else "record"))


@pytest.mark.slow
def test_a_state_that_carries_no_record_is_refused(stopped: Path, tmp_path: Path):
    folder = copy(stopped, tmp_path)
    change_state(folder / WEIGHTS / "last.pth", record=None)
    refused(folder, "main.py", says=("last.pth", "record"))


@pytest.mark.slow
def test_each_script_compares_only_what_it_uses(finished: Path, tmp_path: Path):
    """So a second strategy shares the first one's batches; and no script minds what it does not use."""
    folder = copy(finished, tmp_path)
    before = times(folder)
    for script in ("rotation.py", "make_batches.py"):
        run_tiny(folder, script, "--strategy", "margin", "--epochs", "9", "--cycles", "9")
    run_tiny(folder, "main_pt4al.py", "--cycles", "9")
    assert times(folder) == before


@pytest.mark.slow
def test_the_resolved_precision_is_part_of_the_record(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    here = json.loads((folder / RUN / "config.json").read_text())["parameters"]["precision"]
    assert epochs_of(run_tiny(folder, "main.py", "--precision", here).stdout) == []
    if here == "bf16":
        refused(folder, "main.py", "--precision", "float32", says="precision (was bf16, now float32)")


@pytest.mark.slow
def test_another_version_of_the_code_or_machine_is_said_and_recorded(stopped: Path, tmp_path: Path):
    folder = copy(stopped, tmp_path)
    path = folder / WEIGHTS / "last.pth"
    record = load_checkpoint(path)["record"]
    change_state(path, record={**record, "code": "0.9 (abc)"})
    stored = json.loads((folder / RUN / "config.json").read_text())
    elsewhere = {**stored["made_with"], "device": "an abacus", "git_commit": "abc"}
    begun = {**stored, "code": "0.9 (abc)", "made_with": elsewhere}
    (folder / RUN / "config.json").write_text(json.dumps(begun))
    says(run_tiny(folder, "main.py").stdout, "version 0.9 (abc)")
    after = json.loads((folder / RUN / "config.json").read_text())
    assert after["code"] == "0.9 (abc)" and after["made_with"] == elsewhere
    assert after["went_on_with"] == [f"{record['code']}, device {stored['made_with']['device']}"]
