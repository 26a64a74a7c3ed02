"""Loss files and batch files: reading, sorting and cutting."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.base.files import read_json, read_lines, sha256_of
from pt4al.data.ids import by_last_three
from pt4al.data.images import Images
from pt4al.run.pictures import difference
from pt4al.run.record import Record, check_record, other_value
from pt4al.train.seeding import generator


def read_losses(path: Path, key: Callable[[str], str] = by_last_three) -> tuple[list[str], list[str]]:
    """The loss texts and image ids of a loss file, in file order. A line is `<loss>_<id>` or
    `<loss>@<id>`.

    The first `_` or `@` splits; the id may hold either. Texts stay as written, for `sort_pool` to
    sort either way.

    Raises:
        UserError: names the first line that is not of this form, or whose loss is no finite number
            of 0 or more.
    """
    if not path.is_file():
        raise UserError(f"loss file {path} does not exist")
    texts, ids = [], []
    for number, line in enumerate(read_lines(path), 1):
        text, separator, image_id = [*re.split("([_@])", line, maxsplit=1), "", ""][:3]
        if not separator or not image_id:
            raise UserError(f"{path} line {number} is not <loss>_<image id>: {line[:80]!r}")
        try:
            loss = float(text)
        except ValueError:
            raise UserError(f"{path} line {number}: {text[:40]!r} is not a number") from None
        if not 0 <= loss < float("inf"):
            raise UserError(f"{path} line {number}: the loss is {text}, but a loss is finite and 0 or more")
        texts.append(text)
        ids.append(image_id)
    if not ids:
        raise UserError(f"loss file {path} is empty")
    if twice := [image_id for image_id, count in Counter(map(key, ids)).items() if count > 1]:
        raise UserError(f"image {twice[0]!r} stands twice in {path}, as do {len(twice) - 1} others")
    return texts, ids


def sort_pool(texts: Sequence[str], sort: str, seed: int, num_batches: int) -> np.ndarray:
    """Positions in the order that batches are cut from, int64 (n,).

    numeric: from the highest loss to the lowest (paper). lexicographic: numpy's default argsort of
    the texts, reversed, which is what the released code does (`make_batches.py`): `9.9e-05` comes
    before `4.41`. ascending: from the lowest to the highest. shuffled: at random by `seed`, whatever
    the losses. interleaved: numeric, dealt out so that of the `num_batches` parts that `split` makes
    part i holds ranks i, i + num_batches, ... Ties of the numerical orders go to the earlier
    position.
    """
    losses = np.array([float(text) for text in texts])
    if sort == "shuffled":
        return torch.randperm(len(losses), generator=generator(seed, "shuffle")).numpy()
    if sort == "lexicographic":
        return np.argsort(np.array(texts))[::-1]
    order = np.argsort(losses if sort == "ascending" else -losses, kind="stable")
    if sort == "interleaved":
        return np.concatenate([order[i::num_batches] for i in range(num_batches)])
    return order


def split(items: Sequence[str], parts: int) -> list[list[str]]:
    """Contiguous parts in order, sizes differing by one at most, the larger first.

    Raises:
        UserError: there are more parts than items.
    """
    if parts > len(items):
        raise UserError(f"num_batches is {parts} but there are only {len(items)} images")
    size, larger = divmod(len(items), parts)
    ends = np.cumsum([size + (i < larger) for i in range(parts)])
    return [list(items[end - size - (i < larger) : end]) for i, end in enumerate(ends)]


# --- batch files


def find_batches(config: Config, pool: Images) -> tuple[list[list[int]], dict[str, Any]]:
    """The batches of this experiment as pool positions that a cycle may choose, and what a run
    records of their origin.

    Released or hand-written files carry no record: they are taken as they are. Batches that leave
    out part of the pool are said, and batches made from other images than the pool's.

    Raises:
        UserError: the batches are not whole, their record disagrees with `config`, or the experiment's
            pretext network is another now.
    """
    folder = config.loss_dir
    note = folder / "made_from.json"
    record, written = read_note(note) if note.exists() else (None, {})
    if record and not written:
        raise UserError(f"make_batches.py did not finish {folder}: run it again")
    if record:
        check_origin(config, record, folder)
        check_pretext_of(record, folder, config)
    batches = read_batches(folder, config.num_batches, pool.positions_by_key(), pool.key)
    digest = hashlib.sha256(repr(batches).encode()).hexdigest()
    files = {path.name: sha256_of(path) for path in batch_files(folder)}
    covered = len({i for batch in batches for i in batch} - {*pool.copies})
    needed = len(pool) - len(pool.copies)
    if covered < needed:
        processes.say(
            f"warning: the batches of {folder} hold {covered} of the {needed} images of the pool; "
            "the others are never chosen"
        )
    made_from = None
    if record:
        made_from = {**record["parameters"], **record["inputs"]}
        data = None if pool.are_features else record["inputs"].get("data")
        if data is not None and data != pool.fingerprint():
            processes.say(
                f"warning: {folder} was made from other images than those of {config.data_dir} now: "
                f"{difference(config, data, pool)}"
            )
        changed = [name for name, digest in written.items() if files.get(name) != digest]
        if changed:
            processes.say(f"note: {folder}/{changed[0]} is no longer as make_batches.py wrote it")
    made_from = {"batches": digest, "batches_made_from": made_from, "files": files}
    return [pool.eligible(batch) for batch in batches], made_from


def read_note(path: Path) -> tuple[Record, dict[str, str]]:
    """The record of made_from.json, and the hashes of the files that were written; none while
    make_batches.py is not done.

    Raises:
        UserError: it is none of ours.
    """
    stored = read_json(path)
    record = check_record(stored, path)
    files = stored.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{path} does not name the files that were written: move it away")
    return record, files


def check_origin(config: Config, record: Record, folder: Path) -> None:
    """Raise a UserError where batches were made with another seed, order, cut, pool or reading of colors
    than `config` says (batches of a loss file know less: only what they know is compared)."""
    names = ("sort", "num_batches", "channel_order", "seed", "imbalance", "imbalance_kind")
    if told := other_value(record["parameters"], {name: getattr(config, name) for name in names}):
        raise UserError(f"{folder} was made with {told}, or make other batches under another --experiment")


def check_pretext_of(record: Record, folder: Path, config: Config) -> None:
    """Raise a UserError where batches were made by other weights than the experiment has now, or is about
    to have. Where only batches were copied, they are taken as they are."""
    inputs, weights = record["inputs"], config.checkpoint_dir / "rotation.pth"
    if (was := inputs.get("weights")) is None:
        return
    made_from = inputs.get("pretext_made_from")
    for path in sorted(config.runs_dir.glob("*/config.json")) if made_from and not weights.exists() else ():
        content = read_json(path)
        if not isinstance(content, dict) or content.get("script") != "rotation.py":
            continue
        begun = check_record(content, path)
        same = {**begun["parameters"], "precision": ""} == {**made_from, "precision": ""}
        if not same or begun["inputs"].get("data") != inputs.get("data"):
            raise UserError(
                f"{weights} is not there, and {path.parent} makes other weights than {folder} was made from: "
                "give rotation.py again, then make_batches.py --restart"
            )
    if weights.exists() and sha256_of(weights) != was:
        raise UserError(
            f"{folder} was made from other weights than {weights} holds now: give make_batches.py --restart, "
            "or put back the weights that the batches were made from"
        )


def batch_files(folder: Path) -> list[Path]:
    """The loss file and the batch files of a folder, in order of their names."""
    pattern = r"rotation_loss\.txt|batch_\d+\.txt"
    return [path for path in sorted(folder.glob("*.txt")) if re.fullmatch(pattern, path.name)]


def read_batches(
    folder: Path, num_batches: int, position_of: dict[str, int], key: Callable[[str], str] = by_last_three
) -> list[list[int]]:
    """The pool positions of every batch, hardest first.

    Args:
        folder: holds `batch_0.txt` .. `batch_<num_batches - 1>.txt`, one image id a line.
        position_of, key: pool position by what an image is looked up by, and the rule (`Images.key`).

    Raises:
        UserError: a file is missing or left over, an id is unknown, or an image stands twice.
    """
    batches: list[list[int]] = []
    seen: dict[int, str] = {}
    gone: list[tuple[str, str]] = []
    for i in range(num_batches):
        path = folder / f"batch_{i}.txt"
        if not path.is_file():
            raise UserError(
                f"{path} does not exist: run make_batches.py first, or put the released file there"
            )
        batch = []
        for number, image_id in enumerate(read_lines(path), 1):
            position = position_of.get(key(image_id))
            place = f"{path} line {number}"
            # Of several ids on a line the last would be found. Names may hold blanks and commas, too.
            before = "/".join(image_id.replace("\\", "/").split("/")[:-3])
            gaps = re.finditer(r"[\s,;]", before) if key is by_last_three else ()
            if any(key(before[: gap.start()]) in position_of for gap in gaps):
                raise UserError(f"{place} holds several image ids: write one per line")
            if position is None:
                gone.append((place, image_id))
                continue
            if position in seen:
                raise UserError(f"{place}: image {image_id!r} stands in {seen[position]} already")
            seen[position] = place
            batch.append(position)
        if not batch and not gone:
            raise UserError(f"{path} is empty")
        batches.append(batch)
    if gone:
        (place, image_id), *others = gone
        more = ", ".join(name for _, name in others[:4]) + (", ..." if len(others) > 4 else "")
        raise UserError(
            f"{place}: image {image_id!r} is not in the pool (looked up as {key(image_id)!r})"
            + (f", nor are {len(others)} others ({more})" if others else "")
            + "; put them back, or, if they were removed, give --restart to rotation.py and make_batches.py; "
            "no label is lost"
        )
    if (extra := folder / f"batch_{num_batches}.txt").exists():
        raise UserError(
            f"{extra} exists but num_batches is {num_batches}: set --num-batches to the number of files"
        )
    return batches
