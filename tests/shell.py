"""What the tests share: run a script through the shell in its own folder, and compare what runs
leave behind."""

import contextlib
import csv
import importlib.util
import io
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
TINY = ["--rotation-epochs", "2", "--epochs", "3", "--milestones", "2", "--cycles", "3", "--num-batches", "4",
        "--width", "8", "--eval-every", "2"]  # fmt: skip
SCRIPTS = ("rotation.py", "make_batches.py", "main.py", "main_pt4al.py", "whole_dataset.py")
RANDOM_BASELINE = ["--strategy", "random", "--first-pick", "random", "--candidates", "all"]


def environment(**variables: str) -> dict[str, str]:
    """One thread a script: the tests themselves run side by side."""
    return {"OMP_NUM_THREADS": "1", **os.environ, **variables}


def command(script: str, *arguments: str, processes: int = 1) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    start = [sys.executable, *(launcher if processes > 1 else [])]
    return [*start, str(ROOT / script), *arguments]


def run(
    folder: Path,
    script: str,
    *arguments: str,
    status: int = 0,
    processes: int = 1,
    **variables: str,
) -> subprocess.CompletedProcess:
    """Run `python SCRIPT ARGUMENTS` in a folder, in a process of its own, and require an exit
    status.

    It is forked off a process that has imported torch already, which saves seconds a start. Several
    processes are told what torchrun tells them, and end with 1 where one of them fails.
    """
    ranks: list[dict[str, str]] = [{}]
    if processes > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        numbers = [{"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(processes)]
        ranks = [{**meet, "WORLD_SIZE": str(processes), **number} for number in numbers]
    done = run_forked(folder, script, arguments, [{**variables, **rank} for rank in ranks])
    assert done.returncode == status, f"{script} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start_forked(
    folder: Path,
    script: str,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    out: Path,
    err: Path,
) -> multiprocessing.Process:
    """A process that becomes the script; it is forked off a server, which dies with this one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the server is started with it, once
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "torchvision", "sklearn.metrics", "pytest", "shell"])
    process = server.Process(
        target=be_the_script, args=(folder, str(ROOT / script), arguments, variables, out, err)
    )
    process.start()
    return process


def run_forked(
    folder: Path, script: str, arguments: tuple[str, ...], ranks: list[dict[str, str]]
) -> subprocess.CompletedProcess:
    """The script once for each of the environments, side by side; their streams one after another."""
    with tempfile.TemporaryDirectory() as streams:
        paths = [(Path(streams, f"out{i}"), Path(streams, f"err{i}")) for i in range(len(ranks))]
        started = [
            start_forked(folder, script, arguments, variables, *pair)
            for variables, pair in zip(ranks, paths, strict=True)
        ]
        for process in started:
            process.join(300)
            if process.exitcode is None:
                for each in started:
                    each.kill()
                raise TimeoutError(f"{script} {arguments} runs for 300 s: {paths[0][0].read_text()}")
        out, err = ("".join(path.read_text() for path in side) for side in zip(*paths, strict=True))
    statuses = [process.exitcode for process in started]
    status = statuses[0] if len(statuses) == 1 else int(any(statuses))
    return subprocess.CompletedProcess([script, *arguments], status, out, err)


def be_the_script(
    folder: Path,
    script: str,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    out: Path,
    err: Path,
) -> None:
    """In a fresh process: what `python SCRIPT ARGUMENTS < /dev/null > OUT 2> ERR` does."""
    os.setsid()  # a process group of its own
    os.chdir(folder)
    os.environ.update(variables)
    for number, path in enumerate((Path(os.devnull), out, err)):
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def load_program(name: str) -> ModuleType:
    """A program of utils/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"utils/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def content(folder: Path) -> dict[str, bytes]:
    """Every file that scripts leave in a working folder, by name; of CSV files all but the
    wall-clock column."""
    files = {}
    for top in ("checkpoint", "loss", "runs"):
        for path in sorted((folder / top).rglob("*")):
            if path.is_file() and path.name not in (".lock", ".holder"):
                data = path.read_bytes()
                if path.suffix == ".csv":
                    table = list(csv.reader(io.StringIO(data.decode())))
                    keep = [i for i, name in enumerate(table[0]) if name != "seconds"]
                    data = repr([[line[i] for i in keep] for line in table]).encode()
                files[str(path.relative_to(folder))] = data
    return files


def differences(a: Path, b: Path) -> list[str]:
    """Names of the files that one folder lacks or that differ."""
    left, right = content(a), content(b)
    return sorted(name for name in set(left) | set(right) if left.get(name) != right.get(name))


def times(folder: Path) -> dict[str, int]:
    """When each file was last written, locks apart."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".holder")
    }


def copy(finished: Path, folder: Path, *without: str) -> Path:
    """A copy of the finished runs in a new folder, without some of the runs."""
    work = folder / "work"
    shutil.copytree(finished, work)
    for name in without:
        shutil.rmtree(work / "checkpoint/digits-seed0" / name)
        shutil.rmtree(work / "runs/digits-seed0" / name)
    return work


def start(folder: Path, script: str, *flags: str, epochs: int = 1, processes: int = 1) -> subprocess.Popen:
    """A script on the digits that has printed so many epochs and goes on."""
    process = subprocess.Popen(
        command(script, "digits", *TINY, *flags, processes=processes), cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    seen = 0
    while seen < epochs:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        seen += " epoch " in line
    return process


def stop_after(
    folder: Path,
    epochs: int,
    number: signal.Signals,
    *flags: str,
    processes: int = 1,
    script: str = "main.py",
) -> subprocess.Popen:
    """Start main.py and send it a signal once it has printed so many epochs."""
    process = start(folder, script, *flags, epochs=epochs, processes=processes)
    process.send_signal(number)
    process.stdout.read()
    process.wait(60)
    return process


def tree(pid: int) -> list[int]:
    """A process and all that it has started, and those in turn (Linux)."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):  # it has just ended
            for path in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, path.read_text().split())
    return found


def environment_of(pid: int) -> dict[str, str]:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it has just ended
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
