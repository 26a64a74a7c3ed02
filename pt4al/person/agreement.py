"""What label files say together: one answer an image, who disagrees, and how much."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

from pt4al.base.console import UserError
from pt4al.data.ids import by_path
from pt4al.person.labels import UNSURE, LabelFile, check_class, check_known, twins
from pt4al.person.naming import Find, Finder, below_pool, key_of, one_line

MOST_PAIRS = 5  # of annotators, whose agreement is told
Said = dict[int, dict[str, tuple[str, str]]]  # position -> annotator -> label, place


@dataclass
class Answers:
    """What label files say of a pool.

    Attributes:
        labels: class or `?` by pool position; images on which annotators disagree are not in it.
        disagreements: file, label, annotator of every answer to such an image.
        said: who says what, and where.
        remarks: lines about the files.
        others: classes that are known otherwise.
    """

    labels: dict[int, str] = field(default_factory=dict)
    disagreements: list[list[str]] = field(default_factory=list)
    said: Said = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)

    @cached_property
    def notes(self) -> list[str]:
        """Lines for the person."""
        named = {label for by_annotator in self.said.values() for label, _ in by_annotator.values()}
        return [
            *agreement(self.said),
            *self.remarks,
            *twins((named | self.others) - {UNSURE} if named else set()),
        ]


def read_answers(
    files: Iterable[Path],
    position_of: dict[str, int],
    classes: Sequence[str],
    find: Find | None = None,
    others: Collection[str] = (),
) -> Answers:
    """Read label files as one.

    Args:
        files: those that are not there are left out.
        position_of: pool position by id key (`Images.positions_by_key`).
        classes: those of classes.txt, or none: any name is a class.
        find: of the whole pool, where `position_of` has a part of it.
        others: classes that are known otherwise: those of a test set.

    Raises:
        UserError: names the line: an unknown class, or two classes for one image by one person.
    """
    said: Said = {}
    strange: list[str] = []
    both: set[int] = set()
    named: dict[int, str] = {}
    known, checked, find = frozenset(classes), {UNSURE}, find or Finder(position_of)
    for path in files:
        if not path.exists():
            continue
        for row in LabelFile(path, find).rows():
            if not row.label:
                continue
            place = f"{path} line {row.line}"
            position = position_of.get(key := key_of(row.file, find))
            if position is None:
                strange.append(f"{place}: {row.file}")
                continue
            if row.label not in checked:
                check_class(row.label, f"{place}: ")
                check_known(row.label, known, place)
                checked.add(row.label)
            named[position] = file if by_path(file := below_pool(row.file)) == key else row.file
            by_annotator = said.setdefault(position, {})
            label, before = by_annotator.setdefault(row.annotator, (row.label, place))
            if UNSURE in (label, row.label) and label != row.label:
                both.add(position)
            if label == UNSURE:
                by_annotator[row.annotator] = row.label, place
            elif row.label not in (label, UNSURE):
                who = f"annotator {row.annotator!r}" if row.annotator else "no annotator named"
                raise UserError(
                    f"{place}: {row.file} has two labels, {label!r} ({before}) and {row.label!r}, "
                    f"{who}: keep one"
                )
    answers = Answers(said=said, others={*others})
    if both:
        answers.remarks.append(f"a class and a `?` of one person, images: {len(both)}; the class counts")
    for position, by_annotator in said.items():
        labels = {label for label, _ in by_annotator.values()}
        if "" in by_annotator:
            answers.labels[position] = by_annotator[""][0]
        elif len(labels) == 1:
            answers.labels[position] = labels.pop()
        else:
            answers.disagreements += [[named[position], x, who] for who, (x, _) in by_annotator.items()]
    if strange:
        answers.remarks.append(
            f"{len(strange)} rows are of images that are not in the pool, the first: {one_line(strange[0])}"
        )
    return answers


def agreement(said: Said) -> list[str]:
    """How often two annotators agree on images that both have seen, and Cohen's kappa (Cohen 1960), for
    the pairs with the most such images."""
    shared = Counter(
        pair for by_annotator in said.values() for pair in combinations(sorted(by_annotator.keys() - {""}), 2)
    )
    told = sorted(shared, key=lambda pair: (-shared[pair], pair))[:MOST_PAIRS]
    notes = []
    for a, b in told:
        pairs = [(x[a][0], x[b][0]) for x in said.values() if a in x and b in x]
        same = sum(x == y for x, y in pairs)
        who = one_line(f"annotators {a} and {b}")
        notes.append(f"{who} agree on {same} of {len(pairs)} images, kappa {kappa(pairs):.2f}")
    if rest := len(shared) - len(told):
        most = max(n for pair, n in shared.items() if pair not in told)
        notes.append(f"{rest} other pairs of annotators have at most {most} images in common")
    return notes


def kappa(pairs: list[tuple[str, str]]) -> float:
    """Cohen's kappa; 1 where both always say one and the same thing."""
    from sklearn.metrics import cohen_kappa_score  # takes a second to import

    first, second = zip(*pairs, strict=True)
    return 1.0 if len({*first, *second}) == 1 else float(cohen_kappa_score(first, second))
