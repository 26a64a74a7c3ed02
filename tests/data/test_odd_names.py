"""Folders of images as people have them: names of any bytes, and files that are no images of a class."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import epochs_of, refused, run_tiny, says

pytestmark = pytest.mark.slow  # many starts of a script

CLASSES = [os.fsdecode(b"caf\xe9"), "$a^{$", "Größe"]


@pytest.fixture
def odd_pictures(tmp_path: Path) -> Path:
    source = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 3)):
        for label in CLASSES:
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = source.integers(256, size=(16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / os.fsdecode(b"\xe9 %d.png" % i))
    train = tmp_path / "data/train"
    os.mkfifo(train / "$a^{$/pipe.png")
    (train / "$a^{$/nested").mkdir()
    (train / ".hidden").mkdir()
    shutil.copy(next((train / "Größe").iterdir()), train / "loose.png")
    return tmp_path


def test_odd_names_and_what_is_left_out(odd_pictures: Path):
    """Also where standard output takes ASCII alone."""
    flags = ["--data-dir", "data", "--experiment", "odd", "--labels-per-cycle", "2", "--epochs", "1"]
    for script in ("rotation.py", "make_batches.py", "main.py"):
        done = run_tiny(odd_pictures, script, *flags, PYTHONIOENCODING="ascii", LC_ALL="C")
        assert not done.stderr and done.stdout.isascii()
        says(done.stdout, "1 images", "1 hidden folders", "1 pipes")
    folder = odd_pictures / "runs/odd/main-confidence"
    table = (folder / "per_class.csv").read_bytes().splitlines()[1:]
    assert {row.split(b",")[1] for row in table} == {os.fsencode(name) for name in CLASSES}
    assert epochs_of(run_tiny(odd_pictures, "main.py", *flags).stdout) == []


def test_backslashes_and_line_ends_in_names_are_refused(tmp_path: Path):
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / "data" / split / label).mkdir(parents=True)
            Image.new("RGB", (16, 16)).save(tmp_path / "data" / split / label / "photos\\1.png")
    flags = ["--candidates", "all", "--first-pick", "random", "--data-dir"]
    refused(tmp_path, "main.py", *flags, "data", says=("photos\\\\1.png", "backslash"))
    refused(tmp_path, "main.py", *flags, "da\nta", says=("data_dir", r"'da\nta'"))
