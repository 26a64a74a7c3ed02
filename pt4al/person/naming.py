"""Which image of a pool a text of a label file names, and which column of a table names images."""

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

from pt4al.base.console import UserError, printable
from pt4al.data.ids import SUFFIXES, by_path

FILE_COLUMNS = ("file_name", "filename", "image", "image_id", "id", "path")
USUAL = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")

# Which image of the pool a text names: its id key; empty where it names one, but which is not clear; None
# where it names none.
Find = Callable[[str], str | None]


def below_pool(text: str) -> str:
    """`./pool/a/x.jpg`, `a/x.jpg` or `/home/me/photos/pool/a/x.jpg` -> `pool/a/x.jpg`."""
    name = text.replace("\\", "/").removeprefix("./")
    if not name.startswith("pool/") and "/pool/" in name:
        name = name[name.index("/pool/") + 1 :]
    return name if name.startswith("pool/") else f"pool/{name}"


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def one_line(text: str) -> str:
    return " ".join(printable(text).split())


class Finder:
    """Which image of a pool a text names: a `Find`.

    Args:
        keys: id keys of the images of the pool.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = keys

    @cached_property
    def named(self) -> dict[str, str]:
        """Key by name alone; empty where several have it."""
        names: dict[str, str] = {}
        for key in self.keys:
            name = nfc(key.rpartition("/")[2])
            names[name] = "" if name in names else key
        return names

    @cached_property
    def composed(self) -> dict[str, str]:
        """Key by its composed form; empty where several have it."""
        forms: dict[str, str] = {}
        for key in self.keys:
            forms[nfc(key)] = "" if nfc(key) in forms else key
        return forms

    def path(self, text: str) -> str | None:
        """By path below PHOTOS or PHOTOS/pool, or from anywhere above, in whichever Unicode form."""
        name = text.replace("\\", "/").removeprefix("./")
        below = [name[found.start() + 1 :] for found in re.finditer("/(?=pool/)", name)]
        paths = [*([name] if name.startswith("pool/") else []), f"pool/{name}", *below]
        keys = list(map(by_path, paths))
        if not name.lower().endswith(USUAL):  # leaf.rgb may be leaf.rgb.png without its ending
            keys = [path if path in self.keys else key for path, key in zip(paths, keys, strict=True)]
        exact = next((key for key in keys if key in self.keys), None)
        return exact or next(filter(None, (self.composed.get(nfc(key)) for key in keys)), None)

    def __call__(self, text: str) -> str | None:
        """By path, or by the name alone, so that a column of paths that lead elsewhere is known for what
        it is."""
        return self.path(text) or self.named.get(nfc(by_path(below_pool(text)).rpartition("/")[2]))


def key_of(text: str, find: "Find | None") -> str:
    """The id key of the image that a label file names by its path, whether it is in the pool or not."""
    key = find.path(text) if isinstance(find, Finder) else None
    return key or by_path(below_pool(text))


def is_path(text: str) -> bool:
    """Whether it has an ending of images or a slash, as numbers and words have not."""
    return "/" in text or "\\" in text or f".{text.rpartition('.')[2].lower()}" in SUFFIXES


def image_columns(columns: Mapping[str, Sequence[str]], place: Callable[[int], str], find: Find) -> list[str]:
    """Which columns of a table may name its images, the likely one first: the one whose values name
    images of the pool; a column that has none of the known names must hold paths for that. `file_name`
    comes before all.

    Args:
        columns: values of each column, row by row; its name in lower case.
        place: where a row stands.

    Raises:
        UserError: two columns name different images. Beside `file_name`, only paths in a column of a
            known name count.
    """
    known = [x for x in FILE_COLUMNS if x in columns]
    if "annotation_id" in columns:  # of Label Studio: `id` is the number of a task
        known = [x for x in known if x != "id"]
    explicit = "file_name" in known and any(find(x) is not None for x in columns["file_name"])
    if explicit and len(known) == 1:
        return known
    # A path heads no column.
    others = [x for x in columns if not (explicit or x in FILE_COLUMNS or is_path(x))]
    named = {name: [find(x) for x in columns[name]] for name in known}
    named |= {name: [find(x) if is_path(x) else None for x in columns[name]] for name in others}
    count = {name: sum(x is not None for x in values) for name, values in named.items()}
    sure = {name: sum(map(bool, values)) for name, values in named.items()}
    order = {name: (name == "file_name", sure[name], count[name]) for name in named}
    able = sorted(filter(count.get, named), key=order.get, reverse=True)
    for other in able[1:]:
        for i, (one, two) in enumerate(zip(named[able[0]], named[other], strict=True)):
            first = columns[able[0]][i]  # it may name an image that is not in the pool
            differ = one != two if one else first and not explicit
            if two and differ and (not explicit or is_path(columns[other][i])):
                raise UserError(
                    f"{place(i)} names two images, {one_line(first)!r} ({able[0]}) and "
                    f"{one_line(columns[other][i])!r} ({other}): let the column that is meant be file_name, "
                    "and call the other one `other`; or import the file with --image-column"
                )
    return [*able, *(x for x in known if x not in able)]
