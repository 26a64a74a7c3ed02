"""Figures of the programs that draw: text is text, and files appear whole or not at all."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from pt4al.base.console import UserError
from pt4al.base.files import write_bytes

ENDINGS = ("png", "jpg", "pdf", "svg")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, without a display."""
    matplotlib.rcParams["text.parse_math"] = False  # a dollar sign in a name is one, and no formula begins
    return Figure(figsize=(width, height), layout="constrained")


def check_name(path: Path) -> None:
    """Raise a UserError where a picture cannot have this name: its ending says in which format it is."""
    if path.suffix[1:].lower() not in ENDINGS:
        raise UserError(f"--out {path}: the name of a picture ends in .{', .'.join(ENDINGS)}")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: choose another name")


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure."""
    check_name(path)
    file = io.BytesIO()
    figure.savefig(file, format=path.suffix[1:].lower(), dpi=120)
    write_bytes(path, file.getvalue())
