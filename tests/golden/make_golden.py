"""Run the released code on inputs made by formula.py and write down what it gives.

Reads:  a checkout of johnsk95/PT4AL at commit 9a0da4a
Writes: numbers.json, weights.csv beside this file
Run:    python tests/golden/make_golden.py CHECKOUT     about a minute on one CPU core

Nothing of ours is imported. The released scripts run whole, from patched copies in a temporary
folder; README.md says what is patched and why.
"""

import argparse
import ast
import contextlib
import csv
import io
import json
import os
import random
import re
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import cv2
import formula
import numpy as np
import torch
import torchvision
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

HERE = Path(__file__).parent
NARROW = {64: 16, 128: 32, 256: 64, 512: 128}  # a quarter of every stage's channels
POOL, TESTS = 300, 40  # ten classes of thirty, ten batches of thirty


# --- patched copies


class Sizes(ast.NodeTransformer):
    """Replaces whole-number constants by value, and the value given to a name."""

    def __init__(self, numbers: dict[int, int], names: dict[str, int]) -> None:
        self.numbers, self.names = numbers, names

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if type(node.value) is int and node.value in self.numbers:
            return ast.copy_location(ast.Constant(self.numbers[node.value]), node)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        self.generic_visit(node)
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id in self.names:
            node.value = ast.Constant(self.names[node.targets[0].id])
        return node


def patched(path: Path, numbers: dict[int, int], names: dict[str, int] | None = None) -> str:
    return ast.unparse(Sizes(numbers, names or {}).visit(ast.parse(path.read_text())))


class Released:
    """The released code in a temporary folder, with images, and a record of what training does."""

    def __init__(self, checkout: Path, folder: Path, widths: dict[int, int] | None = None) -> None:
        self.checkout, self.folder, self.widths = checkout, folder, widths or {}
        (folder / "models").mkdir(parents=True)
        for name in ("resnet.py", "__init__.py"):
            source = checkout / "models" / name
            text = patched(source, self.widths) if name == "resnet.py" else "from .resnet import *"
            (folder / "models" / name).write_text(text)
        for name in ("loader.py", "utils.py"):
            (folder / name).write_text((checkout / name).read_text())
        (folder / "bin").mkdir()
        stty = folder / "bin" / "stty"  # utils.py asks it for the width of the terminal
        stty.write_text("#!/bin/sh\necho 24 80\n")
        stty.chmod(0o755)
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.weights: list[dict[str, list[float]]] = []
        self.wanted: set[int] = set()  # steps after which weights are recorded

    def write_images(self, split: str, numbers) -> None:
        for number, pixels in zip(numbers, formula.images(numbers), strict=True):
            path = self.folder / path_of(split, int(number))
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)

    def run(
        self, script: str, numbers: dict[int, int], names: dict[str, int] | None = None, name: str = "__main__"
    ) -> dict:  # fmt: skip
        """Execute a script in the folder, on one CPU thread, with draws by formula; returns its
        globals."""
        code = compile(patched(self.checkout / script, numbers, names), script, "exec")
        space = {"__name__": name, "__file__": script}
        with contextlib.ExitStack() as stack:
            stack.callback(os.chdir, os.getcwd())
            os.chdir(self.folder)
            stack.enter_context(patch.object(sys, "path", [str(self.folder), *sys.path]))
            stack.enter_context(patch.object(sys, "argv", [script]))
            path = f"{self.folder}/bin:{os.environ['PATH']}"
            stack.enter_context(patch.dict(os.environ, PATH=path))
            said = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            for change in self.draws_by_formula():
                stack.enter_context(change)
            exec(code, space)
        for module in ("models", "models.resnet", "loader", "utils"):
            sys.modules.pop(module, None)
        self.output = said.getvalue()
        return space

    def draws_by_formula(self):
        """What replaces chance: initial weights, order, crops, flips and turns."""
        now = {"number": 0, "cycle": -1, "epoch": -1, "net": None}
        imread, move, loader, rand = (
            cv2.imread,
            torch.nn.Module.to,
            torch.utils.data.DataLoader,
            torch.rand,
        )
        backward = torch.Tensor.backward

        def read_and_note(path: str):
            now["number"] = int(Path(path).stem)
            return imread(path)

        def fill_and_move(net, *args, **kwargs):
            fill(net)
            now["net"] = net
            return move(net, *args, **kwargs)

        class InOrder:
            """Image numbers are looked up in the paths of the data set; an iteration is an epoch."""

            def __init__(self, dataset) -> None:
                self.place = {int(Path(p.strip()).stem): i for i, p in enumerate(dataset.img_path)}
                now.update(cycle=now["cycle"] + 1, epoch=-1)

            def __len__(self) -> int:
                return len(self.place)

            def __iter__(self):
                now["epoch"] += 1
                order = formula.order(list(self.place), now["cycle"], now["epoch"])
                return iter([self.place[number] for number in order])

        def load(dataset, batch_size, shuffle, num_workers):
            sampler = InOrder(dataset) if shuffle else None
            return loader(dataset, batch_size=batch_size, sampler=sampler)

        def position():
            return now["number"], now["cycle"], now["epoch"]

        def crop_draw(image, size):
            row, column, _ = formula.crop(*position())
            return int(row), int(column), *size

        def flip_draw(*size, **kwargs):
            if size != (1,):
                return rand(*size, **kwargs)
            return torch.tensor([0.0 if formula.crop(*position())[2] else 1.0])

        def shuffle(turns: list[int]) -> None:
            turns[:] = formula.turns([now["number"]], now["epoch"])[0].tolist()

        def note_loss(loss, *args, **kwargs):
            self.losses.append(loss.item())
            return backward(loss, *args, **kwargs)

        def note_step(optimizer, args, kwargs):
            self.rates.append(optimizer.param_groups[0]["lr"])
            if len(self.losses) in self.wanted:
                self.weights.append(summaries(now["net"].state_dict()))

        crop = torchvision.transforms.RandomCrop
        hook = register_optimizer_step_post_hook(note_step)
        return [
            contextlib.closing(Removal(hook)),
            patch.object(cv2, "imread", read_and_note),
            patch.object(torch.nn.Module, "to", fill_and_move),
            patch.object(torch.utils.data, "DataLoader", load),
            patch.object(crop, "get_params", staticmethod(crop_draw)),
            patch.object(torch, "rand", flip_draw),
            patch.object(random, "shuffle", shuffle),
            patch.object(torch.Tensor, "backward", note_loss),
        ]


class Removal:
    """Closing it removes a hook of torch."""

    def __init__(self, hook) -> None:
        self.close = hook.remove


def path_of(split: str, number: int) -> str:
    return f"./DATA/{split}/{formula.label(number)}/{number:05d}.png"


def fill(net: torch.nn.Module) -> None:
    made = formula.state({name: value.shape for name, value in net.state_dict().items()})
    dtype = torch.get_default_dtype()
    net.load_state_dict(
        {name: torch.from_numpy(value).to(dtype) for name, value in made.items()}, strict=False
    )


def summaries(state: dict[str, torch.Tensor]) -> dict[str, list[float]]:
    return {name: formula.summary(value.numpy()) for name, value in state.items()}


# --- the numbers


def logits(checkout: Path, work: Path) -> dict:
    """Logits of ResNet18 for three images, by dtype, mode and number of classes."""
    result = {}
    pixels = torch.from_numpy(formula.images(range(3))).permute(0, 3, 1, 2)
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        for classes in (10, 4):
            space = Released(checkout, work / f"{dtype}{classes}").run("models/resnet.py", {}, name="resnet")
            for mode in ("eval", "train"):
                net = space["ResNet18"]()
                if classes == 4:
                    net.linear = torch.nn.Linear(512, 4)
                fill(net)
                net.train(mode == "train")
                with torch.no_grad():
                    out = net(pixels.to(dtype) / 255)
                result[f"{str(dtype)[6:]}-{mode}-{classes}"] = out.tolist()
    return result


def learning_rates(checkout: Path, work: Path) -> dict[str, list[float]]:
    """The rate of every epoch, both scripts run to their end on one image (one step an epoch)."""
    torch.set_default_dtype(torch.float32)
    tiny = {64: 4, 128: 4, 256: 4, 512: 4}
    rotation = Released(checkout, work / "rates-rotation", tiny)
    rotation.write_images("train", [0])
    rotation.run("rotation.py", {512: 4})
    main = Released(checkout, work / "rates-main", tiny)
    main.write_images("train", [0])
    main.write_images("test", [formula.TEST])
    (main.folder / "loss").mkdir()
    (main.folder / "loss" / "batch_0.txt").write_text(path_of("train", 0) + "\n")
    main.run("main.py", {1000: 1}, {"CYCLES": 1})
    return {"rotation": rotation.rates, "classifier": main.rates}


def rotation(checkout: Path, work: Path) -> dict:
    """rotation.py: one step at full width, and four epochs of three steps at a quarter of it."""
    torch.set_default_dtype(torch.float64)
    wide = Released(checkout, work / "rotation-wide")
    wide.write_images("train", range(0, POOL, 75))
    wide.wanted = {1}
    wide.run("rotation.py", {15: 1})
    narrow = Released(checkout, work / "rotation-narrow", NARROW)
    narrow.write_images("train", range(0, POOL, 15))
    narrow.wanted = {12}
    narrow.run("rotation.py", {15: 4, 256: 8, 512: 128})
    best = torch.load(narrow.folder / "checkpoint" / "rotation.pth")
    lines = (narrow.folder / "best_rotation.txt").read_text().split()
    return {
        "wide_losses": wide.losses,
        "narrow_losses": narrow.losses,
        "narrow_accuracies": [float(line.split(":")[0]) for line in lines],
        "narrow_best": [best["acc"], best["epoch"]],
        "weights": {
            "rotation-wide-1": wide.weights[0],
            "rotation-narrow-12": narrow.weights[0],
        },
    }


def scores(checkout: Path, work: Path) -> dict:
    """make_batches.py's loss of each image, at full width, in both dtypes."""
    result = {}
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        released = Released(checkout, work / f"scores-{dtype}")
        released.write_images("train", range(0, POOL, 50))
        make_batches(released, {5000: 1})
        lines = (released.folder / "rotation_loss.txt").read_text().split()
        result[str(dtype)[6:]] = sorted(lines, key=lambda line: line.split("_")[1])
    return result


def make_batches(released: Released, numbers: dict[int, int]) -> list[list[str]]:
    """Run make_batches.py on a rotation.pth made by formula; returns the batch files' lines."""
    width = released.widths.get(512, 512)
    space = released.run("models/resnet.py", released.widths, name="resnet")
    net = space["ResNet18"]()
    net.linear = torch.nn.Linear(width, 4)
    fill(net)
    folder = released.folder / "checkpoint"
    folder.mkdir()
    torch.save({"net": net.state_dict(), "acc": 25.0, "epoch": 0}, folder / "rotation.pth")
    released.run("make_batches.py", {**numbers, 512: width})
    files = sorted((released.folder / "loss").glob("batch_*.txt"))  # none where a batch is empty
    return [path.read_text().split("\n")[:-1] for path in files]


def text_sort(checkout: Path, work: Path) -> dict:
    """make_batches.py on loss files that stand already: there is no image, so it adds no line."""
    torch.set_default_dtype(torch.float32)
    few = ["0.5", "9.9e-05", "4.41", "1e-05", "0.5", "10.0", "0.25", "0.25", "2", "0.0"]
    many = [str(float(x)) for x in 10 ** (5 * formula.uniform(formula.key_of("losses"), np.arange(40)) - 4)]
    cases = {
        "ties": [f"{text}_./DATA/train/{i}/{i}.png" for i, text in enumerate(few)],
        "forty": [f"{text}_./DATA/train/{i % 10}/{i}.png" for i, text in enumerate(many)],
        "underscores": [f"{10 - i}.5_./DATA/train/1/a_{i}_b.png" for i in range(10)],
    }
    result = {}
    for name, lines in cases.items():
        released = Released(checkout, work / f"sort-{name}", {512: 8, 256: 8, 128: 8, 64: 8})
        (released.folder / "rotation_loss.txt").write_text("".join(line + "\n" for line in lines))
        result[name] = {"lines": lines, "batches": make_batches(released, {5000: len(lines) // 10})}
    return result


class Table:
    """In place of a network: gives the rows of a table of logits one after the other."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = iter(torch.from_numpy(rows).split(1))

    def eval(self) -> None: ...

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        return next(self.rows)


def picks(checkout: Path, work: Path) -> dict:
    """Positions that the three query functions choose of 5,000 candidates, given their logits."""
    torch.set_default_dtype(torch.float64)
    released = Released(checkout, work / "picks")
    released.write_images("test", [formula.TEST])
    numbers = np.arange(5000)
    for number in numbers:  # the functions read every image, whatever the network does with it
        path = released.folder / f"DATA/train/0/{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1)).save(path)
    samples = [f"{released.folder}/DATA/train/0/{number:05d}.png\n" for number in numbers]
    space = released.run("main.py", {}, name="released_main")
    lopsided = formula.logits(5000, 10) + np.array([3, 2, 1, 0, 0, 0, 0, 0, -2, -8])
    # twenty-three rows, each met many times: every score is tied
    tied = formula.logits(23, 10)[np.arange(5000) % 23]
    result = {}
    for function, case, table in (
        ("get_plabels", "lopsided", lopsided),
        ("get_plabels2", "plain", formula.logits(5000, 10)),
        ("get_plabels2", "tied", tied),
        ("get_plabels3", "plain", formula.logits(5000, 10)),
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            chosen = space[function](Table(table), list(samples), 1)
        entry = {"shape": list(np.shape(chosen))}
        entry["picks"] = [int(Path(str(path).strip()).stem) for path in np.ravel(chosen)]
        result[f"{function}-{case}"] = entry
    entropy = result["get_plabels3-plain"]
    entropy["distinct"] = sorted(set(entropy.pop("picks")))
    return result


def cycles(checkout: Path, work: Path) -> dict:
    """make_batches.py, then main.py for four cycles of six epochs, at a quarter of the width."""
    torch.set_default_dtype(torch.float64)
    released = Released(checkout, work / "cycles", NARROW)
    released.write_images("train", range(POOL))
    released.write_images("test", range(formula.TEST, formula.TEST + TESTS))
    batches = make_batches(released, {5000: POOL // 10})
    released.losses.clear()
    space = released.run("main.py", {1000: 6, 200: 6, 160: 1, 128: 8}, {"CYCLES": 4})
    kept = [torch.load(released.folder / "checkpoint" / f"main_{cycle}.pth") for cycle in range(4)]
    lines = (released.folder / "rotation_loss.txt").read_text().split()
    return {
        "rotation_losses": sorted(lines, key=lambda line: line.split("_")[1]),
        "batches": [[int(Path(path).stem) for path in batch] for batch in batches],
        "labeled": [int(Path(str(path).strip()).stem) for path in space["labeled"]],
        "losses": released.losses,
        "rates": released.rates,
        # the progress bar of a test ends with its counts
        "correct": [int(n) for n in re.findall(rf"\((\d+)/{TESTS}\)", released.output)],
        "best": [[checkpoint["acc"], checkpoint["epoch"]] for checkpoint in kept],
        "weights": {f"main-{cycle}": summaries(kept[cycle]["net"]) for cycle in (1, 3)},
    }


def one_step(checkout: Path, work: Path) -> dict:
    """main.py: one step of the classifier at full width."""
    torch.set_default_dtype(torch.float64)
    released = Released(checkout, work / "classifier-wide")
    released.write_images("train", range(0, POOL, 75))
    released.write_images("test", [formula.TEST, formula.TEST + 1])
    (released.folder / "loss").mkdir()
    lines = [path_of("train", number) + "\n" for number in range(0, POOL, 75)]
    # every fifth line is labelled
    (released.folder / "loss" / "batch_0.txt").write_text("".join(line + 4 * "unused\n" for line in lines))
    released.wanted = {1}
    released.run("main.py", {1000: 4, 200: 1}, {"CYCLES": 1})
    return {"losses": released.losses, "weights": {"classifier-wide-1": released.weights[0]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, help="johnsk95/PT4AL at commit 9a0da4a")
    checkout = parser.parse_args().checkout.resolve()
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        raise SystemExit("hide the GPU (CUDA_VISIBLE_DEVICES=): the numbers are the CPU's")
    versions = {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": sys.version.split()[0],
    }
    numbers, weights = {"commit": "9a0da4a", "versions": versions}, {}
    with tempfile.TemporaryDirectory() as folder:
        for part in (logits, learning_rates, rotation, scores, text_sort, picks, one_step, cycles):
            print(part.__name__, flush=True)
            numbers[part.__name__] = part(checkout, Path(folder))
            weights |= numbers[part.__name__].pop("weights", {})
    lines = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in numbers.items()]
    (HERE / "numbers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    with (HERE / "weights.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["when", "tensor", "sum", "norm", "first", "third", "two_thirds", "last"])
        for when, tensors in weights.items():
            table.writerows([when, name, *values] for name, values in tensors.items())


if __name__ == "__main__":
    main()
