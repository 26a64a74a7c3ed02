"""A classifier and its growing labeled set: what main.py, main_pt4al.py and whole_dataset.py
share."""

from typing import Any

import torch
from torch import Tensor

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError
from pt4al.base.files import load_checkpoint, write_csv
from pt4al.data.features import Rows
from pt4al.data.images import Images, LabeledSet
from pt4al.method.classifier import Classification
from pt4al.method.pretext import Pretext, pretext_features
from pt4al.method.strategies import STRATEGIES, Query
from pt4al.person.labels import UNSURE
from pt4al.person.oracle import oracle_of
from pt4al.run.run_folder import RunFolder
from pt4al.run.tables import wilson
from pt4al.train.network import carry_over
from pt4al.train.seeding import generator
from pt4al.train.training import train_cycle


def labels_per_cycle(
    config: Config, pool: Images, available: int, batches: list[list[int]], cycles: int
) -> int:
    """A fifth of a batch unless the configuration says otherwise: the same for all methods, so not a fifth
    of those images of a batch that may be chosen.

    Args:
        available: images that the cycles may choose, all together.
        batches: those that they choose from, one each; empty where they choose from all that is available.

    Raises:
        UserError: a batch, or what is available, holds too few images.
    """
    size = len(pool.eligible(range(len(pool)))) // config.num_batches
    k = config.labels_per_cycle or max(1, size // 5)
    besides = " besides those to test by" if pool.drawn else ""
    if batches and k > (size := min(map(len, batches))):
        raise UserError(
            f"labels_per_cycle is {k} but a batch holds {size} images{besides}: lower it"
            + (", or use --candidates all" if cycles > 1 else "")
        )
    if k * cycles > available:
        raise UserError(
            f"labels_per_cycle is {k} and cycles is {cycles}, but the pool holds {available} images{besides}"
        )
    return k


class Learner:
    """Labels images, trains on all that are labeled, and stands where its run stopped.

    Attributes:
        oracle: who labels.
        pretext: the pretext network, where a strategy looks at its features.
        pool, test: with the labels and classes of the cycle that `net` was trained in.
        positions: int64 (n,), pool positions that it was trained on.
        net: after `train`, the network with the weights that the cycle is judged by and that choose next.
    """

    def __init__(
        self, config: Config, run: RunFolder, pool: Images, test: Images, cycles: int,
        pretext: Pretext | None = None,
    ) -> None:  # fmt: skip
        self.config, self.run, self.pool, self.test, self.cycles = config, run, pool, test, cycles
        self.pretext = pretext
        self.oracle = oracle_of(run, pool, test)
        self.positions = torch.tensor([], dtype=torch.int64)
        self.classification = Classification(config, pool, test)
        self.net = self.classification.fresh_network(len(pool.classes) or 1, 0)
        self.was_finished = False

    def open(self, made_from: dict[str, Any] | None = None) -> None:
        """Begin the run, or stand where it stopped. `made_from`: what `find_batches` noted."""
        run, pool, test = self.run, self.pool, self.test
        data = self.classification.description["data"]
        inputs = {"data": data, "test_data": test.fingerprint(), **(made_from or {})}
        if pool.are_features:
            images = {"names": {"data": pool.names_digest(), "test_data": test.names_digest()}}
            sources = {"data": pool.source_digest(), "test_data": test.source_digest()}
            images |= sources if all(sources.values()) else {}
            inputs |= {"features": pool.features, "images": images}
        if self.pretext:
            inputs |= {"pretext": self.pretext.digest, "pretext_made_from": self.pretext.made_from}
        run.test = test
        resumed = run.open(inputs, pool)
        if common := len(pool.pixel_hashes() & test.pixel_hashes()):
            processes.say(f"warning: {common} images of the pool are in the test set too, {pool.bit_for_bit}")
        to_test = f"{len(pool.drawn)} of them" if pool.drawn else len(test)
        classes = f", {len(pool.classes)} classes" if pool.classes else ""
        processes.say(
            f"{self.config.dataset}: {len(pool)} images in the pool, {to_test} to test{classes}; "
            f"{self.cycles} cycles of {self.config.epochs} epochs on {pool.device}, "
            f"{str(self.classification.precision)[6:]}: {run.tables}"
        )
        if not resumed:
            return
        run.write_tables()
        trained = self.cycle - (run.state.finished_epoch < 0)  # the cycle that the weights are of
        if trained >= 0:
            self.use(self.oracle.answer(trained))
            self.net.load_state_dict(self.chosen()["net"] if self.finished else run.state.net)
        self.mend_weights()
        if self.finished and self.cycle < self.cycles - 1:
            processes.say(f"{run.tables} had {self.cycle + 1} cycles and resumes: {self.cycles} in all")
            run.finish_cycle(self.chosen()["net"])
            if processes.is_main():  # which would be those of an earlier cycle
                (run.tables / "predictions.csv").unlink(missing_ok=True)
        self.was_finished = self.finished
        if self.finished:
            processes.say(f"{run.tables} is finished: nothing to do; --restart starts over")
        elif run.state.finished_epoch >= 0:
            processes.say(f"resuming after epoch {run.state.finished_epoch + 1} of cycle {self.cycle}")
        elif self.cycle > 0:
            processes.say(f"resuming after cycle {self.cycle - 1}")

    @property
    def labeled(self) -> list[list[int]]:
        """Pool positions by cycle, in the order chosen."""
        return self.run.state.labeled

    @property
    def cycle(self) -> int:
        """The cycle to label for or to train now."""
        return self.run.state.cycle

    @property
    def has_labels(self) -> bool:
        """Whether the images of the current cycle are chosen."""
        return len(self.labeled) > self.cycle

    @property
    def finished(self) -> bool:
        return self.run.state.finished

    @property
    def known(self) -> list[int]:
        """Pool positions of what is labeled: all picks in order, then what was labeled unasked."""
        picks = [i for cycle in self.labeled for i in cycle]
        return picks + sorted({*self.positions.tolist()} - {*picks})

    def unlabeled(self, candidates: list[int]) -> list[int]:
        """The candidates that are not labeled, in order."""
        known = set(self.known)
        return [i for i in candidates if i not in known]

    def query(self, name: str, candidates: list[int], k: int) -> Query:
        """What strategy `name` looks at, of the candidates and of what is labeled: one pass of one
        network over both, or none."""
        strategy = STRATEGIES[name]
        known = self.known if strategy.labeled else []
        if k > len(candidates):  # a person has labeled others of them unasked
            processes.say(
                f"cycle {self.cycle}: only {len(candidates)} images are left to choose from"
                if candidates
                else f"cycle {self.cycle} trains on the same images: all that it could choose have a label"
            )
            k = len(candidates)
        positions, n = torch.tensor(candidates + known), len(candidates)
        logits = features = torch.zeros(len(positions), 0)
        if strategy.looks_at == "pretext" and self.pool.are_features:
            features = Rows(self.pool.pixels, positions, lambda rows: rows)
        elif strategy.looks_at == "pretext":
            features = pretext_features(self.pretext, self.pool, positions, self.config)
        elif strategy.looks_at == "features":
            logits, features = self.classification.logits_and_features(self.net, positions)
        elif strategy.looks_at == "logits":
            logits = self.classification.logits(self.net, self.pool, positions)
        draws = generator(self.config.seed, "pick", self.cycle)
        return Query(logits[:n], features[:n], features[n:], k, draws)

    def logits(self, positions: Tensor) -> Tensor:
        """float32 (n, classes): the outputs of the network as it is for pool images, int64 (n,)."""
        return self.classification.logits(self.net, self.pool, positions)

    def label(self, picks: list[int]) -> None:
        """Add a cycle's picks to the labeled set; they are on disk before any training uses them."""
        if len(set(picks)) != len(picks) or {*self.known} & {*picks}:
            raise AssertionError(
                "internal error: a query strategy chose an image twice or one that is labeled already"
            )
        self.run.move(labeled=[*self.labeled, picks])
        self.run.write_labeled()

    def train(self) -> None:
        """Train the current cycle to its end, judge it, write its weights, and move on to the next.

        Raises:
            Waiting: an annotator has not labeled all that the cycle needs.
        """
        config, run, cycle = self.config, self.run, self.cycle
        self.use(self.oracle.answer(cycle))
        if cycle > 0 and config.init == "scratch":
            self.net = self.classification.fresh_network(len(self.pool.classes), cycle)
        task = self.classification.task(self.positions)
        with processes.one_thread(self.pool.are_features):
            train_cycle(self.net, task, run, self.remaining_passes())
        chosen = self.chosen()["net"]
        self.net.load_state_dict(chosen)
        self.save_weights()
        last, best = run.state.last_accuracy, run.state.best
        best = [best["acc"], best["epoch"]] if best["net"] else [None, None]
        rows = {
            "cycles": [*run.state.cycles, [cycle, len(self.positions), *best, last]],
            "per_class": [*run.state.per_class, *self.classification.per_class(self.net, cycle)],
        }
        if not self.pool.labels_known:
            rows["review"] = self.classification.doubtful(self.net, self.positions, cycle)
        processes.say(f"cycle {cycle}: {len(self.positions)} labels{self.judged(best[0], last)}")
        if cycle < self.cycles - 1:
            run.finish_cycle(chosen, **rows)
        else:
            run.finish(**rows)

    def use(self, labeled: LabeledSet) -> None:
        """Take up the labels of a cycle, and give the network an output for each class."""
        self.positions, before = labeled.positions, self.pool.classes
        if labeled.pool is self.pool and labeled.test is self.test:
            return
        self.pool, self.test = labeled.pool, labeled.test
        self.classification = Classification(self.config, self.pool, self.test)
        if self.pool.classes != before:
            net = self.classification.fresh_network(len(self.pool.classes), self.cycle)
            if before:
                carry_over(self.net, before, net, self.pool.classes)
            self.net = net

    def judged(self, best: float | None, last: float | None) -> str:
        """Accuracies for a reader, with the interval that the size of the test set gives."""
        if last is None:
            return ", no test set"
        low, high = wilson(last, n := len(self.test))
        return (
            f", best {best:.2f} %, last {last:.2f} % ({low:.1f} to {high:.1f}: 95 % interval of {n} images)"
        )

    def predict(self) -> None:
        """Write predictions.csv: what the last classifier says of every image of the pool, and what the
        annotator said of those that this run has asked for or trained on."""
        path = self.run.tables / "predictions.csv"
        if self.was_finished and path.exists():
            return
        confidence, predicted = self.logits(torch.arange(len(self.pool))).softmax(1).max(1)
        names = [self.pool.classes[label] for label in predicted.tolist()]
        asked = [*self.pool.drawn, *self.known]
        said = {**dict.fromkeys(asked, UNSURE), **self.run.state.answers[-1].names()}
        given = [said.get(self.pool.copies.get(i, i)) for i in range(len(self.pool))]
        if processes.is_main():
            rows = zip(self.pool.ids, names, confidence.tolist(), given, strict=True)
            write_csv(path, ("file_name", "label", "confidence", "given"), rows)
            processes.say(f"predictions for every image, by the classifier of cycle {self.cycle}: {path}")
            if note := self.decline():
                processes.say(note)

    def decline(self) -> str:
        """What is said where an earlier cycle is more accurate than the last."""
        column = 4 if self.config.select == "last" else 2
        accuracies = [row[column] for row in self.run.state.cycles]
        if None in accuracies or (best := max(accuracies)) == accuracies[-1]:
            return ""

        def judged(cycle: int) -> str:
            low, high = wilson(accuracies[cycle], self.run.state.answers[cycle].test_images)
            return f"cycle {cycle} ({accuracies[cycle]:.2f} %, 95 % interval {low:.1f} to {high:.1f})"

        last = len(accuracies) - 1
        return f"note: {judged(last)} is less accurate than {judged(accuracies.index(best))}"

    # --- weights

    def chosen(self) -> dict[str, Any]:
        """Weights, accuracy and epoch that the current cycle is judged by and samples with."""
        if self.config.select == "best":
            return self.run.state.best
        last = self.run.state.last_accuracy
        return {"net": self.run.state.net, "acc": last, "epoch": self.config.epochs - 1}

    def save_weights(self) -> None:
        content = {**self.chosen(), **self.classification.description, "cycle": self.cycle}
        self.run.save_weights(self.run.weights / f"main_{self.cycle}.pth", content)

    def mend_weights(self) -> None:
        """Name weights of cycles that are done and missing, damaged, or of another run. Those of the
        last cycle of a finished run are in last.pth: they are written anew."""
        if not processes.is_main():
            return
        for cycle in range(self.cycle + self.finished):
            path = self.run.weights / f"main_{cycle}.pth"
            try:
                weights = load_checkpoint(path)
                if (weights.get("record"), weights.get("cycle")) == (self.run.record, cycle):
                    continue
                problem = f"{path} is of another run or cycle"
            except UserError as error:
                problem = str(error)
            if self.finished and cycle == self.cycle:
                self.save_weights()
                processes.say(f"{problem}: written again from last.pth")
            else:
                processes.say(f"warning: {problem}: --restart trains it again")

    def remaining_passes(self) -> float:
        """Forward passes left after this cycle (a training image counts 3), assuming equal budgets."""
        config, labels, now = self.config, sum(map(len, self.labeled)), self.cycle
        step = len(self.labeled[-1])
        sizes = [labels + step * (cycle - now) for cycle in range(now + 1, self.cycles)]
        trained = sum(max(size, config.min_epoch_images) for size in sizes)
        scored = (self.cycles - now - 1) * len(self.test) / config.eval_every
        return config.epochs * (3 * trained + scored)
