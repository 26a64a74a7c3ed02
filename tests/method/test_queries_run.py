"""The strategies that look at features, through main.py and main_pt4al.py: files, records, processes, resume."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from shell import TINY, copy, differences, run, stop_after

from pt4al.base.files import load_checkpoint, save_checkpoint, sha256_of

pytestmark = pytest.mark.slow  # many starts of a script, seconds each

EXPERIMENT = "digits-seed0"
ALL = (
    "main-confidence",
    "main-random",
    "cold-start-interval",
    "cold-start-random",
    "whole-dataset",
    "rotation",
)


def picks(folder: Path, name: str, cycle: int) -> list[str]:
    return (folder / f"runs/{EXPERIMENT}/{name}/labeled/cycle_{cycle}.txt").read_text().split()


def inputs(folder: Path, name: str) -> dict[str, str]:
    return json.loads((folder / f"runs/{EXPERIMENT}/{name}/config.json").read_text())["inputs"]


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A folder with pretext weights and batches, and no run."""
    for name in (f"checkpoint/{EXPERIMENT}/rotation.pth", f"loss/{EXPERIMENT}"):
        (tmp_path / name).parent.mkdir(parents=True)
        copied = shutil.copytree if (finished / name).is_dir() else shutil.copy
        copied(finished / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["coreset", "badge", "typiclust"])
def test_main_takes_from_its_batches(finished: Path, work: Path, name: str):
    run(work, "main.py", "digits", *TINY, "--strategy", name, "--epochs", "1", "--milestones", "9")
    chosen = [picks(work, f"main-{name}", cycle) for cycle in range(3)]
    assert chosen[0] == picks(finished, "main-confidence", 0)
    assert len({x for cycle in chosen for x in cycle}) == 3 * len(chosen[0])
    for cycle in (1, 2):
        batch = (work / f"loss/{EXPERIMENT}/batch_{cycle}.txt").read_text().split()
        assert set(chosen[cycle]) < set(batch)
        assert set(chosen[cycle]) != set(batch[: len(chosen[cycle])])
    weights = sha256_of(work / f"checkpoint/{EXPERIMENT}/rotation.pth")
    assert inputs(work, f"main-{name}").get("pretext") == (weights if name == "typiclust" else None)


def test_typiclust_picks_alike_on_two_processes(finished: Path, work: Path):
    """In cycle 0, where no training has rounded differently; of the whole pool, so main.py does too."""
    flags = ["--first-pick", "typiclust", "--epochs", "1", "--milestones", "9"]
    run(work, "main_pt4al.py", "digits", *TINY, *flags)
    run(work, "main_pt4al.py", "digits", *TINY, *flags, "--run-name", "two", processes=2)
    flags += ["--candidates", "all", "--cycles", "1"]
    run(work, "main.py", "digits", *TINY, *flags)
    one = picks(work, "cold-start-typiclust", 0)
    assert picks(work, "two", 0) == picks(work, "main-confidence", 0) == one
    assert len(set(one)) == len(one) == 71 and set(one) != set(picks(finished, "cold-start-random", 0))
    assert len({x.split("/")[-2] for x in one}) >= 8  # of 10 classes


def test_typiclust_refuses_what_is_not_its_pretext_network(work: Path):
    weights = work / f"checkpoint/{EXPERIMENT}/rotation.pth"
    flags = ["--first-pick", "typiclust", "--epochs", "1", "--milestones", "9"]

    def refused(script: str, *more: str) -> str:
        error = run(work, script, "digits", *TINY, *flags, *more, status=2).stderr
        assert len(error.splitlines()) == 1 and "Traceback" not in error
        return error

    assert "rotation.pth was made with another channel_order" in refused(
        "main_pt4al.py", "--channel-order", "bgr"
    )
    assert f"{EXPERIMENT}/rotation.pth was made with seed 0, not 1" in refused(
        "main_pt4al.py", "--seed", "1", "--experiment", EXPERIMENT
    )
    run(work, "main_pt4al.py", "digits", *TINY, *flags)
    assert "is finished" in run(work, "main_pt4al.py", "digits", *TINY, *flags).stdout
    save_checkpoint(weights, {**load_checkpoint(weights), "acc": 1.0})  # of another training
    assert "pretext (was " in refused("main_pt4al.py")
    weights.unlink()
    for script in ("main_pt4al.py", "main.py"):
        assert "rotation.pth does not exist: run rotation.py first" in refused(script)
    assert not (work / f"runs/{EXPERIMENT}/main-confidence").exists()


def test_a_run_that_draws_and_clusters_goes_on_exactly(work: Path, tmp_path_factory: pytest.TempPathFactory):
    """Killed in cycle 1, which badge chose for; cycle 0 was typiclust's."""
    flags = ["--strategy", "badge", "--first-pick", "typiclust"]
    whole = copy(work, tmp_path_factory.mktemp("whole"))
    run(whole, "main.py", "digits", *TINY, *flags)
    stop_after(work, 5, signal.SIGKILL, *flags)
    assert differences(work, whole)
    assert "resuming after epoch" in run(work, "main.py", "digits", *TINY, *flags).stdout
    assert differences(work, whole) == []
