"""A classifier and its growing labelled set: what main.py, main_pt4al.py and whole_dataset.py
share."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError, Waiting
from pt4al.base.files import load_checkpoint, write_csv
from pt4al.data.images import Images
from pt4al.method.classifier import Classification
from pt4al.method.pretext import Pretext, pretext_features
from pt4al.method.strategies import BLIND, FEATURES, LABELLED, PRETEXT, Query
from pt4al.person.answers import Person, doubtful
from pt4al.run.run_folder import RunFolder, new_state
from pt4al.run.tables import Taken, wilson
from pt4al.train.network import carry_over, fresh_network
from pt4al.train.seeding import generator
from pt4al.train.training import train_cycle


def labels_per_cycle(config: Config, pool_size: int, batches: list[list[int]], cycles: int) -> int:
    """A fifth of a batch unless the configuration says otherwise.

    Args:
        batches: those that the cycles choose from, one each; empty where they choose from the pool.

    Raises:
        UserError: a batch, or the pool, holds too few images.
    """
    size = min(map(len, batches), default=pool_size // config.num_batches)
    k = config.labels_per_cycle or max(1, size // 5)
    if batches and k > size:
        raise UserError(
            f"labels_per_cycle is {k} but a batch holds {size} images: lower it, or use --candidates all"
        )
    if k * cycles > pool_size:
        raise UserError(f"{cycles} cycles of {k} labels need more than the {pool_size} images of the pool")
    return k


class Learner:
    """Labels images, trains on all that are labelled, and stands where its run stopped.

    Attributes:
        person: who labels the pool, where its labels are not known.
        pretext: the pretext network, where a strategy looks at its features.
        net: after `train`, the network with the weights that the cycle is judged by and that choose
            next.
    """

    def __init__(
        self,
        config: Config,
        run: RunFolder,
        pool: Images,
        test: Images,
        cycles: int,
        pretext: Pretext | None = None,
    ) -> None:
        self.config, self.run, self.pool, self.test, self.cycles = config, run, pool, test, cycles
        self.pretext = pretext
        self.person = None
        if pool.by_person:
            takes_all = run.script == "whole_dataset.py"
            self.person = Person(config, pool, test, run.tables, takes_all)
        self.classification = Classification(config, pool, test)
        self.net = fresh_network(config, len(pool.classes) or 1, 0, pool.device)
        self.state = new_state()
        if self.person:
            self.state |= {"answers": [], "review": []}

    def open(self, made_from: dict[str, Any] | None = None) -> None:
        """Begin the run, or stand where it stopped. `made_from`: what `find_batches` noted."""
        run, pool, test = self.run, self.pool, self.test
        data = self.classification.description["data"]
        inputs = {"data": data, "test_data": test.fingerprint(), **(made_from or {})}
        if self.pretext:
            inputs["pretext"] = self.pretext.digest
        if self.person and self.config.restart:
            processes.from_main(self.person.check)  # before anything is deleted
        state = run.open(inputs, pool.ids)
        common = len(pool.pixel_hashes() & test.pixel_hashes())
        if common:
            processes.say(f"warning: {common} images of the pool are in the test set too, pixel for pixel")
        to_test = f"{len(pool.drawn)} of them" if pool.drawn else len(test)
        classes = "" if self.person else f", {len(pool.classes)} classes"
        processes.say(
            f"{self.config.dataset}: {len(pool)} images in the pool, {to_test} to test{classes}; "
            f"{self.cycles} cycles of {self.config.epochs} epochs on {pool.device}, "
            f"{str(self.classification.precision)[6:]}: {run.tables}"
        )
        if state is None:
            return
        self.state = state
        run.write_tables(state)
        if self.person and state["answers"]:
            self.use(state["answers"][: self.cycle + 1][-1])
        self.mend_weights()
        if self.finished:
            if self.person and not (run.tables / "predictions.csv").exists():
                self.net.load_state_dict(self.chosen()["net"])
                self.predict()
            processes.say(f"{run.tables} is finished: nothing to do; --restart begins anew")
        elif state["finished_epoch"] >= 0:
            processes.say(f"going on after epoch {state['finished_epoch'] + 1} of cycle {state['cycle']}")

    @property
    def labeled(self) -> list[list[int]]:
        """Pool positions by cycle, in the order chosen."""
        return self.state["labeled"]

    @property
    def cycle(self) -> int:
        """The cycle to label for or to train now."""
        return self.state["cycle"]

    @property
    def has_labels(self) -> bool:
        """Whether the images of the current cycle are chosen."""
        return len(self.labeled) > self.cycle

    @property
    def finished(self) -> bool:
        return self.state["finished"]

    @property
    def known(self) -> list[int]:
        """Pool positions of what is labelled: all picks in order, then what a person labelled
        unasked."""
        picks = [i for cycle in self.labeled for i in cycle]
        taken = self.state["answers"] if self.person else []
        more = taken[-1]["positions"].tolist() if taken else []
        return picks + sorted({*more} - {*picks})

    def unlabeled(self, candidates: list[int]) -> list[int]:
        """The candidates that are not labelled, in order."""
        known = set(self.known)
        return [i for i in candidates if i not in known]

    def query(self, name: str, candidates: list[int], k: int) -> Query:
        """What strategy `name` looks at, of the candidates and of what is labelled: one pass of one
        network over both, or none."""
        known = self.known if name in LABELLED else []
        if k > len(candidates):  # a person has labelled others of them unasked
            processes.say(f"cycle {self.cycle}: only {len(candidates)} images are left to choose from")
            k = len(candidates)
        positions, n = torch.tensor(candidates + known), len(candidates)
        logits = features = torch.zeros(len(positions), 0)
        if name in PRETEXT:
            features = pretext_features(self.pretext, self.pool, positions, self.config)
        elif name in FEATURES:
            logits, features = self.classification.logits_and_features(self.net, positions)
        elif name not in BLIND:
            logits = self.classification.logits(self.net, self.pool, positions)
        draws = generator(self.config.seed, "pick", self.cycle)
        return Query(logits[:n], features[:n], features[n:], k, draws)

    def label(self, picks: list[int]) -> None:
        """Add a cycle's picks to the labelled set; they are on disk before any training uses
        them."""
        if len(set(picks)) != len(picks) or {*self.known} & {*picks}:
            raise AssertionError(
                "internal error: a query strategy chose an image twice or one that is labelled already"
            )
        self.state["labeled"] = [*self.labeled, picks]
        self.run.write_labeled(len(self.labeled) - 1, picks)

    def train(self) -> None:
        """Train the current cycle to its end, judge it, write its weights, and move on to the next.

        Raises:
            Waiting: a person has not labelled all that the cycle needs.
        """
        config, state, cycle = self.config, self.state, self.cycle
        if self.person:
            if len(state["answers"]) == cycle:
                self.take_answers()
            self.use(state["answers"][cycle])
        if config.init == "scratch" and cycle > 0:
            self.net = fresh_network(config, len(self.pool.classes), cycle, self.pool.device)
        positions = state["answers"][cycle]["positions"] if self.person else torch.tensor(self.known)
        task = self.classification.task(positions)
        train_cycle(self.net, task, self.run, state, config, self.pool.device, self.work_after())
        self.net.load_state_dict(self.chosen()["net"])
        self.save_weights()
        last, best = state["last_accuracy"], state["best"]
        best = [best["acc"], best["epoch"]] if best["net"] else [None, None]
        state["cycles"] = [*state["cycles"], [cycle, len(positions), *best, last]]
        state["per_class"] = state["per_class"] + self.classification.per_class(self.net, cycle)
        self.run.write_tables(state)
        processes.say(f"cycle {cycle}: {len(positions)} labels{self.judged(best[0], last)}")
        if cycle == self.cycles - 1:
            if self.person:
                self.predict()
            self.run.finish(state)
        else:
            fresh = new_state()
            beginning = {k: fresh[k] for k in ("finished_epoch", "net", "momentum", "last_accuracy", "best")}
            state.update(beginning, cycle=cycle + 1)

    def judged(self, best: float | None, last: float | None) -> str:
        """Accuracies for a person; a small test set with its interval."""
        if last is None:
            return ", no test set"
        text = f", best {best:.2f} %, last {last:.2f} %"
        if self.person:
            low, high = wilson(last, len(self.test))
            text += f" ({low:.1f} to {high:.1f}: 95 % interval of {len(self.test)} images)"
        return text

    # --- labels by a person

    def take_answers(self) -> None:
        """Take what a person has said as the labels of this cycle, if all that was asked is
        answered; note which new labels the classifier doubts that has not seen them.

        Raises:
            Waiting: some are missing. What was asked is on disk.
        """
        taken = self.state["answers"]
        before = taken[-1] if taken else None
        answers = processes.from_main(partial(self.person.take, self.labeled, before))
        if isinstance(answers, str):
            self.run.keep_choice(self.state)
            raise Waiting(answers)
        if before:
            old = set(before["positions"].tolist()) | set(before["test_positions"].tolist())
            new = [i for i in answers["positions"].tolist() if i not in old]
            logits = self.classification.logits(self.net, self.pool, torch.tensor(new, dtype=torch.int64))
            doubts = doubtful(answers, new, logits, before["classes"], self.cycle)
            self.state["review"] = [*self.state["review"], *doubts]
        self.state["answers"] = [*taken, answers]
        self.run.keep_choice(self.state)

    def use(self, answers: Taken) -> None:
        """Label the pool and the test set with a cycle's answers, and give the network an output for
        each class."""
        config, device, before = self.config, self.pool.device, self.pool.classes
        labels = torch.full((len(self.pool),), -1)
        labels[answers["positions"]] = answers["labels"]
        self.pool = replace(self.pool, labels=labels.to(device), classes=answers["classes"])
        self.test = self.person.test_images(self.pool, answers)
        self.classification = Classification(config, self.pool, self.test)
        if answers["classes"] != before:
            net = fresh_network(config, len(answers["classes"]), self.cycle, device)
            if before:
                carry_over(self.net, before, net, answers["classes"])
            self.net = net

    def predict(self) -> None:
        """Write predictions.csv: what the last classifier says of every image of the pool."""
        p = self.classification.logits(self.net, self.pool, torch.arange(len(self.pool))).softmax(1)
        confidence, predicted = p.max(1)
        rows = [
            [image_id, self.pool.classes[label], c]
            for image_id, label, c in zip(self.pool.ids, predicted.tolist(), confidence.tolist(), strict=True)
        ]
        if processes.is_main():
            path = self.run.tables / "predictions.csv"
            write_csv(path, ("file_name", "label", "confidence"), rows)
            processes.say(f"what the classifier says of every image: {path}")

    # --- weights

    def chosen(self) -> dict[str, Any]:
        """Weights, accuracy and epoch that the current cycle is judged by and samples with."""
        if self.config.select == "best":
            return self.state["best"]
        last = self.state["last_accuracy"]
        return {"net": self.state["net"], "acc": last, "epoch": self.config.epochs - 1}

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
                processes.say(f"{problem}: written anew from last.pth")
            else:
                processes.say(f"warning: {problem}: only --restart makes it again")

    def work_after(self) -> float:
        """Images to train (times 3) and to score in the cycles after this one, if each labels as
        many as this."""
        config, labels, now = self.config, sum(map(len, self.labeled)), self.cycle
        step = len(self.labeled[-1])
        sizes = [labels + step * (cycle - now) for cycle in range(now + 1, self.cycles)]
        trained = sum(max(size, config.min_epoch_images) for size in sizes)
        scored = (self.cycles - now - 1) * len(self.test) / config.eval_every
        return config.epochs * (3 * trained + scored)
