"""The linear classifier of --features beside scikit-learn's LogisticRegressionCV,
which chooses its penalty by cross-validation: test accuracy on the same labels,
drawn at random, and seconds for a fit.

--loop times ten cycles of margin sampling over the whole pool, 1,000 labels each,
written plainly with scikit-learn's LogisticRegression; main.py does the same with
--features FEATURES --candidates all --first-pick random --strategy margin.

Reads:   scikit-learn's digits, as rows of 64 pixels; folders of features of data
         sets whose ids end with CLASS/FILE
Writes:  nothing: it prints a table

Run:     python bench/linear_classifier.py     digits alone: a minute on 1 CPU core
         python bench/linear_classifier.py features/cifar10 features/tiny
                                               20 minutes
         python bench/linear_classifier.py --loop features/cifar10
                                               a minute on 2 CPU cores
"""

import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import CIFAR10, FEATURES
from pt4al.base.console import Parser, UserError, positive, run_script, say
from pt4al.base.files import read_lines
from pt4al.data.ids import class_of, sort_classes
from pt4al.data.images import Images
from pt4al.method.classifier import Classification
from pt4al.train.optimizer import SGD, learning_rate
from pt4al.train.training import train_epoch

CPU = torch.device("cpu")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("folders", metavar="FEATURES", nargs="*", type=Path)
    parser.add_argument("--labels", nargs="+", type=positive, default=[50, 200, 1000])
    parser.add_argument("--draws", type=positive, default=10, help="random draws of the labels (default: 10)")
    decay = FEATURES["weight_decay"]
    parser.add_argument("--weight-decay", type=float, default=decay, help=f"of ours (default: {decay:g})")
    parser.add_argument("--loop", action="store_true", help="time ten cycles by scikit-learn instead")
    options = parser.parse_args()
    if options.loop and not options.folders:
        raise UserError("--loop needs a folder of FEATURES (see --help)")
    if options.loop:
        for path in options.folders:
            plain_loop(*folder(path))
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # classes with fewer images than folds, as with few labels there are
    say("| data | labels | draws | linear classifier | LogisticRegressionCV | difference | s a fit | s, CV |")
    say("|---|---|---|---|---|---|---|---|")
    for name, (pool, test) in [
        ("digits", digits()),
        *((path.name, folder(path)) for path in options.folders),
    ]:
        for n in options.labels:
            pairs = np.array([both(pool, test, n, i, options.weight_decay) for i in range(options.draws)])
            ours, theirs = pairs[:, 0], pairs[:, 1]
            difference = ours[:, 0] - theirs[:, 0]
            spread = [f"{x.mean():.2f} ± {x.std(ddof=1):.2f}" for x in (ours[:, 0], theirs[:, 0])]
            say(
                f"| {name}, {pool.pixels.shape[1]} | {n} | {options.draws} | {spread[0]} | {spread[1]} "
                f"| {difference.mean():+.2f} ± {difference.std(ddof=1):.2f} "
                f"| {ours[:, 1].mean():.2f} | {theirs[:, 1].mean():.2f} |"
            )


def plain_loop(pool: Images, test: Images) -> None:
    """Ten cycles as one would write them without this project."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    began = time.perf_counter()
    scaler = StandardScaler().fit(pool.pixels)
    x, x_test = scaler.transform(pool.pixels), scaler.transform(test.pixels)
    y, y_test = pool.labels.numpy(), test.labels.numpy()
    labeled = np.random.default_rng(0).permutation(len(x))[:1000]
    for cycle in range(10):
        model = LogisticRegression(max_iter=1000).fit(x[labeled], y[labeled])
        accuracy = 100 * model.score(x_test, y_test)
        say(f"cycle {cycle}: {len(labeled)} labels, {accuracy:.2f} %, {time.perf_counter() - began:.1f} s")
        rest = np.setdiff1d(np.arange(len(x)), labeled)
        top = np.sort(model.predict_proba(x[rest]), 1)
        labeled = np.append(labeled, rest[np.argsort(top[:, -1] - top[:, -2])[:1000]])


def digits() -> tuple[Images, Images]:
    from sklearn.datasets import load_digits

    data = load_digits()
    held_out = np.arange(len(data.target)) % 5 == 4  # as loader.py has it
    return tuple(images(data.data[x], list(map(str, data.target[x]))) for x in (~held_out, held_out))


def folder(path: Path) -> tuple[Images, Images]:
    return tuple(
        images(np.load(path / f"{x}.npy"), list(map(class_of, read_lines(path / f"{x}.txt"))))
        for x in ("pool", "test")
    )


def images(rows: np.ndarray, names: list[str]) -> Images:
    classes = sort_classes({*names})
    labels = torch.tensor([classes.index(name) for name in names])
    pixels = torch.from_numpy(rows.astype(np.float32))
    return Images(pixels, labels, [str(i) for i in range(len(rows))], classes, CPU, features="rows")


def both(
    pool: Images, test: Images, n: int, draw: int, weight_decay: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Accuracy in percent and seconds, of either, with the same n labels."""
    from sklearn.linear_model import LogisticRegressionCV

    at = torch.randperm(len(pool), generator=torch.Generator().manual_seed(draw))[:n]
    config = replace(CIFAR10, **{**FEATURES, "weight_decay": weight_decay}, seed=draw)
    classification = Classification(config, pool, test)
    began = time.perf_counter()
    net, task = classification.fresh_network(len(pool.classes), 0), classification.task(at)
    optimizer = SGD(net, config)
    for epoch in range(config.epochs):
        optimizer.lr = learning_rate(config, config.milestones, epoch)
        train_epoch(net, optimizer, task, config, 0, epoch)
    ours = classification.evaluate(net)[1], time.perf_counter() - began
    x, x_test = (classification.normalize(part).numpy() for part in (pool.pixels[at], test.pixels))
    began = time.perf_counter()
    if n < x.shape[1]:  # the optimum lies in the space that the rows span, and is found there sooner
        basis = np.linalg.qr(x.T)[0]
        x, x_test = x @ basis, x_test @ basis
    accuracy = LogisticRegressionCV().fit(x, pool.labels[at]).score(x_test, test.labels)
    return ours, (100 * accuracy, time.perf_counter() - began)


if __name__ == "__main__":
    run_script(main)
