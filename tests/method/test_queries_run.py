"""Strategies that look at features, through main.py and main_pt4al.py: files, records, processes, resume."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from shell import EXPERIMENT, LOSS, RUN, copy, differences, epochs_of, refused, run_tiny, stop_after, times

from pt4al.base.files import load_checkpoint, save_checkpoint, sha256_of

pytestmark = pytest.mark.slow  # many starts of a script

PRETEXT = f"checkpoint/{EXPERIMENT}/rotation.pth"
SHORT = ["--epochs", "1", "--milestones", "9"]


def picks(folder: Path, name: str, cycle: int) -> list[str]:
    return (folder / f"runs/{EXPERIMENT}/{name}/labeled/cycle_{cycle}.txt").read_text().split()


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A folder with pretext weights and batches, and no run."""
    (tmp_path / PRETEXT).parent.mkdir(parents=True)
    shutil.copy(finished / PRETEXT, tmp_path / PRETEXT)
    shutil.copytree(finished / LOSS, tmp_path / LOSS)
    return tmp_path


@pytest.mark.parametrize("name", ["coreset", "badge", "typiclust"])
def test_main_takes_from_its_batches(finished: Path, work: Path, name: str):
    run_tiny(work, "main.py", "--strategy", name, *SHORT)
    chosen = [picks(work, f"main-{name}", cycle) for cycle in range(3)]
    assert chosen[0] == picks(finished, "main-confidence", 0)
    assert len({x for cycle in chosen for x in cycle}) == 3 * len(chosen[0])
    for cycle in (1, 2):
        batch = (work / LOSS / f"batch_{cycle}.txt").read_text().split()
        assert set(chosen[cycle]) < set(batch)
        assert set(chosen[cycle]) != set(batch[: len(chosen[cycle])])
    inputs = json.loads((work / f"runs/{EXPERIMENT}/main-{name}/config.json").read_text())["inputs"]
    assert inputs.get("pretext") == (sha256_of(work / PRETEXT) if name == "typiclust" else None)


def test_typiclust_picks_alike_on_two_processes(finished: Path, work: Path):
    """In cycle 0, where no training has rounded differently; of the whole pool, so main.py does too."""
    flags = ["--first-pick", "typiclust", "--labels-per-cycle", "15", *SHORT]
    run_tiny(work, "main_pt4al.py", *flags)
    run_tiny(work, "main_pt4al.py", *flags, "--run-name", "two", processes=2)
    run_tiny(work, "main.py", *flags, "--candidates", "all", "--cycles", "1")
    one = picks(work, "cold-start-typiclust", 0)
    assert picks(work, "two", 0) == picks(work, "main-confidence", 0) == one and len(set(one)) == 15
    assert not set(picks(finished, "cold-start-random", 0)) <= set(one)
    assert len({x.split("/")[-2] for x in one}) >= 7  # of 10 classes


def test_typiclust_refuses_what_is_not_its_pretext_network(work: Path):
    flags = ["--first-pick", "typiclust", *SHORT]
    says = "rotation.pth", "channel_order", "bgr"
    refused(work, "main_pt4al.py", *flags, "--channel-order", "bgr", says=says)
    refused(work, "main_pt4al.py", *flags, "--seed", "1", says=("rotation.pth", "seed 0", " 1"))
    run_tiny(work, "main_pt4al.py", *flags)
    before = times(work)
    assert epochs_of(run_tiny(work, "main_pt4al.py", *flags).stdout) == [] and times(work) == before
    weights = load_checkpoint(work / PRETEXT)
    save_checkpoint(work / PRETEXT, {**weights, "acc": 1.0})  # of another training
    refused(work, "main_pt4al.py", *flags, says="pretext (was ")
    (work / PRETEXT).unlink()
    for script in ("main_pt4al.py", "main.py"):
        refused(work, script, *flags, says=("rotation.pth", "rotation.py"))
    assert not (work / RUN).exists()


def test_a_run_that_draws_and_clusters_is_resumed_exactly(
    work: Path, tmp_path_factory: pytest.TempPathFactory
):
    """Killed in cycle 1, which badge chose for; cycle 0 was typiclust's."""
    flags = ["--strategy", "badge", "--first-pick", "typiclust"]
    whole = copy(work, tmp_path_factory.mktemp("whole"))
    run_tiny(whole, "main.py", *flags)
    stop_after(work, 5, signal.SIGKILL, *flags)
    assert differences(work, whole)
    assert epochs_of(run_tiny(work, "main.py", *flags).stdout)[0] > (0, 0)
    assert differences(work, whole) == []
