"""What config.py says of an option is true: the scripts that it names read it, and no others."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import SCRIPTS, run

from config import PRESETS, Config
from pt4al.run.command_line import LIMITS

TINY = ["digits", "--dataset", "folder", "--data-dir", "data", "--width", "1", "--rotation-epochs", "1",
        "--epochs", "1", "--cycles", "2", "--num-batches", "3", "--labels-per-cycle", "2",
        "--batch-size", "8", "--min-epoch-images", "0"]  # fmt: skip
RUNS = [*SCRIPTS, "utils/show_batches.py"]
# Scripts that name an option read it, but for these.
UNREAD = {"test_labels": "of unlabeled pools only", "imbalance_kind": "of an imbalance only"}


def named(script: str) -> set[str]:
    return {f.name for f in fields(Config) if Path(script).name in f.metadata["scripts"]}


def spied(folder: Path, script: str, *flags: str, **variables: str) -> set[str]:
    """The options that a script reads on its way to a good end."""
    run(folder, "tests/spying.py", script, *TINY, *flags, **variables)
    return {*(folder / "read.txt").read_text().split()}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """48 images of noise, in three classes."""
    folder, draws = tmp_path, np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 4)):
        for i in range(3 * n):
            path = folder / "data" / split / "abc"[i % 3] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


def test_scripts_read_what_options_say(work: Path):
    for script in RUNS:
        read = spied(work, script)
        if script == "make_batches.py":
            read |= spied(work, script)  # its files are there now: does it have to keep them?
        assert read - named(script) == set(), f"{script} reads these, and config.py says that it does not"
        assert named(script) - read <= {*UNREAD}, f"config.py says that {script} reads these, and it does not"
    read = spied(work, "main.py", "--strategy", "typiclust", "--first-pick", "typiclust")
    assert read <= named("main.py")


def test_a_script_that_reads_something_else_is_found(work: Path):
    """Negative control: make_batches.py made to look at an option of training."""
    run(work, "rotation.py", *TINY)
    assert spied(work, "make_batches.py", CONTROL="1") - named("make_batches.py") == {"precision"}


def test_every_option_is_described():
    known = {Path(script).name for script in [*RUNS, "utils/extract_features.py"]}
    for f in fields(Config):
        text, scripts, limits = (f.metadata[name] for name in ("text", "scripts", "limits"))
        assert text.endswith(".") and scripts and scripts <= known and limits.keys() <= LIMITS.keys(), f.name
        assert bool(limits) == (f.type in (int, float, int | None)), f.name
    assert fields(Config)[0].metadata["group"]
    assert {script for f in fields(Config) for script in f.metadata["scripts"]} == known


def test_the_official_preset_sets_every_quirk_of_the_released_code():
    usual, official = vars(PRESETS["cifar10"]), vars(PRESETS["cifar10-official"])
    assert {name: value for name, value in official.items() if value != usual[name]} == {
        "sort": "lexicographic", "strategy": "normalized_confidence", "channel_order": "bgr", "init": "warm",
        "select": "best", "precision": "float32", "normalization": "cifar10", "cold_start_batch": 5,
    }  # fmt: skip
