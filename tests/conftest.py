"""One small run of every script on the digits, made once and shared by the tests that look at what it left behind."""

import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from shell import RANDOM_BASELINE, TINY, run

SCRIPTS = ("rotation.py", "make_batches.py", "main.py", "main_pt4al.py", "whole_dataset.py")


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
            for script in SCRIPTS:
                run(work, script, "digits", *TINY)
            run(work, "main.py", "digits", *TINY, *RANDOM_BASELINE)
            run(work, "main_pt4al.py", "digits", *TINY, "--first-pick", "random")
            work.rename(folder)
    return folder
