"""Features: of each image the row of numbers that a network of timm, trained by
others on millions of images, makes of it. A linear classifier on them needs few
labels (docs/own_images.md).

Images are read as they lie on disk: upright, in RGB, and resized for the network
from their own size, whatever --img-size says.

Reads:   the training and test images; the network's weights, by timm from its
         hub, or from --weights FILE
Writes:  features/EXP/pool.npy, pool.txt    float32 (n, d); image ids, row by row
         features/EXP/test.npy, test.txt    the same of the test set, if any
         features/EXP/made_from.json        network, weights, preprocessing

A run that was stopped resumes with the same command.

Run:     pip install timm
         python utils/extract_features.py digits --backbone resnet18.a1_in1k
         python main.py digits --features features/digits-seed0
                                            1,797 images: a minute on 2 CPU cores
"""

import hashlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import EXTRACT_FEATURES, Config, option
from loader import READERS, key_rule, memory_of, read_split
from pt4al.base import processes
from pt4al.base.console import UserError, run_script
from pt4al.base.files import (
    lock_folder,
    read_json,
    read_lines,
    sha256_of,
    write_bytes,
    write_json,
    write_lines,
)
from pt4al.base.threads import Threads, result
from pt4al.data.decoding import (
    SHRUNK_TO,
    Parts,
    Unreadable,
    count_workers,
    open_picture,
    plain,
    quiet,
    reason,
    resize_all,
)  # fmt: skip
from pt4al.data.features import FILES, MADE_FROM, listing_of, read_made_from, shape_of, sizes_of
from pt4al.run.command_line import from_command_line
from pt4al.run.record import code_version, environment

HEAD = 4  # tensors that a file may have beyond those of the network, at most: its last layer
BLOCK = 32  # images: what is read, and passes through the network, together
ON_CPU = 4  # of them at once
SYNC_SECONDS = 2.0  # of work that a kill costs, at most
COMPARED = ("backbone", "weights", "preprocessing", "dataset")
Images = np.ndarray | list[Path]


@dataclass(frozen=True)
class Options(Config):
    """Which network."""

    backbone: str = option("", EXTRACT_FEATURES, group="backbone", text="""
        Name of a network of timm, such as vit_small_patch14_dinov2.lvd142m or tf_efficientnet_lite0
        (timm.list_pretrained() names them).""")  # fmt: skip
    weights: str = option("", EXTRACT_FEATURES, text="""
        File of its weights (.pth, .safetensors). Empty: timm downloads them.""")  # fmt: skip


@dataclass(frozen=True)
class Backbone:
    """A network without its last layer.

    Attributes:
        net: float32 (b, 3, h, w) -> (b, columns), in eval mode.
        preprocess: picture in RGB -> float32 (3, h, w).
        side: pixels that the shorter side of a picture must have at least, or it would be enlarged.
        about: what made_from.json says of it.
    """

    net: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    columns: int
    side: int
    about: dict[str, Any]


def main() -> None:
    config = from_command_line(__doc__, Options, dataset=READERS)
    if not config.weights and any(word.split("=")[0] == "--weights" for word in sys.argv):
        raise UserError(
            "--weights is given and empty: name a file, or leave it out to have timm download one"
        )
    device = processes.start(config, trains=False)
    splits = {x: read_split(config, x) for x in FILES}
    backbone = load_backbone(config, device)
    images = {x: whole(split.images, FILES[x], config) for x, split in splits.items() if len(split.images)}
    folder = Path("features", config.experiment_name)
    part = folder / ".part"
    quiet()

    def begin() -> dict[str, int] | None:
        """How many images of each split are done already; None: nothing is left to do."""
        lock_folder(folder)
        if not (part / MADE_FROM).exists():  # it ended between its last move and this
            shutil.rmtree(part, ignore_errors=True)
        keys = {x: [*map(key_rule(config, x), splits[x].names)] for x in images}
        hashes = {x: digests(images[x], keys[x], config) for x in images}
        sizes = {x: sizes_of(splits[x].images) for x in images}
        made_from = {
            **backbone.about, "dataset": config.dataset, "code": code_version(),
            "data": {x: hashlib.sha256("".join(hashes[x]).encode()).hexdigest() for x in images},
            "sizes": {x: sum(sizes[x]) for x in images},
            "listings": {x: listing_of(keys[x], sizes[x]) for x in images}, "made_with": environment(config),
        }  # fmt: skip
        if is_finished(folder, made_from, config.restart):
            return None
        if (part / MADE_FROM).exists() and "rows" in read_json(part / MADE_FROM):  # stopped while moving them
            finish(folder, images)
            return None
        write_json(part / MADE_FROM, made_from)
        for x in images:
            write_lines(part / f"{FILES[x]}.txt", splits[x].names)
        return {x: make_room(part / FILES[x], len(images[x]), backbone.columns, hashes[x]) for x in images}

    if (before := processes.from_main(begin)) is not None:
        sizes = ", ".join(f"{len(images[x]):,} images of the {FILES[x]} set" for x in images)
        resumes = f"; resuming after {sum(before.values()):,} images" if any(before.values()) else ""
        processes.say(f"{config.backbone} on {device}: {sizes}, {backbone.columns} numbers each{resumes}")
        unreadable = [extract(part / FILES[x], images[x], backbone, device, config) for x in images]
        # Of all processes: none finishes what another one could not read.
        if errors := [line for mine in processes.gather(unreadable) for lines in mine for line in lines]:
            raise Unreadable(errors, sum(map(len, images.values())))
        processes.from_main(lambda: finish(folder, images))
        processes.say(f"{folder}: use it with --features {folder}")
    else:
        processes.say(f"{folder} is finished: nothing to do; --restart extracts again")


# --- the network


def load_backbone(config: Options, device: torch.device) -> Backbone:
    """Raises:
    UserError: timm is not there, or does not know the network, or the weights are none of it.
    """
    try:
        import timm
    except ImportError:
        raise UserError("timm, which has the networks, is not installed: pip install timm") from None
    if not timm.is_model(config.backbone):
        near = timm.list_models(f"*{config.backbone.split('.')[0]}*")[:5]
        raise UserError(
            f"backbone is {config.backbone!r}, which timm {timm.__version__} does not know"
            + (f" (it knows {', '.join(near)})" if config.backbone and near else "")
            + ": name one, such as vit_small_patch14_dinov2.lvd142m or tf_efficientnet_lite0"
        )
    try:
        net = timm.create_model(config.backbone, pretrained=not config.weights, num_classes=0)
    except Exception as error:  # of its hub, and of what fetches from there: they share no class
        raise UserError(
            f"timm's hub did not give the weights of {config.backbone} ({type(error).__name__}: {error}): "
            "give a file of them by --weights"
        ) from None
    if config.weights:
        load_weights(net, Path(config.weights))
    net.eval().to(device, memory_format=torch.channels_last)
    preprocessing = timm.data.resolve_model_data_config(net)
    size = preprocessing["input_size"][1:]
    weights = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        weights.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    with torch.inference_mode():
        shape = net(torch.zeros(1, *preprocessing["input_size"], device=device)).shape
    if len(shape) != 2:
        raise UserError(f"{config.backbone} gives {list(shape[1:])} for an image, not a row: take another")
    columns = shape[1]
    about = {
        "backbone": config.backbone, "weights": weights.hexdigest(),
        "weights_from": Path(config.weights).name or str(net.pretrained_cfg.get("hf_hub_id")),
        "preprocessing": preprocessing, "timm": timm.__version__,
    }  # fmt: skip
    about = json.loads(json.dumps(about))  # as it will read once stored
    preprocess = timm.data.create_transform(**preprocessing, is_training=False)
    return Backbone(net, preprocess, columns, round(max(size) / preprocessing["crop_pct"]), about)


def load_weights(net: nn.Module, path: Path) -> None:
    """Weights of a file, the last layer's left out. Names may be another program's: then all shapes must be
    the network's, in its order.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    from timm.models import load_state_dict

    if not path.is_file():
        raise UserError(f"weights: {path} does not exist, or is not a regular file")
    try:
        found = load_state_dict(str(path), weights_only=True)
        found = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    except Exception as error:  # unpickling and safetensors raise many kinds
        raise UserError(f"weights: {path} cannot be read ({type(error).__name__}: {error})") from None
    found, ours = ({x: y for x, y in z.items() if "num_batches" not in x} for z in (found, net.state_dict()))
    in_order = dict(zip(ours, found.values(), strict=False))
    if len(found) - len(ours) <= HEAD:
        for weights in (found, in_order):
            if all(name in weights and weights[name].shape == ours[name].shape for name in ours):
                net.load_state_dict({name: weights[name] for name in ours}, strict=False)
                return
    odd = (x for x in ours if x not in in_order or in_order[x].shape != ours[x].shape)
    name = next(odd, None)
    if name is None:
        raise UserError(
            f"weights: {path} is of another network: it has {len(found) - len(ours)} tensors more"
        )
    theirs = list(found)[list(ours).index(name) :][:1]
    what = f"{theirs[0]} {list(found[theirs[0]].shape)}" if theirs else "nothing"
    raise UserError(
        f"weights: {path} is of another network: it has {what} in place of {name} {list(ours[name].shape)}"
    )


# --- the images


def whole(images: Images | Parts, what: str, config: Config) -> Images:
    """Files and arrays as they are; of `Parts` one array, of their own size."""
    if not isinstance(images, Parts):
        return images
    memory_limit = int(config.resident_share * memory_of(torch.device("cpu")))
    return resize_all(images, images.shape[1], config.resize, memory_limit, what)


def digests(images: Images, keys: list[str], config: Config) -> list[str]:
    """Of each block the SHA-256 over its images, as files or arrays, and what they are looked up by."""

    def one(i: int) -> bytes:
        data = images[i].read_bytes() if isinstance(images, list) else np.ascontiguousarray(images[i])
        return hashlib.sha256(data).digest()

    blocks = [hashlib.sha256() for _ in range(0, len(keys), BLOCK)]
    with Threads(count_workers(config.threads, len(keys))) as pool:
        bar = tqdm(pool.map(one, range(len(keys))), "looking at images", len(keys), unit="img", leave=False,
                   disable=None)  # fmt: skip
        try:
            for i, of_image in enumerate(bar):
                key = keys[i].encode("utf-8", "surrogateescape")
                blocks[i // BLOCK].update(key + b"\n" + of_image)
        finally:  # a signal arrives here: what is left is not read
            pool.shutdown(cancel_futures=True)
    return [x.hexdigest() for x in blocks]


def read(image: Path | np.ndarray, backbone: Backbone) -> Tensor | str:
    """float32 (3, h, w) for the network; a line that names the image and why, if it cannot be read."""
    if isinstance(image, np.ndarray):
        return backbone.preprocess(Image.fromarray(image).convert("RGB"))
    try:
        with open(image, "rb") as file, open_picture(file, SHRUNK_TO * backbone.side) as picture:
            return backbone.preprocess(plain(picture))
    # Pillow's decoders raise many kinds; each is reported with its file.
    except Exception as error:
        return f"{image} ({reason(error)})"


def ahead(
    images: Images, blocks: list[range], backbone: Backbone, config: Config
) -> Iterator[list[Tensor | str]]:
    """What is read of each block, while the block before passes through the network."""
    with Threads(count_workers(config.threads, BLOCK)) as pool:
        coming: list[list[Future]] = []
        try:
            for i in range(len(blocks) + 1):
                if i < len(blocks):
                    coming.append([pool.submit(read, images[j], backbone) for j in blocks[i]])
                if i > 0:
                    yield [result(future) for future in coming.pop(0)]
        finally:  # a signal arrives here: the threads end with the image in hand
            pool.shutdown(cancel_futures=True)


# --- the files


def make_room(path: Path, n: int, d: int, hashes: list[str]) -> int:
    """PATH.npy for n x d numbers, PATH.done with a byte for each block, 1 once its rows are there, and
    PATH.blocks with the hash of each. Blocks that hold other images than before are to be done again, and so
    is all that follows an image that came or went. Returns how many images are done."""
    rows, done, blocks = (path.with_suffix(x) for x in (".npy", ".done", ".blocks"))
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (n, d)})
    try:
        begun = all(path.exists() for path in (rows, done, blocks)) and shape_of(rows)[1] == d
    except UserError:  # cut short
        begun = False
    before, marks = (read_lines(blocks), done.read_bytes()) if begun else ([], b"")
    kept = bytes(x if was == now else 0 for x, was, now in zip(marks, before, hashes, strict=False))
    write_bytes(done, kept.ljust(len(hashes), b"\0"))
    write_lines(blocks, hashes)
    with open(rows, "r+b" if begun else "wb") as file:
        file.write(header.getvalue())  # of 128 bytes, for any n
        file.truncate(file.tell() + 4 * n * d)
        os.posix_fallocate(file.fileno(), file.tell(), 4 * n * d)  # a full disk is told now
    return sum(min(BLOCK, n - BLOCK * i) for i, mark in enumerate(kept) if mark)


def extract(
    path: Path, images: Images, backbone: Backbone, device: torch.device, config: Config
) -> list[str]:
    """Fill in the blocks of this process that are not done yet; a line for each image that cannot be read."""
    done = path.with_suffix(".done")
    marks = np.frombuffer(processes.from_main(done.read_bytes), np.uint8)  # all share out the same blocks
    todo = [int(i) for i in np.flatnonzero(marks == 0)][processes.rank() :: processes.world_size()]
    blocks = [range(i * BLOCK, min((i + 1) * BLOCK, len(images))) for i in todo]
    unreadable, finished, synced = [], [], time.monotonic()
    hidden = None if processes.is_main() else True  # None: shown on a terminal only
    with (
        open(path.with_suffix(".npy"), "r+b") as rows, open(done, "r+b") as marked, torch.inference_mode(),
        tqdm(total=sum(map(len, blocks)), desc=path.name, unit="img", leave=False, disable=hidden) as bar,
    ):  # fmt: skip
        start = os.fstat(rows.fileno()).st_size - 4 * backbone.columns * len(images)

        def mark() -> None:
            rows.flush()
            os.fsync(rows.fileno())
            for i in finished:
                os.pwrite(marked.fileno(), b"\1", i)
            finished.clear()

        for i, block, inputs in zip(todo, blocks, ahead(images, blocks, backbone, config), strict=True):
            errors = [x for x in inputs if isinstance(x, str)]
            if not errors:
                full = inputs + inputs[-1:] * (BLOCK - len(inputs))  # or copies there would round otherwise
                batch = torch.stack(full).to(device, memory_format=torch.channels_last)
                # On a CPU a few at a time, so that what lies between layers stays in the caches.
                parts = batch.split(BLOCK if device.type == "cuda" else ON_CPU)
                values = torch.cat([backbone.net(x) for x in parts])[: len(inputs)].float().cpu().numpy()
                if not np.isfinite(values).all():
                    raise UserError(
                        f"{config.backbone} gives NaN or infinity: its weights are damaged, or not its own"
                    )
                rows.seek(start + 4 * backbone.columns * block[0])
                rows.write(np.ascontiguousarray(values))
                finished.append(i)
            unreadable += errors
            bar.update(len(block))
            if time.monotonic() - synced > SYNC_SECONDS:
                mark()
                synced = time.monotonic()
        mark()
    return unreadable


def is_finished(folder: Path, made_from: dict[str, Any], restart: bool) -> bool:
    """Compare what the folder holds, finished or begun, with what is to be made.

    Raises:
        UserError: it was made from something else, or by another tool.
    """
    part = folder / ".part"
    ours = read_made_from(folder)
    files = [folder / f"{name}.{kind}" for name in FILES.values() for kind in ("npy", "txt")]
    begun = read_json(part / MADE_FROM) if (part / MADE_FROM).exists() else {}
    if (there := [path for path in files if path.exists()]) and not (ours or begun.get("rows")):
        raise UserError(f"{there[0]} was made by another tool: move it away, or choose another --experiment")
    if restart:
        for path in [*there, folder / MADE_FROM]:
            path.unlink(missing_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        return False
    known = ours or begun
    was, now = compared(known), compared(made_from)
    if "rows" not in known:  # blocks of other images are done again, see `make_room`
        was, now = ({x: y for x, y in z.items() if x in COMPARED} for z in (was, now))
    differences = [f"{x} (was {shown(was[x])}, now {shown(now[x])})" for x in now if was[x] != now[x]]
    if known and differences:
        raise UserError(
            f"{folder} was made from something else: {', '.join(differences)}. Give the same to resume, "
            "--restart to extract again, or --experiment for another folder"
        )
    return bool(ours)


def compared(made_from: dict[str, Any]) -> dict[str, Any]:
    """What must be the same to resume, by name: the images of each split apart."""
    data = made_from.get("data", {})
    return {x: made_from.get(x) for x in COMPARED} | {
        f"{name} images": data.get(x) for x, name in FILES.items()
    }


def shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."


def finish(folder: Path, images: dict[str, Images]) -> None:
    """Move what is complete to where it is looked for; made_from.json comes last."""
    part = folder / ".part"
    made_from = read_json(part / MADE_FROM)
    if "rows" not in made_from:
        files = [part / f"{FILES[x]}.{kind}" for x in images for kind in ("npy", "txt")]
        made_from["rows"] = {path.name: sha256_of(path) for path in files}
        write_json(part / MADE_FROM, made_from)
    for name in FILES.values():
        for kind in ("npy", "txt"):
            if (path := part / f"{name}.{kind}").exists():
                os.replace(path, folder / path.name)
    os.replace(part / MADE_FROM, folder / MADE_FROM)
    shutil.rmtree(part)


if __name__ == "__main__":
    run_script(main)
