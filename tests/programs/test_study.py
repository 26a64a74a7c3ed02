"""study/study.sh on 100 digits: every seed, once, resumed; and the tables and the archive at its end."""

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import ROOT, environment, rows, tree

ARMS = "pt4al pt4al-again interleaved"
SHORT = ["--img-size", "16", "--width", "8", "--epochs", "2", "--milestones", "1", "--min-epoch-images", "0",
         "--labels-per-cycle", "5", "--rotation-epochs", "1"]  # fmt: skip
# Instead of .venv/bin/python, whose imports take seconds at each of thirty starts: scripts are forked off a
# server that has made them (optimizers import torch._dynamo), into the process group of this client, which
# waits for their status. pip is there (-c asks), and, asked for what is missing, finds everything there.
CLIENT = f"""#!{sys.executable} -IS
import json, os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "-c":
    sys.exit()
if sys.argv[1:3] == ["-m", "pip"]:
    with open(__file__ + ".asked", "a") as asked:
        sys.exit(print(*sys.argv[3:], file=asked))
with socket.socket(socket.AF_UNIX) as server:
    server.connect("SOCKET")
    server.sendall(json.dumps([os.getpid(), os.getcwd(), *sys.argv[1:]]).encode() + b"\\n")
    sys.exit(int(server.makefile().readline()))
"""
SERVER = """import contextlib, json, os, runpy, socket, sys, traceback
import matplotlib.backends.backend_agg, matplotlib.figure, scipy.special
import sklearn.metrics, torch._dynamo, torchvision
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print(flush=True)
    while line := (client := listener.accept()[0]).makefile().readline():
        if os.fork():
            client.close()
            continue
        pid, folder, *sys.argv = json.loads(line)
        if script := os.fork():
            status = os.waitstatus_to_exitcode(os.waitpid(script, 0)[1])
            client.sendall(b"%d\\n" % (status if status >= 0 else 128 - status))
            os._exit(0)
        os.setpgid(0, os.getpgid(pid))
        for number in 1, 2:
            os.dup2(os.open(f"/proc/{pid}/fd/{number}", os.O_WRONLY | os.O_APPEND), number)
        sys.stdout, sys.stderr = (open(number, "w", 1, closefd=False) for number in (1, 2))
        os.chdir(folder)
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        status = 0
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        os._exit(status)  # without the second that it takes to end with all these modules
with contextlib.suppress(ChildProcessError):  # their processor time is this one's
    while os.wait():
        pass
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The text of a python that forks."""
    path = str(tmp_path_factory.mktemp("server") / "socket")
    command = [sys.executable, "-c", SERVER, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as server:
        server.stdout.readline()
        yield CLIENT.replace("SOCKET", path)
        with socket.socket(socket.AF_UNIX) as nothing_more:
            nothing_more.connect(path)


@pytest.fixture
def project(tmp_path: Path, python: str) -> Path:
    """A copy of the project, with 10 images a class and a loss file beside it."""
    leave = shutil.ignore_patterns(
        *(
            ".git",
            ".venv",
            ".*_cache",
            ".hypothesis",
            "runs",
            "checkpoint",
            "loss",
            "figures",
            "DATA",
            "__pycache__",
            "tests",
            "docs",
            "*.gz",
        )
    )
    shutil.copytree(ROOT, tmp_path / "project", ignore=leave)
    path = tmp_path / "project/.venv/bin/python"
    path.parent.mkdir(parents=True)
    path.write_text(python)
    path.chmod(0o755)
    shutil.copytree(os.environ["TESTS_DIGITS"], tmp_path / "images")
    source = random.Random(0)
    names = sorted((tmp_path / "images/train").rglob("*.png"))
    lines = [f"{source.random():.6f}_./DATA/train/{x.parent.name}/{x.name}\n" for x in names]
    (tmp_path / "losses.txt").write_text("".join(lines))
    return tmp_path


def study(folder: Path, *flags: str) -> list[str]:
    return [folder / "project/study/study.sh", "images", "--losses", "losses.txt", *flags]


def ended_study(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = study(folder, *flags)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def unpack(folder: Path) -> None:
    """What REPORT.md tells whoever wants to resume: `tar -xf` of what is kept, in the project's folder."""
    subprocess.run(["tar", "-xf", "figures/study/runs.tar.gz"], cwd=folder / "project", check=True)


def with_jobs(pids: list[int]) -> list[int]:
    """These processes, and all others of their process groups but this one's."""
    groups, found = {os.getpgid(pid) for pid in pids} - {os.getpgid(0)}, set(pids)
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            found |= {int(path.name)} if os.getpgid(int(path.name)) in groups else set()
    return sorted(found)


def wait_for(path: Path) -> None:
    for _ in range(6000):
        if path.exists():
            return
        time.sleep(0.02)
    raise TimeoutError(path)


@pytest.mark.slow
def test_the_study_is_whole_exact_and_resumed(project: Path):
    flags = ["--seeds", "0 1", "--jobs", "2", "--arms", ARMS, "--", *SHORT]
    runs, out = project / "project/runs", project / "project/figures/study"
    first = subprocess.Popen(
        study(project, *flags), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = first.stdout.readline()
    arm, seed = re.match(r"\d\d:\d\d (\S+) seed (\d): done", line).groups()
    wait_for(runs / "study-pt4al-seed1/pt4al/metrics.csv")  # the third of four has its first epoch
    outer = tree(first.pid)
    inner = with_jobs(outer)
    assert len(inner) > len(outer)
    first.send_signal(signal.SIGTERM)
    said = line + first.communicate(timeout=60)[0]
    assert first.returncode == 143 and "FAILED" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in inner), "a run goes on without the study"
    begun = len(list(runs.glob("study-*/log.txt")))
    stopped = said.count(": stopped, resumes next time")
    assert stopped >= 1 and stopped + said.count(": done\n") == begun
    finished = project / f"project/checkpoint/study-{arm}-seed{seed}"
    before = {x: x.stat().st_mtime_ns for x in finished.rglob("*.pth")}
    assert before
    done = ended_study(project, *flags)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"(\S+ seed \d): (?:done|stopped)", said + done.stdout)
    assert len(set(told)) == 4  # a run that had ended when it was stopped is done, and not started again
    assert f" {arm} seed {seed}: done" not in done.stdout
    assert before == {x: x.stat().st_mtime_ns for x in finished.rglob("*.pth")}
    assert "== orders and margin sampling, minus PT4AL" in done.stdout
    other = ended_study(project, *flags, "--lr", "1")
    assert other.returncode == 2 and "runs/study-* are of other images" in other.stderr

    table = [row for row in rows(out / "study.csv") if row["labels"] != "area"]
    assert {(row["method"], row["n"]) for row in table} == {
        ("pt4al", "2"),
        ("pt4al-again", "1"),
        ("interleaved", "1"),
    }
    assert [row["labels"] for row in table if row["method"] == "pt4al"] == [str(5 * i) for i in range(1, 11)]
    picks = {(row.pop("method"), row.pop("seed")): row for row in rows(out / "first_picks.csv")}
    assert len(picks) == 4 and all(len(row) == 10 for row in picks.values())
    assert {sum(map(int, row.values())) for row in picks.values()} == {5}
    again = [row for row in rows(out / "figures/order_differences.csv") if row["method"] == "pt4al-again"]
    assert {float(row["difference"]) for row in again if row["difference"]} == {0.0}  # the A/A arm
    last = {
        row["labels"]: row["train_accuracy"] for row in rows(runs / "study-pt4al-seed0/pt4al/metrics.csv")
    }

    made = {x: x.read_bytes() for x in out.rglob("*") if x.suffix in (".csv", ".gz")}
    assert len(made) >= 4
    shutil.rmtree(runs)
    unpack(project)
    kept = rows(runs / "study-pt4al-seed0/pt4al/training.csv")
    assert {row["labels"]: row["train_accuracy"] for row in kept} == last and len(kept) == 10
    flags[flags.index("--jobs") + 1] = "0"
    done = ended_study(project, *flags)
    assert done.returncode == 0 and ": done" not in done.stdout, done.stderr
    assert made == {x: x.read_bytes() for x in out.rglob("*") if x.suffix in (".csv", ".gz")}
    asked = (project / "project/.venv/bin/python.asked").read_text().splitlines()
    assert len(asked) >= 3 and all(line.endswith("/project/requirements.txt") for line in asked)


@pytest.mark.slow
def test_a_clone_needs_no_second_pretext_network(project: Path):
    arms = ["--seeds", "0", "--arms", "own-pretext cold-typiclust"]
    runs = project / "project/runs"
    done = ended_study(project, *arms, "--pretext-images", "images", "--", *SHORT)
    assert done.returncode == 0 and done.stdout.count(": done\n") == 2, done.stderr
    picks = (runs / "study-cold-typiclust-seed0/cold-typiclust/labeled/cycle_0.txt").read_text().split()
    accuracies = runs / "study-own-pretext-seed0/own-pretext/cycles.csv"
    before = [(row["labels"], row["last_accuracy"]) for row in rows(accuracies)]
    for folder in "runs", "checkpoint", "loss":
        shutil.rmtree(project / "project" / folder)
    unpack(project)
    kept = (runs / "study-pretext/kept/picks.txt").read_text().split()
    assert sorted(picks) == sorted(kept) and len(kept) == 5
    assert [(row["labels"], row["last_accuracy"]) for row in rows(accuracies)] == before
    shutil.rmtree(runs / "study-own-pretext-seed0")
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
    assert "cold-random seed 0: done" in done.stdout
    assert "study.sh: error: failed: pt4al seed 0" in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "IMAGES is ''"),
        ("images", "--losses is ''"),
        ("images --losses", "--losses needs a value"),
        ("images --losses nowhere", "--losses is 'nowhere'"),
        ("images --losses losses.txt --seeds x", "--seeds is 'x'"),
        ("images --losses losses.txt --seeds 08", "--seeds is '08'"),
        ("images --losses losses.txt --seeds '3 03'", "--seeds is '3 03'"),
        ("images --losses losses.txt --jobs -1", "--jobs is '-1'"),
        (
            "images --losses losses.txt -- --epochs 2 --strategy random --candidates all",
            "--strategy after --",
        ),
        ("images --losses losses.txt -- --first_pick=random", "--first_pick=random after --"),
        ("images --losses losses.txt -- --cycles 3", "--cycles after --"),
        ("images --losses losses.txt --arms pt5al", "arm 'pt5al' is unknown"),
        ("images --losses losses.txt --sort shuffled", "unknown flag --sort"),
        ("images --losses losses.txt --pretext-images nowhere", "--pretext-images is 'nowhere'"),
    ],
)
def test_bad_input_of_the_study(tmp_path: Path, command: str, said: str):
    (tmp_path / "project/study").mkdir(parents=True)
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "losses.txt").touch()
    script = shutil.copy(ROOT / "study/study.sh", tmp_path / "project/study")
    done = subprocess.run(
        [script, *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert [x.name for x in (tmp_path / "project").iterdir()] == ["study"]


def arms_of(table: str) -> list[str]:
    """The first words of a table in study.sh, without those of its head."""
    lines = (ROOT / "study/study.sh").read_text().split(f"{table}='\n")[1].split("'\n")[0].splitlines()
    return [line.split()[0] for line in lines if not line.startswith("name ")]


def test_every_arm_has_a_legend():
    assert sorted(arms_of("LEGENDS")) == sorted(arms_of("ARMS"))


def test_the_array_job_has_every_arm_once():
    job = (ROOT / "docs/running.md").read_text().split("arms=(")[1].split(")\n")[0]
    tasks = shlex.split(job)
    assert sorted(" ".join(tasks).split()) == sorted(arms_of("ARMS"))
    assert f"--array=0-{len(tasks) - 1} " in (ROOT / "docs/running.md").read_text()
