"""Which files below a folder are its images, and what is left out: the one place that knows. No torch here.

Left out are hidden files and folders, what a NAS, an archive program or an operating system puts beside
pictures (thumbnails, trash, snapshots), and files that Pillow does not open.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from pt4al.data.ids import SUFFIXES

# In lower case. Of Synology, QNAP, macOS, Linux, Windows, and of Sony's cameras.
SYSTEM_FOLDERS = {
    "@eadir", "@__thumb", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot",
    "~snapshot", "__macosx", "network trash folder", "temporary items", "lost+found", "$recycle.bin",
    "recycler", "system volume information", "found.000", "thmbnl",
}  # fmt: skip
LIBRARY = {"resources", "thumbnails", "previews"}  # in NAME.photoslibrary, besides the originals
# By how their names begin, in lower case. Folder.jpg, of Windows too, may be a photograph.
SYSTEM_FILES = {
    ("synophoto_", "synofile_", "synoindex_"): "thumbnails (SYNO...)",
    ("albumartsmall.", "albumart_{"): "album covers",
}
# Pictures that Pillow does not open by itself.
HEIC = {".heic", ".heif", ".hif", ".heics", ".avci"}
RAW = {
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq", ".k25", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw",
    ".x3f",
}  # fmt: skip
OTHER_PICTURES = {".jxl", ".jxr", ".svg", ".xcf", ".psb", ".exr", ".hdr"}
TO_CONVERT = HEIC | RAW | OTHER_PICTURES
SHOWN = 12  # kinds of what is left out that are named


def images_below(folder: Path, left_out: Counter[str] | None = None) -> Iterator[Path]:
    """The images below a folder at any depth; a folder that is linked to twice is read once. What is left out
    is counted by its kind."""
    folders, seen = [folder], set()
    while folders:
        folder = folders.pop()
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            folders += folders_in(folder, left_out)
            yield from images_in(folder, left_out)


def images_in(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """The images of a folder by name; a broken link counts as one, and reading it tells."""
    images = []
    for entry in entries(folder):
        if not is_folder(entry):
            if not (reason := no_image(entry)):
                images.append(folder / entry.name)
            elif left_out is not None:
                left_out[reason] += 1
    return images


def folders_in(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """Its folders by name."""
    folders = []
    for entry in entries(folder):
        if is_folder(entry):
            path = folder / entry.name
            hidden = path.name.startswith(".")
            if not hidden and not is_system_folder(path):
                folders.append(path)
            elif left_out is not None:
                kind = "hidden folders" if hidden else f"images in {path.name}"
                left_out[kind] += 1 if hidden else count_images(path)
    return folders


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name. The folder says of each what it is, without a look at every file."""
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """A link to a folder is one, too."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def is_system_folder(path: Path) -> bool:
    name = path.name.lower()
    if name == "recycled":  # may be a class, but not with the list that Windows keeps in its own
        return any(file.name.lower() == "info2" for file in path.iterdir())
    return name in SYSTEM_FOLDERS or (name in LIBRARY and path.parent.name.lower().endswith(".photoslibrary"))


def count_images(folder: Path) -> int:
    return sum(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.rglob("*"))


def no_image(entry: os.DirEntry[str]) -> str:
    """What a file is that is no image, in the plural; empty if it is one."""
    name = entry.name.lower()
    if name.startswith("."):
        return "hidden files"
    ending = PurePath(name).suffix
    if ending not in SUFFIXES:
        return f"{ending} files" if ending else "files without an ending"
    for beginnings, kind in SYSTEM_FILES.items():
        if name.startswith(beginnings):
            return kind
    is_file = entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
    return "pipes and devices" if not is_file and os.path.exists(entry.path) else ""


def said(left_out: Counter[str]) -> str:
    """In words, and what to do to use it; empty if there is nothing."""
    convert = [ending for kind in sorted(left_out) if (ending := kind.removesuffix(" files")) in TO_CONVERT]
    kinds = [kind for kind, n in left_out.items() if n]
    kinds.sort(key=lambda kind: (kind.removesuffix(" files") not in convert, -left_out[kind], kind))
    if not kinds:
        return ""
    named = [f"{left_out[kind]} {kind}" for kind in kinds[:SHOWN]]
    if more := sum(left_out[kind] for kind in kinds[SHOWN:]):
        named.append(f"{more} other files")
    hint = f"; to use {', '.join(convert)}, convert them to JPEG or PNG" if convert else ""
    return f"{', '.join(named)} are left out{hint}"


def what_is_left_out(folder: Path) -> str:
    """Below a folder at any depth, in words."""
    left_out = Counter[str]()
    for _ in images_below(folder, left_out):
        pass
    return said(left_out)
