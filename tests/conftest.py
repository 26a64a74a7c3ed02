"""Small runs of every script, made once and shared by the tests that look at what they left behind."""

import csv
import os
import runpy
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one test a core; read when torch is imported

import hypothesis
import pytest
import torch
from filelock import FileLock

# What is compared byte by byte is the CPU's: GPUs are hidden, but from test_gpu.py, which asks for them.
if "TESTS_GPU" not in os.environ:  # a worker gets it from the process that starts it
    there = torch.cuda.device_count() > 0
    os.environ["TESTS_GPU"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0") if there else ""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and what is started would too
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from browsing import browser, served  # noqa: F401, fixtures
from photographs import own, prepare
from shell import RANDOM_BASELINE, ROOT, SHORT, TINY, copy, run, run_tiny, stop_after

from pt4al.base import files
from pt4al.base.console import SIGNALS

Call = Callable[..., tuple[int, str]]

# A machine may be busy: a slow example is no failure.
hypothesis.settings.register_profile("any machine", deadline=None, max_examples=50)
hypothesis.settings.load_profile("any machine")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that whichever worker asks first makes for all of them."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers
    with FileLock(shared / f"{name}.lock"):
        folder = shared / name
        if not folder.exists():
            work = factory.mktemp(name)
            make(work)
            work.rename(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which every script has run on few digits; tests must not change it."""
    chains = (  # side by side: the second needs nothing of the first
        [["rotation.py"], ["make_batches.py"], ["main.py"], ["main_pt4al.py"]],
        [["whole_dataset.py"], ["main.py", *RANDOM_BASELINE], ["main_pt4al.py", "--first-pick", "random"]],
    )

    def make(work: Path) -> None:
        def run_chain(chain: list[list[str]]) -> None:
            for script, *flags in chain:
                run_tiny(work, script, *flags)

        with ThreadPoolExecutor(2) as both:
            list(both.map(run_chain, chains))

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def stopped(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `finished`, but main.py was stopped in its second cycle; tests must not change it."""

    def make(work: Path) -> None:
        stop_after(copy(finished, work, "main-confidence"), 5, signal.SIGTERM)

    return made_once(tmp_path_factory, "stopped", make) / "work"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the steps have run on all digits, an epoch each; tests must not change it."""

    def make(work: Path) -> None:
        for script in ("rotation.py", "make_batches.py", "main.py", "whole_dataset.py"):
            run(work, script, "digits", *SHORT, "--rotation-epochs", "1", "--epochs", "1", "--cycles", "2")

    return made_once(tmp_path_factory, "digits", make)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Run a script's own `__main__` in this process, where a fault can be put in its way, on few digits: its
    status and its errors."""

    def run_here(folder: Path, script: str, *flags: str) -> tuple[int, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), "digits", *TINY, *flags])
        try:
            with pytest.raises(SystemExit) as stop:
                runpy.run_path(str(ROOT / script), run_name="__main__")
        finally:
            files.HELD.clear()  # the locks that would have ended with the process
        return stop.value.code, capfd.readouterr().err

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the scripts have that made the runs to compare with
    yield run_here
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


# --- images that nobody has labeled


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the few digits as a flat pool, in the order of their classes, some to test by, the
    truth beside them, and batches of the pool."""

    def make(work: Path) -> None:
        digits = Path(os.environ["TESTS_DIGITS"])
        shutil.copytree(digits / "test", work / "photos/test")
        (work / "photos/pool").mkdir()
        truth = []
        for rank, path in enumerate(sorted((digits / "train").rglob("*.png"))):
            shutil.copy(path, work / f"photos/pool/{rank:05}.png")
            truth.append([f"pool/{rank:05}.png", path.parent.name])
        with (work / "truth.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["file_name", "label"], *truth])
        prepare(work)

    return made_once(tmp_path_factory, "photos", make)


@pytest.fixture(scope="session")
def asked_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `photos`, where main.py waits for the labels of its first cycle."""

    def make(work: Path) -> None:
        shutil.copytree(photos, work, dirs_exist_ok=True)
        own(work, status=3)

    return made_once(tmp_path_factory, "asked_photos", make)


@pytest.fixture(scope="session")
def asked_untested(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `asked_photos`, without images to test by."""

    def make(work: Path) -> None:
        shutil.copytree(photos, work, dirs_exist_ok=True)
        shutil.rmtree(work / "photos/test")
        own(work, status=3)

    return made_once(tmp_path_factory, "asked_untested", make)
