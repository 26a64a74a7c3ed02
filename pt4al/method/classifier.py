"""The classifier: what it is trained on, and how it is judged."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import Config
from pt4al.base import processes
from pt4al.base.processes import choose_precision
from pt4al.data.features import Rows
from pt4al.data.images import Images
from pt4al.data.transforms import crop_and_flip, normalization, normalizer
from pt4al.train.network import describe, fresh_network
from pt4al.train.scoring import score
from pt4al.train.seeding import crop_draws
from pt4al.train.training import Task, train_apart

REVIEWED = 20  # labels
FOLDS = 5


class Classification:
    """A pool to train a classifier on and a test set to judge it by.

    Attributes:
        description: what checkpoints of the classifier say of themselves.
    """

    def __init__(self, config: Config, pool: Images, test: Images) -> None:
        self.config, self.pool, self.test = config, pool, test
        self.precision = choose_precision(config.precision, pool.device)
        mean, std = normalization(config, pool)
        self.normalize = normalizer(mean, std, pool.device)
        self.description = describe(config, pool, len(pool.classes), mean, std)

    def fresh_network(self, num_classes: int, cycle: int) -> nn.Module:
        """A network to train in a cycle: a ResNet, or on features a linear layer."""
        dimensions = self.pool.pixels.shape[1] if self.pool.are_features else 0
        return fresh_network(self.config, num_classes, cycle, self.pool.device, dimensions)

    def task(self, positions: Tensor) -> Task:
        """Training on the pool images at `positions`, int64 (n,), cropped and mirrored at random; on their
        features as they are."""
        config, pool = self.config, self.pool

        def draw(cycle: int, epoch: int, repeat: int) -> tuple[Tensor, ...]:
            if pool.are_features:
                return ()
            draws = crop_draws(config.seed, len(pool), config.crop_padding, cycle, epoch, repeat)
            return tuple(draw.to(pool.device) for draw in draws)

        def passes(images: Tensor, at: Tensor, draws: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
            if draws:
                rows, columns, flips = (draw[at] for draw in draws)
                images = crop_and_flip(images, rows, columns, flips & config.flip, config.crop_padding)
            yield self.normalize(images), pool.labels.index_select(0, at)

        return Task(
            pool=pool,
            positions=positions,
            draw=draw,
            passes=passes,
            num_passes=1,
            evaluate=self.evaluate if len(self.test) else None,
            eval_cost=len(self.test),
            labels=len(positions),
            repeats=max(1, math.ceil(config.min_epoch_images / len(positions))),
            epochs=config.epochs,
            batch_size=config.batch_size,
            milestones=config.milestones,
        )

    def logits(
        self,
        net: nn.Module,
        images: Images,
        positions: Tensor,
        precision: torch.dtype = torch.float32,
    ) -> Tensor:
        """float32 (len(positions), classes) in host memory: eval mode, no augmentation."""

        def forward(net: nn.Module, batch: Tensor, _: Tensor) -> Tensor:
            return net(self.normalize(batch))

        return score(net, images, positions, forward, len(images.classes), self.config, precision)

    def logits_and_features(self, net: nn.Module, positions: Tensor) -> tuple[Tensor, Tensor | Rows]:
        """float32 (n, classes) and (n, d) of pool images, d numbers being the input of the last
        layer; as `logits`, by one pass."""
        if self.pool.are_features:
            return self.logits(net, self.pool, positions), Rows(self.pool.pixels, positions, self.normalize)
        classes = len(self.pool.classes)

        def forward(net: nn.Module, batch: Tensor, _: Tensor) -> Tensor:
            features = net.features(self.normalize(batch))
            return torch.cat([net.linear(features), features], 1)

        columns = classes + net.linear.in_features
        both = score(net, self.pool, positions, forward, columns, self.config)
        return both[:, :classes].contiguous(), both[:, classes:].contiguous()

    def test_logits(self, net: nn.Module) -> Tensor:
        return self.logits(net, self.test, torch.arange(len(self.test)), self.precision)

    def evaluate(self, net: nn.Module) -> tuple[float, float]:
        """Mean loss and accuracy in percent on the test set."""
        labels, logits = self.test.labels.cpu(), self.test_logits(net)
        accuracy = 100 * (logits.argmax(1) == labels).sum().item() / len(labels)
        return F.cross_entropy(logits, labels).item(), accuracy

    def per_class(self, net: nn.Module, cycle: int) -> list[list[object]]:
        """Rows of per_class.csv; a class that was never predicted has precision 0, of one without test
        images nothing is known."""
        if not len(self.test):
            return []
        from sklearn.metrics import precision_recall_fscore_support  # takes a second to import

        truth, predicted = self.test.labels.cpu().numpy(), self.test_logits(net).argmax(1).numpy()
        every = range(len(self.test.classes))
        table = precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0.0)
        return [
            [cycle, name, int(support), *(float(x) if support else None for x in measures)]
            for name, *measures, support in zip(self.test.classes, *table, strict=True)
        ]

    def doubtful(self, net: nn.Module, positions: Tensor, cycle: int) -> list[list[object]]:
        """Rows of review.csv: the 20 labels that look least likely, least likely first: of those at
        `positions`, int64 (n,), which `net` was trained on, and of those of the test set."""
        of_pool = self.logits(net, self.pool, positions)
        if self.pool.are_features:
            of_pool = self.out_of_fold(of_pool, positions, cycle)
        every = torch.arange(len(self.test))
        of_test = self.logits(net, self.test, every)
        rows = []
        for images, at, logits in ((self.pool, positions, of_pool), (self.test, every, of_test)):
            # In float64: labels that were learned by heart all have a probability of 1 in float32.
            p = logits.double().softmax(1)
            for i, label, row in zip(at.tolist(), images.labels.cpu()[at].tolist(), p, strict=True):
                predicted = images.classes[int(row.argmax())]
                rows.append([images.ids[i], images.classes[label], predicted, float(row[label])])
        return sorted(rows, key=lambda row: row[3])[:REVIEWED]

    def out_of_fold(self, logits: Tensor, positions: Tensor, cycle: int) -> Tensor:
        """float32 (n, classes): of each pool image the outputs of a classifier that its label did not train.

        A linear layer on features learns wrong labels by heart. Five of them, each trained on four fifths of
        the labels of every class, take seconds. The only label of its class keeps its row of `logits`.
        """
        labels, logits = self.pool.labels.cpu()[positions], logits.clone()
        of_class = F.one_hot(labels, len(self.pool.classes))
        rank = (of_class.cumsum(0) * of_class).sum(1) - 1
        others = (of_class.sum(0) > 1)[labels]
        for fold in range(FOLDS):
            held_out = others & (rank % FOLDS == fold)
            if held_out.any():
                net = self.fresh_network(len(self.pool.classes), cycle)
                with processes.one_thread(True):
                    train_apart(net, self.task(positions[~held_out]), self.config, cycle)
                logits[held_out] = self.logits(net, self.pool, positions[held_out])
        return logits
