"""run.sh: what would make two of its runs one."""

import subprocess
from pathlib import Path

import pytest
from shell import ROOT, one_error

FLAGS = ["--seed=5", "--seed 5", "--first-pick random", "--first_pick=random", "--run_name x", "--strategy random",
         "--strategy=random", "--seeds 0", "--seeds=x", "--experiment="]  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
def test_run_sh_refuses_what_would_make_two_runs_one(tmp_path: Path, flags: str):
    command = [ROOT / "run.sh", "digits", *flags.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    one_error(done.stderr, "run.sh", "--se" if "--seeds" in flags else flags[:5])
