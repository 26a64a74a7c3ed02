"""Every option of PT4AL and its presets. This is the file to edit.

    python SCRIPT.py [PRESET] [--field value ...]

Change a default below, or override it by a flag; `--help` on a script lists those that it uses.
What a run used is stored in its `config.json`. "Paper" is Yi et al., ECCV 2022; "released code" is
the authors' repository; "ours" is neither.

An option is added here and nowhere else: a field with its default, the scripts that use it, and its
text. Flag, checks, `--help` and the records of runs follow from that, and docs/configuration.md by
`python tests/docs/test_docs.py`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

# Who uses an option. The other scripts accept it, without effect.
ROTATION, MAKE_BATCHES, MAIN = {"rotation.py"}, {"make_batches.py"}, {"main.py"}
MAIN_PT4AL, WHOLE_DATASET, SHOW_BATCHES = {"main_pt4al.py"}, {"whole_dataset.py"}, {"show_batches.py"}
CLASSIFIER = MAIN | MAIN_PT4AL | WHOLE_DATASET
TRAINING = ROTATION | CLASSIFIER
STEPS = TRAINING | MAKE_BATCHES
ALL = STEPS | SHOW_BATCHES
EXTRACT_FEATURES = {"extract_features.py"}


def option(
    default: Any, scripts: set[str], text: str, *, group: str = "", how: bool = False, **limits: float
) -> Any:
    """A field of `Config`.

    Args:
        scripts: those that use it.
        text: what `--help` says of it.
        group: heading for this field and those below it.
        how: it says where, how or how long to compute, not what, so a run can be resumed with another value.
        limits: of a number: `least` and `most` are allowed themselves, `above` and `below` are not.
    """
    known = {"scripts": scripts, "text": " ".join(text.split()), "group": group, "how": how, "limits": limits}
    return field(default=default, metadata=known)


@dataclass(frozen=True)
class Config:
    """Frozen: derive another with `dataclasses.replace`."""

    # fmt: off
    dataset: str = option("cifar10", ALL | EXTRACT_FEATURES, group="data", text="""
        cifar10, cifar100: downloaded. caltech101, imagenet64, tiny-imagenet: their archives, unpacked in
        DATA_DIR. digits: comes with scikit-learn. folder: DATA_DIR/train/CLASS/* and
        DATA_DIR/test/CLASS/*. unlabeled: DATA_DIR/pool/**, which an annotator labels in
        DATA_DIR/labels.csv.""")
    data_dir: str = option("./DATA", ALL | EXTRACT_FEATURES, how=True, text="""
        Where data sets are, or are downloaded to; the first part of every image id.""")
    img_size: int = option(32, ALL, least=16, most=512, text="""
        Height and width of every image in pixels (paper: 32).""")
    resize: Literal["crop", "squash"] = option("crop", ALL, text="""
        How an image is made square. crop: its shorter side becomes img_size, and the center is kept.
        squash: both sides do, which reveals to a network which way is up.""")
    channel_order: Literal["rgb", "bgr"] = option("rgb", ALL, text="""
        rgb, or bgr: channels swapped, but normalized with RGB constants (released code, by cv2.imread).""")
    normalization: Literal["auto", "computed", "cifar10"] = option("auto", STEPS, text="""
        Mean and standard deviation of the channels. cifar10: those of CIFAR-10, whatever is read
        (released code). computed: from the training images. auto: cifar10 for CIFAR-10, else computed.""")
    imbalance: float = option(1.0, ALL, least=1, most=10**6, text="""
        Above 1: classes of the pool lose images, drawn by seed, until the smallest has 1/imbalance of what
        the largest has; a class that has no more keeps all. 1: the pool as it is.""")
    imbalance_kind: Literal["exponential", "step"] = option("exponential", ALL, text="""
        Which classes lose images by imbalance. exponential: each more than the one before it, a long tail
        (Cui et al. 2019). step: every other one, beginning with the first, all alike (TA-VAAL).""")
    resident_share: float = option(0.5, ALL, how=True, least=0, most=10**6, text="""
        Share of the device's memory that images may fill. More of them stay on the host, in a
        memory-mapped file, and are streamed. 0: always stream (ours).""")

    experiment: str = option("", ALL | EXTRACT_FEATURES, how=True, group="experiment", text="""
        Name of the folders under checkpoint/, loss/ and runs/. Empty: DATASET-seedSEED.""")
    run_name: str = option("", TRAINING, how=True, text="""
        Name of the run's folder. Empty: main-STRATEGY, cold-start-FIRST_PICK, whole-dataset or
        rotation.""")
    seed: int = option(0, ALL | EXTRACT_FEATURES, least=0, most=2**63 - 1, text="""
        All randomness is a function of the seed, the purpose, the cycle and the epoch (released code:
        no seed).""")
    restart: bool = option(False, STEPS | EXTRACT_FEATURES, how=True, text="""
        Delete what this run left behind and start over, instead of resuming it.""")

    depth: Literal[18, 34, 50] = option(18, STEPS, group="network", text="""
        Layers of the ResNet: 18, 34 or 50 (paper: 18).""")
    width: int = option(64, STEPS, least=1, most=4096, text="""
        Channels of its first stage (paper: 64). Arithmetic grows with the square of the width.""")
    stem: Literal["small", "imagenet"] = option("small", STEPS, text="""
        Its first layers. small: a 3x3 convolution, for 32 to 64 pixels (released code). imagenet: a 7x7
        convolution of stride 2 and a max pooling, for 96 pixels and more (48 or more are needed), at a
        fifteenth of the arithmetic (He et al. 2016).""")

    features: str = option("", CLASSIFIER, how=True, text="""
        Folder of features, by extract_features.py: in place of a ResNet on pixels, the classifier is
        one linear layer on them, and typiclust looks at them. Sets the options of FEATURES in config.py
        that are not given. No effect then: depth, width, stem, img_size, resize, channel_order,
        normalization, crop_padding, flip.""")

    lr: float = option(0.1, TRAINING, group="optimizer", above=0, most=1e30, text="""
        Learning rate of SGD at the start of every cycle (paper: 0.1).""")
    momentum: float = option(0.9, TRAINING, least=0, below=1, text="""
        Momentum of SGD (paper: 0.9).""")
    weight_decay: float = option(5e-4, TRAINING, least=0, most=10**6, text="""
        L2 penalty of SGD (paper: 5e-4).""")

    rotation_epochs: int = option(15, ROTATION, group="pretext task", least=1, most=10**6, text="""
        Epochs of rotation training (paper: 15).""")
    rotation_batch_size: int = option(256, ROTATION, least=1, most=10**6, text="""
        Batch size in images; each image passes in all four rotations (released code: 256).""")
    rotation_milestones: tuple[int, ...] = option((30, 60, 90), ROTATION, text="""
        Epochs at which the learning rate is divided by 10 (released code: 30 60 90, never reached).""")

    num_batches: int = option(
        10, MAKE_BATCHES | MAIN | MAIN_PT4AL | SHOW_BATCHES, group="batches", least=1, most=10**6, text="""
        Number of batches that the sorted pool is cut into (paper: 10).""")
    sort: Literal["numeric", "lexicographic", "ascending", "shuffled", "interleaved"] = option(
        "numeric", MAKE_BATCHES | MAIN | MAIN_PT4AL | SHOW_BATCHES, text="""
        Order of the pool by loss. numeric: hardest first (paper). lexicographic: as text, so that 9.9e-05
        ranks above 4.41 (released code). interleaved (ours): hardest first, dealt out in turn, so that
        every batch spans all losses. Controls (ours): ascending, easiest first; shuffled, by seed.""")
    losses: str = option("", MAKE_BATCHES, how=True, text="""
        Sort this loss file instead of computing losses. Needs no weights and no data set.""")

    strategy: str = option("confidence", MAIN, group="active learning", text="""
        Query strategy from cycle 1 on (paper: confidence; released code: normalized_confidence).
        coreset, badge and typiclust choose for diversity; typiclust needs rotation.py, or features.""")
    candidates: Literal["batch", "all"] = option("batch", MAIN, text="""
        What a cycle chooses from. batch: its batch (paper). all: every unlabeled image, as active
        learning usually does.""")
    first_pick: str = option("interval", MAIN | MAIN_PT4AL, text="""
        How cycle 0 chooses, before there is a classifier. interval: at even intervals of loss rank
        (paper). random: random sampling. typiclust: typical by features (ours).""")
    cycles: int = option(10, MAIN, how=True, least=1, most=10**6, text="""
        Active-learning cycles (paper: 10). A finished run resumes with more.""")
    labels_per_cycle: int | None = option(None, MAIN | MAIN_PT4AL, least=1, most=10**9, text="""
        Images labeled per cycle. none: a fifth of a batch (paper: 1,000 of 5,000).""")
    test_labels: int = option(0, CLASSIFIER, least=0, most=10**9, text="""
        Images of an unlabeled pool that are drawn as its test set and labeled first, the same for all
        strategies. 0: no test set, or DATA_DIR/test/CLASS/*.""")
    cold_start_batch: int = option(0, MAIN_PT4AL, least=0, most=10**6, text="""
        Batch that main_pt4al.py takes its labeled set from; 0 is the hardest (released code: 5).""")

    epochs: int = option(200, CLASSIFIER, group="classifier", least=1, most=10**6, text="""
        Epochs per cycle (paper: 200).""")
    min_epoch_images: int = option(0, CLASSIFIER, least=0, most=10**9, text="""
        An epoch repeats the labeled images, each time in another order and with other crops, until it
        has shown at least so many. 0: it shows them once (paper).""")
    batch_size: int = option(128, CLASSIFIER, least=1, most=10**6, text="""
        Batch size, over all processes together (paper: 128).""")
    milestones: tuple[int, ...] = option((160,), CLASSIFIER, text="""
        Epochs of a cycle at which the learning rate is divided by 10 (paper: 160).""")
    crop_padding: int = option(4, CLASSIFIER, least=0, most=511, text="""
        Pixels of black around an image before the random crop (paper: 4). 0: no crop.""")
    flip: bool = option(True, CLASSIFIER, text="""
        Mirror half of the training images left to right (paper: yes; wrong for digits).""")
    init: Literal["warm", "scratch"] = option("scratch", MAIN, text="""
        How a cycle starts. scratch: with a new network (so the authors, when asked; the paper does not
        say). warm: with the weights of the cycle before (released code).""")
    select: Literal["best", "last"] = option("last", CLASSIFIER, text="""
        Epoch whose weights a cycle is judged by and samples with. last: so that no test image decides
        anything. best: the best on the test set (released code).""")

    eval_every: int = option(1, TRAINING, group="running", least=1, most=10**6, text="""
        Epochs between evaluations on the test set; the last epoch of a cycle is always evaluated
        (released code: 1).""")
    eval_batch_size: int = option(500, STEPS, how=True, least=1, most=10**6, text="""
        Batch size of scoring; changes results by float32 rounding at most (released code: 1).""")
    device: str = option("auto", STEPS | EXTRACT_FEATURES, how=True, text="""
        auto (CUDA where there is one), cpu, cuda or cuda:N.""")
    precision: Literal["auto", "float32", "bf16"] = option("auto", TRAINING, text="""
        Of training and of test accuracy. auto: bf16 where the device has it, else float32. What ranks
        images is always float32.""")
    deterministic: bool = option(False, STEPS | EXTRACT_FEATURES, how=True, text="""
        Refuse GPU kernels whose results differ from run to run (slower; no need on a CPU).""")
    threads: int = option(0, ALL | EXTRACT_FEATURES, how=True, least=0, most=1024, text="""
        CPU threads per process, also to decode images. 0: torch's choice; to decode, one per core.""")
    # fmt: on

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
CIFAR10_CPU = replace(CIFAR10, width=16, epochs=16, min_epoch_images=6400, milestones=(13,), eval_every=4)
# With 28 labels a pass is two steps, hence the floor of ten. At a learning rate of 0.1 the running
# statistics of so few images lag behind.
DIGITS = replace(
    CIFAR10,
    dataset="digits",
    img_size=16,
    width=16,
    rotation_batch_size=64,
    epochs=30,
    min_epoch_images=160,
    batch_size=16,
    lr=0.03,
    milestones=(24,),
    crop_padding=1,
    flip=False,
    eval_every=5,
)
# The paper names Caltech-101 and ImageNet at 64 pixels, and no source has its settings for them: these are
# ours. Optimizer and pretext task are those of CIFAR-10, the crop moves by an eighth of the side as there,
# and the learning rate falls at four fifths of the epochs.
# Caltech-101's pictures are some 300 pixels wide: 224, and the stem that networks for this size have. A fifth
# of a batch is some 139 labels, one or two of a class: 1,280 images per epoch make ten steps, as 200 epochs
# of two steps would train nothing. Such an epoch is short, so every tenth is tested.
CALTECH101 = replace(
    CIFAR10,
    dataset="caltech101",
    img_size=224,
    stem="imagenet",
    crop_padding=28,
    min_epoch_images=1280,
    eval_every=10,
)
# A fifth of a batch of ImageNet is 25,623 labels: 50 epochs of them are 10,000 steps (those of CIFAR-10's
# cycles: 1,600 to 15,800). A test is 50,000 images, twice an epoch, so every fifth epoch is tested. The stem
# is that of CIFAR-10, as the released code has no other.
IMAGENET64 = replace(
    CIFAR10, dataset="imagenet64", img_size=64, crop_padding=8, epochs=50, milestones=(40,), eval_every=5
)

# What --features puts in place of a preset's values (ours): one schedule for 20 to 50,000 labels and 64 to
# 2,000 numbers an image, chosen on MNIST and UCI's image segments, of which no result is reported. Learning
# rate and weight decay are those of a layer with scaled outputs (models/linear.py).
FEATURES = {
    "lr": 10.0,
    "weight_decay": 2e-5,
    "epochs": 100,
    "batch_size": 128,
    "milestones": (80,),
    "min_epoch_images": 1000,
    "eval_every": 10,
    "eval_batch_size": 128,
    "precision": "float32",
}

PRESETS = {
    "cifar10": CIFAR10,
    "cifar10-official": CIFAR10_OFFICIAL,
    "cifar10-cpu": CIFAR10_CPU,
    "digits": DIGITS,
    "caltech101": CALTECH101,
    "imagenet64": IMAGENET64,
}
