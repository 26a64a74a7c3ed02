"""Run folders as the scripts leave them, made up in a moment: a hand-written cycles.csv, and a record."""

import json
from pathlib import Path
from typing import Any

from pt4al.run.record import VERSION

HEADER = "cycle,labels,best_accuracy,best_epoch,last_accuracy,seconds"
PARAMETERS = {
    "epochs": 30,
    "strategy": "confidence", "candidates": "batch", "first_pick": "interval", "sort": "numeric",
}  # fmt: skip
MADE_FROM = {"sort": "numeric", "num_batches": 10, "weights": "w0"}
INPUTS = {
    "data": "d0", "test_data": "t0",
    "batches": "b0", "batches_made_from": MADE_FROM, "files": {"batch_0.txt": "f0"},
}  # fmt: skip
MADE_WITH = {"torch": "2.14.1", "git_commit": "c0"}


def make_record(
    seed: int = 0,
    script: str = "main.py",
    version: int = VERSION,
    parameters: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    made_with: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A config.json; what is given stands beside, or in place of, what all share."""
    return {
        "version": version,
        "script": script,
        "run": "m",
        "parameters": {"seed": seed, **PARAMETERS, **(parameters or {})},
        "inputs": {**INPUTS, **(inputs or {})},
        "code": "1.0 (c0)",
        "other_parameters": {"threads": 1},
        "made_with": {**MADE_WITH, **(made_with or {})},
    }


def make_run(folder: Path, accuracies: list[float], record: dict | None = None, step: int = 10) -> Path:
    """A run folder of step, 2 step, ... labels; the last accuracy is 1 below the best. Without a record
    it has no config.json."""
    folder.mkdir(parents=True)
    lines = [f"{i},{step * (i + 1)},{a},0,{a - 1},1.0" for i, a in enumerate(accuracies)]
    (folder / "cycles.csv").write_text("\n".join([HEADER, *lines, ""]))
    if record is not None:
        (folder / "config.json").write_text(json.dumps(record))
    return folder


def make_runs(
    folder: Path, name: str, *accuracies: list[float], step: int = 10, **of_record: Any
) -> list[Path]:
    """Seeds 0, 1, ... of one method; `of_record` goes to `make_record`."""
    return [
        make_run(folder / f"s{seed}" / name, a, make_record(seed, **of_record), step)
        for seed, a in enumerate(accuracies)
    ]
