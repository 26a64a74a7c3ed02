"""While images are decoded, a run can be interrupted."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import SHORT, content, start_ranks

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_while_images_are_decoded(tmp_path: Path, processes: int):
    """One large picture under many names takes ten seconds or more. The signal goes to all processes, as a
    terminal sends it."""
    picture, data = tmp_path / "one.png", tmp_path / "data"
    pixels = np.random.default_rng(0).integers(256, size=(1200, 1200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (data / name).mkdir(parents=True)
        for i in range(500):
            (data / name / f"{i}.png").symlink_to(picture)
    flags = ["digits", *SHORT, "--dataset", "folder", "--data-dir", "data"]
    started = start_ranks(tmp_path, "whole_dataset.py", *flags, processes=processes)
    while not all(reads(process.pid, picture) for process in started):
        assert started[0].poll() is None, started[0].stderr.read()
    for process in started:
        process.send_signal(signal.SIGINT)
    for process in started:
        error = process.communicate(60)[1]
        assert process.returncode == 128 + signal.SIGINT and "SIGINT" in error and "Traceback" not in error
    assert content(tmp_path) == {}


def reads(pid: int, path: Path) -> bool:
    """Whether a process has a file open (Linux)."""
    try:
        return any(Path(link).resolve() == path for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it has just ended
        return False
