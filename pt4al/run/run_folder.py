"""What a run leaves behind, and how it goes on: its lock, its record, last.pth and the tables made
from it.

Everything in a run folder but config.json is a function of the state in last.pth. A run that goes
on writes those files anew from the state, so they never hold a row twice or half, whenever the run
was killed.
"""

import os
import re
import sys
import time
from dataclasses import asdict, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

from config import Config
from pt4al.base import processes
from pt4al.base.console import Stopped, UserError
from pt4al.base.files import (
    check_held,
    load_checkpoint,
    lock_folder,
    read_json,
    save_checkpoint,
    write_json,
)
from pt4al.data.images import Images
from pt4al.run.pictures import changes, has_others, note_images
from pt4al.run.record import HOW, Record, check_record, compare, cycles_of, environment, make_record
from pt4al.run.state import State, from_content, to_content
from pt4al.run.tables import (
    BEFORE_A_STATE,
    Seconds,
    read_seconds,
    rows_of_cycles,
    table_files,
    write_labeled,
    write_tables,
)

# Of the time, at most: a fast GPU ends an epoch sooner than a disk takes weights.
SAVING_SHARE = 0.02


class RunFolder:
    """The two folders of a run, `checkpoint/<experiment>/<run>` and `runs/<experiment>/<run>`,
    locked while in use.

    Only rank 0 reads or writes; `open` gives its state to every process.
    """

    def __init__(self, config: Config, script: str, default_name: str) -> None:
        self.config, self.script = config, script
        self.name = config.run_name or default_name
        self.tables = config.runs_dir / self.name
        self.weights = config.checkpoint_dir / self.name
        self.last = self.weights / "last.pth"
        self.previous = self.weights / "previous.pth"
        self.last_is_whole = True
        self.saved: tuple[int, ...] | None = None
        self.saved_at, self.saving_seconds = 0.0, 0.0
        self.state = State()
        self.seconds: Seconds = {}
        self.record: Record = {}
        self.machines: dict[str, Any] = {}
        self.num_cycles = config.cycles if script == "main.py" else 1
        self.pool: Images | None = None
        self.test: Images | None = None  # set before `open` by who tests

    def __enter__(self) -> "RunFolder":
        """Hold the folder until this process ends.

        Raises:
            UserError: another process holds it.
        """
        processes.from_main(self._lock)
        return self

    def _lock(self) -> None:
        for folder in (self.tables, self.weights):  # which may be links to elsewhere
            lock_folder(folder)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A run stopped by a signal, by the end of another process, or because nobody reads its
        output, saves the last whole epoch, and what is chosen since."""
        if kind in (Stopped, processes.PeerLost, BrokenPipeError):
            self.save()

    # --- at the start

    def open(self, inputs: dict[str, Any], pool: Images, result: Path | None = None) -> bool:
        """Compare the folder's records with ours and take up the state that it holds; whether there is one.

        Args:
            inputs: hashes of the data and of the files used, for the record.
            pool: names what is labeled.
            result: what the run writes elsewhere.

        Raises:
            UserError: it was made with other parameters or inputs, by another script, or its state is lost;
                or the processes read different inputs.
        """
        processes.check_same(inputs, "data or batches")
        self.pool = pool
        self.record, state = processes.from_main(lambda: self._open(inputs, result))
        self.state = state or State()
        note_images(self.config, inputs, self._images())
        return state is not None

    def _images(self) -> dict[str, Images]:
        """By the names of their hashes."""
        images = {"data": self.pool, "test_data": self.test}
        return {name: split for name, split in images.items() if split is not None}

    def _open(self, inputs: dict[str, Any], result: Path | None) -> tuple[Record, State | None]:
        ours = make_record(self.config, self.script, self.name, inputs)
        stored = self.tables / "config.json"
        if self.config.restart:
            self._check_script(stored)
            self._set_aside(inputs, stored)
            self._delete(result)
        content = read_json(stored) if stored.exists() else None
        known = [check_record(content, stored)] if stored.exists() else []
        state, record, machines = self._read_state(inputs)
        if state is not None:
            known.append(record)
        if not known and (others := self._files()):
            raise UserError(
                f"{others[0]} exists without the record of its run: move it away, choose another "
                "--run-name, or delete it with --restart"
            )
        for record in known:
            changed = changes(self.config, record["inputs"], inputs, self._images())
            compare(record, ours, self.tables, images=changed)
        if state is None and (lost := self._results(result)):
            raise UserError(
                f"{lost[0]} is the result of a run whose state {self.last} is not there: copy that file "
                "here too, choose another --run-name, or start over with --restart"
            )
        self._check_cycles(content, state)
        if state and (more := rows_of_cycles(self.tables) - len(state.cycles)) > (not state.finished):
            raise UserError(
                f"{self.last} is older than {self.tables}/cycles.csv, which has {more} cycles more: put back "
                "the one that belongs to it, or start over with --restart"
            )
        for code in {record["code"] for record in known} - {ours["code"]}:
            processes.say(
                f"note: {self.tables} was begun by version {code} of this code, this is {ours['code']}"
            )
        record = known[-1] if known else ours  # of the code that began the run
        self.seconds = read_seconds(self.tables) if state else {}
        done = state is not None and state.finished and state.cycle + 1 >= self.num_cycles
        if done:
            self.previous.unlink(missing_ok=True)
        if content is None or not done or cycles_of(content) not in (0, self.num_cycles):
            machines = (content or machines) if state else {}
            self.machines = self._write_record(stored, record, ours, machines, done)
        return record, state

    def _check_cycles(self, content: dict[str, Any] | None, state: State | None) -> None:
        """Raise a UserError if the run is to have fewer cycles than it was begun with (`content`: of
        config.json). A finished run may be given more, and one that was but not begun again, fewer again."""
        done = state.cycle + 1 if state else 1
        was = done if (state and state.finished) or content is None else max(done, cycles_of(content))
        if self.num_cycles < was:
            raise UserError(
                f"{self.tables} was made with cycles {was}, not {self.num_cycles}, and cycles may only grow: "
                f"give --cycles {was}, --restart to start over, or another --run-name"
            )

    def _write_record(
        self, path: Path, record: Record, ours: Record, machines: dict[str, Any], done: bool
    ) -> dict[str, Any]:
        """config.json: the record, where and how it is computed, the machine, and the other versions of
        the code, and machines, that went on with the run. Returns what it says of machines.

        Args:
            machines: what was said of them before; empty where the run begins.
            done: nothing is left to compute on this one.
        """
        names = {f.name for f in fields(Config) if self.script in f.metadata["scripts"]} & HOW - {"restart"}
        others = {name: value for name, value in asdict(self.config).items() if name in names}
        here = environment(self.config)
        made_with = machines.get("made_with", here)
        if not isinstance(made_with, dict) or not isinstance(machines.get("went_on_with", []), list):
            raise UserError(f"{path} is damaged: made_with or went_on_with; move it away")
        changed = [
            f"{k} {v}" for k, v in here.items() if not k.startswith("git_") and v != made_with.get(k, v)
        ]
        later = list(machines.get("went_on_with", []))
        if not done and (changed or ours["code"] != record["code"]):
            later.append(", ".join([ours["code"], *changed]))
        machines = {"made_with": made_with, **({"went_on_with": list(dict.fromkeys(later))} if later else {})}
        write_json(path, {**record, "other_parameters": others, **machines})
        return machines

    def _check_script(self, stored: Path) -> None:
        """Raise a UserError if the run to be deleted is of another script, as far as its files tell."""
        for path in (stored, self.last, self.previous):
            try:
                content = (read_json if path == stored else load_checkpoint)(path)
            except UserError:  # missing, or damaged, which --restart is for
                continue
            record = content.get("record", content) if isinstance(content, dict) else {}
            script = record.get("script") if isinstance(record, dict) else None
            if script not in (None, self.script):
                raise UserError(
                    f"{self.tables} is a run of {script}, which {self.script} does not delete: choose "
                    "another --run-name, or move it away"
                )

    def _set_aside(self, inputs: dict[str, Any], stored: Path) -> None:
        """Answers in to_label.csv outlive --restart. Those to images of another folder get a name of their
        own, which nothing replaces."""
        path = self.tables / "to_label.csv"
        if not path.exists():
            return
        try:
            content = read_json(stored)
            if content["inputs"].get("data") == inputs["data"]:
                return
            was, now = content["other_parameters"]["data_dir"], self.config.data_dir
            alike = content["inputs"].get("features") == inputs.get("features")  # or nothing can be compared
            others = alike and has_others(self.config, content["inputs"].get("data"), self.pool)
            if Path(was).resolve() == Path(now).resolve() and not others:
                return  # photographs were added or removed: rows of those that are gone are left alone
        except (UserError, KeyError, TypeError, AttributeError, ValueError):
            pass  # --restart is for a damaged record, too
        names = (f"to_label_of_other_images{f'-{i}' if i > 1 else ''}.csv" for i in count(1))
        aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
        os.rename(path, aside)
        processes.say(
            f"{path} belongs to other images: renamed to {aside.name}; answers in it come back by "
            f"python utils/convert_labels.py import {aside} --data-dir PHOTOS"
        )

    def _delete(self, result: Path | None) -> None:
        """Delete what this class and its callers write, by name: other files are not ours."""
        paths = [*self._files(), self.tables / "config.json", *([result] if result else [])]
        if folders := [path for path in paths if path.is_dir()]:
            raise UserError(f"{folders[0]} is a folder, where this run writes a file: move it away")
        for path in paths:
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """What this class and its callers have written here, the record apart."""
        pattern = r"(last|previous|main_\d+)\.pth"
        weights = [x for x in sorted(self.weights.glob("*.pth")) if re.fullmatch(pattern, x.name)]
        return [*weights, *table_files(self.tables)]

    def _results(self, result: Path | None) -> list[Path]:
        """Those that are there only where a state was saved before."""
        results = [path for path in self._files() if path.name not in BEFORE_A_STATE]
        return results + ([result] if result and result.exists() else [])

    def _read_state(self, inputs: dict[str, Any]) -> tuple[State | None, Record, dict[str, Any]]:
        """The state in last.pth, its record and its machines, or in the one before it where last.pth is
        missing or damaged (which is said). A state of other data is whole too, for whoever compares them."""
        problems = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                content = load_checkpoint(path)
            except UserError as error:
                problems.append(str(error))
                continue
            record = check_record(content.get("record"), path)
            of_this_pool = record["inputs"].get("data") == inputs["data"]
            pool_size = len(self.pool) if of_this_pool else sys.maxsize
            if (state := from_content(content, pool_size)) is None:
                raise UserError(f"{path} is not the state of a run: use --restart, or move it away")
            if problems:
                processes.say(f"{'; '.join(problems)}; resuming from {path}")
            self.last_is_whole = path == self.last
            self.saved = state.position
            machines = content.get("machines")
            return state, record, machines if isinstance(machines, dict) else {}
        if problems:
            raise UserError(f"{'; '.join(problems)}; no whole state is left: use --restart to start over")
        return None, {}, {}

    # --- while it runs

    def move(self, **changes: Any) -> None:
        """Stand somewhere else: with `finish_cycle`, the only way in which the state changes."""
        self.state = replace(self.state, **changes)

    def finish_cycle(self, net: dict[str, Any], **rows: Any) -> None:
        """Stand at the beginning of the next cycle, with the weights that this one is judged by."""
        self.state = replace(self.state, **rows).next_cycle(net)
        self.write_tables()

    def save(self) -> None:
        """Write the state, after every table that follows from it (but for the first), unless it is on disk,
        or empty."""
        state, first = self.state, self.saved is None
        if not processes.is_main() or state.position in (self.saved, State().position):
            return
        began = time.perf_counter()
        if not first:
            self.write_tables()
        check_held(self.last)
        if self.last.exists() and self.last_is_whole:
            os.replace(self.last, self.previous)
        content = {**to_content(state), "record": self.record, "machines": self.machines}
        save_checkpoint(self.last, content)
        if first:  # results without a state are of a run that lost it
            self.write_tables()
        self.last_is_whole, self.saved = True, state.position
        self.saved_at = time.perf_counter()
        self.saving_seconds = self.saved_at - began

    def saving_is_cheap(self) -> bool:
        """Whether so much time has passed since the last saving that another one takes a small
        share of it."""
        return self.saving_seconds <= SAVING_SHARE * (time.perf_counter() - self.saved_at)

    def finish(self, **rows: Any) -> None:
        """Mark the run as complete: starting it again changes nothing."""
        self.move(finished=True, **rows)
        self.save()
        if processes.is_main():
            self.previous.unlink(missing_ok=True)

    def write_tables(self) -> None:
        """The files that follow from the state."""
        if processes.is_main():
            write_tables(self.tables, self.state, self.seconds, self.pool)

    def write_labeled(self) -> None:
        """The ids of the images that were chosen last, in order."""
        if processes.is_main():
            write_labeled(self.tables, len(self.state.labeled) - 1, self.state.labeled[-1], self.pool)

    def save_weights(self, path: Path, content: dict[str, Any]) -> None:
        """Write weights that say what they were made from."""
        if processes.is_main():
            save_checkpoint(path, {**content, "record": self.record})
