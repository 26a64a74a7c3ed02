"""Folders of images, by class or at any depth, as the readers of loader.py look through them."""

from collections import Counter
from pathlib import Path

from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.data.ids import by_path, sort_classes
from pt4al.data.listing import folders_in, images_below, images_in, said

FORBIDDEN = {"\n", "\r", "\\"}  # in names: ids stand one a line, and a backslash counts as a slash


def class_folders(root: Path, dataset: str, left_out: Counter[str]) -> list[str]:
    """Names of the class folders, in numerical order when all are numbers, else by name. What else
    lies beside them is counted."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: --dataset {dataset} needs {root}/CLASS/*")
    names = [path.name for path in folders_in(root, left_out)]
    left_out["images outside of the class folders"] += len(images_in(root, left_out))
    if len(names) < 2:
        raise UserError(
            f"{root} has {len(names)} class folders: a classifier needs 2 or more{because(left_out)}"
        )
    for name in names:
        check_name(root / name, name)
    return sort_classes(names)


def files_of_class(folder: Path, left_out: Counter[str]) -> dict[str, Path]:
    """The images of a class folder at any depth, one or more. What is left out is counted."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of images")
    inside = Counter[str]()
    files = image_files(folder, inside, flat=True)
    if not files:
        raise UserError(f"class folder {folder} holds no image{because(inside)}")
    left_out += inside
    return files


def image_files(root: Path, left_out: Counter[str], flat: bool = False) -> dict[str, Path]:
    """The images below a folder at any depth, in the order of their paths below it; by these paths, or, if
    `flat`, by names with `_` for `/`. What is left out is counted."""
    found = {path.relative_to(root).as_posix(): path for path in images_below(root, left_out)}
    files: dict[str, Path] = {}
    keys: dict[str, Path] = {}
    for name, path in sorted(found.items()):
        check_name(path, name)
        name = name.replace("/", "_") if flat else name
        if (other := keys.setdefault(by_path(name), path)) is not path:
            how = "differ in their ending only" if other.parent == path.parent else "would have one name"
            raise UserError(f"{path} and {other} {how}, so their ids clash: rename one")
        files[name] = path
    return files


def check_name(path: Path, name: str) -> None:
    if set(name) & FORBIDDEN:
        raise UserError(f"{str(path)!r} has a line end or a backslash in its name: rename it")


def tell(root: Path, left_out: Counter[str]) -> None:
    if text := said(left_out):
        processes.say(f"{root}: {text}")


def because(left_out: Counter[str]) -> str:
    text = said(left_out)
    return f" ({text})" if text else ""


def unpacked(data_dir: str, name: str, folders: tuple[str, ...], archive: str) -> Path:
    """Where an archive was unpacked: `name` in one of some folders below the data directory.

    Raises:
        UserError: in none of them, or in two.
    """
    places = [Path(data_dir, folder, name) for folder in folders]
    found = {path.resolve(): path for path in reversed(places) if path.exists()}
    if not found:
        below = " or ".join(folder for folder in folders if folder != ".")
        raise UserError(
            f"no {name} in {data_dir}, nor in its folder {below}: unpack {archive}, in {data_dir}"
        )
    if len(found) > 1:
        raise UserError(f"{' and '.join(map(str, found.values()))} are both there: move one away")
    return next(iter(found.values()))


def warn(root: Path, split: str, classes: int, official: int) -> None:
    """Say, of the training set, that an archive of so many classes has another number of class folders."""
    if split == "train" and classes != official:
        processes.say(
            f"warning: {root} holds {classes} class folders, not {official}: each counts as a class"
        )
