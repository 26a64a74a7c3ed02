"""An annotator: what is asked, what waits, and the answers that a cycle trains with.

A run asks by `to_label.csv` (and the same for Label Studio) and reads the answers in `labels.csv` and in that
file itself. What a cycle trains with is taken once, when all that was asked is answered, and stands in the
state of the run from then on: a file that changes later takes effect at the next cycle.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pt4al.base import processes
from pt4al.base.console import UserError, Waiting
from pt4al.base.files import check_held, read_json, read_lines, write_csv, write_json, write_lines, write_text
from pt4al.data.ids import by_path, sort_classes
from pt4al.data.images import Images, LabeledSet
from pt4al.person import label_studio
from pt4al.person.agreement import Answers, read_answers
from pt4al.person.labels import UNSURE, LabelFile, class_of_folder, locked, read_classes
from pt4al.person.naming import Finder
from pt4al.run.run_folder import RunFolder
from pt4al.run.state import CycleLabels


class Annotator:
    """The oracle of a pool whose labels are not known: who labels it is reached by files.

    Attributes:
        folder: the folder of photographs, with labels.csv and classes.txt.
        tables: the run folder, where it is written what to label.
        takes_all: whether every label there is is trained on, whoever was asked for it.
    """

    def __init__(self, run: RunFolder, pool: Images, test: Images) -> None:
        """Raises:
        UserError: epochs are to be chosen by a test set that is none, or a folder of it is called `?`; with
            --restart, a label file cannot be used: this is said before anything is deleted.
        """
        self.run, self.config, self.pool, self.tables = run, run.config, pool, run.tables
        self.takes_all = run.script == "whole_dataset.py"
        self.folder = Path(self.config.data_dir)
        self.test = replace(test, classes=[class_of_folder(self.folder / "test" / x) for x in test.classes])
        self.position_of = {key: pool.copies.get(i, i) for key, i in pool.positions_by_key().items()}
        if self.config.select == "best" and not len(test):
            raise UserError(
                "select is best, which needs a test set of its own (DATA_DIR/test/CLASS/*): use --select last"
            )
        if self.config.restart:
            processes.from_main(lambda: self.read(read_classes(self.folder)))

    def answer(self, cycle: int) -> LabeledSet:
        """The labels of a cycle: those in the state of the run, or else those that the label files hold now.

        Raises:
            Waiting: some are missing. What was asked is on disk.
            UserError: a label file cannot be used, or there is nothing to train on.
        """
        run, state = self.run, self.run.state
        if len(state.answers) == cycle:
            before = state.answers[-1] if state.answers else None
            taken = processes.from_main(lambda: self.take(state.labeled, before))
            if isinstance(taken, str):
                run.save()
                raise Waiting(taken)
            run.move(answers=[*state.answers, taken])
            run.save()
        return self.labeled_set(run.state.answers[cycle])

    def labeled_set(self, taken: CycleLabels) -> LabeledSet:
        labels = torch.full((len(self.pool),), -1)
        labels[taken.positions] = taken.labels
        pool = replace(self.pool, labels=labels.to(self.pool.device), classes=taken.classes)
        return LabeledSet(taken.positions, pool, self.test_images(pool, taken))

    # --- what is asked

    def take(self, labeled: list[list[int]], before: CycleLabels | None) -> CycleLabels | str:
        """The answers for the cycle that was asked for last, or, where some are missing, what to
        say. Called by rank 0.

        Args:
            labeled: pool positions by cycle, in the order chosen.
            before: the answers that the cycle before trained with.

        Raises:
            UserError: a label file cannot be used, or there is nothing to train on.
        """
        classes = read_classes(self.folder)
        if odd := sorted(set(self.test.classes) - set(classes)) if classes else []:
            raise UserError(f"{self.folder}/test has a class {odd[0]!r} that is not in classes.txt")
        answers = self.read(classes)
        for note in answers.notes:
            processes.say(note)
        asked = [*self.pool.drawn, *(i for picks in labeled for i in picks)]
        missing = [i for i in asked if i not in answers.labels]
        known = classes or sort_classes(
            {*self.test.classes, *answers.labels.values(), *(before.classes if before else [])} - {UNSURE}
        )
        self.write_asked(asked)
        self.write_requests(missing, answers, known)
        if missing:
            return self.waiting(missing, labeled)
        return self.resolve(answers, labeled, before, classes)

    def read(self, classes: Sequence[str]) -> Answers:
        files = self.folder / "labels.csv", self.tables / "to_label.csv"
        if all(map(Path.exists, files)) and files[0].samefile(files[1]):
            raise UserError(
                f"{files[1]} and {files[0]} are one file, and main.py rewrites the first: make two of them"
            )
        return read_answers(files, self.position_of, classes, others=self.test.classes)

    def write_asked(self, asked: list[int]) -> None:
        """asked.txt: all that this run has ever asked for, also before --restart; and labeled/test.txt."""
        path, ids = self.tables / "asked.txt", [self.pool.ids[i] for i in asked]
        earlier = read_lines(path) if path.exists() else []
        write_lines(path, dict.fromkeys([*earlier, *ids]))
        if self.pool.drawn:
            drawn = [self.pool.ids[i] for i in self.pool.drawn]
            write_lines(self.tables / "labeled" / "test.txt", drawn)

    def write_requests(self, missing: list[int], answers: Answers, classes: Sequence[str]) -> None:
        """to_label.csv with what waits, and below it the answers that stand in it alone, as they were
        written; the same for Label Studio; and what annotators disagree on."""
        path, shared = self.tables / "to_label.csv", self.folder / "labels.csv"
        find = Finder(self.position_of)
        known = {row[1:] for row in LabelFile(shared, find).rows()} if shared.exists() else set()
        with locked(self.tables):  # the page of a read-only folder writes here, too
            check_held(path)
            file = LabelFile(path, find, create=True)
            kept = [
                line
                for row, line in zip(file.rows(), file.lines, strict=True)
                if row.label and row[1:] not in known
            ]
            file.ask([self.pool.ids[i] for i in missing], kept)
            if file.lines:
                file.write()
            else:
                path.unlink(missing_ok=True)
        header = ["file_name", "label", "annotator"]
        write_or_remove(self.tables / "disagreements.csv", header, answers.disagreements)
        for_studio = self.tables / "to_label.json", self.tables / "label_config.xml"
        if missing:
            write_json(for_studio[0], label_studio.tasks([self.pool.ids[i] for i in missing]))
            write_text(for_studio[1], label_studio.label_config(classes))
        else:
            for path in for_studio:
                path.unlink(missing_ok=True)

    def waiting(self, missing: list[int], labeled: list[list[int]]) -> str:
        """What is said where labels are missing."""
        cycle, path = len(labeled) - 1, self.tables / "to_label.csv"
        new = {*labeled[-1], *(self.pool.drawn if cycle == 0 else ())}
        earlier = len(set(missing) - new)
        test = len(set(missing) & set(self.pool.drawn) & new)
        bill = cycle == 0 and self.run.num_cycles > 1
        parts = [
            f"cycle {cycle} waits for {len(missing) - earlier} of {len(new)} labels",
            f"{test} of them to test by" if test else "",
            f"{len(new) + (self.run.num_cycles - 1) * len(labeled[0])} in all cycles" if bill else "",
            f"and {earlier} of earlier cycles" if earlier else "",
        ]
        if (self.tables / "disagreements.csv").exists():
            parts.append(f"see {self.tables}/disagreements.csv too")
        return (
            f"{', '.join(filter(None, parts))}: {path}; label them "
            f"(python utils/label_images.py {self.tables}) and give the same command again"
        )

    # --- what is answered

    def resolve(
        self, answers: Answers, labeled: list[list[int]], before: CycleLabels | None, classes: list[str]
    ) -> CycleLabels:
        """The answers as a cycle uses them; `classes` are those of classes.txt."""
        drawn, picks = self.pool.drawn, [i for cycle in labeled for i in cycle]
        taken = set() if self.takes_all else self.ever_asked()
        kept = set(before.positions.tolist()) if before else set()
        unasked = sorted(
            i
            for i in answers.labels.keys() - {*drawn, *picks}
            if i in kept or i not in taken  # what was used once is not taken back
        )
        left = set(self.pool.eligible(range(len(self.pool)))) - {*picks, *unasked}
        if unasked and not (left or before or self.takes_all):
            raise UserError(
                "every image of the pool has a label, so nothing is left to choose: train on all of them "
                "with whole_dataset.py, or compare strategies with --dataset folder"
            )
        labels = {i: answers.labels[i] for i in [*picks, *unasked, *drawn]}
        sure = [i for i in [*picks, *unasked] if labels[i] != UNSURE]
        test = [i for i in drawn if labels[i] != UNSURE]
        of_training = {labels[i] for i in sure}
        if len(of_training) < 2:
            found = f"all {len(sure)} labels are {of_training.pop()!r}" if sure else "no image has a label"
            raise UserError(
                f"{found}: a classifier needs 2 classes; add rows of other images to "
                f"{self.folder}/labels.csv"
                + ("" if self.takes_all else ", or raise --labels-per-cycle and --restart")
            )
        met = of_training | {labels[i] for i in test} | set(self.test.classes)
        # A class that nobody names any more was a slip of the pen.
        known = classes or [name for name in (before.classes if before else []) if name in met]
        classes = [*known, *sort_classes(met - set(known))]
        was = before.names() if before else {}
        now = {i: label for i, label in labels.items() if label != UNSURE}
        changed = sum(now.get(i) != label for i, label in was.items())
        if changed:
            processes.say(
                f"{changed} labels of earlier cycles changed: used from cycle {len(labeled) - 1} on; "
                "--restart trains everything again and asks for nothing that is labeled"
            )
        return CycleLabels(
            classes=classes,
            positions=torch.tensor(sure),
            labels=torch.tensor([classes.index(labels[i]) for i in sure]),
            test_positions=torch.tensor(test, dtype=torch.int64),
            test_labels=torch.tensor([classes.index(labels[i]) for i in test], dtype=torch.int64),
            test_images=len(self.test) or len(test),
            asked=len({*picks, *drawn}),
            unsure=sum(labels[i] == UNSURE for i in [*picks, *drawn]),
            unasked=len(sure) - sum(labels[i] != UNSURE for i in picks),
            changed=changed,
        )

    def ever_asked(self) -> set[int]:
        """Positions that a run on these images has ever asked for: what is labeled for one is
        not used by another before that asks for it too, nor by itself after --restart: they could
        not be compared any more."""
        found: set[int] = set()
        for path in sorted(self.config.runs_dir.parent.glob("*/*/asked.txt")):
            if path.parent == self.tables or self.shares(path.with_name("config.json")):
                found |= {self.position_of.get(by_path(line), -1) for line in read_lines(path)}
        return found - {-1}

    def shares(self, path: Path) -> bool:
        """Whether a config.json is of a run on the same images, or at least on the same folder."""
        try:
            record = read_json(path)
            folder = Path(record["other_parameters"]["data_dir"])
            same = record["inputs"]["data"] == self.pool.fingerprint()
            return same or folder.resolve() == self.folder.resolve()
        except (UserError, KeyError, TypeError, ValueError):
            return False  # not written by this code

    # --- what follows from them

    def test_images(self, pool: Images, taken: CycleLabels) -> Images:
        """The test set, its labels in the order of the classes of `pool`."""
        if len(self.test):
            place = torch.tensor([pool.classes.index(name) for name in self.test.classes])
            return replace(self.test, labels=place.to(pool.device)[self.test.labels], classes=pool.classes)
        at = taken.test_positions
        return replace(
            pool,
            pixels=pool.pixels[at.to(pool.pixels.device)],
            labels=taken.test_labels.to(pool.device),
            ids=[pool.ids[i] for i in at.tolist()],
            copies={},
            drawn=(),
        )


def write_or_remove(path: Path, header: Sequence[str], rows: list[list[str]]) -> None:
    if rows:
        write_csv(path, header, rows)
    else:
        path.unlink(missing_ok=True)
