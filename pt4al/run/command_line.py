"""From a command line to a checked `Config`, and `--help`: both follow from the fields of config.py."""

import argparse
import difflib
import math
import operator
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from config import FEATURES, PRESETS, Config
from pt4al.base.console import Parser, UserError
from pt4al.run.record import code_version

C = TypeVar("C", bound=Config)
Choices = dict[str, Iterable[str]]

LIMITS = {
    "least": (operator.ge, "at least"),
    "most": (operator.le, "at most"),
    "above": (operator.gt, "above"),
    "below": (operator.lt, "below"),
}


def from_command_line(description: str | None, options: type[C] = Config, **choices: Iterable[str]) -> C:
    """The configuration that `sys.argv` asks for, checked. Ends with status 0 after --help and --version.

    Args:
        description: the script's header, for --help; None under `python -OO`.
        options: Config, or a class that extends it by the options of one program.
        choices: the values that a field may have, where its type does not tell.

    Raises:
        UserError: unknown preset, flag or value.
    """
    script, words = Path(sys.argv[0]).name, sys.argv[1:]
    preset = words.pop(0) if words and not words[0].startswith("-") else "cifar10"
    if preset not in PRESETS:
        raise UserError(f"preset '{preset}' is unknown: use one of {listed(PRESETS)}{hint(preset, PRESETS)}")
    if {"-h", "--help", "--version"} & {*words}:
        version = f"PT4AL {code_version()}"
        page = help_page(description, options, preset, script, choices)
        print(version if "--version" in words else page, flush=True)
        sys.exit(0)
    values, given = vars(PRESETS[preset]), parse(words, options)
    if given.get("features") and script in uses_of("features"):
        values = values | FEATURES
    config = options(**values | given)
    for name, holds, rule in rules(config, script, choices):
        if not holds:
            raise UserError(f"{name} is {getattr(config, name)!r}: it must be {rule}")
    return config


def uses_of(name: str) -> set[str]:
    """The scripts that use an option."""
    return next(f.metadata["scripts"] for f in fields(Config) if f.name == name)


# --- reading


def parse(words: list[str], options: type[Config]) -> dict[str, Any]:
    """The fields that flags set, and their values, which are of the right type but not checked yet.

    Raises:
        UserError: a flag is unknown or lacks its value, or what should be a number is none.
    """
    parser = Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    arguments = [parser.add_argument(flag_of(f), **how_to_read(f)) for f in fields(options)]
    switches = {flag_of(f): f"--no-{flag_of(f)[2:]}" for f in fields(options) if f.type is bool}
    for word, following in pairwise([*map(dashed, words), "-"]):
        flag, _, value = word.partition("=")
        value = value or ("" if following.startswith("-") else following)
        if value and flag in {*switches, *switches.values()}:
            yes = f"--{flag.removeprefix('--no-').removeprefix('--')}"
            raise UserError(
                f"{flag} takes no value, not '{value}': give {yes} for yes, {switches[yes]} for no"
            )
    given, unknown = parser.parse_known_args([dashed(word) for word in words])
    if unknown and unknown[0] in PRESETS:
        raise UserError(f"'{unknown[0]}' is a preset: give one, right after the script's name")
    if unknown:
        flags = [flag for argument in arguments for flag in argument.option_strings]
        kind = "flag" if unknown[0].startswith("-") else "word"
        raise UserError(f"unknown {kind} {unknown[0]}{hint(unknown[0].split('=')[0], flags)} (see --help)")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in vars(given).items()}


def how_to_read(f: Field) -> dict[str, Any]:
    """What argparse has to know of a field: bool, str, int, float, `int | None`, tuple of int, Literal."""
    if f.type is bool:
        return {"action": argparse.BooleanOptionalAction}
    arguments = get_args(f.type)
    first = arguments[0] if arguments else f.type
    kind = first if isinstance(first, type) else type(first)

    def read(text: str) -> Any:
        if NoneType in arguments and text.lower() == "none":
            return None
        try:
            return kind(text)
        except ValueError:
            number = "a whole number" if kind is int else "a number"
            if get_origin(f.type) is tuple:
                number = "whole numbers with blanks between them"
            raise UserError(f"{f.name} is {text!r}: it must be {number}") from None

    return {"type": read, "nargs": "*" if get_origin(f.type) is tuple else None}


def flag_of(f: Field) -> str:
    return f"--{f.name}".replace("_", "-")


def dashed(word: str) -> str:
    """`--first_pick=x` -> `--first-pick=x`."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if word.startswith("--") else word


def hint(word: str, known: Iterable[object]) -> str:
    near = difflib.get_close_matches(word, list(map(str, known)), 1)
    return f": did you mean {near[0]}?" if near else ""


def listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


# --- checks


def rules(config: Config, script: str, choices: Choices) -> Iterator[tuple[str, bool, str]]:
    """(field, whether it holds, what the field must be): what must hold whatever the data. Rules between
    fields hold for the scripts that use them."""
    for f in fields(config):
        value, limits = getattr(config, f.name), f.metadata["limits"]
        if known := choices_of(f, choices):
            yield f.name, value in known, f"one of {listed(known)}{hint(str(value), known)}"
        holds = all(LIMITS[name][0](value, limit) for name, limit in limits.items() if value is not None)
        rule = (f"{LIMITS[name][1]} {x:,}" if math.isfinite(x) else "finite" for name, x in limits.items())
        yield f.name, holds, " and ".join(rule)
    used = {f.name for f in fields(config) if script in f.metadata["scripts"]}
    batches, takes_batches = config.num_batches, "cycles" in used and config.candidates == "batch"
    yield "crop_padding", config.crop_padding < config.img_size, f"below img_size ({config.img_size})"
    # Below 33 pixels one position is left at the end: a last batch of one image has then no variance, and
    # torch's bf16 convolutions of stride 2 (2.14, CPU) read memory that is not theirs.
    no_network = any(getattr(config, name) for name in {"features", "losses"} & used)
    small = config.stem == "imagenet" and config.img_size < 48
    yield "img_size", "stem" not in used or no_network or not small, "at least 48 with --stem imagenet"
    for name in ("milestones", "rotation_milestones"):
        epochs = getattr(config, name)
        ascending = list(epochs) == sorted(set(epochs)) and all(epoch > 0 for epoch in epochs)
        yield name, ascending, "epochs above 0 in ascending order"
    yield (
        "cycles", config.cycles <= batches or not takes_batches,
        f"at most num_batches ({batches}), as a cycle takes a batch; or use --candidates all",
    )  # fmt: skip
    in_range = config.cold_start_batch < batches or "cold_start_batch" not in used
    yield "cold_start_batch", in_range, f"below num_batches ({batches})"
    unlabeled = config.dataset == "unlabeled"
    yield (
        "imbalance",
        config.imbalance == 1 or not unlabeled,
        "1, as nobody knows the classes of the images yet",
    )
    kind = config.imbalance_kind
    yield "imbalance", config.imbalance > 1 or kind == "exponential", f"above 1 with --imbalance-kind {kind}"
    yield "test_labels", config.test_labels == 0 or unlabeled, "0 unless --dataset is unlabeled"
    yield "data_dir", not {*config.data_dir} & {*"\n\r\0"}, "without line ends"
    for name in ("experiment", "run_name"):
        plain = re.fullmatch(r"(?!\.\.?$)[^/\\\0\n\r]{0,200}", getattr(config, name))
        yield name, bool(plain), "a plain folder name"


def choices_of(f: Field, choices: Choices) -> list[Any]:
    """The values that a field may have, where they are a few."""
    return list(get_args(f.type)) if get_origin(f.type) is Literal else list(choices.get(f.name, ()))


# --- help


def help_page(
    description: str | None, options: type[Config], preset: str, script: str, choices: Choices
) -> str:
    """The script's header as it stands in its file; a table of the fields that it uses, by group, with
    their values in the preset; the names of the others."""
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    values = {f.name: f.default for f in fields(options)} | vars(PRESETS[preset])
    used = [f for f in fields(options) if script in f.metadata["scripts"]]
    left = max((len(flag_of(f)) for f in used), default=0)
    middle = max((n for f in used if (n := len(shown(values[f.name]))) <= 14), default=0)

    def paragraph(text: str, first: str = "", margin: str = "") -> str:
        return textwrap.fill(text, width, initial_indent=first, subsequent_indent=margin,
                             break_long_words=False, break_on_hyphens=False)  # fmt: skip

    lines = [
        f"usage: python {os.path.relpath(sys.argv[0])} [PRESET] [--field value ...]\n",
        f"{(description or '').strip()}\n",
        paragraph(
            f"PRESET is one of {listed(PRESETS)}. The values below are those of {preset}. "
            "Give --field for yes, --no-field for no."
        ),
    ]
    groups: dict[str, list[Field]] = {}
    for f in fields(options):
        groups.setdefault(f.metadata["group"] or list(groups)[-1], []).append(f)
    for group, members in groups.items():
        lines += ["", group] if {*members} & {*used} else []
        for f in (f for f in members if f in used):
            first = f"  {flag_of(f):{left}}  {shown(values[f.name]):{middle}}  "
            margin = " " * (left + middle + 6)
            if len(first) > len(margin):  # the value does not fit into its column
                lines, first = [*lines, first.rstrip()], margin
            lines.append(paragraph(describe(f, choices), first, margin))
    others = listed(flag_of(f) for f in fields(options) if f not in used)
    return "\n".join([*lines, "", paragraph(f"Also accepted, no effect here: {others}.")])


def describe(f: Field, choices: Choices) -> str:
    """A field's text, and the values that it may have unless the text names them all."""
    text, known = f.metadata["text"], choices_of(f, choices)
    named = all(re.search(rf"\b{re.escape(str(x))}\b", text) for x in known)
    return text if named else f"{text} One of {listed(known)}."


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        value = " ".join(map(str, value)) or None
    return {None: "none", "": "''"}.get(value, str(value))
