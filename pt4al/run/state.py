"""Where a run stands, as a value that never changes: all that its next step depends on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Row = list[Any]


@dataclass(frozen=True)
class CycleLabels:
    """The labels of an annotator that a cycle trains with, taken once, when all that was asked is answered.

    Attributes:
        classes: their names, in label order.
        positions, labels: int64 (n,), what is trained on: pool positions and indices into `classes`.
        test_positions, test_labels: the same of a test set that was drawn from the pool.
        test_images: the size of the test set, wherever it is from.
        asked, unsure: how many images were asked for, and of how many the annotator cannot tell.
        unasked: labels of images that nobody asked for.
        changed: labels of earlier cycles that are others now.
    """

    classes: list[str]
    positions: "Tensor"
    labels: "Tensor"
    test_positions: "Tensor"
    test_labels: "Tensor"
    test_images: int
    asked: int
    unsure: int
    unasked: int
    changed: int

    def names(self) -> dict[int, str]:
        """The class of each image that is trained on or tested by, by pool position."""
        positions = [*self.positions.tolist(), *self.test_positions.tolist()]
        labels = [*self.labels.tolist(), *self.test_labels.tolist()]
        return {i: self.classes[label] for i, label in zip(positions, labels, strict=True)}


@dataclass(frozen=True)
class State:
    """Where a run stands. `RunFolder.move` puts another in its place in one assignment, so that a signal
    meets a whole one at any moment.

    Attributes:
        cycle: the one to label for or to train now.
        finished_epoch: the last whole epoch of this cycle; -1: none yet.
        net: weights after that epoch; before a cycle's first, those that the cycle before is judged by.
        momentum: buffers of SGD in parameter order.
        best: weights, accuracy and epoch of this cycle's best epoch on the test set.
        last_accuracy: percent, of the last epoch; None: it was not evaluated.
        labeled: pool positions by cycle, in the order chosen.
        answers: what an annotator said of them, by cycle; empty where the labels are known.
        metrics, cycles, per_class: rows of the tables.
        review: rows of review.csv, by the classifier of the last cycle that is done.
    """

    cycle: int = 0
    finished_epoch: int = -1
    finished: bool = False
    net: "dict[str, Tensor]" = field(default_factory=dict)
    momentum: "list[Tensor]" = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=lambda: {"net": {}, "acc": -1.0, "epoch": -1})
    last_accuracy: float | None = None
    labeled: list[list[int]] = field(default_factory=list)
    answers: list[CycleLabels] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    cycles: list[Row] = field(default_factory=list)
    per_class: list[Row] = field(default_factory=list)
    review: list[Row] = field(default_factory=list)

    @property
    def position(self) -> tuple[int, ...]:
        """Later states have larger ones: the end of a run comes after its last epoch, the images chosen for a
        cycle after the end of the one before, and the answers to them after the choice."""
        return self.cycle, self.finished_epoch + self.finished, len(self.labeled), len(self.answers)

    def next_cycle(self, net: "dict[str, Tensor]") -> "State":
        """The beginning of the next cycle, after one that is judged by the weights `net`."""
        return replace(
            State(cycle=self.cycle + 1, net=net),
            labeled=self.labeled, answers=self.answers,
            metrics=self.metrics, cycles=self.cycles, per_class=self.per_class, review=self.review,
        )  # fmt: skip


def to_content(state: State) -> dict[str, Any]:
    """A state as a checkpoint holds it: dicts, lists, tensors and scalars."""
    return {**vars(state), "answers": [vars(labels) for labels in state.answers]}


def from_content(content: dict[str, Any], pool_size: int) -> State | None:
    """The state in a whole checkpoint; None where it is no state of a run on a pool of so many images."""
    fresh = asdict(State())
    kinds = {name: object if value is None else type(value) for name, value in fresh.items()}
    if not all(name in content and isinstance(content[name], kind) for name, kind in kinds.items()):
        return None
    names = {f.name for f in fields(CycleLabels)}
    if not all(isinstance(labels, dict) and labels.keys() == names for labels in content["answers"]):
        return None
    if not all(are_positions(picks, pool_size) for picks in content["labeled"]):
        return None
    answers = [CycleLabels(**labels) for labels in content["answers"]]
    return State(**{**{name: content[name] for name in fresh}, "answers": answers})


def are_positions(picks: Any, pool_size: int) -> bool:
    whole = isinstance(picks, Sequence) and all(isinstance(i, int) for i in picks)
    return whole and all(0 <= i < pool_size for i in picks)
