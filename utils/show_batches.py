"""Show what the pretext task found hard and easy: for each batch a row of its
images, the range of its losses and its class mix.

Reads:   loss/EXP/rotation_loss.txt, loss/EXP/batch_<i>.txt, the training images
Writes:  loss/EXP/batches.png

Run:     python utils/show_batches.py digits        a few seconds
"""

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import SHOW_BATCHES, Config, option
from loader import READERS, load_images
from pt4al.base.console import run_script, say
from pt4al.base.pictures import drawable, new_figure, save_picture
from pt4al.method.batches import find_batches, read_losses
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES, even_intervals
from pt4al.run.command_line import from_command_line

IMAGES_A_ROW = 16


@dataclass(frozen=True)
class Options(Config):
    """Which batches to show, and where to put the picture."""

    out: str = option("", SHOW_BATCHES, "The picture. Empty: loss/EXP/batches.png.", group="picture")
    title: str = option("", SHOW_BATCHES, "Title above the picture. Empty: the folder.")


def main() -> None:
    config = from_command_line(__doc__, Options, dataset=READERS, strategy=STRATEGIES, first_pick=FIRST_PICKS)
    (pool,) = load_images(config, torch.device("cpu"), ("train",))
    batches, _ = find_batches(config, pool)
    losses = config.loss_dir / "rotation_loss.txt"
    texts, ids = read_losses(losses, pool.key) if losses.exists() else ([], [])
    loss_of = {pool.key(image_id): float(text) for text, image_id in zip(texts, ids, strict=True)}
    of_batches = [[loss_of[x] for i in batch if (x := pool.key(pool.ids[i])) in loss_of] for batch in batches]
    columns = min(IMAGES_A_ROW, max(map(len, batches)))
    side = max(0.5, min(1.0, 5 / columns))  # of an image, in inches
    widths = [side * columns, *([3.2] if pool.classes else [])]  # an annotator has yet to say which
    figure = new_figure(1.1 + sum(widths), (side + 0.08) * len(batches) + 1)
    figure.get_layout_engine().set(h_pad=0.03, hspace=0)
    axes = figure.subplots(
        len(batches), len(widths), squeeze=False, width_ratios=widths, sharex="col", sharey="col"
    )
    for i, (batch, (left, *rest)) in enumerate(zip(batches, axes, strict=True)):
        shown = [batch[j] for j in even_intervals(len(batch), min(columns, len(batch)))]
        pixels = pool.pixels[torch.tensor(shown)].numpy()
        pixels = pixels[..., ::-1] if config.channel_order == "bgr" else pixels  # as they were read
        left.imshow(np.concatenate(list(pixels), axis=1))
        left.set(xticks=[], yticks=[])
        losses = of_batches[i]
        span = f"{max(losses):.2g} to {min(losses):.2g}" if losses else "no losses"
        text = f"batch {i}{place(of_batches, i)}\n{span}"
        left.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8)
        for right in rest:
            labels = pool.labels[torch.tensor(batch)].numpy()
            counts = np.bincount(labels, minlength=len(pool.classes))
            right.bar(range(len(counts)), 100 * counts / len(batch), color="tab:blue")
            right.axhline(100 / len(counts), color="grey", lw=0.5, ls=":")
            right.tick_params(labelsize=7)
    if 0 < len(pool.classes) <= 20:
        names = [drawable(name) for name in pool.classes]
        axes[-1, -1].set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
    if pool.classes:
        axes[-1, -1].set_xlabel("class, % of the batch (dotted: all alike)", fontsize=8)
    axes[-1, 0].set_xlabel(
        "images at even intervals of the batch, in its order\nleft: range of rotation losses", fontsize=8
    )
    figure.suptitle(drawable(config.title or str(config.loss_dir)), fontsize=11)
    out = Path(config.out) if config.out else config.loss_dir / "batches.png"
    save_picture(figure, out)
    say(out)


def place(losses: list[list[float]], i: int) -> str:
    """What to say of the first and the last batch, where all losses of a batch lie below those of the one
    before, or above them."""
    if not all(losses) or len(losses) < 2:
        return ""
    falling = all(min(a) >= max(b) for a, b in pairwise(losses))
    rising = all(max(a) <= min(b) for a, b in pairwise(losses))
    ends = {0: ", hardest", len(losses) - 1: ", easiest"} if falling else {}
    ends = {0: ", easiest", len(losses) - 1: ", hardest"} if rising and not falling else ends
    return ends.get(i, "")


if __name__ == "__main__":
    run_script(main)
