"""What something was made from: the record that stands in config.json, in last.pth, in weights and
beside batch files, and how two records are compared.

    script       the script that wrote it
    run          name of its run folder
    parameters   the fields that this script uses and that decide its results, precision resolved
    inputs       hashes of the data and files that it read
    code         release and commit of this code
"""

import json
import platform
import subprocess
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from config import Config
from pt4al import __version__
from pt4al.base.console import UserError

VERSION = 2  # of records and of what holds them; raise it when what they hold changes
READABLE = (2, 3)  # versions whose runs can be compared with each other; VERSION is one of them
Record = dict[str, Any]

DATA = (
    "dataset", "data_dir", "img_size", "resize", "channel_order", "normalization", "imbalance", "resident_share",
)  # fmt: skip
EXPERIMENT = ("experiment", "run_name", "seed", "restart")
SCORING = ("depth", "width", "eval_batch_size", "device", "deterministic", "threads")
TRAINING = (
    *SCORING, "sync_batchnorm", "lr", "momentum", "weight_decay",
    "eval_every", "checkpoint_every", "tensorboard", "precision", "compile",
)  # fmt: skip
ROTATION = ("rotation_epochs", "rotation_batch_size", "rotation_milestones")
CLASSIFIER = (
    "epochs", "min_epoch_images", "batch_size", "milestones", "crop_padding", "flip", "select", "test_labels",
)  # fmt: skip
CYCLES = ("strategy", "candidates", "first_pick", "cycles", "labels_per_cycle", "init")
COLD_START = ("first_pick", "labels_per_cycle", "cold_start_batch")
BATCHES = ("num_batches", "sort")

# The fields that a script uses: two runs that differ in others are the same run.
USED: dict[str, tuple[str, ...]] = {
    "rotation.py": (*DATA, *EXPERIMENT, *TRAINING, *ROTATION),
    "make_batches.py": (*DATA, *EXPERIMENT, *SCORING, *BATCHES, "losses"),
    "main.py": (*DATA, *EXPERIMENT, *TRAINING, *BATCHES, *CYCLES, *CLASSIFIER),
    "main_pt4al.py": (*DATA, *EXPERIMENT, *TRAINING, *BATCHES, *COLD_START, *CLASSIFIER),
    "whole_dataset.py": (*DATA, *EXPERIMENT, *TRAINING, *CLASSIFIER),
    "show_batches.py": (*DATA, "experiment", "seed", *BATCHES),
}
# These say where and how to compute, not what: a run goes on with other values.
MACHINE_FIELDS = {
    "checkpoint_every", "compile", "data_dir", "deterministic", "device", "eval_batch_size", "experiment",
    "losses", "resident_share", "restart", "run_name", "tensorboard", "threads",
}  # fmt: skip
# What the digest of the batches says already, whatever their files look like.
NOT_COMPARED = {"batches_made_from", "files"}


def make_record(config: Config, script: str, run: str, inputs: dict[str, Any]) -> Record:
    """The record of what `script` is about to make from `inputs`."""
    from pt4al.base import processes  # torch takes seconds to import, and programs that draw need none

    parameters = {name: getattr(config, name) for name in USED[script] if name not in MACHINE_FIELDS}
    if "precision" in parameters:
        chosen = processes.choose_precision(config.precision, processes.choose_device(config.device))
        parameters["precision"] = "bf16" if chosen.itemsize == 2 else "float32"
    # As it will read once stored: tuples are lists.
    return json.loads(json.dumps({
        "version": VERSION, "script": script, "run": run, "parameters": parameters, "inputs": inputs,
        "code": code_version(),
    }))  # fmt: skip


def check_record(record: Any, where: Path | str) -> Record:
    """The record of this version in what was read, which may hold more.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    version = record.get("version") if isinstance(record, dict) else None
    if version == VERSION:
        kinds = {"script": str, "run": str, "parameters": dict, "inputs": dict, "code": str}
        if all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
            return {name: record[name] for name in ("version", *kinds)}
    said = (
        f"is of version {version}, this code writes {VERSION}"
        if version
        else "says not what it was made from"
    )
    raise UserError(f"{where} {said}: use --restart, or move it away")


def compare(
    stored: Record, ours: Record, where: Path | str, instead: str = "--experiment or --run-name"
) -> None:
    """Refuse what was made from anything else than we would make it from, naming what differs.

    Raises:
        UserError: the script, a parameter or an input differs.
    """

    def flat(record: Record) -> dict[str, Any]:
        return {"script": record["script"], **record["parameters"], **record["inputs"]}

    was, now = flat(stored), flat(ours)
    differences = [
        f"{name} (was {shorten(was.get(name))}, now {shorten(now.get(name))})"
        for name in sorted(set(was) | set(now))
        if was.get(name) != now.get(name) and name not in NOT_COMPARED
    ]
    if differences:
        raise UserError(
            f"{where} was made with other parameters: {', '.join(differences)}. "
            f"Use the same ones to go on, --restart to begin anew, or {instead} for another folder"
        )


def shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


def environment(config: Config) -> dict[str, Any]:
    """Library versions, device, threads, processes, and the git commit of this code.

    One name of a processor may stand for several generations; `instructions` are those that torch
    uses of it, and with others sums round otherwise.
    """
    import torch

    from pt4al.base import processes

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pillow")
    device = processes.choose_device(config.device)
    on_gpu = device.type == "cuda"
    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in packages},
        "device": torch.cuda.get_device_name(device) if on_gpu else processes.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": processes.world_size(),
        "git_commit": git("rev-parse", "HEAD"),
        "git_clean": None if status is None else status == "",
    }


def code_version() -> str:
    """The release, and the commit where this is a git checkout."""
    described = git("describe", "--always", "--dirty")
    return f"{__version__} ({described})" if described else __version__


def git(*arguments: str) -> str | None:
    """The output of a git command in this repository, None where there is no git or no
    repository."""
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
