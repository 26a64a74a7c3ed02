"""study.sh on 300 digits: every seed, once, resumed, and the tables at its end."""

import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from shell import ROOT, rows, tree

ARMS = "random pt4al pt4al-again interleaved"
SHORT = ["--img-size", "16", "--width", "8", "--epochs", "2", "--milestones", "1", "--min-epoch-images", "0",
         "--labels-per-cycle", "5"]  # fmt: skip


@pytest.fixture
def project(photos: Path, tmp_path: Path) -> Path:
    """A copy of the project, with images and a loss file beside it."""
    if not (ROOT / ".venv").exists():
        pytest.skip("study.sh uses .venv, which is not here")
    leave = shutil.ignore_patterns(
        ".venv", ".git", "runs", "checkpoint", "loss", "figures", "DATA", "__pycache__"
    )
    shutil.copytree(ROOT, tmp_path / "project", ignore=leave)
    (tmp_path / "project/.venv").symlink_to(ROOT / ".venv")
    (tmp_path / "images").symlink_to(photos / "known")
    source = random.Random(0)
    names = sorted((photos / "known/train").rglob("*.png"))
    lines = [f"{source.random():.6f}_./DATA/train/{x.parent.name}/{x.name}\n" for x in names]
    (tmp_path / "losses.txt").write_text("".join(lines))
    return tmp_path


def study(folder: Path, *flags: str) -> list[str]:
    return [folder / "project/study.sh", "images", "--losses", "losses.txt", *flags]


def ended_study(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = study(folder, *flags)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_study_is_whole_exact_and_resumed(project: Path):
    flags = ["--seeds", "0 1", "--jobs", "2", "--arms", ARMS, "--", *SHORT]
    first = subprocess.Popen(
        study(project, *flags),
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    arm, seed = re.match(r"\d\d:\d\d (\S+) seed (\d): done", first.stdout.readline()).groups()
    time.sleep(3)
    inner = tree(first.pid)
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=60)[0]
    assert first.returncode == 143
    assert said.count(": stopped, goes on next time") == 2 and "FAILED" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in inner), "a run goes on without the study"
    finished = project / f"project/checkpoint/study-{arm}-seed{seed}"
    before = {x: x.stat().st_mtime_ns for x in finished.rglob("*.pth")}
    assert before
    done = ended_study(project, *flags)
    assert done.returncode == 0, done.stderr
    assert 1 <= done.stdout.count(": done\n") <= 5
    assert f" {arm} seed {seed}: done" not in done.stdout
    assert before == {x: x.stat().st_mtime_ns for x in finished.rglob("*.pth")}
    assert "== PT4AL and its controls, minus random" in done.stdout
    other = ended_study(project, *flags, "--lr", "1")
    assert other.returncode == 2 and "runs/study-* are of other images" in other.stderr
    table = [row for row in rows(project / "project/figures/study.csv") if row["labels"] != "area"]
    assert {(row["method"], row["n"]) for row in table} == {
        ("random", "2"),
        ("pt4al", "2"),
        ("pt4al-again", "1"),
        ("interleaved", "1"),
    }
    picks = {
        (row.pop("method"), row.pop("seed")): row
        for row in rows(project / "project/figures/study/first_picks.csv")
    }
    assert len(picks) == 6 and all(len(row) == 10 for row in picks.values())
    assert {sum(map(int, row.values())) for row in picks.values()} == {5}
    last = {
        row["labels"]: row["train_accuracy"]
        for row in rows(project / "project/runs/study-pt4al-seed0/pt4al/metrics.csv")
    }
    kept = rows(project / "project/figures/study/runs/study-pt4al-seed0/pt4al/training.csv")
    assert {row["labels"]: row["train_accuracy"] for row in kept} == last and len(kept) == 10
    assert [row["labels"] for row in table if row["method"] == "pt4al"] == [str(5 * i) for i in range(1, 11)]
    again = [
        row
        for row in rows(project / "project/figures/study/order_differences.csv")
        if row["method"] == "pt4al-again"
    ]
    assert {float(row["difference"]) for row in again if row["difference"]} == {0.0}  # the A/A arm
    figures = {x: x.read_bytes() for x in (project / "project/figures").rglob("*.csv")}
    shutil.rmtree(project / "project/runs")
    shutil.copytree(project / "project/figures/study/runs", project / "project/runs")
    flags[flags.index("--jobs") + 1] = "0"
    done = ended_study(project, *flags)
    assert done.returncode == 0 and ": done" not in done.stdout, done.stderr
    assert figures == {x: x.read_bytes() for x in (project / "project/figures").rglob("*.csv")}


@pytest.mark.slow
def test_a_clone_needs_no_second_pretext_network(project: Path):
    arms = ["--seeds", "0", "--arms", "own-pretext cold-typiclust"]
    made = project / "project/figures/study/runs"
    done = ended_study(project, *arms, "--pretext-images", "images", "--", *SHORT)
    assert done.returncode == 0 and done.stdout.count(": done\n") == 2, done.stderr
    picks = project / "project/runs/study-cold-typiclust-seed0/cold-typiclust/labeled/cycle_0.txt"
    kept = (made / "study-pretext/kept/picks.txt").read_text().split()
    assert sorted(picks.read_text().split()) == sorted(kept) and len(kept) == 5
    accuracies = made / "study-own-pretext-seed0/own-pretext/cycles.csv"
    before = [(row["labels"], row["last_accuracy"]) for row in rows(accuracies)]
    for folder in "runs", "checkpoint", "loss":
        shutil.rmtree(project / "project" / folder)
    shutil.copytree(made, project / "project/runs")
    shutil.rmtree(project / "project/runs/study-own-pretext-seed0")
    done = ended_study(project, *arms, "--", *SHORT)
    assert done.returncode == 0 and "left out" not in done.stdout, done.stderr
    assert "are those of runs/study-pretext/kept;" in done.stdout
    assert not (project / "project/checkpoint/study-pretext").exists()
    assert [(row["labels"], row["last_accuracy"]) for row in rows(accuracies)] == before


@pytest.mark.slow
def test_a_failed_arm_is_named_and_the_others_go_on(project: Path):
    flags = ["--seeds", "0", "--arms", "pt4al cold-random", "--", *SHORT]
    (project / "project/loss/study-pt4al-seed0").mkdir(parents=True)
    (project / "project/loss/study-pt4al-seed0/batch_0.txt").write_text("no id\n")
    done = ended_study(project, *flags)
    assert done.returncode == 2 and "pt4al seed 0: FAILED, see runs/study-pt4al-seed0/log.txt" in done.stderr
    assert (
        "cold-random seed 0: done" in done.stdout and "study.sh: error: failed: pt4al seed 0" in done.stderr
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "IMAGES is ''"),
        ("images", "--losses is ''"),
        ("images --losses", "--losses needs a value"),
        ("images --losses nowhere", "--losses is 'nowhere'"),
        ("images --losses losses.txt --seeds x", "--seeds is 'x'"),
        ("images --losses losses.txt --jobs -1", "--jobs is '-1'"),
        ("images --losses losses.txt --arms pt5al", "arm 'pt5al' is unknown"),
        ("images --losses losses.txt --sort shuffled", "unknown flag --sort"),
        ("images --losses losses.txt --pretext-images nowhere", "--pretext-images is 'nowhere'"),
    ],
)
def test_bad_input_of_the_study(project: Path, command: str, said: str):
    done = subprocess.run(
        [project / "project/study.sh", *command.split()],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert not (project / "project/runs").exists()


def test_the_array_job_has_every_arm_once():
    table = (ROOT / "study.sh").read_text().split("ARMS='\n")[1].split("'\n")[0]
    arms = [line.split()[0] for line in table.splitlines()[1:]]
    job = (ROOT / "docs/running.md").read_text().split("arms=(")[1].split(")\n")[0]
    tasks = shlex.split(job)
    assert sorted(" ".join(tasks).split()) == sorted(arms)
    assert f"--array=0-{len(tasks) - 1} " in (ROOT / "docs/running.md").read_text()
