"""How scripts end where streams are closed, nobody reads, or signals come at once: in words, and exactly."""

import os
import signal
import subprocess
import sys
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


@pytest.mark.parametrize("words", ["main.py --help", "main.py --version", "utils/plot_curves.py --help"])
def test_help_that_nobody_reads(words: str):
    process = Started(ROOT, *words.split(), stdout="unread")
    assert process.communicate() == ("", "") and process.returncode == 128 + signal.SIGPIPE


ENDS = {
    "waits": "raise Waiting('cycle 0 waits')", "fails": "raise UserError('bad')", "prints": "print('x')",
    "ends": "print('x'); sys.exit(0)", "is stopped": "raise Stopped(15)",
}  # fmt: skip


@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize(
    ("stream", "end", "status", "said"),
    [
        ("unread", "waits", 141, ""), ("unread", "prints", 141, ""), ("unread", "ends", 141, ""),
        ("unread", "fails", 2, "bad"), ("unread", "is stopped", 143, "stopped by SIGTERM"),
        ("both unread", "fails", 141, ""), ("both unread", "is stopped", 141, ""),
        ("full", "waits", 2, "No space left"), ("full", "prints", 2, "No space left"),
        ("full", "ends", 2, "No space left"), ("full", "fails", 2, "bad"),
    ],
)  # fmt: skip
def test_streams_that_take_nothing(stream: str, end: str, status: int, said: str, buffering: str):
    """In whichever way a script ends: its status, and a line at most."""
    unread = "r, w = os.pipe(); os.close(r); os.dup2(w, {})"
    spoil = {
        "unread": unread.format(1), "full": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
        "both unread": f"{unread.format(1)}; {unread.format(2)}",
    }[stream]  # fmt: skip
    code = f"""
import os, sys
from pt4al.base.console import *
def main():
    {spoil}
    {ENDS[end]}
run_script(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": buffering},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status and said in done.stderr, done
    assert len(done.stderr.split("\n")) <= 3 and "Traceback" not in done.stderr and not done.stdout


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


def test_a_signal_that_comes_when_all_is_done():
    """It is not answered any more: neither by a traceback, nor by an alarm that would end the process."""
    code = """
import signal, time
from pt4al.base.console import *
class Odd:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)
def main():
    Odd()
    raise UserError("bad")
run_script(main)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "-c: error: bad\n")


MOMENTS = {
    "a callback": """
class Odd:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)  # a signal is answered between two lines of Python
def main():
    Odd()
    time.sleep(60)
""",
    "a lock of a thread pool": """
class Lock(type(threading.Condition())):
    def __enter__(self):
        taken = super().__enter__()
        if threading.get_ident() == threading.main_thread().ident and not sent:
            sent.append(1)
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0)
        return taken
def main():
    with Threads(2) as pool:
        result(pool.submit(abs, 1))
        pool._idle_semaphore._cond = Lock()
        list(pool.map(abs, range(1000)))
    print("not stopped")
""",
    "a wait for a thread": """
def main():
    with Threads(1) as pool:
        future = pool.submit(time.sleep, 5)
        threading.Timer(0.5, signal.raise_signal, [signal.SIGTERM]).start()
        before = time.monotonic()
        try:
            result(future)
        finally:
            assert time.monotonic() - before < 4
""",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_that_comes_in(moment: str):
    """Where Python would drop the exception, or leave the lock taken and all threads waiting for it."""
    code = f"""
import signal, threading, time
from pt4al.base.console import *
from pt4al.base.threads import *
sent = []
{MOMENTS[moment]}
run_script(main)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (143, ""), done
    assert done.stderr.startswith("\nstopped by SIGTERM") and done.stderr.count("\n") == 2
