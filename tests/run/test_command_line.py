"""The command line: presets, flags and their values, mistakes, help."""

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from shell import ROOT, SCRIPTS, run

from config import PRESETS, Config
from loader import READERS
from pt4al import __version__
from pt4al.base.console import UserError
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES
from pt4al.run.command_line import from_command_line, shown

PROGRAMS = [*SCRIPTS, "utils/show_batches.py"]
CHOICES = {"dataset": READERS, "strategy": STRATEGIES, "first_pick": FIRST_PICKS}


def given(monkeypatch: pytest.MonkeyPatch, line: str, script: str = "main.py") -> Config:
    monkeypatch.setattr(sys, "argv", [script, *line.split()])
    return from_command_line("", **CHOICES)


def program(script: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module: its `main` has yet to be called."""
    specification = importlib.util.spec_from_file_location("program", ROOT / script)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "program", module)
    specification.loader.exec_module(module)
    return module


# --- values


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("cifar10-cpu --width 8", {**vars(PRESETS["cifar10-cpu"]), "width": 8}),
        ("--epochs=7 --lr 1e-3 --epochs 9", {"epochs": 9, "lr": 1e-3}),
        ("--milestones 80 120 --seed 3", {"milestones": (80, 120), "seed": 3}),
        ("--milestones=80", {"milestones": (80,)}),
        ("--milestones --restart", {"milestones": (), "restart": True}),
        ("--labels-per-cycle 5", {"labels_per_cycle": 5}),
        ("--labels-per-cycle 5 --labels-per-cycle none", {"labels_per_cycle": None}),
        ("--no-flip --depth 50", {"flip": False, "depth": 50}),
        ("--no-flip --flip", {"flip": True}),
        ("--run-name= --experiment a=b_c", {"run_name": "", "experiment": "a=b_c"}),
    ],
)
def test_what_a_line_asks_for(monkeypatch: pytest.MonkeyPatch, line: str, expected: dict[str, object]):
    assert given(monkeypatch, line) == Config(**vars(Config()) | expected)


def test_flags_take_hyphens_and_underscores(monkeypatch: pytest.MonkeyPatch):
    one, other = (given(monkeypatch, f"digits --first{c}pick random --no{c}flip") for c in "-_")
    assert one == other and one.first_pick == "random" and one.flip is False


# --- mistakes


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [("--epoch", "--epochs"), ("--run", "--run-name"), ("--batchsize", "--batch-size"), ("--sed=3", "--seed"),
     ("--no-flp", "--no-flip"), ("-epochs", "--epochs"), ("--learning-rate", None), ("-x", None)],
)  # fmt: skip
def test_a_mistyped_flag_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, flag: str, nearest: str
):
    with pytest.raises(UserError) as refused:
        given(monkeypatch, f"digits {flag} 3")
    answer = f"unknown flag {flag}" + (f": did you mean {nearest}?" if nearest else "")
    assert str(refused.value) == f"{answer} (see --help)"


@pytest.mark.parametrize("script", PROGRAMS)
@pytest.mark.parametrize(
    ("flag", "value", "nearest"),
    [
        ("--dataset", "cifar", "cifar10"),
        ("--strategy", "margn", "margin"),
        ("--first-pick", "intervall", "interval"),
        ("--first-pick", "confidence", None),  # there is no classifier yet
        ("--sort", "lexicografic", "lexicographic"),
    ],
)
def test_every_script_refuses_a_name_that_is_unknown(
    monkeypatch: pytest.MonkeyPatch, script: str, flag: str, value: str, nearest: str | None
):
    module = program(script, monkeypatch)
    monkeypatch.setattr(sys, "argv", [script, "digits", flag, value])
    with pytest.raises(UserError) as refused:
        module.main()
    message, field = str(refused.value), flag[2:].replace("-", "_")
    assert message.startswith(f"{field} is '{value}': it must be one of ") and "\n" not in message
    assert message.partition(": did you mean ")[2] == (f"{nearest}?" if nearest else "")
    assert all(re.search(rf"\b{name}\b", message) for name in CHOICES.get(field, ()))


def test_a_default_that_is_unknown_is_refused_too(monkeypatch: pytest.MonkeyPatch):
    """As after a slip in config.py, which is the file to edit."""
    for wrong in ({"strategy": "margn"}, {"sort": "text"}, {"epochs": 0}):
        monkeypatch.setitem(PRESETS, "digits", Config(**wrong))
        (field,) = wrong
        with pytest.raises(UserError, match=f"^{field} is "):
            given(monkeypatch, "digits")


def test_rules_between_fields_concern_the_scripts_that_use_them(monkeypatch: pytest.MonkeyPatch):
    for script in set(SCRIPTS) - {"main.py"}:
        assert given(monkeypatch, "digits --num-batches 5", script).cycles == 10
    with pytest.raises(UserError, match=r"cycles is 10: it must be at most num_batches \(5\)"):
        given(monkeypatch, "digits --num-batches 5")
    assert given(monkeypatch, "digits --num-batches 5 --candidates all").cycles == 10


# --- help


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def show(script: str, preset: str, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        module = program(script, monkeypatch)
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), preset, "--help"])
        with pytest.raises(SystemExit) as stop:
            module.main()
        assert stop.value.code == 0
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("columns", [1, 80, 300])
@pytest.mark.parametrize("script", PROGRAMS)
def test_help_is_a_table_of_what_a_script_uses(help_of: Callable[..., str], script: str, columns: int):
    page = help_of(script, "digits", columns)
    header = (ROOT / script).read_text().split('"""')[1].strip()
    usage, table = page.split(f"\n\n{header}\n\n")  # as it stands in the file, line by line
    assert usage.startswith("usage: python ") and len(page.splitlines()) < 300
    assert not [line for line in table.splitlines() if len(line) > min(max(columns, 60), 120)]
    table, others = table.split("\n\nAlso accepted, no effect here: ")
    rows = dict(re.findall(r"^  --(\S+) +(\S.*)$", table, re.M))
    used = [f for f in fields(Config) if Path(script).name in f.metadata["scripts"]]
    own = ["out", "title"] if "show_batches" in script else []
    assert [name.replace("-", "_") for name in rows] == [*(f.name for f in used), *own]
    for f in used:
        assert rows[f.name.replace("_", "-")].startswith(shown(getattr(PRESETS["digits"], f.name))), f.name
    left_out = {f.name for f in fields(Config)} - {f.name for f in used}
    assert {name.replace("-", "_") for name in re.findall(r"--([a-z-]+)", others)} == left_out
    groups = re.findall(r"\n\n([a-z ]+)\n  --", table)
    in_order = iter([f.metadata["group"] for f in fields(Config)] + ["picture"])
    assert "data" in groups and all(group in in_order for group in groups)


def test_help_names_every_value_that_an_option_may_have(help_of: Callable[..., str]):
    page = " ".join(help_of("main.py", "cifar10", 80).split())
    for names in (*CHOICES.values(), PRESETS, ("18", "34", "50"), ("numeric", "shuffled", "interleaved")):
        assert all(re.search(rf"\b{name}\b", page) for name in names), names
    assert "--strategy confidence Query strategy" in page


def test_a_long_value_stands_above_its_text(help_of: Callable[..., str]):
    page = help_of("main.py", "cifar10-official", 80)
    assert re.search(r"\n  --strategy  +normalized_confidence\n {20,}Query strategy", page)


def test_help_of_the_programs(tmp_path: Path):
    for name in ("bench/benchmark", "bench/cost_growth"):
        page = run(tmp_path, f"{name}.py", "--help", COLUMNS="80").stdout
        assert page.startswith("usage: ") and "Run:" in page


def test_version(tmp_path: Path):
    assert run(tmp_path, "main.py", "--version").stdout.startswith(f"PT4AL {__version__}")
