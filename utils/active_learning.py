"""A classifier and its growing labelled set: what main.py, main_pt4al.py and whole_dataset.py
share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config
from loader import Images, crop_and_flip, normalisation, normaliser
from utils import processes
from utils.console import UserError
from utils.files import save_checkpoint
from utils.network import describe, fresh_network
from utils.run_folder import RunFolder
from utils.seeding import crop_draws
from utils.training import (
    Task,
    new_state,
    score,
    train_cycle,
)


def labels_per_cycle(config: Config, pool_size: int, batches: list[list[int]], cycles: int) -> int:
    """A fifth of a batch unless the configuration says otherwise.

    Raises:
        UserError: a batch, or the pool, holds too few images.
    """
    size = min(map(len, batches), default=pool_size // config.num_batches)
    k = config.labels_per_cycle or max(1, size // 5)
    if config.candidates == "batch" and k > size:
        raise UserError(
            f"labels_per_cycle is {k} but a batch holds {size} images: lower it, or use --candidates all"
        )
    if k * cycles > pool_size:
        raise UserError(
            f"{cycles} cycles of {k} labels need more than the {pool_size} images of the pool"
        )
    return k


class Learner:
    """Labels images, trains on all that are labelled, and stands where its run stopped.

    Attributes:
        labeled: pool positions by cycle, in the order chosen.
        net: after `train`, the network with the weights that the cycle is judged by and that choose
            next.
    """

    def __init__(
        self, config: Config, run: RunFolder, pool: Images, test: Images, cycles: int
    ) -> None:
        self.config, self.run, self.pool, self.test, self.cycles = config, run, pool, test, cycles
        self.device = pool.device
        self.precision = processes.choose_precision(config.precision, self.device)
        mean, std = normalisation(config, pool)
        self.normalise = normaliser(mean, std, self.device)
        self.description = describe(config, pool, len(pool.classes), mean, std)
        self.net = fresh_network(config, len(pool.classes), 0, self.device)
        self.state = new_state()

    @classmethod
    def open(
        cls,
        config: Config,
        run: RunFolder,
        pool: Images,
        test: Images,
        cycles: int,
        made_from: dict[str, Any] | None = None,
    ) -> "Learner":
        """A learner at the beginning of a run, or where the run stopped. `made_from`: what
        `find_batches` noted."""
        learner = cls(config, run, pool, test, cycles)
        inputs = {
            "data": learner.description["data"],
            "test_data": test.fingerprint(),
            **(made_from or {}),
        }
        state = run.open(inputs, pool.ids)
        common = len(pool.pixel_hashes() & test.pixel_hashes())
        if common:
            processes.say(
                f"warning: {common} images of the pool are in the test set too, pixel for pixel"
            )
        processes.say(
            f"{config.dataset}: {len(pool)} images in the pool, {len(test)} to test, {len(pool.classes)} classes; "
            f"{cycles} cycles of {config.epochs} epochs on {learner.device}, {str(learner.precision)[6:]}: {run.tables}"
        )
        if state is not None:
            learner.state = state
            if learner.finished:
                processes.say(f"{run.tables} is finished: nothing to do; --restart begins anew")
            else:
                processes.say(
                    f"going on after epoch {state['finished_epoch'] + 1} of cycle {state['cycle']}"
                )
                run.write_tables(state)
        return learner

    @property
    def labeled(self) -> list[list[int]]:
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

    def unlabeled(self, candidates: list[int]) -> list[int]:
        """The candidates that no cycle has labelled, in order."""
        known = {i for picks in self.labeled for i in picks}
        return [i for i in candidates if i not in known]

    def logits(
        self, images: Images, positions: Tensor, precision: torch.dtype = torch.float32
    ) -> Tensor:
        """float32 (len(positions), classes) in host memory: eval mode, no augmentation."""

        def forward(batch: Tensor, _: Tensor) -> Tensor:
            return self.net(self.normalise(batch))

        columns = len(images.classes)
        return score(self.net, images, positions, forward, columns, self.config, precision)

    def label(self, picks: list[int]) -> None:
        """Add a cycle's picks to the labelled set; they are on disk before any training uses
        them."""
        known = {i for earlier in self.labeled for i in earlier}
        if len(set(picks)) != len(picks) or known & set(picks):
            raise AssertionError(
                "internal error: a query strategy chose an image twice or one that is labelled already"
            )
        self.state["labeled"] = [*self.labeled, picks]
        self.run.write_labeled(len(self.labeled) - 1, picks)

    def train(self) -> None:
        """Train the current cycle to its end, judge it, write its weights, and move on to the
        next."""
        config, state, cycle = self.config, self.state, self.cycle
        if config.init == "scratch" and cycle > 0:
            self.net = fresh_network(config, len(self.pool.classes), cycle, self.device)
        train_cycle(self.net, self.task(), self.run, state, config, self.device, self.work_after())
        if config.select == "best":
            chosen = state["best"]
        else:
            chosen = {
                "net": state["net"],
                "acc": state["last_accuracy"],
                "epoch": config.epochs - 1,
            }
        self.net.load_state_dict(chosen["net"])
        if processes.is_main():
            save_checkpoint(
                self.run.weights / f"main_{cycle}.pth",
                {**chosen, **self.description, "cycle": cycle},
            )
        best = state["best"]
        labels = sum(map(len, self.labeled))
        row = [cycle, labels, best["acc"], best["epoch"], state["last_accuracy"]]
        state["cycles"] = [*state["cycles"], row]
        state["per_class"] = state["per_class"] + self.per_class(cycle)
        self.run.write_tables(state)
        processes.say(
            f"cycle {cycle}: {labels} labels, best {best['acc']:.2f} %, last {state['last_accuracy']:.2f} %"
        )
        if cycle == self.cycles - 1:
            self.run.finish(state)
        else:
            state.update(
                cycle=cycle + 1,
                finished_epoch=-1,
                net={},
                momentum=[],
                last_accuracy=None,
            )
            state["best"] = new_state()["best"]

    def task(self) -> Task:
        """Classification of everything labelled so far, judged on the test set."""
        config, pool = self.config, self.pool

        def passes(cycle: int, epoch: int):
            rows, columns, flips = (
                draw.to(self.device)
                for draw in crop_draws(config.seed, len(pool), config.crop_padding, cycle, epoch)
            )

            def of(images: Tensor, at: Tensor):
                flip = flips[at] & config.flip
                images = crop_and_flip(images, rows[at], columns[at], flip, config.crop_padding)
                yield self.normalise(images), pool.labels[at]

            return of

        positions = torch.tensor([i for picks in self.labeled for i in picks])
        return Task(
            pool=pool,
            positions=positions,
            passes=passes,
            num_passes=1,
            evaluate=self.evaluate,
            eval_cost=len(self.test),
            labels=len(positions),
            epochs=config.epochs,
            batch_size=config.batch_size,
            milestones=config.milestones,
        )

    def evaluate(self, net: nn.Module) -> tuple[float, float]:
        """Mean loss and accuracy in percent on the test set."""
        labels = self.test.labels.cpu()
        logits = self.logits(self.test, torch.arange(len(self.test)), self.precision)
        accuracy = 100 * (logits.argmax(1) == labels).sum().item() / len(labels)
        return F.cross_entropy(logits, labels).item(), accuracy

    def per_class(self, cycle: int) -> list[list[object]]:
        """Rows of per_class.csv for the current weights; a class that was never predicted has
        precision 0."""
        from sklearn.metrics import precision_recall_fscore_support  # takes a second to import

        truth = self.test.labels.cpu().numpy()
        predicted = (
            self.logits(self.test, torch.arange(len(truth)), self.precision).argmax(1).numpy()
        )
        every = range(len(self.test.classes))
        table = precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0.0)
        return [
            [cycle, name, int(support), float(precision), float(recall), float(f1)]
            for name, precision, recall, f1, support in zip(self.test.classes, *table, strict=True)
        ]

    def work_after(self) -> float:
        """Images to train (times 3) and to score in the cycles after this one, if each labels as
        many as this."""
        config, labels, now = self.config, sum(map(len, self.labeled)), self.cycle
        step = len(self.labeled[-1])
        trained = sum(labels + step * (cycle - now) for cycle in range(now + 1, self.cycles))
        scored = (self.cycles - now - 1) * len(self.test) / config.eval_every
        return config.epochs * (3 * trained + scored)
