"""A guard for the pretext task: does the network look at pictures, or at shortcuts that give it away?

JPEG treats rows and columns, left and right differently; scanners leave borders. A network that reads such
shortcuts (Doersch et al. 2015) predicts rotations well and learns nothing of the pictures, so its losses sort
nothing.
"""

import io
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import nn

from config import Config
from pt4al.base import processes
from pt4al.data.images import Images
from pt4al.method.pretext import rotation_scores
from pt4al.train.seeding import generator

SAMPLE = 2000
CHANCE = 30  # percent; chance is 25
LOSS = 15  # points that no picture loses by `hide_shortcuts`: see docs/own_images.md


def check_pretext(net: nn.Module, pool: Images, mean: list[float], std: list[float], config: Config) -> str:
    """What is to be known of a trained pretext network before its losses sort anything; empty if nothing.

    Compares rotation accuracy on 2,000 images of the pool, or all where there are fewer, with that on
    the same images after `hide_shortcuts`.
    """
    draws = generator(config.seed, "traces")  # the name decides which images are drawn
    at = torch.randperm(len(pool), generator=draws)[:SAMPLE].sort().values
    pixels = pool.pixels[at.to(pool.pixels.device)]
    source = np.random.default_rng(int(torch.randint(2**31, (1,), generator=draws)))
    hidden = np.stack([hide_shortcuts(image, source) for image in pixels.cpu().numpy()])
    accuracies = []
    for part in (pixels, torch.from_numpy(hidden).to(pixels.device)):
        ids = [pool.ids[i] for i in at.tolist()]
        sample = replace(pool, pixels=part, labels=pool.labels[at.to(pool.labels.device)], ids=ids)
        scores = rotation_scores(net, sample, mean, std, config)
        accuracies.append(100 * scores[:, 1].mean().item())
    seen, left = accuracies
    processes.say(f"rotation accuracy on {len(at)} images {seen:.2f} %, with shortcuts removed {left:.2f} %")
    instead = "the order will tell little: use --candidates all --first-pick random"
    if seen < CHANCE:
        metrics = config.runs_dir / (config.run_name or "rotation") / "metrics.csv"
        return (
            f"warning: rotation accuracy is {seen:.1f} %, chance 25: training was too short or diverged "
            f"(see {metrics}; --restart with more --rotation-epochs or a lower --lr), or these images have "
            f"no up and down; then {instead}"
        )
    if seen - left > LOSS:
        return (
            f"warning: rotation accuracy is {seen:.1f} %, but {left:.1f} % with shortcuts removed "
            f"(JPEG artifacts, borders): the network reads those and not the pictures; {instead}, or larger "
            "originals"
        )
    return ""


def hide_shortcuts(image: np.ndarray, source: np.random.Generator) -> np.ndarray:
    """A copy that looks the same, but whose shortcuts point in a random direction: its outermost pixels
    (a sixteenth) mirror those within, and it is turned and mirrored at random, stored as JPEG on a
    grid at a random offset, and put back.

    Args:
        image: uint8 (size, size, 3).
    """
    size, ring = len(image), len(image) // 16
    inner = image[ring : size - ring, ring : size - ring]
    image = np.pad(inner, ((ring, ring), (ring, ring), (0, 0)), "reflect")
    top, left = source.integers(8, size=2)
    around = ((top, 7 - top), (left, 7 - left), (0, 0))
    turns, mirrored = source.integers(4), source.integers(2)
    picture = np.rot90(np.pad(image, around, "reflect"), turns)
    picture = picture[:, ::-1] if mirrored else picture
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=75, subsampling=2)
    picture = np.asarray(Image.open(file))
    picture = np.rot90(picture[:, ::-1] if mirrored else picture, -turns)
    return picture[top : top + size, left : left + size]
