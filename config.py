"""Every parameter of PT4AL, its presets, and the command line made from them.

    python SCRIPT.py [PRESET] [--field value ...]

Edit the defaults below, or override them by flags; `--help` on any script shows this file's text.
What a run used is stored in its `config.json`. "Paper" is Yi et al., ECCV 2022; "released code" is
the authors' repository.
"""

import contextlib
import dataclasses
import io
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import tyro

from utils.console import UserError

Dataset = Literal["cifar10", "cifar100", "digits", "folder"]
StrategyName = Literal[
    "confidence",
    "normalized_confidence",
    "entropy",
    "margin",
    "class_balanced",
    "interval",
    "random",
]


@dataclass(frozen=True)
class Config:
    """Frozen: derive another with `dataclasses.replace`."""

    # --- data
    dataset: Dataset = "cifar10"
    """cifar10, cifar100 (downloaded), digits (comes with scikit-learn), or folder:
    DATA_DIR/train/CLASS/*, DATA_DIR/test/CLASS/*."""
    data_dir: str = "./DATA"
    """Where data sets are or are downloaded to; the first part of every image id."""
    img_size: int = 32
    """Pixels a side that every image is resized to (paper: 32)."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """bgr: swap the channels but normalise with RGB constants, as the released code's cv2.imread
    does."""
    resident_share: float = 0.5
    """Images above this share of the device's memory stay on the host, mapped from a temporary
    file, and stream over (0: always stream; ours)."""

    # --- experiment
    experiment: str = ""
    """Name of the folders under checkpoint/, loss/ and runs/; empty: DATASET-seedSEED."""
    run: str = ""
    """Name of the run folder; empty: main-STRATEGY, cold-start-FIRST_PICK, whole-dataset or
    rotation."""
    seed: int = 0
    """All randomness is a function of this, the purpose, the cycle and the epoch (the released code
    has none)."""
    restart: bool = False
    """Delete what this run left behind and begin anew, instead of going on or refusing."""

    # --- network
    depth: Literal[18, 34, 50] = 18
    """Layers of the ResNet (paper: 18)."""
    width: int = 64
    """Channels of its first stage (paper: 64); arithmetic grows with the square."""
    sync_batchnorm: bool = False
    """Share batch-norm statistics over processes (several GPUs only)."""

    # --- pretext task: rotation.py
    rotation_epochs: int = 15
    """Epochs of rotation training (paper: 15)."""
    rotation_batch_size: int = 256
    """Images a step; each passes four times, once for each quarter turn (released code: 256)."""
    rotation_milestones: tuple[int, ...] = (30, 60, 90)
    """Epochs at which the rate falls tenfold (released code: 30 60 90, never reached)."""

    # --- batches: make_batches.py
    num_batches: int = 10
    """Parts that the sorted pool is cut into (paper: 10)."""
    sort: Literal["numeric", "lexicographic"] = "numeric"
    """lexicographic: as text, so that 9.9e-05 ranks above 4.41 (released code)."""
    losses: str = ""
    """Sort this loss file instead of computing losses; needs no weights and no data set."""

    # --- active learning: main.py, main_pt4al.py
    strategy: StrategyName = "confidence"
    """Query strategy from cycle 1 on (paper: confidence; released code: normalized_confidence)."""
    candidates: Literal["batch", "all"] = "batch"
    """What a cycle chooses from: its batch (paper), or every image still unlabelled (the classical
    setting)."""
    first_pick: Literal["interval", "random"] = "interval"
    """How cycle 0 chooses, with no classifier yet: at even intervals of loss rank (paper), or at
    random."""
    cycles: int = 10
    """Active-learning cycles (paper: 10)."""
    labels_per_cycle: int | None = None
    """Images labelled a cycle; None: a fifth of a batch (paper: 1,000 of 5,000)."""
    cold_start_batch: int = 0
    """The batch that main_pt4al.py takes its labelled set from, 0 being the hardest."""

    # --- classifier: main.py, main_pt4al.py, whole_dataset.py
    epochs: int = 200
    """Epochs a cycle (paper: 200)."""
    batch_size: int = 128
    """Images a step, over all processes together (paper: 128)."""
    lr: float = 0.1
    """Learning rate of SGD at the start of every cycle and of the pretext task (paper: 0.1)."""
    momentum: float = 0.9
    """Momentum of SGD (paper: 0.9)."""
    weight_decay: float = 5e-4
    """L2 penalty of SGD (paper: 5e-4)."""
    milestones: tuple[int, ...] = (160,)
    """Epochs of a cycle at which the rate falls tenfold (paper: 160)."""
    crop_padding: int = 4
    """Pixels of black around an image before the random crop (paper: 4); 0: no crop."""
    flip: bool = True
    """Mirror half of the training images left to right (paper: yes; wrong for digits)."""
    init: Literal["warm", "scratch"] = "warm"
    """A cycle starts from the previous cycle's weights (released code), or from a fresh network
    (paper)."""
    select: Literal["best", "last"] = "best"
    """Weights a cycle is judged by and samples with: best epoch on the test set (released code), or
    the last epoch."""

    # --- running
    eval_every: int = 1
    """Epochs between evaluations on the test set; the last epoch of a cycle is always evaluated
    (released code: 1)."""
    eval_batch_size: int = 500
    """Images a forward pass when scoring; changes results by float32 rounding at most (released
    code: 1)."""
    checkpoint_every: int = 10
    """Epochs between savings of last.pth and the CSV files, more where saving would take over 2 % of
    the time (ours); a stop by signal saves the last whole epoch."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:N."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Of training and of test accuracy; auto: bf16 where the device has it. What ranks images is
    always float32."""
    compile: bool = False
    """torch.compile the network (ours)."""
    deterministic: bool = False
    """Refuse GPU kernels whose result differs from run to run (slower; the CPU needs no flag)."""
    threads: int = 0
    """CPU threads a process; 0: torch's choice."""

    @property
    def experiment_name(self) -> str:
        return self.experiment or f"{self.dataset}-seed{self.seed}"

    @property
    def checkpoint_dir(self) -> Path:
        return Path("checkpoint", self.experiment_name)

    @property
    def loss_dir(self) -> Path:
        return Path("loss", self.experiment_name)

    @property
    def runs_dir(self) -> Path:
        return Path("runs", self.experiment_name)


CIFAR10 = Config()
CIFAR10_OFFICIAL = replace(
    CIFAR10,
    sort="lexicographic",
    strategy="normalized_confidence",
    channel_order="bgr",
    init="warm",
    select="best",
)
CIFAR10_CPU = replace(
    CIFAR10,
    width=16,
    rotation_epochs=6,
    epochs=30,
    milestones=(24,),
    eval_every=5,
    checkpoint_every=1,
)
DIGITS = replace(
    CIFAR10,
    dataset="digits",
    img_size=16,
    width=16,
    rotation_epochs=15,
    rotation_batch_size=64,
    epochs=30,
    batch_size=16,
    lr=0.03,  # with 28 labels an epoch is two steps: at 0.1 the running statistics lag behind
    milestones=(24,),
    crop_padding=1,
    flip=False,
    eval_every=5,
    checkpoint_every=20,
)

PRESETS = {
    "cifar10": CIFAR10,
    "cifar10-official": CIFAR10_OFFICIAL,
    "cifar10-cpu": CIFAR10_CPU,
    "digits": DIGITS,
}

# These say where and how to compute, not what: a run goes on with other values, and two runs that
# differ only here are the same run.
MACHINE_FIELDS = {
    "checkpoint_every", "compile", "data_dir", "deterministic", "device", "eval_batch_size", "experiment",
    "resident_share", "restart", "run", "threads",
}  # fmt: skip

AT_LEAST = {
    "img_size": 16, "width": 1, "rotation_epochs": 1, "rotation_batch_size": 1, "num_batches": 1, "cycles": 1,
    "labels_per_cycle": 1, "cold_start_batch": 0, "epochs": 1, "batch_size": 1, "momentum": 0, "weight_decay": 0,
    "crop_padding": 0, "eval_every": 1, "eval_batch_size": 1, "checkpoint_every": 1, "threads": 0, "seed": 0,
    "resident_share": 0,
}  # fmt: skip


def check(config: Config) -> None:
    """Refuse values that cannot work, whatever the data.

    Raises:
        UserError: names the field, its value and the range.
    """
    for name, least in AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and not (least <= value < float("inf")):
            raise UserError(f"{name} is {value}: it must be {least} or more")
    if not 0 < config.lr < float("inf"):
        raise UserError(f"lr is {config.lr}: it must be above 0")
    if config.momentum >= 1:
        raise UserError(f"momentum is {config.momentum}: it must be below 1")
    if config.img_size > 512:
        raise UserError(f"img_size is {config.img_size}: it must be 512 or less")
    if config.crop_padding >= config.img_size:
        raise UserError(
            f"crop_padding is {config.crop_padding}: it must be below img_size {config.img_size}"
        )
    for name in ("milestones", "rotation_milestones"):
        value = getattr(config, name)
        if list(value) != sorted(set(value)) or any(epoch < 1 for epoch in value):
            raise UserError(f"{name} is {value}: it must be epochs above 0 in ascending order")
    if config.candidates == "batch" and config.cycles > config.num_batches:
        raise UserError(
            f"cycles is {config.cycles} but there are {config.num_batches} batches and a cycle takes one: "
            "lower cycles, raise num_batches, or use --candidates all"
        )
    if config.cold_start_batch >= config.num_batches:
        raise UserError(
            f"cold_start_batch is {config.cold_start_batch}: it must be below num_batches {config.num_batches}"
        )
    for name in ("experiment", "run"):
        value = getattr(config, name)
        if not re.fullmatch(r"[^/\\\0\n\r]*", value) or value in (".", ".."):
            raise UserError(f"{name} is {value!r}: it must be a plain folder name")


C = TypeVar("C", bound=Config)


def from_command_line(description: str, options: type[C] = Config) -> C:
    """The configuration that `sys.argv` asks for, checked. `options` may extend Config by flags of
    one script.

    Exits with status 0 after --help.

    Raises:
        UserError: unknown preset, flag or value.
    """
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "cifar10"
    if name not in PRESETS:
        raise UserError(f"preset '{name}' is unknown: use one of {', '.join(PRESETS)}")
    default = options(
        **{f.name: getattr(PRESETS[name], f.name) for f in dataclasses.fields(Config)}
    )
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            config = tyro.cli(
                options,
                default=default,
                args=arguments,
                prog=f"python {os.path.relpath(sys.argv[0])} [PRESET]",
                description=f"{description}\nPRESET is one of {', '.join(PRESETS)}; the defaults are {name}'s.",
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(plain_line(errors.getvalue())) from None
    check(config)
    return config


def plain_line(boxed: str) -> str:
    """The message in tyro's box of several lines, as one line."""
    body = re.split(r"─{20,}", boxed.split("\n", 1)[1])[0]
    message = " ".join(re.sub(r"[│╭╮╰╯─]", " ", body).split())
    return f"{message} (see --help)"
