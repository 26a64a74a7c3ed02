"""Step 2 of PT4AL: the rotation loss of every image, sorted from hardest to easiest and cut into
batches.

Reads:  checkpoint/<experiment>/rotation.pth and the training images; or, with --losses FILE, only that loss file
Writes: loss/<experiment>/rotation_loss.txt       <loss>_<image id>, in pool order
        loss/<experiment>/batch_<i>.txt           image ids, hardest first
        loss/<experiment>/class_distribution.csv  images of each class in each batch
        loss/<experiment>/made_from.json          hashes of the data, the weights and the files
Run:    python make_batches.py digits             a few seconds
        python make_batches.py --losses rotation_loss.txt --sort lexicographic    the released
        code's batches
"""

from collections import Counter
from pathlib import Path
from typing import Any

from config import Config, from_command_line
from loader import load_images, normalisation
from utils import processes
from utils.batches import class_of, read_losses, sort_pool, split
from utils.console import UserError, run_script
from utils.datasets import sort_classes
from utils.files import read_json, sha256_of, write_csv, write_json, write_lines
from utils.network import describe, fresh_network, load_weights
from utils.pretext import TURNS, rotation_scores
from utils.run_folder import compare, lock_folder


def main() -> None:
    config = from_command_line(__doc__)
    if config.losses:
        losses, ids = read_losses(Path(config.losses))
        made_from = {"losses": sha256_of(Path(config.losses))}
    else:
        losses, ids, made_from = compute_losses(config)
    if processes.is_main():
        order = sort_pool(losses, config.sort)
        batches = split([ids[i] for i in order], config.num_batches)
        made_from |= {"sort": config.sort, "num_batches": config.num_batches}
        write_batches(
            config,
            made_from,
            [f"{loss}_{id_}" for loss, id_ in zip(losses, ids, strict=True)],
            batches,
        )


def compute_losses(config: Config) -> tuple[list[str], list[str], dict[str, Any]]:
    """The loss of every pool image as text, its id, and the hashes of what it was computed from.

    The loss is the mean cross-entropy over the four turns, in float32, in eval mode, without
    augmentation.
    """
    device = processes.start(config)
    weights = config.checkpoint_dir / "rotation.pth"
    if not weights.exists():
        raise UserError(
            f"{weights} does not exist: run rotation.py first, or give a loss file with --losses"
        )
    (pool,) = load_images(config, device, ("train",))
    mean, std = normalisation(config, pool)
    description = describe(config, pool, TURNS, mean, std)
    net = fresh_network(config, TURNS, 0, device)
    checkpoint = load_weights(weights, net, description)
    constants = checkpoint.get("mean", mean), checkpoint.get("std", std)
    if constants != (mean, std):
        processes.say(
            f"{weights} was made with mean and std {constants}, not {mean, std}: they are used"
        )
    scores = rotation_scores(net, pool, *constants, config)
    processes.say(f"{len(pool)} images, rotation accuracy {100 * scores[:, 1].mean():.2f} %")
    made_from = {"data": description["data"], "weights": sha256_of(weights)}
    return [str(loss) for loss in scores[:, 0].tolist()], pool.ids, made_from


def write_batches(
    config: Config, made_from: dict[str, Any], lines: list[str], batches: list[list[str]]
) -> None:
    """Write loss/<experiment>/, or find that it stands already; what was made from anything else is
    refused."""
    folder = config.loss_dir
    lock_folder(folder)
    record = folder / "made_from.json"
    files = {path.name: path for path in folder.glob("*.txt")}
    if record.exists() and not config.restart:
        stored = read_json(record)
        compare(stored["made_from"], made_from, folder)
        if stored["files"] and stored["files"] == {
            name: sha256_of(path) for name, path in files.items()
        }:
            print(f"{folder} is finished: nothing to do; --restart begins anew")
            return
    elif files and not config.restart:
        raise UserError(
            f"{folder} holds files that this command did not make: use --restart to replace them"
        )
    write_json(record, {"made_from": made_from, "files": {}})  # not finished yet
    write_lines(folder / "rotation_loss.txt", lines)
    for i, batch in enumerate(batches):
        write_lines(folder / f"batch_{i}.txt", batch)
    for name in (
        set(files) - {"rotation_loss.txt"} - {f"batch_{i}.txt" for i in range(len(batches))}
    ):
        files[name].unlink()  # of an earlier cut into more batches
    counts = [Counter(map(class_of, batch)) for batch in batches]
    classes = sort_classes(set().union(*counts))
    rows = [[i, *(count[name] for name in classes)] for i, count in enumerate(counts)]
    write_csv(folder / "class_distribution.csv", ["batch", *classes], rows)
    print(
        "images of each class, by batch:",
        *(" ".join(f"{x:>6}" for x in row) for row in [["batch", *classes], *rows]),
        sep="\n",
    )
    written = {path.name: sha256_of(path) for path in folder.glob("*.txt")}
    write_json(record, {"made_from": made_from, "files": written})
    print(f"{sum(map(len, batches))} images in {len(batches)} batches: {folder}")


if __name__ == "__main__":
    run_script(main)
