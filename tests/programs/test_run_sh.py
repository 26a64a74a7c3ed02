"""run.sh: what would make two of its runs one, and a .venv that was half made."""

import os
import subprocess
import sys
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


# A python3 that makes environments in a moment: their pip only says what it was asked for. Told to, it stops
# before there is one, as by Ctrl-C, or as on Debian without python3-venv.
PYTHON = f"""#!{sys.executable}
import os, pathlib, subprocess, sys
venv = sys.argv[-1]
subprocess.run([sys._base_executable, "-m", "venv", "--without-pip", venv], check=True)
if os.environ.get("FAILS"):
    print("ensurepip is not\\navailable")
    sys.exit(1)
(place,) = pathlib.Path(venv).glob("lib/python3*/site-packages")
(place / "pip/_internal/cli").mkdir(parents=True)
(place / "pip/_internal/cli/main.py").write_text("")
(place / "pip/__main__.py").write_text("import sys; print('pip', *sys.argv[1:])")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/venv.sh").write_bytes((ROOT / ".ci/venv.sh").read_bytes())
    (tmp_path / "python3").write_text(PYTHON)
    (tmp_path / "python3").chmod(0o755)
    return tmp_path


def enter(project: Path, status: int = 0, **variables: str) -> subprocess.CompletedProcess:
    """What run.sh does at its start."""
    code = f"set -euo pipefail; root='{project}'; source '{project}/.ci/venv.sh' x.txt; command -v python"
    done = subprocess.run(
        ["bash", "-c", code, "run.sh"], env={**os.environ, "PYTHON": str(project / "python3"), **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done
    return done


def test_a_half_made_venv_is_made_again(project: Path):
    done = enter(project, status=2, FAILS="1")
    one_error(done.stderr, "run.sh", "(available)", "python3-venv")
    assert (project / ".venv/bin/python").exists()
    (project / ".venv/left").touch()
    done = enter(project)
    assert f"-r {project}/x.txt" in done.stdout and done.stdout.endswith(f"\n{project}/.venv/bin/python\n")
    assert not (project / ".venv/left").exists()  # it was begun again
    (project / ".venv/mine").touch()
    assert "making" not in enter(project, FAILS="1").stdout and (project / ".venv/mine").exists()


def test_a_venv_of_the_users_own_is_completed(project: Path):
    """Such as uv makes have no pip: it is added, and what is in them stays."""
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("""#!/bin/sh
has_pip=$(dirname "$0")/pip
case "$*" in
    "-c import pip"*) [ -e "$has_pip" ] ;;
    "-m ensurepip"*) [ -z "$FAILS" ] && touch "$has_pip" ;;
    *) echo "$@" ;;
esac
""")
    python.chmod(0o755)
    one_error(enter(project, status=2, FAILS="1").stderr, "run.sh", "python3-venv")
    assert "adding pip" in enter(project).stdout
    assert "adding pip" not in enter(project).stdout and python.read_text().startswith("#!/bin/sh")
