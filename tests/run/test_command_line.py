"""The command line: presets, help, flags that are mistyped, and what every run writes for TensorBoard."""

import dataclasses
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from shell import ROOT, SCRIPTS, TINY, rows, run

from config import PRESETS, Config
from pt4al import __version__
from pt4al.base.console import UserError
from pt4al.run.command_line import describe_fields, from_command_line
from pt4al.run.record import MACHINE_FIELDS, USED
from pt4al.run.run_folder import RunFolder

FIELDS = {field.name for field in dataclasses.fields(Config)}


def given(monkeypatch: pytest.MonkeyPatch, line: str, script: str = "main.py") -> Config:
    monkeypatch.setattr(sys, "argv", [script, *line.split()])
    return from_command_line("")


def test_the_official_preset_sets_every_quirk_of_the_released_code():
    differs = {k: v for k, v in vars(PRESETS["cifar10-official"]).items() if v != vars(PRESETS["cifar10"])[k]}
    quirks = {"sort": "lexicographic", "strategy": "normalized_confidence", "channel_order": "bgr", "init": "warm",
              "select": "best", "precision": "float32", "normalization": "cifar10", "cold_start_batch": 5}  # fmt: skip
    assert {name: getattr(PRESETS["cifar10-official"], name) for name in quirks} == quirks
    assert set(differs) <= set(quirks)


def test_every_field_is_described_and_used_by_some_script():
    assert {name for group in describe_fields().values() for name in group} == FIELDS
    assert {name for used in USED.values() for name in used} == FIELDS
    assert MACHINE_FIELDS <= FIELDS


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [("--epoch", "--epochs"), ("--run", "--run-name"), ("--batchsize", "--batch-size"), ("--sed=3", "--seed"),
     ("--no-flp", "--flip"), ("--learning_rate", None)],
)  # fmt: skip
def test_a_mistyped_flag_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, flag: str, nearest: str
):
    with pytest.raises(UserError) as refused:
        given(monkeypatch, f"digits {flag} 3")
    answer = f"unknown flag {flag}" + (f": did you mean {nearest}?" if nearest else "")
    assert str(refused.value) == f"{answer} (see --help)"


def test_flags_take_hyphens_and_underscores(monkeypatch: pytest.MonkeyPatch):
    one, other = (given(monkeypatch, f"digits --first{c}pick random --no{c}flip") for c in "-_")
    assert one == other and one.first_pick == "random" and one.flip is False


def test_rules_between_fields_concern_the_scripts_that_use_them(monkeypatch: pytest.MonkeyPatch):
    for script in set(SCRIPTS) - {"main.py"}:
        assert given(monkeypatch, "digits --num-batches 5", script).cycles == 10
    with pytest.raises(UserError, match="cycles is 10 but there are 5 batches"):
        given(monkeypatch, "digits --num-batches 5")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("script", [*SCRIPTS, "utils/show_batches.py"])
def test_help_shows_what_a_script_uses_first(script: str, width: int):
    page = run(ROOT, script, "digits", "--help", COLUMNS=str(width)).stdout
    header = (ROOT / script).read_text().split('"""')[1].strip()
    assert header in page  # as it stands in the file, line by line
    shown, others = page.split("Also taken, but of no effect here: ")
    flags = {name.replace("-", "_") for name in re.findall(r"^  --([a-z][a-z0-9-]+)", shown, re.M)}
    named = {name.replace("-", "_") for name in re.findall(r"--([a-z-]+)", others)}
    used = set(USED[Path(script).name])
    assert flags - {"out", "title"} == used and named == FIELDS - used
    groups = [group for group, names in describe_fields().items() if used & set(names)]
    assert re.findall(r"^([a-z][a-z ]+)$", shown, re.M)[: len(groups)] == groups
    assert max(map(len, page.splitlines())) <= max(width, 82)


def test_help_of_the_programs(tmp_path: Path):
    for name in ("plot_curves", "generate_acc_curves", "benchmark", "cost_growth"):
        page = run(tmp_path, f"utils/{name}.py", "--help", COLUMNS="80").stdout
        assert page.startswith("usage: ") and "Run:" in page


def test_version(tmp_path: Path):
    assert run(tmp_path, "main.py", "--version").stdout.startswith(f"PT4AL {__version__}")


# --- TensorBoard


def test_tensorboard_shows_what_the_tables_hold(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = ["--first-pick", "random", "--tensorboard"]
    run(tmp_path, "main_pt4al.py", "digits", *TINY, *flags)
    folder = tmp_path / "runs/digits-seed0/cold-start-random"
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    table = rows(folder / "metrics.csv")
    losses = [(event.step, event.value) for event in events.Scalars("epoch/train_loss")]
    assert [step for step, _ in losses] == [0, 1, 2]
    assert [x for _, x in losses] == pytest.approx([float(row["train_loss"]) for row in table], abs=1e-5)
    assert len(events.Scalars("epoch/test_accuracy")) == 2  # epochs without evaluation have none
    (last,) = events.Scalars("cycle/last_accuracy")
    assert (last.step, last.value) == (
        71,
        pytest.approx(float(table[-1]["test_accuracy"]), abs=1e-4),
    )
    before = (folder / "tensorboard").iterdir()
    files = {path: path.read_bytes() for path in before}
    assert "is finished" in run(tmp_path, "main_pt4al.py", "digits", *TINY, *flags).stdout
    assert {path: path.read_bytes() for path in (folder / "tensorboard").iterdir()} == files


def test_without_the_package_tensorboard_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # what an import of it then fails at
    monkeypatch.chdir(tmp_path)
    config = replace(PRESETS["digits"], tensorboard=True)
    with (
        pytest.raises(UserError, match="pip install tensorboard"),
        RunFolder(config, "main.py", "x"),
    ):
        pass
    assert not list(tmp_path.iterdir())
