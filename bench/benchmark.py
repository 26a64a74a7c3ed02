"""Images per second of ours and of the plain way, side by side in one run, on this
machine.

The plain way is what the released code does: float32, contiguous NCHW, a
Dataset that opens one image file at a time and applies torchvision's
transforms, a DataLoader with 2 workers, scoring at batch size 1. Ours are the
very functions that the scripts call. Repeats of the two are interleaved; the
median counts, the spread is (max - min) / median.

--picks measures the query strategies alone, beside the scoring: seconds and
memory to choose 1,000 of 50,000 images by 512 features, 9,000 being labeled.
--folding measures scoring with batch norm folded into the convolutions and
without. --stems measures training by image size, with either stem and with
torchvision's own network, as it comes and in channels_last (nhwc). --decoding
measures how JPEG files become pixels, beside a loop of one thread and a
DataLoader with a worker per core.

Reads:   nothing: it makes its images, in a temporary folder
Writes:  nothing: it prints a table, or JSON

Run:     python bench/benchmark.py --repeats 3               7 minutes on 2 CPU cores
         python bench/benchmark.py --repeats 3 --width 16    2 minutes
         python bench/benchmark.py --picks                   4 minutes
         python bench/benchmark.py --folding                 a minute
         python bench/benchmark.py --stems                   4 minutes
         python bench/benchmark.py --decoding --repeats 3    a minute
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.models import resnet18

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import CIFAR10
from loader import load_images
from models import build
from pt4al.base import processes
from pt4al.base.console import Parser, positive, run_script
from pt4al.data.decoding import count_workers, decode, read_image
from pt4al.data.transforms import CIFAR10_MEAN, CIFAR10_STD
from pt4al.method.classifier import Classification
from pt4al.method.pretext import ROTATIONS, rotation_scores, rotation_task
from pt4al.method.strategies import STRATEGIES, Query
from pt4al.train.network import fold_batchnorm, fresh_network
from pt4al.train.optimizer import SGD
from pt4al.train.scoring import autocast
from pt4al.train.training import train_epoch

STEPS = 6  # of classifier training in a repeat


class PlainImages(Dataset):
    """One image file at a time, for rotation training, classifier training or scoring."""

    def __init__(self, paths: list[Path], kind: str) -> None:
        augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        plain = [transforms.ToTensor(), transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD)]
        self.paths, self.kind = paths, kind
        self.transform = transforms.Compose([*augment, *plain] if kind == "classifier" else plain)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int):
        image = self.transform(Image.open(self.paths[i]).convert("RGB"))
        if self.kind != "rotation":
            return image, int(self.paths[i].parent.name)
        turns = torch.randperm(ROTATIONS)
        return torch.stack([torch.rot90(image, int(k), (1, 2)) for k in turns]), turns


def plain_loader(paths: list[Path], kind: str, batch_size: int):
    """Batches without end."""
    loader = DataLoader(PlainImages(paths, kind), batch_size, shuffle=True, num_workers=2, drop_last=True)
    while True:
        yield from loader


def plain_training_step(net, optimizer, batches) -> int:
    """One step of either training; a rotation batch is (b, 4, 3, 32, 32) and passes four times."""
    net.train()
    images, targets = next(batches)
    passes = (
        list(zip(images.unbind(1), targets.unbind(1), strict=True))
        if images.dim() == 5
        else [(images, targets)]
    )
    optimizer.zero_grad()
    loss = sum(F.cross_entropy(net(x), y) for x, y in passes) / len(passes)
    loss.backward()
    optimizer.step()
    return len(images)


def plain_scoring(net, batches, images: int, rotations: int) -> int:
    """Loss extraction (4 rotations) or query scoring (1) at batch size 1."""
    net.eval()
    with torch.no_grad():
        for _ in range(images):
            image, _ = next(batches)
            for k in range(rotations):
                net(torch.rot90(image, k, (2, 3))).softmax(1)
    return images


def write_images(folder: Path, n: int) -> list[Path]:
    """n smooth color images of 32x32 pixels as PNG, in ten classes, a tenth of them again as test images."""
    source = np.random.default_rng(0)
    paths = []
    for i in range(n):
        small = Image.fromarray(source.integers(256, size=(8, 8, 3), dtype=np.uint8))
        image = small.resize((32, 32), Image.Resampling.BICUBIC)
        for split in ("train", "test") if i < n // 10 else ("train",):
            path = folder / split / str(i % 10) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        paths.append(folder / "train" / str(i % 10) / f"{i}.png")
    return paths


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds times two, a second, of a 2048 x 2048 matrix product."""
    a, b = (torch.randn(2048, 2048, device=device).to(dtype) for _ in range(2))
    return 2 * 2048**3 * 8 / seconds(lambda: [a @ b for _ in range(8)], device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def training_flops(net: torch.nn.Module) -> float:
    """Floating-point operations of one image forward and backward, counted by torch."""
    images = torch.randn(2, 3, 32, 32, device=next(net.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        net(images).sum().backward()
    return counter.get_total_flops() / 2


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """The rows of the table."""
    paths = write_images(folder, options.images)
    config = replace(
        CIFAR10, dataset="folder", data_dir=str(folder), width=options.width, batch_size=options.batch_size,
        rotation_batch_size=options.rotation_batch_size, device=options.device,
    )  # fmt: skip
    device = processes.start(config)
    precision = processes.choose_precision(config.precision, device)
    pool, test = load_images(config, device)
    statistics_ = list(CIFAR10_MEAN), list(CIFAR10_STD)
    pretext = fresh_network(config, ROTATIONS, 0, device)
    pretext_optimizer = SGD(pretext, config)
    task = rotation_task(config, pool, *statistics_)
    task = task._replace(positions=torch.arange(config.rotation_batch_size))
    classification = Classification(config, pool, test)
    classifier = fresh_network(config, 10, 0, device)
    classifier_task = classification.task(torch.arange(STEPS * config.batch_size))
    optimizer = SGD(classifier, config)
    plain_pretext, plain_net = (build(18, config.width, classes).to(device) for classes in (ROTATIONS, 10))
    plain_optimizers = [
        torch.optim.SGD(net.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
        for net in (plain_pretext, plain_net)
    ]
    plain = {
        kind: plain_loader(paths, kind, size)
        for kind, size in (
            ("rotation", config.rotation_batch_size),
            ("classifier", config.batch_size),
            ("scoring", 1),
        )
    }
    pipeline = plain_loader(paths, "classifier", config.batch_size)
    draws = classifier_task.draw(0, 0, 0)
    steps = [torch.arange(config.batch_size)] * 200
    some = replace(pool, pixels=pool.pixels[: options.scored], ids=pool.ids[: options.scored])

    def feed() -> int:
        for images, positions in pool.stream(steps):
            for _ in classifier_task.passes(images, positions, draws):
                pass
        return len(steps) * config.batch_size

    def step(net, optimizer_, task_) -> int:
        train_epoch(net, optimizer_, task_, config, 0, 0)
        return len(task_.positions)

    pairs = {
        "rotation training": (
            lambda: step(pretext, pretext_optimizer, task),
            lambda: plain_training_step(plain_pretext, plain_optimizers[0], plain["rotation"]),
        ),
        # Several steps each: of a few batches the first ones come from a queue that is already full.
        "classifier training": (
            lambda: step(classifier, optimizer, classifier_task),
            lambda: sum(
                plain_training_step(plain_net, plain_optimizers[1], plain["classifier"]) for _ in range(STEPS)
            ),
        ),
        "loss extraction": (
            lambda: len(rotation_scores(pretext, some, *statistics_, config)),
            lambda: plain_scoring(plain_pretext, plain["scoring"], len(some), ROTATIONS),
        ),
        "query scoring": (
            lambda: len(classification.logits(classifier, some, torch.arange(len(some)))),
            lambda: plain_scoring(plain_net, plain["scoring"], len(some), 1),
        ),
        "input pipeline": (feed, lambda: sum(len(next(pipeline)[0]) for _ in range(40))),
    }
    flops = {
        "rotation training": ROTATIONS * training_flops(pretext),
        "classifier training": training_flops(classifier),
    }
    table = []
    for name, (ours, theirs) in pairs.items():
        rates: dict[str, list[float]] = {"ours": [], "plain": [], "matrix": []}
        for repeat in range(options.repeats + 1):
            for who, work in (("ours", ours), ("plain", theirs)):
                time.sleep(2)  # until the plain loaders' workers have filled their queues and rest
                done: list[int] = []
                spent = seconds(lambda work=work, done=done: done.append(work()), device)
                if repeat:  # the first is the warm-up
                    rates[who].append(done[0] / spent)
            rates["matrix"].append(matrix_rate(device, precision))
        ours_rate, plain_rate, peak = (statistics.median(rates[who]) for who in ("ours", "plain", "matrix"))
        spread = max((max(r) - min(r)) / statistics.median(r) for r in (rates["ours"], rates["plain"]))
        share = 100 * ours_rate * flops[name] / peak if name in flops else None
        table.append({"what": name, "ours": ours_rate, "plain": plain_rate, "ratio": ours_rate / plain_rate,
                      "share_of_matrix_rate": share, "spread": 100 * spread})  # fmt: skip
    return table


# --- what a strategy costs beside the scoring


def large_query(candidates: int, labeled: int, d: int, k: int) -> Query:
    """Features in 200 soft clusters, cut at 0 as by a ReLU; ten of them serve as logits."""
    draws = torch.Generator().manual_seed(0)
    centers = torch.randn(200, d, generator=draws)
    features = torch.empty(candidates + labeled, d)
    for part in features.split(1000):  # in place: the memory that a strategy adds is to show
        own = torch.randint(200, (len(part),), generator=draws)
        part.normal_(0, 0.5, generator=draws).add_(centers[own]).relu_()
    logits = 4 * features[:candidates, :10]
    return Query(logits, features[:candidates], features[candidates:], k, draws)


def pick_cost(name: str) -> tuple[float, float]:
    """Seconds, and MiB on top of the query, of one strategy; to be called in a process of its own,
    whose highest memory so far is that of the query."""
    import resource

    import sklearn.cluster  # noqa: F401, the import is not what is measured

    def peak() -> float:  # bytes on macOS, KiB elsewhere
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used / 2**20 if sys.platform == "darwin" else used / 2**10

    query = large_query(50_000, 9_000, 512, 1_000)
    before, began = peak(), time.perf_counter()
    picks = STRATEGIES[name].pick(query)
    spent = time.perf_counter() - began
    assert len(set(picks.tolist())) == query.k
    return spent, peak() - before


def measure_picks(repeats: int) -> list[dict[str, object]]:
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in STRATEGIES}
    for _ in range(repeats):
        for name in STRATEGIES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                costs[name].append(pool.apply(pick_cost, (name,)))
    table = []
    for name, pairs in costs.items():
        spent, mib = zip(*pairs, strict=True)
        table.append({"what": name, "seconds": statistics.median(spent), "least": min(spent),
                      "most": max(spent), "mib": max(mib)})  # fmt: skip
    return table


# --- scoring with batch norm folded and without


def measure_folding(options: argparse.Namespace) -> list[dict[str, object]]:
    """Images a second of a forward pass of `--scored` images; the two take turns in going first."""
    device = processes.start(replace(CIFAR10, device=options.device))
    table = []
    for width in (16, 64):
        net = fresh_network(replace(CIFAR10, width=width), 10, 0, device).eval()
        nets = {"folded": fold_batchnorm(net), "plain": net}
        images = torch.randn(options.scored, 3, 32, 32, device=device)

        def forward(net, precision, images=images):
            with torch.no_grad(), autocast(device, precision):
                for part in images.split(CIFAR10.eval_batch_size):
                    net(part)

        for precision in (torch.float32, torch.bfloat16):
            rates: dict[str, list[float]] = {"folded": [], "plain": []}
            for repeat in range(options.repeats + 1):
                for who in sorted(nets, reverse=repeat % 2 == 1):
                    spent = seconds(lambda: forward(nets[who], precision), device)  # noqa: B023
                    if repeat:  # the first is the warm-up
                        rates[who].append(len(images) / spent)
            ratios = [a / b for a, b in zip(rates["folded"], rates["plain"], strict=True)]
            folded, plain, ratio = map(statistics.median, (rates["folded"], rates["plain"], ratios))
            table.append({"what": f"width {width}, {str(precision)[6:]}", "folded": folded, "plain": plain,
                          "ratio": ratio, "least": min(ratios), "most": max(ratios)})  # fmt: skip
    return table


# --- larger images


def measure_stems(options: argparse.Namespace) -> list[dict[str, object]]:
    """Images a second of training steps, all in one precision: of 64 images, and with the stem `small` of so
    many that they have as many pixels as 64 of 64 x 64. "ratio" is to the faster of torchvision's, in one
    repeat."""
    config = replace(CIFAR10, device=options.device)
    device = processes.start(config)
    precision = processes.choose_precision(config.precision, device)

    def step(net, optimizer, images, targets) -> None:
        with autocast(device, precision):
            logits = net(images)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), targets).backward()
        optimizer.step()

    table = []
    for size in (64, 96, 128, 224):
        small, imagenet = (build(18, options.width, 10, stem) for stem in ("small", "imagenet"))
        work = {}
        for name, net, order in (
            ("small", small, small.memory_format),
            ("imagenet", imagenet, imagenet.memory_format),
            ("theirs", resnet18(num_classes=10), torch.contiguous_format),
            ("their_nhwc", resnet18(num_classes=10), torch.channels_last),
        ):
            net.to(device, memory_format=order).train()
            n = 64**3 // size**2 if name == "small" else 64
            images = torch.randn(n, 3, size, size, device=device).to(memory_format=order)
            work[name] = net, SGD(net, config), images, torch.arange(n, device=device) % 10
        rates: dict[str, list[float]] = {name: [] for name in work}
        for repeat in range(options.repeats + 1):
            for name in sorted(work, reverse=repeat % 2 == 1):
                spent = seconds(lambda: step(*work[name]), device)  # noqa: B023
                if repeat:  # the first is the warm-up
                    rates[name].append(len(work[name][2]) / spent)
        best = map(max, rates["theirs"], rates["their_nhwc"])
        ratios = [a / b for a, b in zip(rates["imagenet"], best, strict=True)]
        medians = {name: statistics.median(values) for name, values in rates.items()}
        table.append({"what": f"{size} pixels", **medians, "ratio": statistics.median(ratios),
                      "least": min(ratios), "most": max(ratios)})  # fmt: skip
    return table


# --- decoding


class JpegFiles(Dataset):
    """One file at a time, by the function that ours calls too."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray:
        return read_image(self.paths[i], self.size, "crop")


def write_jpegs(folder: Path, n: int, width: int, height: int) -> list[Path]:
    """n images of noise on smooth colors, quality 90."""
    source, paths = np.random.default_rng(0), [folder / f"{width} {i}.jpg" for i in range(n)]
    for path in paths:
        smooth = Image.fromarray(source.integers(128, size=(8, 8, 3), dtype=np.uint8)).resize((width, height))
        noise = source.integers(64, size=(height, width, 3), dtype=np.uint8)
        Image.fromarray(np.asarray(smooth) + noise).save(path, quality=90)
    return paths


def measure_decoding(repeats: int, folder: Path) -> list[dict[str, object]]:
    """Images a second at the sizes of CIFAR-10, Tiny ImageNet and photographs; orders alternate."""
    table = []
    for width, height, n in ((32, 32, 4000), (64, 64, 4000), (4000, 3000, 40)):
        paths, config = write_jpegs(folder, n, width, height), replace(CIFAR10, img_size=min(width, 64))
        files = JpegFiles(paths, config.img_size)
        workers, batch = count_workers(0, n), n // 100 + 1
        loader = DataLoader(files, batch, num_workers=workers, collate_fn=np.stack)
        ways = {
            "ours": lambda paths=paths, config=config: decode(paths, config, "images", 2**40),
            "loop": lambda files=files: [files[i] for i in range(len(files))],
            "DataLoader": lambda loader=loader: list(loader),
        }
        rates: dict[str, list[float]] = {who: [] for who in ways}
        for repeat in range(repeats):
            for who in list(ways)[:: -1 if repeat % 2 else 1]:
                rates[who].append(n / seconds(ways[who], torch.device("cpu")))
        medians = {who: statistics.median(rate) for who, rate in rates.items()}
        table.append({"what": f"{width} x {height}", **medians})
    return table


def print_table(title: str, table: list[dict[str, object]]) -> None:
    """Rows of the same keys."""
    print(f"{title}, median of the repeats; load of the machine {os.getloadavg()[0]:.1f}")
    print(f"{'':<24}", *(f"{key:>10}" for key in list(table[0])[1:]))
    for row in table:
        what, *values = row.values()
        print(f"{what:<24}", *(f"{value:>10.2f}" for value in values))


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--width", type=positive, default=64, help="width of the network (default: 64)")
    parser.add_argument("--batch-size", type=positive, default=128, help="of the classifier (default: 128)")
    parser.add_argument(
        "--rotation-batch-size",
        type=positive,
        default=256,
        help="of the pretext task (default: 256)",
    )
    parser.add_argument("--images", type=positive, default=2048, help="images on disk (default: 2048)")
    parser.add_argument("--scored", type=positive, default=512, help="images scored a repeat (default: 512)")
    parser.add_argument("--repeats", type=positive, default=5, help="interleaved repeats (default: 5)")
    parser.add_argument("--device", default="auto", help="as in config.py (default: auto)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--picks", action="store_true", help="measure the query strategies alone")
    parser.add_argument("--folding", action="store_true", help="measure scoring with batch norm folded")
    parser.add_argument("--stems", action="store_true", help="measure training on larger images")
    parser.add_argument("--decoding", action="store_true", help="measure the decoding of image files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.picks:
            title, table = "seconds to pick", measure_picks(options.repeats)
        elif options.folding:
            title, table = "images per second, scoring", measure_folding(options)
        elif options.stems:
            title, table = "images per second, training", measure_stems(options)
        elif options.decoding:
            title, table = "images per second, decoding", measure_decoding(options.repeats, Path(folder))
        else:
            title, table = "", measure(options, Path(folder))
    if title and not options.json:
        print_table(title, table)
        return
    if options.json:
        print(json.dumps(table, indent=2))
        return
    print(f"width {options.width}, images per second, median of {options.repeats}")
    print(f"{'':<22}{'ours':>10}{'plain':>10}{'ratio':>8}{'of matrix rate':>16}{'spread':>9}")
    for row in table:
        share = row["share_of_matrix_rate"]
        rates = f"{row['ours']:>10.1f}{row['plain']:>10.1f}{row['ratio']:>8.1f}"
        print(
            f"{row['what']:<22}{rates}{'' if share is None else f'{share:.0f} %':>16}{row['spread']:>7.0f} %"
        )


if __name__ == "__main__":
    run_script(main)
