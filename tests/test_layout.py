"""Arrows run one way: scripts and programs -> loader.py -> pt4al/ -> config.py, models/; and never in a circle."""

import ast
from pathlib import Path

import pytest
from shell import ROOT, SCRIPTS

MODULES = sorted(path.stem for path in (ROOT / "pt4al").glob("*.py") if path.stem != "__init__")
PROGRAMS = sorted(path.stem for path in (ROOT / "utils").glob("*.py"))
PLOTS = ("plot_curves", "generate_acc_curves")  # start without torch, and import nothing of ours
OURS = {"config", "loader", "models", "pt4al", "utils", *(x.removesuffix(".py") for x in SCRIPTS)}


def imports(path: Path) -> set[str]:
    """Our own modules that a file imports, anywhere in it: `pt4al.files`, `config`, ..."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in ("pt4al", "utils"):
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] in OURS} - {"pt4al.__version__"}


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_there_is_no_other_module_at_the_top():
    assert {path.name for path in ROOT.glob("*.py")} == {*SCRIPTS, "config.py", "loader.py"}
    assert not (ROOT / "utils/__init__.py").exists()


def test_config_and_models_import_nothing_of_the_rest():
    assert tops(ROOT / "config.py") == set()
    assert all(tops(path) <= {"models"} for path in (ROOT / "models").glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_modules_config_and_models_alone(name: str):
    assert tops(ROOT / f"pt4al/{name}.py") <= {"config", "models", "pt4al"}


def test_nothing_imports_in_a_circle():
    left = {name: imports(ROOT / f"pt4al/{name}.py") for name in MODULES}
    left = {
        n: {x.removeprefix("pt4al.") for x in needs if x.startswith("pt4al.")}
        for n, needs in left.items()
    }
    order: list[str] = []
    while free := sorted(name for name, needs in left.items() if not needs - set(order)):
        order += free
        left = {name: needs for name, needs in left.items() if name not in free}
    assert len(order) > 10 and not left, f"these import in a circle: {left}"


def test_the_loader_imports_no_script_and_no_program():
    assert tops(ROOT / "loader.py") <= {"config", "pt4al"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_import_no_script_and_no_program(name: str):
    assert tops(ROOT / name) <= {"config", "loader", "models", "pt4al"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_programs(name: str):
    path = ROOT / f"utils/{name}.py"
    assert '\nif __name__ == "__main__":\n' in path.read_text()
    if name in PLOTS:
        assert imports(path) == set() and "import torch" not in path.read_text()


def test_imports_are_seen_wherever_they_stand(tmp_path: Path):
    (tmp_path / "a.py").write_text(
        "def f():\n    from pt4al.files import x\n    from utils import y\n    import main\n"
    )
    assert imports(tmp_path / "a.py") == {"pt4al.files", "utils.y", "main"}
