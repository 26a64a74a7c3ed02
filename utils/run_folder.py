"""What a run leaves behind: its lock, config.json, CSV files, labelled ids, and last.pth, from
which it goes on.

Everything in a run folder but config.json is a function of the state in last.pth. A run that goes
on writes those files anew from the state, so they never hold a row twice or half, whenever the run
was killed.
"""

import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import torch

from config import MACHINE_FIELDS, Config
from utils import processes
from utils.console import Stopped, UserError
from utils.files import (
    load_checkpoint,
    read_json,
    read_lines,
    save_checkpoint,
    write_csv,
    write_json,
    write_lines,
)

NOT_COMPARED = MACHINE_FIELDS | {"files"}  # the same batches may be written with other line ends
SAVING_SHARE = (
    0.02  # of the time, at most; a fast GPU ends an epoch sooner than a disk takes weights
)
VERSION = 1  # of last.pth; raise it when what a state holds changes
METRICS = ("cycle", "labels", "epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
           "best_accuracy", "seconds")  # fmt: skip
CYCLES = ("cycle", "labels", "best_accuracy", "best_epoch", "last_accuracy", "seconds")
PER_CLASS = ("cycle", "class", "support", "precision", "recall", "f1")

State = dict[str, Any]


class RunFolder:
    """The two folders of a run, `checkpoint/<experiment>/<run>` and `runs/<experiment>/<run>`,
    locked while in use.

    Only rank 0 reads or writes; `load` gives its state to every process.
    """

    def __init__(self, config: Config, default_name: str) -> None:
        self.config = config
        self.name = config.run or default_name
        self.tables = config.runs_dir / self.name
        self.weights = config.checkpoint_dir / self.name
        self.last = self.weights / "last.pth"
        self.previous = self.weights / "previous.pth"
        self.last_is_whole = True
        self.saved: tuple[int, int] | None = None
        self.saved_at, self.saving_seconds = 0.0, 0.0
        self.pending: State | None = None
        self.seconds: dict[tuple[int, int], float] = {}
        self.ids: list[str] = []

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A run stopped by a signal, or by the end of another process, saves the last whole epoch,
        whatever `checkpoint_every` says."""
        if kind in (Stopped, processes.PeerLost):
            self.save()

    def open(self, inputs: dict[str, Any], ids: list[str]) -> State | None:
        """Lock the folder, compare its parameters with ours, and return the state to go on from, if
        any.

        Args:
            inputs: what config.json records beside the parameters: hashes of the data and of the
                files used.
            ids: the image ids of the pool, to name what was labelled.

        Raises:
            UserError: another process holds the folder, or it was made with other parameters or
                inputs.
        """
        self.ids = ids
        return processes.from_main(lambda: self._open(inputs))

    def _open(self, inputs: dict[str, Any]) -> State | None:
        lock_folder(self.tables)
        parameters = {k: v for k, v in asdict(self.config).items() if k != "restart"}
        record = {
            "parameters": parameters,
            "inputs": inputs,
            "made_with": environment(self.config),
        }
        stored = self.tables / "config.json"
        if self.config.restart:
            self._delete()
        if stored.exists():
            known = read_json(stored)
            compare(
                {**known["parameters"], **known["inputs"]},
                {**parameters, **inputs},
                self.tables,
            )
        state = self._read_state()
        self.seconds = self._read_seconds() if state else {}
        if state is not None and state["finished"]:
            self.drop_previous()
        self.weights.mkdir(
            parents=True, exist_ok=True
        )  # if that cannot be, now is the time to say so
        if state is None and not stored.exists():
            write_json(stored, record)
        return state

    def _delete(self) -> None:
        shutil.rmtree(self.weights, ignore_errors=True)
        for path in self.tables.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _read_state(self) -> State | None:
        """last.pth, or the one before it where last.pth is missing or damaged (which is said)."""
        problems = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state = load_checkpoint(path)
            except UserError as error:
                problems.append(str(error))
                continue
            if state.get("version") != VERSION:
                raise UserError(
                    f"{path} is of version {state.get('version')}, this code writes {VERSION}: use --restart"
                )
            if problems:
                processes.say(f"{'; '.join(problems)}; going on from {path}")
            self.last_is_whole = path == self.last
            self.saved = position(state)
            return state
        if problems:
            raise UserError(
                f"{'; '.join(problems)}; no whole state is left: use --restart to begin anew"
            )
        return None

    def keep(self, state: State) -> None:
        """Remember the state at the end of an epoch, for `save` now or when a signal stops the
        run."""
        self.pending = state

    def save(self) -> None:
        """Write the remembered state, after every table that follows from it, unless it is on disk."""
        state = self.pending
        if state is None or not processes.is_main() or self.saved == position(state):
            return
        began = time.perf_counter()
        self.write_tables(state)
        if self.last.exists() and self.last_is_whole:
            os.replace(self.last, self.previous)
        save_checkpoint(self.last, state)
        self.last_is_whole, self.saved = True, position(state)
        self.saved_at = time.perf_counter()
        self.saving_seconds = self.saved_at - began

    def saving_is_cheap(self) -> bool:
        """Whether so much time has passed since the last saving that another one takes a small
        share of it."""
        return self.saving_seconds <= SAVING_SHARE * (time.perf_counter() - self.saved_at)

    def finish(self, state: State) -> None:
        """Mark the run as complete: starting it again changes nothing."""
        state["finished"] = True
        self.keep(dict(state))
        self.save()
        self.drop_previous()

    def drop_previous(self) -> None:
        """A finished run needs no state to fall back on."""
        if processes.is_main():
            self.previous.unlink(missing_ok=True)

    def write_tables(self, state: State) -> None:
        """The CSV files and the labelled ids of a state, with the seconds that this run folder has
        measured."""
        if not processes.is_main():
            return
        metrics = [[*row, self.seconds.get((row[0], row[2]))] for row in state["metrics"]]
        write_csv(self.tables / "metrics.csv", METRICS, metrics)
        if state["cycles"]:
            rows = [[*row, self.seconds_of(row[0])] for row in state["cycles"]]
            write_csv(self.tables / "cycles.csv", CYCLES, rows)
        if state["per_class"]:
            write_csv(self.tables / "per_class.csv", PER_CLASS, state["per_class"])
        for cycle, picks in enumerate(state["labeled"]):
            self.write_labeled(cycle, picks)

    def seconds_of(self, cycle: int) -> float:
        """Seconds spent on the epochs of a cycle."""
        return sum((s for (c, _), s in self.seconds.items() if c == cycle), 0.0)

    def _read_seconds(self) -> dict[tuple[int, int], float]:
        """Seconds by (cycle, epoch) from metrics.csv: wall-clock time is the one thing last.pth
        does not hold."""
        path = self.tables / "metrics.csv"
        seconds = {}
        for line in read_lines(path)[1:] if path.exists() else []:
            fields = line.split(",")
            with contextlib.suppress(
                ValueError
            ):  # a line cut short tells nothing, and costs nothing else
                if len(fields) == len(METRICS):
                    seconds[int(fields[0]), int(fields[2])] = float(fields[-1])
        return seconds

    def write_labeled(self, cycle: int, picks: list[int]) -> None:
        """The image ids chosen in a cycle, in order."""
        if processes.is_main():
            write_lines(
                self.tables / "labeled" / f"cycle_{cycle}.txt", [self.ids[i] for i in picks]
            )


def position(state: State) -> tuple[int, int]:
    """Where a state stands; the end of a run comes after its last epoch."""
    return state["cycle"], state["finished_epoch"] + state["finished"]


HELD: list[
    filelock.FileLock
] = []  # a lock ends with its object, so they are kept for as long as the process lives


def lock_folder(folder: Path) -> None:
    """Hold a folder until this process ends, however it ends.

    Raises:
        UserError: another process holds it; named by the pid and machine it left in `.holder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = filelock.FileLock(folder / ".lock"), folder / ".holder"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = holder.read_text().strip() if holder.exists() else "another process"
        raise UserError(
            f"{folder} is in use by {who}: wait for it, stop it, or name another --run"
        ) from None
    holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    HELD.append(lock)


def compare(stored: dict[str, Any], ours: dict[str, Any], folder: Path) -> None:
    """Refuse a folder made from other parameters or inputs, naming what differs and how."""
    ours = json.loads(json.dumps(ours))  # as it would read once stored: tuples are lists
    differences = [
        f"{name} (was {shorten(stored.get(name))}, now {shorten(ours.get(name))})"
        for name in sorted(set(stored) | set(ours))
        if stored.get(name) != ours.get(name) and name not in NOT_COMPARED
    ]
    if differences:
        raise UserError(
            f"{folder} was made with other parameters: {', '.join(differences)}. "
            "Use the same ones to go on, --restart to begin anew, or --experiment or --run for another folder"
        )


def shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


def environment(config: Config) -> dict[str, Any]:
    """Library versions, device, threads, processes, and the git commit of this code."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pillow")
    device = processes.choose_device(config.device)
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or "cpu",
        "precision": str(processes.choose_precision(config.precision, device)).removeprefix(
            "torch."
        ),
        "threads": torch.get_num_threads(),
        "processes": processes.world_size(),
        "git_commit": git("rev-parse", "HEAD"),
        "git_clean": git("status", "--porcelain", "--untracked-files=no") == "",
    }


def git(*arguments: str) -> str | None:
    """The output of a git command in this repository, None where there is no git or no
    repository."""
    root = Path(__file__).parent.parent
    try:
        done = subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
