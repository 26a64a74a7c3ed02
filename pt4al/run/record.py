"""What something was made from: the record that stands in config.json, in last.pth, in weights and
beside batch files, and how two records are compared.

    script       the script that wrote it
    run          name of its run folder
    parameters   the options that this script uses and that say what to compute, precision resolved
    inputs       hashes of the data and files that it read
    code         release and commit of this code
"""

import json
import os
import platform
import string
import subprocess
from collections.abc import Collection
from dataclasses import fields
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from config import Config
from pt4al import __version__
from pt4al.base.console import UserError

VERSION = 3  # of records and of what holds them; raise it when what they hold changes
READABLE = (2, 3)  # versions whose runs can be compared with each other; VERSION is one of them
Record = dict[str, Any]

# Digests cover them; hashes of files may differ in line ends only.
NOT_COMPARED = {"batches_made_from", "pretext_made_from", "files", "large_jpegs", "images"}
HOW = {f.name for f in fields(Config) if f.metadata["how"]}
# With another value of these the images are others, too; the seed draws those that imbalance leaves, and
# hashes of features cover their rows.
OF_IMAGES = (
    "dataset", "img_size", "resize", "channel_order", "imbalance", "imbalance_kind", "seed", "features",
)  # fmt: skip


def make_record(config: Config, script: str, run: str, inputs: dict[str, Any]) -> Record:
    """The record of what `script` is about to make from `inputs`."""
    from pt4al.base import processes  # torch takes seconds to import, and programs that draw need none

    parameters = {
        f.name: getattr(config, f.name)
        for f in fields(Config)
        if script in f.metadata["scripts"] and f.name not in HOW
    }
    if "precision" in parameters:
        chosen = processes.choose_precision(config.precision, processes.choose_device(config.device))
        parameters["precision"] = "bf16" if chosen.itemsize == 2 else "float32"
    if config.dataset in ("folder", "unlabeled") and "data" in inputs:
        inputs = {**inputs, "large_jpegs": "shrunk while decoded"}  # older versions decoded them whole
    # As it will read once stored: tuples are lists.
    return json.loads(json.dumps({
        "version": VERSION, "script": script, "run": run, "parameters": parameters, "inputs": inputs,
        "code": code_version(),
    }))  # fmt: skip


def check_record(record: Any, where: Path | str, versions: Collection[int] = (VERSION,)) -> Record:
    """The record in what was read, which may hold more.

    Args:
        versions: those that the caller understands.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    version = record.get("version") if isinstance(record, dict) else None
    if version in versions:
        kinds = {"script": str, "run": str, "parameters": dict, "inputs": dict, "code": str}
        if all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
            return {name: record[name] for name in ("version", *kinds)}
        said = "carries a damaged record"
    elif version:
        said = f"is of version {version}, this code writes {VERSION}"
    else:
        said = "carries no record of what it was made from"
    raise UserError(f"{where} {said}: use --restart, or move it away")


def compare(
    stored: Record, ours: Record, where: Path | str, instead: str = "--experiment or --run-name",
    images: str = "",
) -> None:  # fmt: skip
    """Refuse what was made from anything else than we would make it from, naming what differs.

    Args:
        images: what `pictures.changes` says of the images.

    Raises:
        UserError: the script, a parameter or an input differs.
    """

    def flat(record: Record) -> dict[str, Any]:
        return {"script": record["script"], **record["parameters"], **record["inputs"]}

    # What was made before there was an option was made with its default.
    defaults = json.loads(json.dumps({f.name: f.default for f in fields(Config)}))
    was, now = {name: defaults[name] for name in ours["parameters"]} | flat(stored), flat(ours)
    # Older records name what says how among the parameters; `features` is an input of that name.
    left_out = NOT_COMPARED | HOW - {*stored["inputs"], *ours["inputs"]}
    differences = [
        f"{name} (was {shorten(was.get(name))}, now {shorten(now.get(name))})"
        for name in sorted(set(was) | set(now))
        if was.get(name) != now.get(name) and name not in left_out
    ]
    of_images = any(was.get(name) != now.get(name) for name in OF_IMAGES)
    if images or of_images:
        differences = [x for x in differences if not x.startswith(("data ", "test_data "))]
    if images and not of_images:
        more = f"; other parameters too: {', '.join(differences)}" if differences else ""
        raise UserError(f"{where} {images}{more}")
    if differences:
        raise UserError(
            f"{where} was made with other parameters: {', '.join(differences)}. "
            f"Give the same ones to resume, --restart to start over, or {instead} for another folder"
        )


def other_value(was: dict[str, Any], now: dict[str, Any]) -> str:
    """The first option of `now` that had another value, in words; empty: none."""
    for name, value in now.items():
        if was.get(name) is not None and was[name] != value:
            return f"{name} {was[name]}, not {value}: give --{name.replace('_', '-')} {was[name]}"
    return ""


def cycles_of(content: dict[str, Any]) -> int:
    """The cycles that a run of main.py was asked for last, by its config.json; 0: of another script, or it
    does not say. Older records name them among the parameters."""
    if content.get("script") != "main.py":
        return 0
    others = content.get("other_parameters")
    cycles = {**(others if isinstance(others, dict) else {}), **content["parameters"]}.get("cycles")
    return cycles if isinstance(cycles, int) else 0


def shorten(value: Any) -> str:
    """Of a digest the first digits, and of what is longer than most names the beginning."""
    text = str(value)
    return text if len(text) <= (60 if set(text) - set(string.hexdigits) else 24) else f"{text[:12]}..."


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
    repository.

    Not of one around it, nor of one that the environment names (as in a hook). That another user owns
    it does not matter: its code is running already.
    """
    root = Path(__file__).parents[2]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", f"safe.directory={root}", "-C", root, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env={**outside, "GIT_CEILING_DIRECTORIES": str(root.parent)},
        )  # fmt: skip
    except OSError:  # none on the path, or none that may be started
        return None
    return done.stdout.strip() if done.returncode == 0 else None
