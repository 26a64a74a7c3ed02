"""What README.md and docs/ say is what the code does: commands parse, names exist, links lead
somewhere. `python tests/docs/test_docs.py` writes docs/configuration.md anew from config.py."""

import argparse
import dataclasses
import importlib.util
import re
import shlex
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]  # as a program

from shell import ROOT, environment

import config
from loader import READERS
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES
from pt4al.run import command_line, tables

README = ROOT / "README.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
PAGES = [README, ROOT / "study/REPORT.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
OPTIONS = dataclasses.fields(config.Config)
FIELDS = {f.name for f in OPTIONS}
PROGRAMS = sorted(path for path in (ROOT / "utils").glob("*.py") if "__main__" in path.read_text())

# Of others: flags of torchrun, pytest, Slurm and the released code; a file that a page tells to write.
FOREIGN_FLAGS = {"--standalone", "--nproc_per_node", "--nnodes", "--node_rank", "--master_addr", "--array", "--gres",
                 "--requeue", "--resume"}  # fmt: skip
FOREIGN_FILES = {"runs/again/again.csv", "job.sh"}
NAMES = {"dataset": READERS, "strategy": STRATEGIES, "first_pick": FIRST_PICKS}  # what the scripts pass


# --- docs/configuration.md


def configuration_page() -> str:
    """The page as it follows from config.py."""
    lines = [
        "# Configuration",
        "",
        "Every field of [config.py](../config.py), by group. Back to [README](../README.md).",
        "",
        *wrapped(
            "Change a default in `config.py`, or override it by a flag: `--first-pick random` or "
            "`--first_pick random`, `--flip` or `--no-flip`, `--milestones 80 120`. `--help` of a script "
            "lists the fields that it uses; it accepts the others, without effect. "
            '"Paper" is Yi et al., ECCV 2022; "released code" is the authors\' repository; "ours" is neither.'
        ),
    ]
    for f in OPTIONS:
        if group := f.metadata["group"]:
            lines += ["", f"## {group.capitalize()}", "", "| field | default | meaning |", "|---|---|---|"]
        lines.append(f"| `{f.name}` | {shown(f.default)} | {command_line.describe(f, {})} |")
    lines += ["", "## Presets", "", "`cifar10` is the defaults. The others change:", ""]
    for name, preset in config.PRESETS.items():
        values = {f.name: getattr(preset, f.name) for f in OPTIONS if getattr(preset, f.name) != f.default}
        changes = [f"`{key}={command_line.shown(value)}`" for key, value in values.items()]
        lines += wrapped(f"* `{name}`: {', '.join(changes)}") if changes else []
    how = [f"`{f.name}`" for f in OPTIONS if f.metadata["how"]]
    lines += [
        "",
        "## What may change when a run is resumed",
        "",
        *wrapped(
            f"{', '.join(how[:-1])} and {how[-1]} say where or how to compute, not what, so a run can be resumed "
            "with other values. But another `experiment` or `run_name` is another run, `restart` starts over, "
            "`losses` must hold the same losses, `cycles` may only grow, and another `device` must leave "
            "`precision` as it was. Another value of any other field that its script uses is an error (exit status 2)."
        ),
        "",
        "This page is made from `config.py` by `python tests/docs/test_docs.py`: do not edit it.",
    ]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    return f"`{command_line.shown(value)}`"


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def test_the_page_of_fields_is_that_of_config():
    assert CONFIGURATION.read_text() == configuration_page(), (
        f"{CONFIGURATION.name} is not what config.py says: write it anew with python tests/docs/test_docs.py"
    )


def test_every_field_stands_on_the_page():
    for name in FIELDS:
        row = rf"^\| `{name}` \| \S.* \| \S.* \|$"
        assert re.search(row, CONFIGURATION.read_text(), re.MULTILINE), name


# --- commands


def commands() -> list[tuple[str, str]]:
    """(page, command): those of ours in shell blocks, without comments and redirections, and in running text."""
    found = set()
    for page, text in TEXTS.items():
        blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.DOTALL)
        lines = [
            re.sub(r"[0-9]*>&?\s*\S+", "", command).strip(" &")
            for block in blocks
            for line in block.replace("\\\n", " ").splitlines()
            for command in re.split(r"&&|;|[()]", re.sub(r"(^|\s+)#.*", "", line))
        ]
        for span in inline_code(text):
            if re.match(r"(python |torchrun |\./)[^\[<]*$", span) and "SCRIPT" not in span:
                lines.append(span.replace("PRESET", "digits").replace("--seeds N", "--seeds 2"))
        found |= {(page, line) for line in lines if re.search(r"\.(py|sh)\b", line)}
    return sorted(found)


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def test_every_page_has_been_read():
    assert len(commands()) > 25
    for page in ("README.md", "docs/running.md", "docs/results.md", "docs/speed.md", "study/REPORT.md"):
        assert page in {where for where, _ in commands()}, page


@pytest.mark.parametrize("page, line", commands())
def test_every_command_parses(page: str, line: str, monkeypatch: pytest.MonkeyPatch):
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    script = next(i for i, word in enumerate(words) if word.endswith((".py", ".sh")))
    if words[script] in FOREIGN_FILES:
        return
    path = ROOT / words[script]
    assert path.is_file(), path
    rest = [word.replace("$strategy", "margin") for word in words[script + 1 :]]
    parse(path, [re.sub(r"\$\{?\w+\}?", "0", word) for word in rest], monkeypatch)


def parse(path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail unless a script takes these arguments."""
    if path.name == "test.sh":  # they go to pytest
        assert start("bash", "-n", path).returncode == 0
    elif path.suffix == ".sh":
        done = start("bash", path, *arguments, "--help")
        assert done.returncode == 0 and "--seeds" in done.stdout, done.stderr
        fields = re.sub(r"--seeds \S+", "", " ".join(arguments)).split()  # the rest are fields
        if path.name == "study.sh":
            fields = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
        monkeypatch.setattr(sys, "argv", ["main.py", *fields])
        command_line.from_command_line("", **NAMES)
    elif path.parent == ROOT:
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        assert isinstance(command_line.from_command_line("", **NAMES), config.Config)
    elif path.name == Path(__file__).name:  # its last lines, which take no argument
        assert not arguments
    else:
        run_to_its_options(path, arguments, monkeypatch)


def start(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=60)


class Parsed(Exception):
    """A program has read its command line, and would begin now."""


def run_to_its_options(path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call the `main` of a program of utils/ or tests/ up to where it knows its options."""
    program = load(path, monkeypatch)
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])

    def then_stop(read: Callable[..., object]) -> Callable[..., object]:
        def reading(*values: Any, **named: Any) -> None:
            read(*values, **named)
            raise Parsed

        return reading

    parse_args = then_stop(argparse.ArgumentParser.parse_args)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    if hasattr(program, "from_command_line"):
        monkeypatch.setattr(program, "from_command_line", then_stop(program.from_command_line))
    with pytest.raises(Parsed):
        program.main()


def load(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A program as a module, not started."""
    specification = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "program", module)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("line", ["main.py --run x", "main.py cifar11", "main.py --sort backwards", "main.py --strategy margn",
                                  "utils/plot_curves.py RUN --widht 3", "bench/benchmark.py --repeats many",
                                  "utils/show_batches.py digits --ou x", "run.sh digits --seeds", "run.sh --seed 3",
                                  "run.sh digits --epoch 3"])  # fmt: skip
def test_a_wrong_command_would_be_found(line: str, monkeypatch: pytest.MonkeyPatch):
    script, *arguments = line.split()
    with pytest.raises((SystemExit, AssertionError, command_line.UserError)):
        parse(ROOT / script, arguments, monkeypatch)


# --- help


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_help_of_a_program_is_laid_out(
    path: Path, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    program = load(path, monkeypatch)
    header = program.__doc__.strip()
    with pytest.raises(SystemExit) as stop:
        program.main()
    page = capsys.readouterr().out
    assert stop.value.code == 0 and page.startswith("usage: ") and header in page
    assert not [line for line in header.splitlines() if len(line) > 82]
    assert not [line for line in page.replace(header, "").splitlines() if len(line) > columns]


# --- names


def test_every_preset_and_column_is_named():
    for name in config.PRESETS:
        for page in ("README.md", "docs/configuration.md"):
            assert f"`{name}`" in TEXTS[page], (name, page)
    for name in (*tables.METRICS, *tables.CYCLES, *tables.PER_CLASS):
        assert f"`{name}`" in TEXTS["docs/running.md"], name


def test_the_table_of_the_paper_tells_the_values_that_config_has():
    rows = re.findall(r"\| `(\w+)=(\w+)` +\| `(\w+)=(\w+)` +\|\n", TEXTS["README.md"])
    assert len(rows) == 5
    for name, default, same_name, official in rows:
        assert name == same_name
        assert getattr(config.CIFAR10, name) == default, name
        assert getattr(config.CIFAR10_OFFICIAL, name) == official, name


def known_flags() -> set[str]:
    """Every flag of ours, as it is written in the sources."""
    flags = {"--help", "--version", *FOREIGN_FLAGS}
    for path in [ROOT / "run.sh", ROOT / "study/study.sh"]:
        flags |= set(re.findall(r"--\w[\w-]*(?=\))", path.read_text() if path.exists() else ""))
    for path in [*PROGRAMS, *(ROOT / "bench").glob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        flags |= set(re.findall(r'\badd(?:_argument)?\(\s*"(--[\w-]+)"', path.read_text()))
    for name in FIELDS:
        dashed = name.replace("_", "-")
        flags |= {f"--{dashed}", f"--{name}", f"--no-{dashed}"}
    return flags | {"--out", "--title", "--backbone", "--weights"}  # of programs that extend the fields


@pytest.mark.parametrize("page", TEXTS)
def test_every_flag_exists(page: str):
    flags = set(re.findall(r"(?<![\w-])--[a-zA-Z]\w*(?:-\w+)*", TEXTS[page])) - {"--field"}
    assert flags <= known_flags(), flags - known_flags()


# The files of the released code, which fidelity.md names, have a test of their own.
@pytest.mark.parametrize("page", sorted(TEXTS.keys() - {"docs/fidelity.md"}))
def test_every_file_exists_or_is_written_by_the_code(page: str):
    sources = [
        *ROOT.glob("*.py"),
        *ROOT.glob("pt4al/**/*.py"),
        *ROOT.glob("utils/*.py"),
        *ROOT.glob("study/*.sh"),
    ]
    written = "\n".join(path.read_text() for path in sources).replace("{", "<").replace("}", ">")
    with tarfile.open(ROOT / "study/runs.tar.gz") as archive:
        kept = archive.getnames()
    endings = "py|sh|txt|csv|json|pth|png|md|toml|xml|html"
    names = set(re.findall(rf"(?<![\w./<>-])[\w./<>-]+\.(?:{endings})\b", TEXTS[page]))
    for name in names - FOREIGN_FILES:
        if name.startswith("./DATA/") or re.search(r"https?://\S*" + re.escape(name), TEXTS[page]):
            continue
        here = (folder_of(page) / name).exists() or (ROOT / name).exists() or name in kept
        program = any(path.name == name for path in sources)
        assert here or program or f"{Path(name).name}" in written, name


def folder_of(page: str) -> Path:
    return (ROOT / page).parent


# --- links


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_pictures_lead_somewhere(page: str):
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", TEXTS[page]):
        path, _, anchor = target.partition("#")
        file = folder_of(page) / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def test_every_page_is_linked_from_the_readme_which_is_short():
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in TEXTS["README.md"], page.name
    assert "(../study/REPORT.md)" in TEXTS["docs/results.md"]
    assert len(TEXTS["README.md"].splitlines()) <= 200


# --- what a run leaves behind


@pytest.mark.slow
def test_every_file_of_a_run_is_in_the_table(finished: Path):
    row = r"^\| `((?:checkpoint|loss|runs)/\S+)` +\|"
    table = re.findall(row, TEXTS["docs/running.md"], re.MULTILINE)
    patterns = [
        re.compile(re.escape(row).replace("EXP", "[^/]+").replace("RUN", "[^/]+").replace("<i>", r"\d+")
                   .replace("<cycle>", r"\d+").replace("<digest>", "[0-9a-f]{16}"))
        for row in table
    ]  # fmt: skip
    unused = set(patterns)
    for top in ("checkpoint", "loss", "runs"):
        for path in (finished / top).rglob("*"):
            name = str(path.relative_to(finished))
            if path.is_file() and not path.name.startswith("."):
                fitting = [pattern for pattern in patterns if pattern.fullmatch(name)]
                assert fitting, name
                unused -= set(fitting)
    assert not unused


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration_page())
    print(CONFIGURATION)
