"""Records: what stands in them, and what becomes of those of other versions."""

import json
from pathlib import Path
from typing import Any

import pytest
from shell import SCRIPTS, TINY, content, copy, run

from config import DIGITS
from pt4al.base.console import UserError
from pt4al.base.files import load_checkpoint, save_checkpoint
from pt4al.run.record import VERSION, check_record, make_record

RECORD = make_record(DIGITS, "main.py", "main-confidence", {"data": "0" * 64})


def test_a_record_holds_what_its_script_uses_and_where_it_says_what():
    parameters = RECORD["parameters"]
    assert parameters["lr"] == DIGITS.lr and parameters["milestones"] == [24]  # a tuple, once stored
    assert parameters["precision"] in ("bf16", "float32")  # not `auto`
    assert not {"rotation_epochs", "losses", "cold_start_batch"} & parameters.keys()  # of other scripts
    assert not {"threads", "device", "data_dir", "run_name", "restart"} & parameters.keys()  # where and how


def test_more_than_a_record_may_be_read():
    assert check_record({**RECORD, "made_with": {}}, "config.json") == RECORD


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
    before = content(folder)
    for script in SCRIPTS:
        errors = run(folder, script, "digits", *TINY, status=2).stderr
        assert "is of version 2, this code writes 3: " in errors and len(errors.splitlines()) == 1
    assert content(folder) == before
