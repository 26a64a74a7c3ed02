"""One small run of every script on the digits, made once and shared by the tests that look at what it left behind."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from shell import RANDOM_BASELINE, TINY, run

SCRIPTS = ("rotation.py", "make_batches.py", "main.py", "main_pt4al.py", "whole_dataset.py")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which every script has run to its end; tests must not change it."""
    folder = tmp_path_factory.mktemp("finished")
    for script in SCRIPTS:
        run(folder, script, "digits", *TINY)
    run(folder, "main.py", "digits", *TINY, *RANDOM_BASELINE)
    run(folder, "main_pt4al.py", "digits", *TINY, "--first-pick", "random")
    return folder
