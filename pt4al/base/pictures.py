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


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure; the ending of its name says in which format.

    Raises:
        UserError: it is no format of pictures, or `path` is a folder.
    """
    ending = path.suffix[1:].lower()
    if ending not in ENDINGS:
        raise UserError(f"--out {path}: the name of a picture ends in .{', .'.join(ENDINGS)}")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: choose another name")
    file = io.BytesIO()
    figure.savefig(file, format=ending, dpi=120)
    write_bytes(path, file.getvalue())
