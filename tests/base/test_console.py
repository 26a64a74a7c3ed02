"""How scripts end where streams are closed, nobody reads, or signals come at once: in words, and exactly."""

import signal
from pathlib import Path

import pytest
from shell import (
    EXPERIMENT,
    ROOT,
    TINY,
    WEIGHTS,
    Started,
    copy,
    differences,
    run,
    run_tiny,
    start,
)

from pt4al.base.files import load_checkpoint

pytestmark = pytest.mark.slow  # many starts of a script


def test_a_closed_standard_output(tmp_path: Path):
    flags = ["digits", *TINY, "--first-pick", "random", "--epochs", "1"]
    process = Started(tmp_path, "main_pt4al.py", *flags, stdout="closed")
    assert process.communicate() == ("", "") and process.returncode == 0
    assert (tmp_path / f"runs/{EXPERIMENT}/cold-start-random/cycles.csv").exists()


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_that_nobody_reads(flag: str):
    process = Started(ROOT, "main.py", flag, stdout="unread")
    assert process.communicate() == ("", "") and process.returncode == 128 + signal.SIGPIPE


def test_when_nobody_reads_any_more_the_last_epoch_is_saved(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    process = start(folder, "main.py", hold=(1, 1))
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(60) == 128 + signal.SIGPIPE and not error, error
    assert load_checkpoint(folder / WEIGHTS / "last.pth")["finished_epoch"] >= 0
    run_tiny(folder, "main.py")
    assert differences(folder, finished) == []


def test_many_signals_at_once_are_quiet(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    process = start(folder, "main.py", hold=(1, 1))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    error = process.communicate(60)[1]
    assert process.returncode in (143, 130) and "Traceback" not in error
    run_tiny(folder, "main.py")
    assert differences(folder, finished) == []


def test_errors_are_one_plain_line_on_any_terminal(tmp_path: Path):
    done = run(tmp_path, "main.py", "digits", "--epoch", "3", status=2, COLUMNS="20", FORCE_COLOR="1")
    assert done.stderr.startswith("main.py: error: ") and "--epochs" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr[:-1].isprintable()
