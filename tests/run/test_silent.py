"""Nothing goes wrong silently: old states, foreign files, interrupts, numbers that are none, odd names."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shell import (
    RANDOM_BASELINE,
    ROOT,
    TINY,
    command,
    content,
    copy,
    differences,
    environment,
    rows,
    run,
    start,
    stop_after,
    times,
    tree,
)

from pt4al.base.files import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow  # many starts of a script

EXPERIMENT = "digits-seed0"
RUN = f"runs/{EXPERIMENT}/main-confidence"
WEIGHTS = f"checkpoint/{EXPERIMENT}/main-confidence"


def refused(folder: Path, line: str, *messages: str, **variables: str) -> None:
    """A command must end with status 2 and one line that says all of `messages`, changing no file."""
    before = times(folder)
    script, *flags = line.split()
    done = run(folder, script, "digits", *TINY, *flags, status=2, **variables)
    assert all(text in done.stderr for text in messages), done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    assert times(folder) == before


def change_state(path: Path, **values: object) -> None:
    """Rewrite a checkpoint of ours with other values; None drops one."""
    content = {**load_checkpoint(path), **values}
    save_checkpoint(path, {k: v for k, v in content.items() if v is not None})


# --- 1: a state carries its record


@pytest.fixture
def stopped(finished: Path, tmp_path: Path) -> Path:
    """main.py stopped in its second cycle."""
    folder = copy(finished, tmp_path, "main-confidence")
    stop_after(folder, 5, signal.SIGTERM)
    return folder


@pytest.mark.parametrize("lost", ["config.json", "the folder"])
def test_a_state_does_not_go_on_under_other_parameters(finished: Path, stopped: Path, lost: str):
    if lost == "config.json":
        (stopped / RUN / lost).unlink()
    else:
        shutil.rmtree(stopped / RUN)
    other = "--lr 0.001 --init warm --batch-size 64 --channel-order bgr"
    done = run(stopped, "main.py", "digits", *TINY, *other.split(), status=2)
    assert "channel_order rgb, not bgr" in done.stderr  # of the batches, which come first
    done = run(stopped, "main.py", "digits", *TINY, *other.split()[:-2], status=2)
    for text in ("lr (was 0.03, now 0.001)", "init (was", "batch_size (was 16, now 64)"):
        assert text in done.stderr
    assert "going on" in run(stopped, "main.py", "digits", *TINY).stdout
    assert differences(stopped, finished) == []


def test_a_finished_run_makes_its_lost_tables_anew(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    shutil.rmtree(folder / RUN)
    assert "is finished" in run(folder, "main.py", "digits", *TINY).stdout
    assert differences(folder, finished) == []


def test_a_state_without_its_record_is_refused(stopped: Path):
    change_state(stopped / WEIGHTS / "last.pth", record=None)
    done = run(stopped, "main.py", "digits", *TINY, status=2)
    assert "last.pth carries no record of what it was made from" in done.stderr


@pytest.mark.parametrize("script", ["main.py", "whole_dataset.py"])
def test_a_run_of_another_script_is_refused(finished: Path, tmp_path: Path, script: str):
    folder = copy(finished, tmp_path)
    flags = RANDOM_BASELINE[2:] if script == "main.py" else []
    line = f"{script} {' '.join(flags)} --run-name cold-start-random"
    done = run(folder, line.split()[0], "digits", *TINY, *line.split()[1:], status=2)
    assert f"script (was main_pt4al.py, now {script})" in done.stderr


# --- 2, 5: what is deleted is what we wrote


def test_restart_follows_a_linked_folder_and_leaves_what_is_not_ours(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    name = f"checkpoint/{EXPERIMENT}/cold-start-interval"
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    mine = [
        tmp_path / "elsewhere/mine.pth",
        folder / f"runs/{EXPERIMENT}/cold-start-interval/notes.txt",
        folder / f"runs/{EXPERIMENT}/cold-start-interval/labeled/mine.txt",
    ]
    for path in mine:
        path.write_text("mine")
    done = run(folder, "main_pt4al.py", "digits", *TINY, "--restart", "--lr", "0.05")
    assert "is finished" not in done.stdout and " epoch " in done.stdout
    assert (folder / name).is_symlink() and all(path.read_text() == "mine" for path in mine)
    run(folder, "main_pt4al.py", "digits", *TINY, "--restart")
    (folder / name).unlink()
    (tmp_path / "elsewhere").rename(folder / name)
    left = {str(path.relative_to(folder)) for path in mine[1:]} | {f"{name}/mine.pth"}
    assert set(differences(folder, finished)) <= left


def test_make_batches_deletes_only_its_own_files(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    loss = folder / f"loss/{EXPERIMENT}"
    shutil.copy(loss / "rotation_loss.txt", loss / "released.txt")
    (loss / "notes.txt").write_text("mine")
    (loss / "batch_x.txt").write_text("mine")
    assert "is finished" in run(folder, "make_batches.py", "digits", *TINY).stdout
    given = ["--losses", f"loss/{EXPERIMENT}/released.txt", "--num-batches", "3"]
    run(folder, "make_batches.py", "digits", *TINY, *given, status=2)
    run(folder, "make_batches.py", "digits", *TINY, *given, "--restart")
    assert {p.name for p in loss.glob("*.txt")} == {
        "notes.txt", "batch_x.txt", "released.txt", "rotation_loss.txt", "batch_0.txt", "batch_1.txt", "batch_2.txt",
    }  # fmt: skip
    assert (loss / "notes.txt").read_text() == (loss / "batch_x.txt").read_text() == "mine"


# --- 3: while images are decoded


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_while_images_are_decoded(tmp_path: Path, processes: int):
    """One large picture under many names takes ten seconds or more. The signal goes to all processes of the
    group, as a terminal sends it."""
    picture, data = tmp_path / "one.png", tmp_path / "data"
    pixels = np.random.default_rng(0).integers(256, size=(1200, 1200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (data / name).mkdir(parents=True)
        for i in range(500):
            (data / name / f"{i}.png").symlink_to(picture)
    flags = ["--dataset", "folder", "--data-dir", "data"]
    process = subprocess.Popen(
        command("whole_dataset.py", "digits", *TINY, *flags, processes=processes), cwd=tmp_path, text=True,
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while sum(map(reads, tree(process.pid), [picture] * 99)) < processes:
        assert process.poll() is None, process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 or (processes > 1 and process.returncode == 1)  # torchrun gives its own
    assert error.count("stopped by SIGINT") == processes
    assert "Traceback" not in error or processes > 1
    assert content(tmp_path) == {}


def reads(pid: int, path: Path) -> bool:
    """Whether a process has a file open (Linux)."""
    try:
        return any(Path(link).resolve() == path for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it has just ended
        return False


# --- 4: numbers that are none


def test_weights_that_blow_up_in_the_last_step_are_found(tmp_path: Path):
    flags = ["--lr", "1e30", "--batch-size", "2000", "--epochs", "1", "--milestones", "1"]
    done = run(tmp_path, "whole_dataset.py", "digits", *TINY, *flags, status=2)
    assert "not finite" in done.stderr or "no longer finite" in done.stderr
    assert not list(tmp_path.rglob("*.pth")) and not list(tmp_path.rglob("cycles.csv"))


def test_weights_that_are_no_numbers_rank_nothing(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    path = folder / f"checkpoint/{EXPERIMENT}/rotation.pth"
    net = load_checkpoint(path)["net"]
    change_state(path, net={**net, "linear.bias": net["linear.bias"] * float("nan")})
    shutil.rmtree(folder / "loss")
    done = run(folder, "make_batches.py", "digits", *TINY, status=2)
    assert "outputs are not finite" in done.stderr and not (folder / "loss").exists()
    state = load_checkpoint(folder / WEIGHTS / "last.pth")
    assert all(w.isfinite().all() for w in state["net"].values() if w.is_floating_point())


# --- 7: one pretext network an experiment


def test_a_second_rotation_run_does_not_touch_the_first_ones_weights(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    weights = folder / f"checkpoint/{EXPERIMENT}/rotation.pth"
    before = weights.read_bytes()
    for flags in ([], ["--restart"]):
        done = run(folder, "rotation.py", "digits", *TINY, "--run-name", "other", *flags, status=2)
        assert "rotation.pth is of run rotation" in done.stderr and "--experiment" in done.stderr
        assert weights.read_bytes() == before


def test_lost_rotation_weights_are_written_anew(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    (folder / f"checkpoint/{EXPERIMENT}/rotation.pth").unlink()
    assert "written anew" in run(folder, "rotation.py", "digits", *TINY).stdout
    assert differences(folder, finished) == []


def test_an_interrupted_restart_leaves_no_old_weights(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    process = start(folder, "rotation.py", "--restart", "--rotation-epochs", "50")
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert "the same command without --restart resumes from here" in error
    assert "run rotation.py first" in run(folder, "make_batches.py", "digits", *TINY, status=2).stderr


def test_released_weights_are_not_replaced(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    path = folder / f"checkpoint/{EXPERIMENT}/rotation.pth"
    net = {f"module.{name}": w for name, w in load_checkpoint(path)["net"].items()}
    torch.save({"net": net, "acc": 90.0, "epoch": 14}, path)
    shutil.rmtree(folder / "loss")
    refused(folder, "rotation.py", "rotation.pth was not written by this code", "--restart")
    done = run(folder, "make_batches.py", "digits", *TINY)
    assert "1438 images in 4 batches" in done.stdout
    run(folder, "rotation.py", "digits", *TINY, "--restart")
    assert "record" in load_checkpoint(path)


# --- 8: run.sh


@pytest.mark.parametrize(
    "flags", [["--seed=5"], ["--seed", "5"], ["--first-pick", "random"], ["--first_pick=random"], ["--run_name", "x"],
              ["--strategy", "random"], ["--strategy=random"], ["--seeds", "0"], ["--seeds=x"], ["--experiment="]],
)  # fmt: skip
def test_run_sh_refuses_what_would_make_two_runs_one(tmp_path: Path, flags: list[str]):
    done = subprocess.run(
        [ROOT / "run.sh", "digits", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith("run.sh: error: "), done.stderr
    assert not list(tmp_path.iterdir())


# --- 9: batches that are not the ones


@pytest.fixture
def batches(finished: Path, tmp_path: Path) -> Path:
    """A folder with hand-written batch files alone: 20 ids each."""
    loss = tmp_path / "loss" / EXPERIMENT
    loss.mkdir(parents=True)
    for i in range(4):
        lines = (finished / f"loss/{EXPERIMENT}/batch_{i}.txt").read_text().splitlines()
        (loss / f"batch_{i}.txt").write_text("\n".join(lines[:20]))
    return tmp_path


def test_batches_that_leave_out_images_are_said(batches: Path):
    done = run(batches, "main.py", "digits", *TINY, "--labels-per-cycle", "7")
    assert "hold 80 of the 1438 images of the pool" in done.stdout
    record = json.loads((batches / RUN / "config.json").read_text())
    assert record["inputs"]["batches_made_from"] is None


def test_a_cycle_that_cannot_label_its_images_stops_before_training(batches: Path):
    refused(
        batches,
        "main.py --candidates all --labels-per-cycle 40",
        "3 cycles of 40 labels need more than the 80",
    )
    refused(batches, "main.py --labels-per-cycle 30", "labels_per_cycle is 30 but a batch holds 20")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--sort lexicographic", "sort numeric, not lexicographic"),
        ("--channel-order bgr", "channel_order rgb, not bgr"),
        (f"--seed 1 --experiment {EXPERIMENT}", "seed 0, not 1"),
    ],
)
@pytest.mark.parametrize("script", ["main.py", "main_pt4al.py"])
def test_batches_of_other_settings_are_refused(
    finished: Path, tmp_path: Path, flags: str, message: str, script: str
):
    (tmp_path / "loss").symlink_to(finished / "loss")
    done = run(tmp_path, script, "digits", *TINY, *flags.split(), status=2)
    assert f"was made with {message}" in done.stderr and not (tmp_path / "runs").exists()


def test_weights_of_another_seed_are_refused(finished: Path, tmp_path: Path):
    (tmp_path / "checkpoint").symlink_to(finished / "checkpoint")
    done = run(
        tmp_path,
        "make_batches.py",
        "digits",
        *TINY,
        "--seed",
        "1",
        "--experiment",
        EXPERIMENT,
        status=2,
    )
    assert "rotation.pth was made with seed 0, not 1" in done.stderr


def test_each_script_compares_only_what_it_uses(finished: Path, tmp_path: Path):
    """So a second strategy shares the first one's batches; and no script minds what it does not use."""
    folder = copy(finished, tmp_path)
    before = times(folder)
    for script in ("rotation.py", "make_batches.py"):
        flags = ["--strategy", "margin", "--epochs", "9", "--cycles", "9"]
        assert "is finished" in run(folder, script, "digits", *TINY, *flags).stdout
    assert "is finished" in run(folder, "main_pt4al.py", "digits", *TINY, "--cycles", "9").stdout
    assert times(folder) == before


# --- 10, 11, 15: several processes


def test_idle_processes_count_for_nothing(tmp_path: Path):
    """With one image a step all work falls to rank 0: two processes end with the weights of one."""
    flags = [
        "--first-pick",
        "random",
        "--labels-per-cycle",
        "24",
        "--batch-size",
        "1",
        "--run-name",
        "x",
    ]
    tables = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        run(folder, "main_pt4al.py", "digits", *TINY, *flags, processes=processes)
        tables.append([row["test_accuracy"] for row in rows(folder / f"runs/{EXPERIMENT}/x/metrics.csv")])
    assert tables[0] == tables[1]


def test_processes_that_read_other_data_are_told(tmp_path: Path):
    done = run(tmp_path, "tests/each_rank.py", str(tmp_path), "other data", status=1, processes=2)
    assert "process 1 read other data than process 0" in done.stderr


# --- 13, 14: the record


def test_the_resolved_precision_is_part_of_the_record(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    record = json.loads((folder / RUN / "config.json").read_text())
    here = record["parameters"]["precision"]
    assert "is finished" in run(folder, "main.py", "digits", *TINY, "--precision", here).stdout
    other = {"bf16": "float32", "float32": "bf16"}[here]
    if other == "float32":
        refused(folder, f"main.py --precision {other}", f"precision (was {here}, now {other})")


def test_another_version_of_the_code_or_machine_is_said_and_recorded(stopped: Path):
    path = stopped / WEIGHTS / "last.pth"
    record = load_checkpoint(path)["record"]
    change_state(path, record={**record, "code": "0.9 (abc)"})
    stored = json.loads((stopped / RUN / "config.json").read_text())
    elsewhere = {**stored["made_with"], "device": "an abacus", "git_commit": "abc"}
    begun = {**stored, "code": "0.9 (abc)", "made_with": elsewhere}
    (stopped / RUN / "config.json").write_text(json.dumps(begun))
    done = run(stopped, "main.py", "digits", *TINY)
    assert "was begun by version 0.9 (abc) of this code" in done.stdout
    after = json.loads((stopped / RUN / "config.json").read_text())
    assert after["code"] == "0.9 (abc)" and after["made_with"] == elsewhere
    assert after["went_on_with"] == [f"{record['code']}, device {stored['made_with']['device']}"]


def test_what_a_finished_run_lost_is_made_anew_or_named(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    (folder / RUN / "metrics.csv").write_text("cycle,labels\n")
    (folder / RUN / "labeled/cycle_1.txt").unlink()
    (folder / WEIGHTS / "main_2.pth").write_bytes(b"damaged")
    run(folder, "main.py", "digits", *TINY)
    assert differences(folder, finished) == []
    (folder / WEIGHTS / "main_1.pth").unlink()
    done = run(folder, "main.py", "digits", *TINY)
    assert "main_1.pth does not exist: --restart trains it again" in done.stdout


# --- found by a third attack


def test_batches_that_are_half_written_are_refused(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    part = folder / f"loss/{EXPERIMENT}/.batch_1.txt.part"
    part.mkdir()  # what the writing of batch 1 fails at
    flags = ["--sort", "ascending"]
    run(folder, "make_batches.py", "digits", *TINY, *flags, "--restart", status=2)
    part.rmdir()
    refused(folder, "main.py --sort ascending", "make_batches.py did not finish loss/digits-seed0")
    run(folder, "make_batches.py", "digits", *TINY, *flags)
    run(folder, "main.py", "digits", *TINY, *flags)


def test_two_runs_of_rotation_in_one_experiment_exclude_each_other(tmp_path: Path):
    process = start(tmp_path, "rotation.py", "--run-name", "a", "--rotation-epochs", "50")
    done = run(tmp_path, "rotation.py", "digits", *TINY, "--run-name", "b", status=2)
    process.kill()
    process.wait()
    assert f"checkpoint/{EXPERIMENT} is in use by process {process.pid}" in done.stderr


def test_weights_in_a_shared_folder_are_held_too(finished: Path, tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "loss").symlink_to(finished / "loss")
        (tmp_path / "scratch").mkdir(exist_ok=True)
        (folder / "checkpoint").symlink_to(tmp_path / "scratch")
    process = start(one, "main.py", "--epochs", "500")
    done = run(other, "main.py", "digits", *TINY, "--lr", "0.01", status=2)
    process.kill()
    process.wait()
    assert f"{WEIGHTS} is in use by process {process.pid}" in done.stderr


def test_a_refused_start_leaves_rotation_as_it_was(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    refused(
        folder,
        "rotation.py --restart --dataset folder --data-dir nowhere --experiment digits-seed0",
        "nowhere/train is not a folder",
    )
    for name in ("runs", "checkpoint"):
        shutil.rmtree(folder / name / EXPERIMENT / "rotation")
    done = run(folder, "rotation.py", "digits", *TINY, "--lr", "0.01", status=2)
    assert "rotation.pth was made with other parameters: lr (was 0.03, now 0.01)" in done.stderr
    run(folder, "rotation.py", "digits", *TINY)
    assert differences(folder, finished) == []


@pytest.mark.parametrize(
    "name", [f"{WEIGHTS}/main_0.pth", f"{RUN}/metrics.csv", f"{RUN}/labeled/cycle_0.txt"]
)
def test_files_without_a_record_are_not_replaced(finished: Path, tmp_path: Path, name: str):
    folder = copy(finished, tmp_path, "main-confidence")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    refused(folder, "main.py", f"{name} is there but no record of the run")


def test_batches_by_hand_are_not_replaced(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    path = folder / f"loss/{EXPERIMENT}/batch_1.txt"
    path.write_text("\n".join(reversed(path.read_text().split())))
    refused(folder, "make_batches.py", "batch_1.txt is no longer as make_batches.py wrote it")
    path.unlink()
    run(folder, "make_batches.py", "digits", *TINY)  # what is missing can be written
    assert differences(folder, finished) == []
    other = tmp_path / "other/loss" / EXPERIMENT
    other.mkdir(parents=True)
    (other / "class_distribution.csv").write_text("mine")
    refused(
        tmp_path / "other",
        f"make_batches.py --losses {folder}/loss/{EXPERIMENT}/rotation_loss.txt",
        "did not make",
    )


def test_a_loss_file_that_is_given_stays_as_it_is(finished: Path, tmp_path: Path):
    loss = tmp_path / "loss" / EXPERIMENT
    loss.mkdir(parents=True)
    data = (finished / f"loss/{EXPERIMENT}/rotation_loss.txt").read_bytes().replace(b"\n", b"\r\n")
    (loss / "rotation_loss.txt").write_bytes(data)
    flags = ["--losses", f"loss/{EXPERIMENT}/rotation_loss.txt"]
    run(tmp_path, "make_batches.py", "digits", *TINY, *flags, "--restart")
    assert (loss / "rotation_loss.txt").read_bytes() == data
    assert "is finished" in run(tmp_path, "make_batches.py", "digits", *TINY, *flags).stdout


@pytest.mark.parametrize(
    "variables",
    [{"WORLD_SIZE": "abc"}, {"WORLD_SIZE": "-1"}, {"WORLD_SIZE": "2", "RANK": "x"},
     {"WORLD_SIZE": "2", "RANK": "5", "MASTER_ADDR": "localhost", "MASTER_PORT": "29999"},
     {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "x"}],
)  # fmt: skip
def test_what_a_launcher_left_in_the_environment_is_checked(tmp_path: Path, variables: dict[str, str]):
    refused(tmp_path, "main_pt4al.py --first-pick random", "start with torchrun, or unset", **variables)


@pytest.mark.parametrize("change", [{"files": None}, {"files": []}])
def test_a_damaged_note_of_the_batches(finished: Path, tmp_path: Path, change: dict):
    folder = copy(finished, tmp_path)
    path = folder / f"loss/{EXPERIMENT}/made_from.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(folder, "main.py", "does not name the files that were written")


def test_many_signals_at_once_are_quiet(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    process = start(folder, "main.py")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode in (143, 130) and "Traceback" not in error
    run(folder, "main.py", "digits", *TINY)
    assert differences(folder, finished) == []


def test_backslashes_and_line_ends_in_names_are_refused(tmp_path: Path):
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / "data" / split / label).mkdir(parents=True)
            Image.new("RGB", (16, 16)).save(tmp_path / "data" / split / label / "photos\\1.png")
    flags = "--dataset folder --candidates all --first-pick random --data-dir"
    refused(tmp_path, f"main.py {flags} data", "has a line end or a backslash in its name")
    done = run(tmp_path, "main.py", "digits", *TINY, *flags.split(), "da\nta", status=2)
    assert "data_dir is 'da\\nta'" in done.stderr


def test_swapped_weights_are_named(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    shutil.copy(folder / WEIGHTS / "main_0.pth", folder / WEIGHTS / "main_1.pth")
    shutil.copy(
        folder / f"checkpoint/{EXPERIMENT}/whole-dataset/main_0.pth",
        folder / WEIGHTS / "main_2.pth",
    )
    done = run(folder, "main.py", "digits", *TINY)
    assert "main_1.pth is of another run or cycle: --restart trains it again" in done.stdout
    assert "main_2.pth is of another run or cycle: written anew" in done.stdout


# --- odd files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (f"{RUN}/config.json", "{}", "config.json carries no record of what it was made from"),
        (f"{RUN}/config.json", '{"version": 1}', "config.json is of version 1"),
        (
            f"loss/{EXPERIMENT}/made_from.json",
            "{}",
            "made_from.json carries no record of what it was made from",
        ),
        (
            f"loss/{EXPERIMENT}/made_from.json",
            "[]",
            "made_from.json carries no record of what it was made from",
        ),
    ],
)
def test_records_that_are_none(finished: Path, tmp_path: Path, name: str, content: str, message: str):
    folder = copy(finished, tmp_path)
    (folder / name).write_text(content)
    refused(folder, "main.py", message)


def test_checkpoints_that_are_none(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path)
    last = folder / WEIGHTS / "last.pth"
    shutil.copy(folder / WEIGHTS / "main_0.pth", last)
    refused(folder, "main.py", "last.pth is not the state of a run")
    torch.save({"net": {"conv1.weight": "text"}}, last)
    refused(folder, "main.py", "last.pth is not a checkpoint of PT4AL")


def test_links_are_not_followed(tmp_path: Path):
    folder = tmp_path / f"runs/{EXPERIMENT}/cold-start-random"
    folder.mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    for name in (".holder", ".metrics.csv.part", ".config.json.part", ".cycles.csv.part"):
        (folder / name).symlink_to(tmp_path / "mine")
    run(tmp_path, "main_pt4al.py", "digits", *TINY, "--first-pick", "random")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_a_tiny_rate_is_not_written_as_zero(tmp_path: Path):
    run(tmp_path, "main_pt4al.py", "digits", *TINY, "--first-pick", "random", "--lr", "1e-7")
    table = rows(tmp_path / f"runs/{EXPERIMENT}/cold-start-random/metrics.csv")
    assert [float(row["lr"]) for row in table] == pytest.approx([1e-7, 1e-7, 1e-8])


# --- odd folders and names

ODD = [os.fsdecode(b"caf\xe9"), "$a^{$", "Größe"]


@pytest.fixture
def odd_pictures(tmp_path: Path) -> Path:
    """Three classes of names that break things, with files that are no images of a class."""
    source = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 3)):
        for label in ODD:
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
    flags = ["--dataset", "folder", "--data-dir", "data", "--labels-per-cycle", "3"]
    terminal = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for script in ("rotation.py", "make_batches.py", "main.py"):
        done = run(odd_pictures, script, "digits", *TINY, *flags, **terminal)
        assert not done.stderr
        for text in (
            "1 images outside of the class folders",
            "1 hidden folders",
            "1 folders",
            "1 pipes",
        ):
            assert text in done.stdout
    folder = odd_pictures / "runs/folder-seed0/main-confidence"
    table = rows_of_bytes(folder / "per_class.csv")
    assert {row.split(b",")[1] for row in table} == {os.fsencode(name) for name in ODD}
    assert "is finished" in run(odd_pictures, "main.py", "digits", *TINY, *flags).stdout
    run(odd_pictures, "utils/plot_curves.py", str(folder))
    run(odd_pictures, "utils/show_batches.py", "digits", *TINY[:10], *flags[:4])


def rows_of_bytes(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()[1:]


# --- odd streams and signals


def test_a_closed_standard_output(tmp_path: Path):
    words = [*command("main_pt4al.py", "digits", *TINY), "--first-pick", "random"]
    done = subprocess.run(
        ["bash", "-c", '"$@" >&-', "-", *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr
    assert (tmp_path / f"runs/{EXPERIMENT}/cold-start-random/cycles.csv").exists()


def test_when_nobody_reads_any_more_the_last_epoch_is_saved(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    process = start(folder, "main.py")
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(60) == 128 + signal.SIGPIPE and not error, error
    assert load_checkpoint(folder / WEIGHTS / "last.pth")["finished_epoch"] >= 0
    run(folder, "main.py", "digits", *TINY)
    assert differences(folder, finished) == []


def test_a_hangup_saves_the_last_epoch(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    process = stop_after(folder, 2, signal.SIGHUP)
    assert process.returncode == 129
    run(folder, "main.py", "digits", *TINY)
    assert differences(folder, finished) == []


def test_a_rank_left_in_the_environment_means_nothing(finished: Path, tmp_path: Path):
    given = str(finished / f"loss/{EXPERIMENT}/rotation_loss.txt")
    run(tmp_path, "make_batches.py", "digits", *TINY, "--losses", given, RANK="1", LOCAL_RANK="1")
    assert (tmp_path / f"loss/{EXPERIMENT}/batch_3.txt").exists()
    done = run(tmp_path, "make_batches.py", "digits", *TINY, status=2, RANK="1", WORLD_SIZE="2")
    assert "MASTER_ADDR is not set: start with torchrun, or unset WORLD_SIZE" in done.stderr


@pytest.mark.parametrize("width", ["20", "500"])
def test_errors_are_one_plain_line_on_any_terminal(tmp_path: Path, width: str):
    done = run(tmp_path, "main.py", "digits", "--epoch", "3", status=2, COLUMNS=width, FORCE_COLOR="1")
    assert done.stderr == "main.py: error: unknown flag --epoch: did you mean --epochs? (see --help)\n"


@pytest.mark.parametrize(
    ("flag", "reader", "said"),
    [("--help", "head -1", "usage: "), ("--help", "true", "141"), ("--version", "true", "141")],
)
def test_help_into_a_pipe_that_closes(tmp_path: Path, flag: str, reader: str, said: str):
    python = f"env -u PYTHONUNBUFFERED {sys.executable}"
    line = f"{python} {ROOT / 'main.py'} {flag} | {reader}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.stdout.startswith(said) and not done.stderr
