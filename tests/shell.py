"""What the tests share: scripts in processes of their own, few images, and what runs leave behind compared."""

import atexit
import contextlib
import csv
import importlib.util
import io
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from pt4al.base.console import UserError

SCRIPTS = ("rotation.py", "make_batches.py", "main.py", "main_pt4al.py", "whole_dataset.py")
RANDOM_BASELINE = ["--strategy", "random", "--first-pick", "random", "--candidates", "all"]
EXPERIMENT = "digits-seed0"
LOSS = f"loss/{EXPERIMENT}"
RUN, WEIGHTS = f"runs/{EXPERIMENT}/main-confidence", f"checkpoint/{EXPERIMENT}/main-confidence"

# --- a short schedule, and few images


def few_digits() -> str:
    """A folder of 100 digits to train on and 30 to test by, all classes alike. Who asks first makes it, and
    removes it at its end; what it starts has its name from the environment."""
    if "TESTS_DIGITS" not in os.environ:
        from PIL import Image
        from sklearn.datasets import load_digits

        os.environ["TESTS_DIGITS"] = folder = tempfile.mkdtemp(prefix="digits-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        data = load_digits()
        for label in range(10):
            pixels = (data.images[data.target == label] * 255 / 16).astype("uint8")
            for i in range(13):
                path = Path(folder, "train" if i < 10 else "test", str(label), f"{i:02}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[i]).save(path)
    return os.environ["TESTS_DIGITS"]


SHORT = ["--rotation-epochs", "2", "--epochs", "3", "--milestones", "2", "--cycles", "3", "--num-batches",
         "4", "--width", "8", "--eval-every", "2"]  # fmt: skip
# 5, 10 and 15 labels, two to four steps a pass, three passes to one.
TINY = [*SHORT, "--dataset", "folder", "--data-dir", few_digits(), "--experiment", EXPERIMENT,
        "--batch-size", "4", "--min-epoch-images", "13"]  # fmt: skip
POOL, TEST, LABELS = 100, 30, 5  # images, and labels per cycle: a fifth of a batch

# --- scripts


def environment(**variables: str) -> dict[str, str]:
    """One thread per script: the tests themselves run side by side."""
    return {"OMP_NUM_THREADS": "1", **os.environ, **variables}


def command(script: str, *arguments: str, processes: int = 1) -> list[str]:
    """The script in a fresh interpreter, which takes seconds to import torch, or launched by torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    start = [sys.executable, *(launcher if processes > 1 else [])]
    return [*start, str(ROOT / script), *arguments]


SERVER = multiprocessing.get_context("forkserver")
IMPORTED = [
    "torch",
    "torchvision",
    "sklearn.metrics",
    "timm",
    "flask",
    "pytest",
    "shell",
    "loader",
    "pt4al.method.learner",
    "pt4al.method.pretext",
    "pt4al.method.shortcuts",
    "pt4al.run.command_line",
]


class Started:
    """A script at work, with what Popen offers of it. Its process is forked off a server, which has imported
    what scripts import and dies with this process.

    Args:
        stdout: `read`, `unread` (by nobody), or `closed`, as by `>&-`.
        hold: after so many epochs it waits for so many seconds, so that what comes then comes in time.
        saving_share: in place of run_folder's: -1 saves at ends of cycles only, infinity after every epoch.
        variables: of the environment.
    """

    def __init__(
        self, folder: Path, script: str, *arguments: str, stdout: str = "read",
        hold: tuple[int, float] | None = None, saving_share: float | None = None, **variables: str,
    ) -> None:  # fmt: skip
        with pytest.MonkeyPatch.context() as server:  # which is started once
            server.setenv("OMP_NUM_THREADS", "1")
            server.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
            SERVER.set_forkserver_preload(IMPORTED)
            forkserver.ensure_running()
        pipes = [SERVER.Pipe(duplex=False) for _ in ("stdout", "stderr")]
        self.stdout, self.stderr = (os.fdopen(os.dup(x.fileno()), errors="replace") for x, _ in pipes)
        for reader, _ in pipes:
            reader.close()
        if stdout != "read":
            self.stdout.close()
        ends = [writer for _, writer in pipes]
        how = stdout == "closed", hold, saving_share
        self.process = SERVER.Process(
            target=be_the_script, args=(folder, str(ROOT / script), arguments, variables, ends, *how)
        )
        self.process.start()
        self.pid = self.process.pid
        for writer in ends:
            writer.close()

    def poll(self) -> int | None:
        return self.process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = 300) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutError(f"process {self.pid} runs for {timeout} s")
        return self.process.exitcode

    def communicate(self, timeout: float | None = 300) -> tuple[str, str]:
        with ThreadPoolExecutor(2) as readers:
            out, err = (readers.submit(rest_of, stream) for stream in (self.stdout, self.stderr))
            self.wait(timeout)
        return out.result(), err.result()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def rest_of(stream: io.TextIOBase) -> str:
    """What can still be read of a stream, which is then closed."""
    if stream.closed:
        return ""
    with stream:
        return stream.read()


def be_the_script(
    folder: Path, script: str, arguments: tuple[str, ...], variables: dict[str, str], ends: list[Connection],
    closed: bool, hold: tuple[int, float] | None, saving_share: float | None,
) -> None:  # fmt: skip
    """In a fresh process: what `python SCRIPT ARGUMENTS < /dev/null > OUT 2> ERR` does."""
    from pt4al.base import processes
    from pt4al.run import run_folder

    os.setsid()  # a process group of its own
    os.chdir(folder)
    del os.environ["PYTHONPATH"]
    os.environ.update(variables)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, end in enumerate(ends, 1):
        os.dup2(end.fileno(), number)
        end.close()
    coding = variables.get("PYTHONIOENCODING", "utf-8")
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), coding, errors, write_through=number == 2)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    if closed:
        os.close(1)
        sys.stdout = None
    if hold:
        processes.say = holding(processes.say, *hold)
    if saving_share is not None:
        run_folder.SAVING_SHARE = saving_share
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def holding(say: Callable[[str], None], epochs: int, seconds: float) -> Callable[[str], None]:
    def say_and_hold(text: str) -> None:
        nonlocal epochs
        say(text)
        epochs -= " epoch " in text
        if epochs == 0 and " epoch " in text:
            time.sleep(seconds)

    return say_and_hold


def start_ranks(
    folder: Path, script: str, *arguments: str, processes: int = 1, **variables: str
) -> list[Started]:
    """The script on so many processes, which are told what torchrun tells them."""
    ranks: list[dict[str, str]] = [{}]
    if processes > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        numbers = [{"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(processes)]
        ranks = [{**meet, "WORLD_SIZE": str(processes), **number} for number in numbers]
    return [Started(folder, script, *arguments, **{**variables, **rank}) for rank in ranks]


def run(
    folder: Path, script: str, *arguments: str, status: int | None = 0, processes: int = 1, **variables: str
) -> subprocess.CompletedProcess:
    """Run `python SCRIPT ARGUMENTS` in a folder to its end, in a process of its own, and require an exit status
    (None: any). Several processes give 1 where one of them fails, as torchrun does, and their streams one after another."""
    started = start_ranks(folder, script, *arguments, processes=processes, **variables)
    with ThreadPoolExecutor(processes) as readers:
        out, err = ("".join(texts) for texts in zip(*readers.map(Started.communicate, started), strict=True))
    statuses = [process.returncode for process in started]
    returned = statuses[0] if processes == 1 else int(any(statuses))
    assert status in (returned, None), f"{script} {arguments}: {returned}\n{out}\n{err}"
    return subprocess.CompletedProcess([script, *arguments], returned, out, err)


def run_tiny(folder: Path, script: str, *flags: str, **how) -> subprocess.CompletedProcess:
    """`run` on few digits, at the short schedule."""
    return run(folder, script, "digits", *TINY, *flags, **how)


def start(folder: Path, script: str, *flags: str, epochs: int = 1, **how) -> Started:
    """A script on few digits that has printed so many epochs and goes on; of several processes the first."""
    return start_all(folder, script, *flags, epochs=epochs, **how)[0]


def start_all(folder: Path, script: str, *flags: str, epochs: int = 1, **how) -> list[Started]:
    started = start_ranks(folder, script, "digits", *TINY, *flags, **how)
    seen = 0
    while seen < epochs:
        line = started[0].stdout.readline()
        assert line, started[0].stderr.read()
        seen += " epoch " in line
    return started


def stop_after(folder: Path, epochs: int, number: signal.Signals, *flags: str, **how) -> Started:
    """Start main.py and send all of its processes a signal when so many epochs are done."""
    started = start_all(folder, "main.py", *flags, epochs=epochs, hold=(epochs, 60), **how)
    for process in started:
        process.send_signal(number)
    for process in started:
        process.stdout.read()
        process.wait(60)
    return started[0]


def load_program(name: str) -> ModuleType:
    """A program of utils/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"utils/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# --- messages


def says(text: str, *parts: str) -> None:
    """Text must hold all of these: names of fields and files, lines and values, not prose."""
    missing = [part for part in parts if part not in text]
    assert parts and not missing, f"{missing} not in {text!r}"


def epochs_of(text: str) -> list[tuple[int, int]]:
    """The epochs that a script has printed as (cycle, epoch), both from 0; none of a run that was finished."""
    found = re.findall(r"^cycle (\d+) .* epoch (\d+)/", text, re.M)
    return [(int(cycle), int(epoch) - 1) for cycle, epoch in found]


def one_error(errors: str, script: str, *parts: str) -> None:
    """Standard error must be exactly one line, `SCRIPT: error: ...`, that says all of these."""
    name = re.escape(Path(script).name)
    assert re.fullmatch(rf"{name}: error: [^\n]+\n", errors) and "Traceback" not in errors, errors
    assert errors[:-1].isprintable(), errors
    says(errors, *parts)


@contextlib.contextmanager
def user_error(*parts: str) -> Iterator[None]:
    """What is called within must raise a UserError of one line that says all of these."""
    with pytest.raises(UserError) as error:
        yield
    (line,) = str(error.value).splitlines()
    says(line, *parts)


def refused(folder: Path, script: str, *flags: str, says: tuple[str, ...] | str, **how) -> None:
    """Run a command on few digits that must end with status 2 and one line that says all of these, and change no
    file."""
    before = times(folder)
    done = run_tiny(folder, script, *flags, status=2, **how)
    one_error(done.stderr, script, *([says] if isinstance(says, str) else says))
    assert times(folder) == before


# --- files


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_picture(path: Path, width: int) -> bool:
    """A PNG at least so wide that is not one color."""
    from PIL import Image

    with Image.open(path) as image:
        colors = image.convert("RGB").getcolors(2**24)
        return image.format == "PNG" and image.width >= width and len(colors) > 20


def content(folder: Path) -> dict[str, bytes]:
    """Every file that scripts leave in a working folder, by name; of CSV files all but `seconds`."""
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
        shutil.rmtree(work / "checkpoint" / EXPERIMENT / name)
        shutil.rmtree(work / "runs" / EXPERIMENT / name)
    return work


# --- processes (Linux)


def tree(pid: int) -> list[int]:
    """A process and all that it has started, and those in turn."""
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
