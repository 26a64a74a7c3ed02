"""docs/fidelity.md: the places that it names here exist, and the settings that it names are the
presets'."""

import ast
import re
from functools import cache

import pytest
from shell import ROOT

from config import CIFAR10, CIFAR10_OFFICIAL

PAGE = (ROOT / "docs" / "fidelity.md").read_text()
PLACES = sorted(set(re.findall(r"`([\w/]+\.py)` `([\w.]+)`", PAGE)))


@cache
def names_in(path: str) -> set[str]:
    """Functions, classes, and methods as `Class.method`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef)}
    return found


@pytest.mark.parametrize(("path", "name"), PLACES)
def test_every_place_exists(path: str, name: str):
    assert (ROOT / path).is_file() and name in names_in(path)


def test_rows_are_numbered_and_each_names_a_place():
    rows = re.findall(r"^\| +(\d+) \|(.*)", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 40
    for number, row in rows:
        assert re.search(r"\| [\w/]+\.py:\d+", row), f"row {number} names no line of the released code"
        assert re.search(r"`[\w/]+\.py` `[\w.]+`", row), f"row {number} names no function of ours"


def test_what_stands_after_there_is_the_official_preset_and_not_the_default():
    settings = re.findall(r"there: `(\w+)=(\w+)`", PAGE)
    assert len(set(settings)) == 7
    for field, value in settings:
        assert str(getattr(CIFAR10_OFFICIAL, field)) == value
        assert str(getattr(CIFAR10, field)) != value


def test_notes_exist():
    wanted = {int(number) for number in re.findall(r"note (\d)", PAGE)}
    assert wanted == {int(number) for number in re.findall(r"^(\d)\. ", PAGE, re.MULTILINE)}
