"""Which images a run was made from, by name, so that those that came and went since can be named.

A record holds a hash of the images. checkpoint/EXP/images_<its first digits>.txt is the list behind it, one
`<hash of the pixels> <image id>` a line, written once; of image files only, as other data sets do not change.
"""

import hashlib
from pathlib import Path
from typing import Any

from config import Config
from pt4al.base import processes
from pt4al.base.files import read_lines, take_lock, write_lines
from pt4al.data.images import Images

NAMED = 5  # of those that came, went or changed


def list_path(config: Config, digest: str) -> Path:
    digest = digest[:16]
    return config.checkpoint_dir / f"images_{digest}.txt"


def listed(images: Images) -> list[str]:
    pixels = images.pixels.cpu().numpy()
    return [
        f"{hashlib.sha256(image).hexdigest()[:16]} {name}"
        for image, name in zip(pixels, images.ids, strict=True)
    ]


def note_images(config: Config, inputs: dict[str, Any], now: dict[str, Images]) -> None:
    """Write the lists of these images, unless they are there; `inputs` holds their hashes by name. All runs
    of an experiment share them, so one writes at a time."""
    if any(images.of_files for images in now.values()) and processes.is_main():
        config.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        lock = take_lock(config.checkpoint_dir / ".images.lock", -1)
        for name, images in now.items():
            path = list_path(config, inputs[name])
            if len(images) and not path.exists():
                write_lines(path, listed(images))
        lock.release()


def has_others(config: Config, was: Any, images: Images) -> bool:
    """Whether other pictures than before have the names of some of these, as far as the list tells."""
    path = list_path(config, was) if isinstance(was, str) else None
    if path is None or not path.is_file():
        return False
    before, after = by_key(read_lines(path), images), by_key(listed(images), images)
    return any(before[key][0] != after[key][0] for key in before.keys() & after.keys())


def changes(
    config: Config, was: dict[str, Any], inputs: dict[str, Any], now: dict[str, Images],
    script: str = "this script",
) -> str:  # fmt: skip
    """What has become of the images that something was made from, and what to do; empty if they are the same,
    or no files.

    Args:
        was, inputs: their hashes then and now by name, `data` and `test_data`; others are left alone.
        now: the images that are there now, by the same names.
        script: what is to be started over.
    """
    told = []
    if was.get("features") != inputs.get("features"):
        return ""  # which the records say
    for name, images in now.items():
        digest = was.get(name)
        if images.of_files and isinstance(digest, str) and digest != inputs[name]:
            what = "images of the pool" if name == "data" else "test images"
            told.append(f"{what}: {difference(config, digest, images)}")
    if not told:
        return ""
    keeps = "; no label is lost, and what is labeled is not asked for again"
    labels = keeps if config.dataset == "unlabeled" else ""
    what = "features" if "features" in inputs else "images"
    return (
        f"was made from other {what} ({'; '.join(told)}): put them back to resume, or give --restart to "
        f"{script}, and then to those after it, to use the {what} as they are now{labels}"
    )


def difference(config: Config, digest: str, images: Images) -> str:
    path = list_path(config, digest)
    if not path.is_file():
        return (
            "which ones is not known, as there is no list of them; if an older version of this code made it, "
            "that decoded large JPEGs whole"
        )
    before, after = by_key(read_lines(path), images), by_key(listed(images), images)
    both = before.keys() & after.keys()
    parts = {
        "came": [after[key][1] for key in after if key not in both],
        "went": [before[key][1] for key in before if key not in both],
        "changed": [after[key][1] for key in after if key in both and after[key][0] != before[key][0]],
    }
    parts = {how: names for how, names in parts.items() if names}
    if not parts:
        return "the same ones, in other classes or another order"
    return ", ".join(f"{len(names)} {how} ({shortened(names)})" for how, names in parts.items())


def by_key(lines: list[str], images: Images) -> dict[str, tuple[str, str]]:
    """Hash and id by what an image is looked up by."""
    pairs = [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]
    return {images.key(name): (pixels, name) for pixels, name in pairs}


def shortened(names: list[str]) -> str:
    shown = [
        "/".join(name.split("/")[-3:]) if "/train/" in name or "/test/" in name else name for name in names
    ]
    return ", ".join(shown[:NAMED]) + (", ..." if len(names) > NAMED else "")
