"""A run that was stopped and started again leaves the same bytes as one that never stopped."""

import random
import signal
import time
from pathlib import Path

import pytest
from shell import (
    SCRIPTS,
    TINY,
    content,
    copy,
    differences,
    rows,
    run,
    start,
    stop_after,
)
from stress.kill_and_resume import kill_until_done

from pt4al.base.files import load_checkpoint

pytestmark = pytest.mark.slow  # many starts of a script, seconds each


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_main_goes_on_exactly_after_a_signal(finished: Path, tmp_path: Path, number: signal.Signals):
    folder = copy(finished, tmp_path, "main-confidence")
    process = stop_after(folder, 5, number, script="tests/saving_late.py")
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    if number != signal.SIGKILL:
        assert "the same command goes on from here" in process.stderr.read()
        state = load_checkpoint(folder / "checkpoint/digits-seed0/main-confidence/last.pth")
        assert (state["cycle"], state["finished_epoch"]) >= (1, 1)  # the fifth epoch, though none was due
    assert differences(folder, finished)
    assert "going on after epoch" in run(folder, "main.py", "digits", *TINY).stdout
    assert differences(folder, finished) == []


def test_all_scripts_survive_kills_at_random_moments(finished: Path, tmp_path: Path):
    """A kill a script here; tests/stress/kill_and_resume.py does any number."""
    source, kills = random.Random(int(time.time())), 0
    for script in SCRIPTS:
        kills += kill_until_done(tmp_path, script, [], 1, seconds=8, limit=1, source=source)
    left_out = {name for name in content(finished) if "random" in name}
    assert set(differences(tmp_path, finished)) == left_out
    print(f"{kills} kills")


def test_the_comparison_can_fail(finished: Path, tmp_path: Path):
    """Negative control: another seed of the same run differs in its weights, losses and picks."""
    folder = copy(finished, tmp_path, "main-confidence")
    for name in ("rotation.py", "make_batches.py", "main.py"):
        flags = ["--seed", "1", "--experiment", "digits-seed0", "--restart"]
        run(folder, name, "digits", *TINY, *flags)
    different = differences(folder, finished)
    for name in ("main_0.pth", "last.pth", "metrics.csv", "config.json", "labeled/cycle_1.txt"):
        assert any(path.endswith(f"main-confidence/{name}") for path in different), name


def test_a_damaged_last_state_falls_back_to_the_one_before(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    stop_after(folder, 5, signal.SIGTERM)
    last = folder / "checkpoint/digits-seed0/main-confidence/last.pth"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    done = run(folder, "main.py", "digits", *TINY)
    assert "last.pth" in done.stdout and "going on from" in done.stdout and "previous.pth" in done.stdout
    assert differences(folder, finished) == []


def test_a_metrics_file_cut_in_a_line_is_made_whole(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    stop_after(folder, 5, signal.SIGTERM)
    metrics = folder / "runs/digits-seed0/main-confidence/metrics.csv"
    metrics.write_bytes(metrics.read_bytes()[:-30])
    run(folder, "main.py", "digits", *TINY)
    assert differences(folder, finished) == []
    assert len(rows(metrics)) == 9


def test_restart_begins_anew_and_ends_the_same(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    run(folder, "main_pt4al.py", "digits", *TINY, "--restart", "--lr", "0.05")
    assert any("cold-start-interval/main_0.pth" in name for name in differences(folder, finished))
    run(folder, "main_pt4al.py", "digits", *TINY, "--restart")
    assert differences(folder, finished) == []


def test_a_second_process_is_refused_and_told_who_holds_the_folder(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    process = start(folder, "main.py", "--epochs", "500")
    second = run(folder, "main.py", "digits", *TINY, "--epochs", "500", status=2)
    process.kill()
    process.wait()
    assert f"in use by process {process.pid} on" in second.stderr
