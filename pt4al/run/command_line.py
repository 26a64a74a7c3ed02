"""From a command line to a checked `Config`, and `--help`."""

import contextlib
import dataclasses
import difflib
import inspect
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

from config import PRESETS, Config
from pt4al.base.console import UserError
from pt4al.run.record import USED, code_version

RANGES = {
    "img_size": (16, 512), "width": (1, 4096), "rotation_epochs": (1, 10**6), "rotation_batch_size": (1, 10**6),
    "num_batches": (1, 10**6), "cycles": (1, 10**6), "labels_per_cycle": (1, 10**9), "cold_start_batch": (0, 10**6),
    "epochs": (1, 10**6), "batch_size": (1, 10**6), "momentum": (0, 1), "weight_decay": (0, 1e6),
    "crop_padding": (0, 511), "eval_every": (1, 10**6), "eval_batch_size": (1, 10**6), "checkpoint_every": (1, 10**6),
    "threads": (0, 1024), "seed": (0, 2**63 - 1), "resident_share": (0, 1e6),
    "min_epoch_images": (0, 10**9), "imbalance": (1, 1e6), "test_labels": (0, 10**9),
}  # fmt: skip


def check(config: Config, used: tuple[str, ...]) -> None:
    """Refuse values that cannot work, whatever the data. Rules between fields concern those in
    `used` only.

    Raises:
        UserError: names the field, its value and the range.
    """
    for name, (least, most) in RANGES.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"{name} is {value}: it must be {least} or more, {most} at most")
    if not 0 < config.lr < float("inf"):
        raise UserError(f"lr is {config.lr}: it must be above 0")
    if config.momentum == 1:
        raise UserError("momentum is 1.0: it must be below 1")
    if config.crop_padding >= config.img_size:
        raise UserError(f"crop_padding is {config.crop_padding}: it must be below img_size {config.img_size}")
    for name in ("milestones", "rotation_milestones"):
        value = getattr(config, name)
        if list(value) != sorted(set(value)) or any(epoch < 1 for epoch in value):
            raise UserError(f"{name} is {value}: it must be epochs above 0 in ascending order")
    by_batch = "cycles" in used and config.candidates == "batch"
    if by_batch and config.cycles > config.num_batches:
        raise UserError(
            f"cycles is {config.cycles} but there are {config.num_batches} batches and a cycle takes one: "
            "lower cycles, raise num_batches, or use --candidates all"
        )
    if "cold_start_batch" in used and config.cold_start_batch >= config.num_batches:
        raise UserError(
            f"cold_start_batch is {config.cold_start_batch}: it must be below num_batches {config.num_batches}"
        )
    by_person = config.dataset == "unlabeled"
    if by_person and config.imbalance > 1:
        raise UserError(f"imbalance is {config.imbalance}: nobody knows yet which images to leave out")
    if config.test_labels and not by_person:
        raise UserError(f"test_labels is {config.test_labels}: it is for --dataset unlabeled")
    if set(config.data_dir) & set("\n\r\0"):
        raise UserError(f"data_dir is {config.data_dir!r}: it must not hold a line end")
    for name in ("experiment", "run_name"):
        value = getattr(config, name)
        if not re.fullmatch(r"[^/\\\0\n\r]{0,200}", value) or value in (".", ".."):
            raise UserError(f"{name} is {value!r}: it must be a plain folder name")


# --- reading a command line

C = TypeVar("C", bound=Config)


def from_command_line(description: str, options: type[C] = Config) -> C:
    """The configuration that `sys.argv` asks for, checked. `options` may extend Config by flags of
    one program.

    Exits with status 0 after --help and --version.

    Raises:
        UserError: unknown preset, flag or value.
    """
    script, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "cifar10"
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        raise UserError(
            f"preset '{name}' is unknown: use one of {', '.join(PRESETS)}"
            + (f" (did you mean {near[0]}?)" if near else "")
        )
    if "--version" in arguments:
        print(f"PT4AL {code_version()}", flush=True)
        sys.exit(0)
    extra = tuple(f.name for f in dataclasses.fields(options) if f not in dataclasses.fields(Config))
    used = (*USED.get(script, ()), *extra)
    if {"-h", "--help"} & set(arguments):
        print_help(description, options, PRESETS[name], used)
        sys.exit(0)
    config = parse(arguments, options, PRESETS[name])
    check(config, used)
    return config


def parse(arguments: list[str], options: type[C], preset: Config) -> C:
    """`arguments` over `preset`.

    Raises:
        UserError: tyro's complaint as one line, with the nearest flag for a mistyped one.
    """
    default = options(**{f.name: getattr(preset, f.name) for f in dataclasses.fields(Config)})
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), columns(10_000):
            return tyro.cli(options, default=default, args=arguments, prog="", add_help=False)
    except SystemExit:
        message = plain_line(errors.getvalue())
    flags = [f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(options)]
    for word in arguments:
        flag = word.partition("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in flags and f"--{flag[5:]}" not in flags:
            near = difflib.get_close_matches(flag, flags, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise UserError(f"unknown flag {word}{hint} (see --help)")
    if late := [word for word in arguments if word in PRESETS and message.endswith(word)]:
        raise UserError(f"'{late[0]}' is a preset: give one, right after the script's name")
    raise UserError(f"{message} (see --help)")


def plain_line(boxed: str) -> str:
    """The message in tyro's box of several lines, as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    body = re.split(r"─{20,}", plain.split("\n", 1)[-1])[0]
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", body).split())


@contextlib.contextmanager
def columns(width: int) -> Iterator[None]:
    """Let tyro think that the terminal is so wide, and without colours."""
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS=str(width), NO_COLOR="1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- help


def describe_fields(options: type[Config] = Config) -> dict[str, dict[str, str]]:
    """For each group of fields (`# --- NAME` in the source) the text under every field, on one
    line."""
    source = inspect.getsource(Config)
    if options is not Config:
        source += "    # --- this program\n" + inspect.getsource(options)
    groups: dict[str, dict[str, str]] = {}
    pattern = r'^    # --- (?P<group>[^\n]+)$|^    (?P<field>\w+): [^\n]+\n    """(?P<text>.*?)"""$'
    for found in re.finditer(pattern, source, re.MULTILINE | re.DOTALL):
        if found["group"]:
            group = groups.setdefault(found["group"], {})
        else:
            group[found["field"]] = " ".join(found["text"].split())
    return groups


def print_help(description: str, options: type[Config], preset: Config, used: tuple[str, ...]) -> None:
    """The script's header as it stands in its file, its fields by group, and the names of the
    others."""
    hints = get_type_hints(options)
    defaults = {f.name: f.default for f in dataclasses.fields(options)} | vars(preset)
    groups: list[tuple[str, Any, Any]] = []
    for group, texts in describe_fields(options).items():
        fields = [
            (name, Annotated[hints[name], tyro.conf.arg(help=text)], dataclasses.field(default=defaults[name]))
            for name, text in texts.items()
            if name in used
        ]  # fmt: skip
        if fields:
            kind = dataclasses.make_dataclass(group, fields)
            groups.append((group, tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind)))
    names = [(re.sub(r"\W+", "_", group), kind, default) for group, kind, default in groups]
    page = io.StringIO()
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit), columns(width):
        tyro.cli(
            dataclasses.make_dataclass("Options", names),
            args=["--help"],
            prog=f"python {os.path.relpath(sys.argv[0])} [PRESET]",
        )
    # tyro lays out the fields; its own lines between them are not wanted.
    usage, _, *pages = re.split(r"(?m)^.*\boptions *\n *-{20,} *\n", page.getvalue())
    print(usage.strip(), description.strip(), sep="\n\n", end="\n\n")
    print(textwrap.fill(f"PRESET is one of {', '.join(PRESETS)}.", width))
    for (group, _, _), text in zip(groups, pages, strict=True):
        print(f"\n{group}", *(line.rstrip() for line in text.rstrip().split("\n")), sep="\n")
    others = [name for name in vars(preset) if name not in used]
    text = f"Also taken, but of no effect here: {', '.join(f'--{n}'.replace('_', '-') for n in others)}."
    print("\n" + textwrap.fill(text, width, break_on_hyphens=False), flush=True)
