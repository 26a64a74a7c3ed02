"""Figures of the programs that draw: text is text in any script, and files appear whole or not at all."""

import io
import os
import warnings
from pathlib import Path

# No figure needs a window, and the backend that a notebook names may not be installed here: matplotlib would
# end at its import.
os.environ["MPLBACKEND"] = "agg"

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from pt4al.base.console import UserError, printable, say
from pt4al.base.files import write_bytes

ENDINGS = ("png", "jpg", "pdf", "svg")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, without a display."""
    matplotlib.rcParams["text.parse_math"] = False  # a dollar sign in a name is one, and no formula begins
    return Figure(figsize=(width, height), layout="constrained")


def drawable(text: str) -> str:
    """A name as one line of a figure. Of a label that begins with `_` matplotlib makes no entry in a legend,
    so a space stands before it."""
    line = " ".join(printable(text).split())
    return f" {line}" if line.startswith("_") else line


def check_name(path: Path) -> None:
    """Raise a UserError where a picture cannot have this name: its ending says in which format it is."""
    if path.suffix[1:].lower() not in ENDINGS:
        raise UserError(f"--out {path}: the name of a picture ends in .{', .'.join(ENDINGS)}")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder: choose another name")


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure. Letters that no font of this machine has are boxes in it, and are said."""
    check_name(path)
    if missing := choose_fonts(figure.findobj(Text)):
        say(f"note: no font of this machine has {' '.join(missing[:20])}: install one that does, such as "
            f"Noto; {path} has boxes in their place")  # fmt: skip
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # is said above
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=120)
    write_bytes(path, file.getvalue())


def choose_fonts(texts: list[Text]) -> list[str]:
    """Give texts, besides their own font, those of this machine that have the letters which it lacks. Returns
    the letters that none has."""
    own = font_manager.findfont(font_manager.FontProperties())
    missing = {letter for text in texts for letter in text.get_text()} - letters_of(own) - {"\n"}
    families = list(matplotlib.rcParams["font.family"])
    for font in font_manager.fontManager.ttflist if missing else []:
        there = Path(font.fname).is_file() and not font.name.startswith("Last Resort")  # which is all boxes
        if found := missing & letters_of(font.fname) if there else set():
            missing -= found
            families.append(font.name)
    for text in texts if families != matplotlib.rcParams["font.family"] else []:
        text.set_fontfamily(families)
    return sorted(missing)


def letters_of(font: str) -> set[str]:
    return {chr(code) for code in FT2Font(font).get_charmap()}
