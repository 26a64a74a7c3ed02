"""Step 2 of PT4AL: the rotation loss of every image, sorted from hardest to
easiest and cut into batches.

Reads:   checkpoint/EXP/rotation.pth and the training images;
         or, with --losses FILE, only that loss file
Writes:  loss/EXP/rotation_loss.txt        <loss>_<image id>, in pool order
         loss/EXP/batch_<i>.txt            image ids, hardest first
         loss/EXP/class_distribution.csv   images of each class in each batch
         loss/EXP/made_from.json           what they were made from, and hashes

Run:     python make_batches.py digits     a few seconds
         python make_batches.py --losses rotation_loss.txt --sort lexicographic
                                           the released code's batches
"""

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for python -P, too

from config import Config
from loader import READERS, key_rule, load_images
from pt4al.base import processes
from pt4al.base.console import UserError, run_script
from pt4al.base.files import hashed, lock_folder, sha256_of, write_csv, write_json, write_lines
from pt4al.data.ids import class_of, sort_classes
from pt4al.data.images import Images
from pt4al.method.batches import batch_files, read_losses, read_note, sort_pool, split
from pt4al.method.pretext import Pretext, find_pretext, load_pretext, rotation_scores
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES
from pt4al.run.command_line import from_command_line
from pt4al.run.pictures import changes, note_images
from pt4al.run.record import Record, compare, make_record

CLASSES = "class_distribution.csv"


def main() -> None:
    config = from_command_line(__doc__, dataset=READERS, strategy=STRATEGIES, first_pick=FIRST_PICKS)
    device = processes.start(config, trains=False)
    if config.losses:
        with hashed(Path(config.losses)) as digest:
            losses, ids = read_losses(Path(config.losses), key_rule(config))
        inputs: dict[str, Any] = {"losses": digest}
        images = {}
    else:
        find_pretext(config, ", or give a loss file with --losses")  # before data are downloaded
        (pool,) = load_images(config, device, ("train",))
        pretext, images = load_pretext(config, pool), {"data": pool}
        kept = pool.eligible(range(len(pool)))  # copies have the loss of the first, and would fill batches
        ids = [pool.ids[i] for i in kept]
        inputs = {
            "data": pool.fingerprint(), "weights": pretext.digest, "pretext_made_from": pretext.made_from,
        }  # fmt: skip
    record = make_record(config, "make_batches.py", "", inputs)
    if config.losses:  # nothing else had a part in it
        names = ("sort", "num_batches", *(["seed"] if config.sort == "shuffled" else []))
        record["parameters"] = {name: record["parameters"][name] for name in names}
    split(ids, config.num_batches)  # what cannot be done, or is done, is said before the losses are computed
    if processes.from_main(partial(stands, config, record, images)):
        return
    if not config.losses:
        every = compute_losses(config, pool, pretext)
        losses = [every[i] for i in kept]
    if processes.is_main():
        order = sort_pool(losses, config.sort, config.seed, config.num_batches)
        batches = split([ids[i] for i in order], config.num_batches)
        lines = [f"{loss}_{id_}" for loss, id_ in zip(losses, ids, strict=True)]
        write_batches(config, record, lines, batches, images)


def compute_losses(config: Config, pool: Images, pretext: Pretext) -> list[str]:
    """The loss of every pool image as text.

    The loss is the mean cross-entropy over the four turns, in float32, in eval mode, without
    augmentation.
    """
    scores = rotation_scores(pretext.net, pool, pretext.mean, pretext.std, config)
    processes.say(f"{len(pool)} images, rotation accuracy {100 * scores[:, 1].mean():.2f} %")
    return [str(loss) for loss in scores[:, 0].tolist()]


def stands(config: Config, record: Record, images: dict[str, Images]) -> bool:
    """Whether loss/EXP/ is finished; what was made from anything else is refused. Holds the folder.

    Args:
        images: what was read, by the name of its hash.
    """
    folder = config.loss_dir
    lock_folder(folder)
    note = folder / "made_from.json"
    files = batch_files(folder)
    if note.exists() and not config.restart:
        known, written = read_note(note)
        changed = changes(config, known["inputs"], record["inputs"], images)
        compare(known, record, folder, "--experiment", changed)
        found = {path.name: sha256_of(path) for path in files}
        if changed := [name for name in found if written and written.get(name) != found[name]]:
            raise UserError(
                f"{folder}/{changed[0]} is no longer as make_batches.py wrote it: --restart writes it again"
            )
        if written and written == found:
            processes.say(f"{folder} is finished: nothing to do; --restart starts over")
            return True
    elif (files or (folder / CLASSES).exists()) and not config.restart:
        raise UserError(
            f"{folder} holds files that this command did not make: use --restart to replace them, or "
            "another --experiment"
        )
    return False


def write_batches(
    config: Config, record: Record, lines: list[str], batches: list[list[str]], images: dict[str, Images]
) -> None:
    """Write loss/EXP/, which does not stand yet."""
    folder = config.loss_dir
    note, files = folder / "made_from.json", batch_files(folder)
    write_json(note, {**record, "files": {}})  # not finished yet
    note_images(config, record["inputs"], images)
    given = Path(config.losses).resolve() if config.losses else None
    if given != (folder / "rotation_loss.txt").resolve():  # what was given stays as it is
        write_lines(folder / "rotation_loss.txt", lines)
    for i, batch in enumerate(batches):
        write_lines(folder / f"batch_{i}.txt", batch)
    for path in files:  # of an earlier cut into more batches
        if path.stem != "rotation_loss" and int(path.stem.removeprefix("batch_")) >= len(batches):
            path.unlink()
    if config.dataset != "unlabeled":
        write_classes(folder / CLASSES, batches)
    written = {path.name: sha256_of(path) for path in batch_files(folder)}
    write_json(note, {**record, "files": written})
    processes.say(f"{sum(map(len, batches))} images in {len(batches)} batches: {folder}")


def write_classes(path: Path, batches: list[list[str]]) -> None:
    """How many images of each class are in each batch, by their ids: to a table and, of twenty
    classes or fewer, to the person."""
    counts = [Counter(map(class_of, batch)) for batch in batches]
    classes = sort_classes(set().union(*counts))
    rows = [[i, *(count[name] for name in classes)] for i, count in enumerate(counts)]
    write_csv(path, ["batch", *classes], rows)
    if len(classes) > 20:
        return
    processes.say("images of each class (a column), by batch (a row):")
    for head, *row in [["", *classes], *([f"batch {i}", *row] for i, *row in rows)]:
        processes.say(f"{head:8}" + " ".join(f"{x:>6}" for x in row))


if __name__ == "__main__":
    run_script(main)
