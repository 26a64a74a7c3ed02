"""An experiment has one pretext network: rotation.pth is of one run, whole, and of the settings that it is used
with."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from shell import (
    EXPERIMENT,
    LOSS,
    POOL,
    RANDOM_BASELINE,
    RUN,
    WEIGHTS,
    copy,
    differences,
    one_error,
    refused,
    run_tiny,
    says,
    start,
)

from pt4al.base.files import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow  # many starts of a script

PRETEXT = f"checkpoint/{EXPERIMENT}/rotation.pth"


def test_a_second_rotation_run_does_not_touch_the_first_ones_weights(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    before = (folder / PRETEXT).read_bytes()
    for flags in ([], ["--restart"]):
        done = run_tiny(folder, "rotation.py", "--run-name", "other", *flags, status=2)
        one_error(done.stderr, "rotation.py", "rotation.pth", "run rotation", "--experiment")
        assert (folder / PRETEXT).read_bytes() == before


def test_two_runs_of_rotation_in_one_experiment_exclude_each_other(tmp_path: Path):
    process = start(tmp_path, "rotation.py", "--run-name", "a", hold=(1, 60))
    done = run_tiny(tmp_path, "rotation.py", "--run-name", "b", status=2)
    process.kill()
    process.wait()
    one_error(done.stderr, "rotation.py", f"checkpoint/{EXPERIMENT} ", f"process {process.pid} ")


def test_a_refused_start_leaves_rotation_as_it_was_and_lost_weights_are_written_again(
    finished: Path, tmp_path: Path
):
    folder = copy(finished, tmp_path)
    refused(folder, "rotation.py", "--restart", "--data-dir", "nowhere", says="nowhere/train")
    (folder / PRETEXT).unlink()
    says(run_tiny(folder, "rotation.py").stdout, "rotation.pth")
    assert differences(folder, finished) == []
    shutil.rmtree(folder / f"checkpoint/{EXPERIMENT}/rotation")
    refused(folder, "rotation.py", says=("last.pth", "--restart"))
    shutil.rmtree(folder / f"runs/{EXPERIMENT}/rotation")
    done = run_tiny(folder, "rotation.py", "--lr", "0.01", status=2)
    one_error(done.stderr, "rotation.py", "rotation.pth", "lr (was 0.03, now 0.01)")
    refused(folder, "rotation.py", says=("rotation.pth", "last.pth", "--restart"))
    run_tiny(folder, "rotation.py", "--restart")
    assert differences(folder, finished) == []


def test_batches_of_weights_that_were_replaced_are_refused(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    run_tiny(folder, "rotation.py", "--restart", "--rotation-epochs", "1")
    for script in ("main.py", "main_pt4al.py"):
        refused(folder, script, "--run-name", "new", says=("rotation.pth", "make_batches.py --restart"))
    run_tiny(folder, "main.py", *RANDOM_BASELINE, "--cycles", "1", "--run-name", "other")  # it needs none
    run_tiny(folder, "make_batches.py", "--restart")
    run_tiny(folder, "main.py", "--cycles", "1")
    record = json.loads((folder / RUN / "config.json").read_text())
    assert record["inputs"]["batches_made_from"]["pretext_made_from"]["rotation_epochs"] == 1
    assert "rotation_epochs" not in {**record["parameters"], **record["other_parameters"]}
    shutil.rmtree(folder / "checkpoint")  # only loss/ was copied
    run_tiny(folder, "main.py", "--cycles", "1", "--run-name", "new")


def test_an_interrupted_restart_leaves_no_old_weights(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    process = start(folder, "rotation.py", "--restart", hold=(1, 60))
    process.send_signal(signal.SIGTERM)
    says(process.communicate(60)[1], "without --restart")
    refused(folder, "make_batches.py", says="rotation.py")
    run_tiny(folder, "main.py", "--run-name", "new", "--cycles", "1")  # it will be what it was
    process = start(folder, "rotation.py", "--restart", "--lr", "0.01", hold=(1, 60))
    process.kill()
    process.wait()
    for script in ("main.py", "main_pt4al.py"):
        refused(folder, script, "--run-name", "newer", says=("rotation.pth", "rotation.py again"))


def test_released_weights_are_not_replaced(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    net = {f"module.{name}": w for name, w in load_checkpoint(folder / PRETEXT)["net"].items()}
    torch.save({"net": net, "acc": 90.0, "epoch": 14}, folder / PRETEXT)
    shutil.rmtree(folder / "loss")
    refused(folder, "rotation.py", says=("rotation.pth", "--restart"))
    run_tiny(folder, "make_batches.py")
    assert len((folder / LOSS / "rotation_loss.txt").read_text().splitlines()) == POOL
    run_tiny(folder, "rotation.py", "--restart")
    assert "record" in load_checkpoint(folder / PRETEXT)


def test_weights_of_another_seed_are_refused(finished: Path, tmp_path: Path):
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    refused(tmp_path, "make_batches.py", "--seed", "1", says=("rotation.pth", "seed 0", " 1"))


def test_weights_that_are_no_numbers_rank_nothing(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    content = load_checkpoint(folder / PRETEXT)
    content["net"]["linear.bias"] *= float("nan")
    save_checkpoint(folder / PRETEXT, content)
    shutil.rmtree(folder / "loss")
    refused(folder, "make_batches.py", says="finite")
    state = load_checkpoint(folder / WEIGHTS / "last.pth")
    assert all(w.isfinite().all() for w in state["net"].values() if w.is_floating_point())
