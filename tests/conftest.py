"""One small run of every script on the digits, made once and shared by the tests that look at what it left behind."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and what is started would too
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from shell import RANDOM_BASELINE, TINY, run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which every script has run to its end; tests must not change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers
    with FileLock(shared / "finished.lock"):
        folder = shared / "finished"
        if not folder.exists():
            work = tmp_path_factory.mktemp("work")
            chains = (  # side by side: the second needs nothing of the first
                [["rotation.py"], ["make_batches.py"], ["main.py"], ["main_pt4al.py"]],
                [
                    ["whole_dataset.py"],
                    ["main.py", *RANDOM_BASELINE],
                    ["main_pt4al.py", "--first-pick", "random"],
                ],
            )

            def run_chain(chain: list[list[str]]) -> None:
                for script, *flags in chain:
                    run(work, script, "digits", *TINY, *flags)

            with ThreadPoolExecutor(2) as both:
                list(both.map(run_chain, chains))
            work.rename(folder)
    return folder
