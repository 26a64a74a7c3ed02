"""Arrows go down only: a file imports files of lower floors, and of its own part; nothing imports in a circle."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from shell import ROOT, SCRIPTS, environment

# From the roof to the ground. What stands on one floor does not import each other.
FLOORS = [
    ["scripts", "utils", "bench"],
    ["loader"],
    ["pt4al.method"],
    ["pt4al.train", "pt4al.person"],
    ["pt4al.run"],
    ["pt4al.data"],
    ["pt4al.base"],
    ["pt4al"],  # its version
    ["config", "models"],
]
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
FILES = [
    path
    for top in ("*.py", "models/*.py", "pt4al/**/*.py", "utils/*.py", "bench/*.py")
    for path in ROOT.glob(top)
]
OURS = {"config", "loader", "models", "pt4al", "utils", "bench", *(x.removesuffix(".py") for x in SCRIPTS)}
LIGHT = ("plot_curves", "generate_acc_curves", "to_tensorboard")  # start without torch, which takes seconds


def part_of(name: str) -> str:
    """The part that a module belongs to: `pt4al.run` of `pt4al.run.record`, `scripts` of `main`."""
    names = name.split(".")
    if f"{names[0]}.py" in SCRIPTS:
        return "scripts"
    return ".".join(names[:2]) if names[0] == "pt4al" and ".".join(names[:2]) in FLOOR else names[0]


def module_of(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports(path: Path) -> set[str]:
    """Our own modules that a file imports, anywhere in it: `pt4al.base.files`, `config`, ..."""
    known, found = {module_of(x) for x in FILES}, set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= (inner & known) | ({node.module} if inner - known else set())
    return {name for name in found if name.split(".")[0] in OURS}


def upward(path: Path) -> list[str]:
    """The imports of a file that go up, or across."""
    mine = part_of(module_of(path))
    return [x for x in imports(path) if part_of(x) != mine and FLOOR[part_of(x)] <= FLOOR[mine]]


def test_every_import_goes_to_a_lower_floor_or_stays_in_its_part():
    assert len(FILES) > 40 and {part_of(module_of(path)) for path in FILES} == set(FLOOR)
    assert {str(path): found for path in FILES if (found := upward(path))} == {}


def test_scripts_and_programs_import_no_script_and_no_program():
    for path in FILES:
        mine = module_of(path)
        if FLOOR[part_of(mine)] == 0:
            assert not [x for x in imports(path) if FLOOR[part_of(x)] == 0], path


def test_nothing_imports_in_a_circle():
    left = {module_of(path): imports(path) - {"pt4al"} for path in FILES}
    order: list[str] = []
    while free := sorted(name for name, needs in left.items() if not needs - {*order, name}):
        order += free
        left = {name: needs for name, needs in left.items() if name not in free}
    assert len(order) > 40 and not left, f"these import in a circle: {left}"


def test_there_is_no_other_module_at_the_top():
    assert {path.name for path in ROOT.glob("*.py")} == {*SCRIPTS, "config.py", "loader.py"}
    assert not [top for top in ("utils", "bench") if (ROOT / top / "__init__.py").exists()]


def test_programs_are_programs():
    for path in FILES:
        if part_of(module_of(path)) in ("utils", "bench"):
            assert '\nif __name__ == "__main__":\n' in path.read_text(), path


def test_programs_find_the_project_by_themselves():
    """`python -P`, PYTHONSAFEPATH and `python -I` do not look beside the script."""
    for path in FILES:
        if FLOOR[part_of(module_of(path))] == 0:
            before, _, after = path.read_text().partition("\nsys.path.insert(0, str(Path(__file__)")
            imported = [x for x in OURS if re.search(rf"^(from|import) {x}\b", before, re.M)]
            assert after and not imported, path


def test_a_script_without_docstrings_and_paths():
    start = [sys.executable, "-I", "-OO", str(ROOT / "main_pt4al.py"), "--help"]
    done = subprocess.run(start, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ") and "--cold-start-batch" in done.stdout


def loads_torch(program: str) -> bool:
    """Whether a program imports torch until it prints its help, in a fresh interpreter."""
    code = f"""
import runpy, sys
sys.argv[1:] = ["--help"]
try:
    runpy.run_path({str(ROOT / program)!r}, run_name="__main__")
except SystemExit:
    print("\\ntorch" if "torch" in sys.modules else "\\nno torch")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: ")
    return {"torch": True, "no torch": False}[done.stdout.splitlines()[-1]]


def test_programs_that_draw_start_without_torch():
    assert [name for name in LIGHT if loads_torch(f"utils/{name}.py")] == []
    assert loads_torch("utils/label_images.py")  # of one that needs it this test would notice


def test_imports_are_seen_wherever_they_stand(tmp_path: Path):
    (tmp_path / "a.py").write_text(
        "def f():\n    from pt4al.base.files import x\n    from pt4al.run import record, gone\n    import main\n"
    )
    assert imports(tmp_path / "a.py") == {"pt4al.base.files", "pt4al.run.record", "pt4al.run", "main"}
