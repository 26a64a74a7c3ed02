"""A run that was stopped and started again leaves the same bytes as one that never stopped."""

import math
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import Call
from shell import (
    EXPERIMENT,
    SCRIPTS,
    content,
    copy,
    differences,
    epochs_of,
    one_error,
    refused,
    rows,
    run_tiny,
    says,
    start,
    stop_after,
)
from stress.kill_and_resume import kill_until_done

from pt4al.base.console import Stopped
from pt4al.base.files import load_checkpoint
from pt4al.method.classifier import Classification
from pt4al.method.strategies import STRATEGIES, Query, Strategy

pytestmark = pytest.mark.slow  # many starts of a script

LAST = f"checkpoint/{EXPERIMENT}/main-confidence/last.pth"
METRICS = f"runs/{EXPERIMENT}/main-confidence/metrics.csv"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_main_goes_on_exactly_after_a_signal(finished: Path, tmp_path: Path, number: signal.Signals):
    """From the last epoch that was saved; a signal that can be caught saves the last epoch, though none is due."""
    folder = copy(finished, tmp_path, "main-confidence")
    killed = number == signal.SIGKILL
    process = stop_after(folder, 5, number, saving_share=math.inf if killed else -1)
    assert process.returncode == (-9 if killed else 128 + number)
    if not killed:
        assert len(process.stderr.read().strip().splitlines()) == 1
        state = load_checkpoint(folder / LAST)
        assert (state["cycle"], state["finished_epoch"]) == (1, 1)
    assert differences(folder, finished)
    assert epochs_of(run_tiny(folder, "main.py").stdout)[0] == ((1, 1) if killed else (1, 2))
    assert differences(folder, finished) == []


def test_a_run_that_is_stopped_while_it_chooses_does_not_judge_its_last_cycle_again(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """The state at the beginning of a cycle has the weights that choose."""

    def stop(query: Query) -> torch.Tensor:
        raise Stopped(signal.SIGTERM)

    judged, per_class = [], Classification.per_class
    folder = copy(finished, tmp_path, "main-confidence")
    monkeypatch.setattr(
        Classification,
        "per_class",
        lambda self, net, cycle: judged.append(cycle) or per_class(self, net, cycle),
    )
    with monkeypatch.context() as stopping:
        stopping.setitem(STRATEGIES, "confidence", Strategy(stop))
        assert call(folder, "main.py")[0] == 128 + signal.SIGTERM
    assert judged == [0]
    assert call(folder, "main.py")[0] == 0
    assert judged == [0, 1, 2] and differences(folder, finished) == []


def test_all_scripts_survive_kills_at_random_moments(finished: Path, tmp_path: Path):
    """A kill a script here; tests/stress/kill_and_resume.py does any number."""
    source, kills = random.Random(int(time.time())), 0
    for script in SCRIPTS:
        kills += kill_until_done(tmp_path, script, [], 1, seconds=1, limit=1, source=source)
    left_out = {name for name in content(finished) if "random" in name}
    assert set(differences(tmp_path, finished)) == left_out
    print(f"{kills} kills")


def test_the_comparison_can_fail(finished: Path, tmp_path: Path):
    """Negative control: another seed of the same run differs in its weights, losses and picks."""
    folder = copy(finished, tmp_path, "main-confidence")
    for script in ("rotation.py", "make_batches.py", "main.py"):
        run_tiny(folder, script, "--seed", "1", "--restart")
    different = differences(folder, finished)
    for name in ("main_0.pth", "last.pth", "metrics.csv", "config.json", "labeled/cycle_1.txt"):
        assert any(path.endswith(f"main-confidence/{name}") for path in different), name


@pytest.mark.parametrize("select", ["last", "best"])
def test_a_finished_run_that_is_given_more_cycles_equals_one_that_had_them_from_the_start(
    finished: Path, tmp_path: Path, select: str
):
    flags = ["--select", select]
    folder = copy(finished, tmp_path, "main-confidence")
    run_tiny(folder, "main.py", *flags, "--cycles", "2")
    done = run_tiny(folder, "main.py", *flags)
    assert epochs_of(done.stdout)[0] == (2, 0)
    says(done.stdout, "2 cycles", "3 in all")
    if select == "last":
        assert differences(folder, finished) == []
        refused(folder, "main.py", *flags, "--cycles", "2", says="cycles 3, not 2")
    else:
        whole = copy(finished, tmp_path / "whole", "main-confidence")
        run_tiny(whole, "main.py", *flags)
        assert differences(folder, whole) == []


def test_a_run_that_was_given_more_cycles_survives_a_kill_and_fewer_are_refused(
    finished: Path, tmp_path: Path
):
    folder = copy(finished, tmp_path, "main-confidence")
    run_tiny(folder, "main.py", "--cycles", "1")
    stop_after(folder, 2, signal.SIGKILL, "--cycles", "2", saving_share=math.inf)
    refused(folder, "main.py", "--cycles", "1", says="cycles 2, not 1")
    assert epochs_of(run_tiny(folder, "main.py").stdout)[0] > (1, 0)
    assert differences(folder, finished) == []


@pytest.mark.parametrize("damage", ["a bit", "cut short"])
def test_a_damaged_last_state_falls_back_to_the_one_before(
    finished: Path, stopped: Path, tmp_path: Path, damage: str
):
    folder = copy(stopped, tmp_path)
    data = bytearray((folder / LAST).read_bytes())
    if damage == "a bit":
        data[len(data) // 2] ^= 1
    (folder / LAST).write_bytes(data if damage == "a bit" else data[: random.randrange(len(data))])
    done = run_tiny(folder, "main.py")
    (line,) = (x for x in done.stdout.splitlines() if "last.pth" in x)
    assert "previous.pth" in line
    assert differences(folder, finished) == []


def test_a_metrics_file_cut_in_a_line_is_made_whole(finished: Path, stopped: Path, tmp_path: Path):
    folder = copy(stopped, tmp_path)
    (folder / METRICS).write_bytes((folder / METRICS).read_bytes()[:-30])
    run_tiny(folder, "main.py")
    assert differences(folder, finished) == []
    assert len(rows(folder / METRICS)) == 9


def test_a_second_process_is_refused_and_told_who_holds_the_folder(finished: Path, tmp_path: Path):
    folder = copy(finished, tmp_path, "main-confidence")
    process = start(folder, "main.py", hold=(1, 60))
    second = run_tiny(folder, "main.py", status=2)
    process.kill()
    process.wait()
    one_error(second.stderr, "main.py", f"process {process.pid} ")
