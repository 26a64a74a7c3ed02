"""Every parameter of PT4AL and its presets. This is the file to edit.

    python SCRIPT.py [PRESET] [--field value ...]

Change a default below, or override it by a flag; `--help` on a script lists those that it uses.
What a run used is stored in its `config.json`. "Paper" is Yi et al., ECCV 2022; "released code" is
the authors' repository; "ours" is neither.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Dataset = Literal["cifar10", "cifar100", "digits", "folder", "unlabeled"]
StrategyName = Literal[
    "confidence",
    "normalized_confidence",
    "entropy",
    "margin",
    "class_balanced",
    "interval",
    "random",
    "coreset",
    "badge",
    "typiclust",
]


@dataclass(frozen=True)
class Config:
    """Frozen: derive another with `dataclasses.replace`."""

    # --- data
    dataset: Dataset = "cifar10"
    """cifar10, cifar100 (downloaded), digits (comes with scikit-learn), folder:
    DATA_DIR/train/CLASS/*, DATA_DIR/test/CLASS/*; or unlabeled: DATA_DIR/pool/**, which a person
    labels in DATA_DIR/labels.csv."""
    data_dir: str = "./DATA"
    """Where data sets are or are downloaded to; the first part of every image id."""
    img_size: int = 32
    """Pixels a side of every image (paper: 32)."""
    resize: Literal["crop", "squash"] = "crop"
    """How an image that is not square becomes so: crop (the shorter side to img_size, then the
    centre), or squash (which tells a network which way is up)."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """bgr: swap the channels but normalise with RGB constants, as the released code's cv2.imread
    does."""
    normalization: Literal["auto", "computed", "cifar10"] = "auto"
    """Mean and standard deviation of the channels: cifar10's (released code, whatever is read),
    computed from the training images, or auto: cifar10's for cifar10, else computed."""
    imbalance: float = 1.0
    """How many times larger the first class of the pool is than the last: an exponential long tail,
    cut by seed (Cui et al. 2019); 1: the pool as it is."""
    resident_share: float = 0.5
    """Images above this share of the device's memory stay on the host, mapped from a temporary
    file, and stream over (0: always stream; ours)."""

    # --- experiment
    experiment: str = ""
    """Name of the folders under checkpoint/, loss/ and runs/; empty: DATASET-seedSEED."""
    run_name: str = ""
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

    # --- optimiser
    lr: float = 0.1
    """Learning rate of SGD at the start of every cycle (paper: 0.1)."""
    momentum: float = 0.9
    """Momentum of SGD (paper: 0.9)."""
    weight_decay: float = 5e-4
    """L2 penalty of SGD (paper: 5e-4)."""

    # --- pretext task
    rotation_epochs: int = 15
    """Epochs of rotation training (paper: 15)."""
    rotation_batch_size: int = 256
    """Images a step; each passes four times, once for each quarter turn (released code: 256)."""
    rotation_milestones: tuple[int, ...] = (30, 60, 90)
    """Epochs at which the rate falls tenfold (released code: 30 60 90, never reached)."""

    # --- batches
    num_batches: int = 10
    """Parts that the sorted pool is cut into (paper: 10)."""
    sort: Literal["numeric", "lexicographic", "ascending", "shuffled", "interleaved"] = "numeric"
    """numeric: hardest first (paper); lexicographic: as text, so that 9.9e-05 ranks above 4.41
    (released code). Controls (ours): ascending: easiest first; shuffled: at random, by seed.
    interleaved (ours): hardest first, dealt out in turn, so that every batch spans all losses."""
    losses: str = ""
    """Sort this loss file instead of computing losses; needs no weights and no data set."""

    # --- active learning
    strategy: StrategyName = "confidence"
    """Query strategy from cycle 1 on (paper: confidence; released code: normalized_confidence).
    coreset, badge and typiclust spread their picks; typiclust needs the weights of rotation.py."""
    candidates: Literal["batch", "all"] = "batch"
    """What a cycle chooses from: its batch (paper), or every image still unlabelled (the classical
    setting)."""
    first_pick: Literal["interval", "random", "typiclust"] = "interval"
    """How cycle 0 chooses, with no classifier yet: at even intervals of loss rank (paper), at
    random, or what is typical by the features of rotation.py's network (ours)."""
    cycles: int = 10
    """Active-learning cycles (paper: 10)."""
    labels_per_cycle: int | None = None
    """Images labelled a cycle; None: a fifth of a batch (paper: 1,000 of 5,000)."""
    test_labels: int = 0
    """Images of an unlabeled pool drawn to test by, asked for first; the same for all strategies
    (0: none, or DATA_DIR/test/CLASS/*)."""
    cold_start_batch: int = 0
    """The batch that main_pt4al.py takes its labelled set from, 0 being the hardest (released code:
    5)."""

    # --- classifier
    epochs: int = 200
    """Epochs a cycle (paper: 200)."""
    min_epoch_images: int = 0
    """An epoch passes over the labelled images as often as it takes to show so many, each pass in an
    order and with crops of its own; 0: once (paper)."""
    batch_size: int = 128
    """Images a step, over all processes together (paper: 128)."""
    milestones: tuple[int, ...] = (160,)
    """Epochs of a cycle at which the rate falls tenfold (paper: 160)."""
    crop_padding: int = 4
    """Pixels of black around an image before the random crop (paper: 4); 0: no crop."""
    flip: bool = True
    """Mirror half of the training images left to right (paper: yes; wrong for digits)."""
    init: Literal["warm", "scratch"] = "scratch"
    """A cycle starts from the previous cycle's weights (released code), or from a fresh network (so
    the authors when asked; the paper does not say)."""
    select: Literal["best", "last"] = "last"
    """Weights a cycle is judged by and samples with: best epoch on the test set (released code), or
    the last epoch, so that no test image decides anything."""

    # --- running
    eval_every: int = 1
    """Epochs between evaluations on the test set; the last epoch of a cycle is always evaluated
    (released code: 1)."""
    eval_batch_size: int = 500
    """Images a forward pass when scoring; changes results by float32 rounding at most (released
    code: 1)."""
    checkpoint_every: int = 10
    """Epochs between savings of last.pth and the CSV files (ours); saved less often where that would
    take over 2 % of the time. A stop by signal saves the last whole epoch."""
    tensorboard: bool = False
    """Write what the CSV files hold for TensorBoard too (needs the package tensorboard)."""
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
    channel_order="bgr",
    normalization="cifar10",
    sort="lexicographic",
    strategy="normalized_confidence",
    cold_start_batch=5,
    init="warm",
    select="best",
    precision="float32",
)
# 30 epochs of 1,000 images are 240 steps, which train nothing: what differs between two early cycles
# is then how little each has trained. 16 epochs of 6,400 images or more are at least 800 steps: a
# first look, too short for hard images (docs/results.md).
CIFAR10_CPU = replace(
    CIFAR10,
    width=16,
    epochs=16,
    min_epoch_images=6400,
    milestones=(13,),
    eval_every=4,
    checkpoint_every=1,
)
# With 28 labels a pass is two steps, hence the floor of ten; at a rate of 0.1 the running statistics
# of so few images lag behind.
DIGITS = replace(
    CIFAR10,
    dataset="digits",
    img_size=16,
    width=16,
    rotation_epochs=15,
    rotation_batch_size=64,
    epochs=30,
    min_epoch_images=160,
    batch_size=16,
    lr=0.03,
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
