"""Bad input: exit status 2, one line that names the thing, no traceback, and no file changed."""

import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from PIL import Image
from shell import TINY, content, copy, run

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.run.command_line import from_command_line

pytestmark = pytest.mark.slow  # many starts of a script, seconds each

ARGUMENTS = [
    ("main.py imagenet", "preset 'imagenet' is unknown"),
    ("main.py digits --sed 3", "--sed"),
    ("main.py digits --tensorboard", "unknown flag --tensorboard"),
    ("main.py digits cifar10", "'cifar10' is a preset: give one, right after the script's name"),
    ("main.py --threads 1 digits", "'digits' is a preset: give one, right after"),
    ("main.py digits --strategy best", "strategy is 'best': it must be one of confidence"),
    ("main.py digits --dataset imagenet", "dataset is 'imagenet': it must be one of cifar10"),
    ("main.py digits --seed", "--seed: expected one argument"),
    ("rotation.py digits --stem imagenet", "img_size is 16: it must be at least 48 with --stem imagenet"),
    ("rotation.py digits --stem imagenet --losses x --features x", "img_size is 16"),  # no effect there
    ("make_batches.py digits --stem imagenet --features x", "img_size is 16"),
    ("main.py digits --stem imagenet --losses x", "img_size is 16"),
    ("main.py digits --cycles 11", "cycles is 11: it must be at most num_batches (4)"),
    ("main.py digits --milestones 20 10", "milestones is (20, 10)"),
    ("main.py digits --milestones 0", "milestones is (0,)"),
    ("main.py digits --milestones 20,25", "milestones is '20,25': it must be whole numbers with blanks between"),
    ("main.py digits --imbalance-kind step", "imbalance is 1.0: it must be above 1 with --imbalance-kind step"),
    ("main.py digits --lr nan", "lr is nan"),
    ("main.py digits --lr 0", "lr is 0.0"),
    ("main.py digits --lr -1", "-1"),
    ("main.py digits --lr inf", "lr is inf"),
    ("main.py digits --lr 1e308", "lr is 1e+308: it must be above 0 and at most 1e+30"),
    ("main.py digits --restart yes", "--restart takes no value, not 'yes'"),
    ("main.py digits --no-flip=true", "--no-flip takes no value, not 'true': give --flip for yes, --no-flip"),
    ("main.py digits --experiment x --strategy interval --first-pick random --candidates all", "batch_0.txt"),
    ("main.py digits --experiment x --strategy class_balanced --first-pick random --candidates all", "batch_0"),
    ("main.py digits --momentum 1", "momentum is 1.0"),
    ("main.py digits --weight-decay=-1", "weight_decay is -1.0"),
    ("main.py digits --crop-padding 16", "crop_padding is 16"),
    ("main.py digits --img-size 4", "img_size is 4"),
    ("main.py digits --img-size 5000", "img_size is 5000"),
    ("main.py digits --depth 19", "depth is 19: it must be one of 18, 34, 50"),
    ("main_pt4al.py digits --cold-start-batch 10", "cold_start_batch is 10"),
    ("main.py digits --experiment a/b", "experiment is 'a/b'"),
    ("main.py digits --run-name ..", "run_name is '..'"),
    ("main.py digits --device tpu", "device 'tpu' is unknown"),
    ("main.py digits --device cuda", "no usable CUDA GPU"),
    ("main.py digits --labels-per-cycle 400", "labels_per_cycle is 400 but a batch holds"),
    ("main.py digits --candidates all --labels-per-cycle 500", "the pool holds 100 images"),
    ("make_batches.py digits --num-batches 2000 --cycles 1", "num_batches is 2000 but"),
    ("make_batches.py digits --width 32", "rotation.pth was made with another width"),
    ("make_batches.py digits --img-size 20", "rotation.pth was made with another img_size"),
    ("make_batches.py digits --experiment other", "run rotation.py first"),
    ("make_batches.py digits --losses nowhere.txt", "nowhere.txt does not exist"),
    ("rotation.py digits --rotation-epochs 3", "rotation_epochs (was 2, now 3)"),
    ("main.py digits --lr 0.5", "lr (was 0.03, now 0.5)"),
    ("main.py digits --experiment other", "batch_0.txt does not exist"),
    ("rotation.py cifar10 --data-dir nowhere --num-batches 10 --cycles 10", "could not be downloaded"),
    ("rotation.py --dataset folder --data-dir nowhere --num-batches 10", "nowhere/train is not a folder"),
    *((f"main.py digits --{name} 0", f"{name.replace('-', '_')} is 0") for name in (
        "width", "rotation-epochs", "rotation-batch-size", "num-batches", "cycles", "labels-per-cycle",
        "epochs", "batch-size", "eval-every", "eval-batch-size")),
    *((f"main.py digits --{name} x", "'x'") for name in (
        "seed", "epochs", "lr", "labels-per-cycle", "milestones", "threads", "resident-share")),
]  # fmt: skip


def refuse(folder: Path, line: str, message: str, status: int = 2, **variables: str) -> None:
    """Run a command through the shell that must be refused: one line that says it, no file changed."""
    before = content(folder)
    script, preset, *arguments = line.split()
    arguments = [preset, *(TINY if preset == "digits" else []), *arguments]
    errors = run(folder, script, *arguments, status=status, **variables).stderr
    assert errors.startswith(f"{Path(script).name}: error: ") and message in errors, errors
    assert len(errors.splitlines()) == 1 and "Traceback" not in errors, errors
    assert content(folder) == before


@pytest.fixture(scope="module")
def work(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs to be left as they are."""
    folder = tmp_path_factory.mktemp("bad") / "work"
    shutil.copytree(finished, folder)
    return folder


@pytest.mark.parametrize(("line", "message"), ARGUMENTS, ids=[line for line, _ in ARGUMENTS])
def test_bad_arguments_are_refused(work: Path, line: str, message: str):
    # Nobody listens at this port, so that a data set that is not there cannot come from the network.
    refuse(work, line, message, https_proxy="http://127.0.0.1:9")


NUMBERS = [f.name for f in fields(Config) if f.type in (int, float, int | None)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["x", "-1", "1e400", "nan"])
def test_every_number_is_checked(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    """The function behind every script's command line, for each field; the table above is the shell's."""
    monkeypatch.setattr(sys, "argv", ["main.py", "cifar10", f"--{name}", value])
    with pytest.raises(UserError) as refused:
        from_command_line("")
    assert name.replace("_", "-") in str(refused.value).replace("_", "-")
    assert "\n" not in str(refused.value)


def test_a_precision_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "processor_features", set)
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match="cpu has no bfloat16 arithmetic: use --precision float32"):
        processes.choose_precision("bf16", cpu)
    assert processes.choose_precision("auto", cpu) == torch.float32


GOOD = "0.5_./DATA/train/0/1.png\n"
LOSS_FILES = {
    "empty": (b"", "is empty"),
    "nan": (b"nan_./DATA/train/0/1.png\n", "the loss is nan"),
    "inf": (b"inf_./DATA/train/0/1.png\n", "the loss is inf"),
    "negative": (b"-0.5_./DATA/train/0/1.png\n", "the loss is -0.5"),
    "text": (GOOD.encode() + b"high_./DATA/train/0/2.png\n", "line 2: 'high' is not a number"),
    "no separator": (b"0.5 ./DATA/train/0/1.png\n", "is not <loss>_<image id>"),
    "doubled id": ((GOOD * 2).encode(), "stands twice"),
    "too few": (GOOD.encode(), "num_batches is 4 but there are only 1 images"),
}


@pytest.mark.parametrize("name", LOSS_FILES)
def test_bad_loss_files_are_refused(work: Path, name: str):
    data, message = LOSS_FILES[name]
    (work / "given.txt").write_bytes(data)
    refuse(work, "make_batches.py digits --losses given.txt --experiment other", message)


def damage_batch(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "loss/digits-seed0/batch_1.txt"
    path.write_text(change(path.read_text()))


BROKEN_FILES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "batch with an unknown id": (lambda f: damage_batch(f, lambda t: t + "./DATA/train/0/x.png\n"),
                                 "main.py digits --run-name new", "is not in the pool"),
    "batch with a repeated id": (lambda f: damage_batch(f, lambda t: t + t.splitlines()[0] + "\n"),
                                 "main.py digits --run-name new", "already"),
    "empty batch": (lambda f: damage_batch(f, lambda t: ""), "main.py digits --run-name new", "is empty"),
    "missing batch": (lambda f: (f / "loss/digits-seed0/batch_1.txt").unlink(),
                      "main.py digits --run-name new", "batch_1.txt does not exist"),
    "other batches in a run": (lambda f: damage_batch(f, lambda t: "\n".join(t.split()[::-1]) + "\n"),
                               "main.py digits", "batches (was"),
    "weights cut short": (lambda f: cut(f / "checkpoint/digits-seed0/rotation.pth"),
                          "make_batches.py digits", "not a usable checkpoint"),
    "weights that are text": (lambda f: (f / "checkpoint/digits-seed0/rotation.pth").write_text("hello"),
                              "make_batches.py digits", "not a usable checkpoint"),
    "weights without a net": (lambda f: torch.save({"acc": 1.0}, f / "checkpoint/digits-seed0/rotation.pth"),
                              "make_batches.py digits", "no dict of weights"),
    "weights of ten classes": (lambda f: other_classes(f),
                               "make_batches.py digits", "linear.bias is [10], not [4]"),
    "weights that run code": (lambda f: bomb(f), "make_batches.py digits", "not a usable checkpoint"),
    "weights of another normalization": (lambda f: change(f, std=[0.0, 0.1, 0.1]),
                                         "make_batches.py digits", "holds std [0.0, 0.1, 0.1]"),
    "weights with NaN for a mean": (lambda f: change(f, mean=[float("nan")] * 3),
                                    "make_batches.py digits", "holds mean [nan, nan, nan]"),
    "weights of another data set": (lambda f: change(f, dataset="cifar10"),
                                    "make_batches.py digits", "another dataset (cifar10, not folder)"),
    "weights of other images": (lambda f: change(f, data="0" * 64),
                                "make_batches.py digits", "was made from other images"),
    "config.json cut short": (lambda f: cut(f / "runs/digits-seed0/main-confidence/config.json"),
                              "main.py digits", "is not valid JSON"),
    "last.pth cut short": (lambda f: cut(f / "checkpoint/digits-seed0/main-confidence/last.pth"),
                           "main.py digits", "no whole state is left"),
}  # fmt: skip


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_classes(folder: Path) -> None:
    """A classifier in the released code's form where rotation weights should be."""
    net = torch.load(folder / "checkpoint/digits-seed0/main-confidence/main_0.pth", weights_only=True)["net"]
    torch.save(
        {"net": {f"module.{k}": v for k, v in net.items()}, "acc": 1.0, "epoch": 0},
        folder / "checkpoint/digits-seed0/rotation.pth",
    )


def change(folder: Path, **values: object) -> None:
    path = folder / "checkpoint/digits-seed0/rotation.pth"
    weights = torch.load(path, weights_only=True)
    torch.save({**weights, **values}, path)


class Bomb:
    """A pickle that would make a file if it were loaded as code."""

    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def bomb(folder: Path) -> None:
    (folder / "checkpoint/digits-seed0/rotation.pth").write_bytes(pickle.dumps({"net": Bomb()}))


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_broken_files_are_refused(finished: Path, tmp_path: Path, name: str):
    folder = copy(finished, tmp_path)
    damage, line, message = BROKEN_FILES[name]
    damage(folder)
    refuse(folder, line, message)
    assert not (folder / "exploded").exists()


def folder_with(root: Path, *names: str) -> Path:
    for name in names:
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (len(name), 0, 0)).save(path)
    return root / "data"


def spoil_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[30:60] = bytes(30)
    path.write_bytes(data)


FOUR = ("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no test": (lambda d: shutil.rmtree(d / "test"), "test is not a folder"),
    "one class": (lambda d: shutil.rmtree(d / "train/b"), "has 1 class folders"),
    "empty class": (lambda d: (d / "train/b/2.png").unlink(), "holds no image"),
    "other classes to test": (
        lambda d: (d / "test/b").rename(d / "test/c"),
        "different class folders: b, c",
    ),
    "empty image": (lambda d: (d / "train/b/2.png").write_bytes(b""), "train/b/2.png"),
    "truncated image": (lambda d: cut(d / "train/b/2.png"), "train/b/2.png"),
    "text as image": (
        lambda d: (d / "train/b/2.png").write_text("hello"),
        "1 of 2 images cannot be read",
    ),
    "link to nothing": (lambda d: (d / "train/b/5.png").symlink_to("nowhere"), "train/b/5.png"),
    "link to itself": (lambda d: (d / "train/b/5.png").symlink_to("5.png"), "train/b/5.png"),
    "line end in a name": (
        lambda d: (d / "train/b/2.png").rename(d / "train/b/2\n.png"),
        "has a line end or a backslash in its name",
    ),
    "a line end in a class": (
        lambda d: [(d / s / "b").rename(d / s / "b\nc") for s in ("train", "test")],
        "has a line end or a backslash in its name",
    ),
    "a byte changed into noise": (lambda d: spoil_bytes(d / "train/b/2.png"), "train/b/2.png"),
    "a class that links to itself": (
        lambda d: [shutil.rmtree(d / "train/b"), (d / "train/b").symlink_to("b")],
        "has 1 class folders",
    ),
    "ids that clash": (
        lambda d: shutil.copy(d / "train/b/2.png", d / "train/b/2.bmp"),
        "differ in their ending only",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_bad_folders_are_refused(tmp_path: Path, name: str):
    data = folder_with(tmp_path, *FOUR)
    spoil, message = FOLDERS[name]
    spoil(data)
    refuse(
        tmp_path,
        "main.py digits --dataset folder --data-dir data --candidates all --first-pick random",
        message,
    )
