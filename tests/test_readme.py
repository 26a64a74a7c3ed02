"""What README.md says is what the code does: commands parse, fields and columns are named, links exist."""

import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from shell import ROOT, environment

import config
from pt4al import tables
from pt4al.command_line import from_command_line

README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """Every command of ours in the README's shell blocks, without comments and redirections."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.DOTALL)
    lines = [
        re.sub(r"[0-9]*>&?\s*\S+", "", command).strip(" &")
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        for command in re.split(r"&&|;|[()]", re.sub(r"\s+#.*", "", line))
    ]
    return sorted({line for line in lines if re.search(r"\.(py|sh)\b", line)})


@pytest.mark.parametrize("line", commands())
def test_every_command_parses(line: str, monkeypatch: pytest.MonkeyPatch):
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    script = next(i for i, word in enumerate(words) if word.endswith((".py", ".sh")))
    path = ROOT / words[script]
    line = " ".join(words[script + 1 :]).replace("$strategy", "margin")
    arguments = re.sub(r"\$\{?\w+\}?", "0", line).split()
    assert path.is_file(), path
    if path.suffix == ".sh" or (path.name != "show_batches.py" and path.parent != ROOT):
        assert run_help(path) == 0
        return
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    assert isinstance(from_command_line(""), config.Config)


def run_help(path: Path) -> int:
    if path.name == "test.sh":  # its arguments go to pytest
        return subprocess.run(["bash", "-n", path], check=False).returncode
    start = ["bash"] if path.suffix == ".sh" else [sys.executable]
    return subprocess.run(
        [*start, path, "--help"], env=environment(), capture_output=True, check=False
    ).returncode


def test_the_readme_has_commands():
    assert len(commands()) > 10


def test_every_field_preset_and_column_is_named():
    for field in dataclasses.fields(config.Config):
        assert f"`{field.name}`" in README, field.name
    for name in [*config.PRESETS, *tables.METRICS, *tables.CYCLES, *tables.PER_CLASS]:
        assert f"`{name}`" in README, name


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("script", ["rotation.py", "make_batches.py", "main.py", "main_pt4al.py", "whole_dataset.py",
                                    "utils/show_batches.py", "utils/benchmark.py"])  # fmt: skip
def test_help_reads_without_a_terminal(script: str):
    done = subprocess.run(
        [sys.executable, ROOT / script, "--help"], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage: " in done.stdout and not done.stderr
