"""Image ids, and the names of files and classes in them. No torch here: programs that draw use it.

An image id is `<data_dir>/<split>/<class>/<file>` as in the released code, e.g. `./DATA/train/8/23583.png`.
It is looked up by its last three parts without the extension (`train/8/23583`), so that files move between
machines. In a pool that an annotator labels it is the path below the folder of photographs,
`pool/anywhere/x.jpg`, and looked up by all of it. `Images.key` is the rule of a data set. In both,
backslashes count as slashes.
"""

from collections.abc import Iterable

from PIL import Image

# Not opened: what starts another program (EPS), needs a loader that is not there, or is no picture.
NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF"}


def image_suffixes() -> set[str]:
    """File name endings that Pillow reads, in lower case, with their dot."""
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}


def image_formats() -> set[str]:
    """Names of the formats that Pillow reads by itself."""
    Image.init()
    return set(Image.OPEN) - NO_PICTURES


FORMATS: set[str] = image_formats()
SUFFIXES: set[str] = image_suffixes()


def by_last_three(image_id: str) -> str:
    """`/any/where/train/8/23583.png` -> `train/8/23583`: what an image of a class folder is looked up by."""
    return by_path("/".join(image_id.replace("\\", "/").split("/")[-3:]))


def by_path(image_id: str) -> str:
    """`pool/a/b/c/x.jpg` -> `pool/a/b/c/x`: what an image of a pool without class folders is looked up by."""
    path = image_id.replace("\\", "/")
    stem, dot, suffix = path.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else path


def class_of(image_id: str) -> str:
    """The class folder of an image id: its last part but one."""
    parts = image_id.replace("\\", "/").split("/")
    return parts[-2] if len(parts) > 1 else ""


def sort_classes(names: Iterable[str]) -> list[str]:
    """Numerical order when all are numbers, else by name."""
    names = sorted(names)
    numbers = all(name.isdecimal() and len(name) < 100 for name in names)
    return sorted(names, key=int) if numbers else names
