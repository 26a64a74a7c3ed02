"""The training loop, in one place: rotation.py and the classifier scripts differ in data, head and length."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from config import Config
from pt4al.base import processes
from pt4al.base.console import UserError, is_out_of_memory
from pt4al.data.images import Images
from pt4al.run.run_folder import RunFolder
from pt4al.train.network import is_finite, weights_of
from pt4al.train.optimizer import SGD, learning_rate
from pt4al.train.scoring import autocast
from pt4al.train.seeding import epoch_order

Draws = tuple[Tensor, ...]


class Task(NamedTuple):
    """What is trained, and how it is judged.

    Attributes:
        pool: the images that positions are positions of.
        positions: int64 (n,), the pool positions to train on.
        draw: (cycle, epoch, repeat) -> the random draws of one pass over the images, each (len(pool), ...).
        passes: uint8 images (b, 3, h, w), their positions (b,) and draws -> the forward passes of one step,
            each as inputs float32 (b, 3, h, w) and targets int64 (b,); `num_passes` of them.
        evaluate: network -> (mean loss, accuracy in percent); None where there is no test set.
        eval_cost: images that `evaluate` scores, for the estimate of the time left.
        repeats: how often an epoch passes over the images.
    """

    pool: Images
    positions: Tensor
    draw: Callable[[int, int, int], Draws]
    passes: Callable[[Tensor, Tensor, Draws], Iterable[tuple[Tensor, Tensor]]]
    num_passes: int
    evaluate: Callable[[nn.Module], tuple[float, float]] | None
    eval_cost: int
    labels: int
    epochs: int
    batch_size: int
    milestones: tuple[int, ...]
    repeats: int = 1


# --- an epoch


def train_epoch(
    net: nn.Module, optimizer: SGD, task: Task, config: Config, cycle: int, epoch: int
) -> tuple[float, float]:
    """One epoch over the task's images; returns mean training loss and accuracy in percent.

    Every process takes its share of each global batch. A step sums gradients over its passes and over
    processes, so it is the step of the mean loss of the global batch. Nothing waits for the GPU until the
    epoch ends.
    """
    net.train()
    device, n = task.pool.device, len(task.pool)
    precision = processes.choose_precision(config.precision, device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct, seen = torch.zeros((), dtype=torch.int64, device=device), 0
    steps = task.repeats * math.ceil(len(task.positions) / task.batch_size)
    with progress(epoch, steps) as bar:
        for repeat in range(task.repeats):
            draws = task.draw(cycle, epoch, repeat)
            order = epoch_order(config.seed, n, task.positions, cycle, epoch, repeat)
            batches = order.split(task.batch_size)
            shares = task.pool.stream([processes.my_shard(batch) for batch in batches])
            for batch, (images, positions) in zip(batches, shares, strict=True):
                optimizer.zero_grad()
                # The share of a small last batch may be empty.
                for inputs, targets in task.passes(images, positions, draws) if len(images) else ():
                    with autocast(device, precision):
                        logits = net(inputs)
                    loss = F.cross_entropy(logits.float(), targets, reduction="sum")
                    (loss / (len(batch) * task.num_passes)).backward()
                    loss_sum += loss.detach()
                    correct += (logits.argmax(1) == targets).sum()
                    seen += len(targets)
                processes.add_up_gradients(net)
                optimizer.step()
                show(bar, loss_sum, correct, seen)
    processes.average_statistics(net, seen)
    processes.check_in_step(net)
    totals = torch.stack([loss_sum, correct.double(), torch.full_like(loss_sum, seen)])
    loss, correct, seen = processes.add_up(totals).tolist()
    return loss / seen, 100 * correct / seen


def progress(epoch: int, steps: int) -> tqdm:
    """A bar of the steps of an epoch, on the terminal of the first process only."""
    hidden = None if processes.is_main() else True  # None: where there is no terminal
    return tqdm(total=steps, desc=f"epoch {epoch + 1}", unit="step", leave=False, disable=hidden)


def show(bar: tqdm, loss: Tensor, correct: Tensor, seen: int) -> None:
    """Advance the bar; on a CPU, where reading them waits for nothing, with loss and accuracy so far."""
    if not bar.disable and loss.device.type == "cpu":
        bar.set_postfix(loss=f"{loss / seen:.3f}", acc=f"{100 * correct / seen:.1f} %", refresh=False)
    bar.update()


# --- a cycle of epochs


def train_cycle(net: nn.Module, task: Task, run: RunFolder, remaining_passes: float = 0) -> None:
    """Train the epochs of the run's cycle that are not finished yet; its state then is the end of the cycle.

    The optimizer and its schedule are new in each cycle. The best epoch on `task.evaluate` is kept beside the
    last.

    Args:
        remaining_passes: forward passes of the cycles after this one (a training image counts 3), for the
            estimate of the time left.

    Raises:
        UserError: the loss is no longer finite, or memory is out; the last good checkpoint stays.
    """
    config, cycle, first_epoch = run.config, run.state.cycle, run.state.finished_epoch + 1
    optimizer = SGD(net, config)
    if first_epoch > 0:
        net.load_state_dict(run.state.net)
        optimizer.restore(run.state.momentum)
    trained = len(task.positions) * task.num_passes * task.repeats
    passes_an_epoch = 3 * trained + task.eval_cost / config.eval_every
    began = time.perf_counter()
    for epoch in range(first_epoch, task.epochs):
        epoch_began = time.perf_counter()
        rate = optimizer.lr = learning_rate(config, task.milestones, epoch)
        scores = train_and_test(net, optimizer, task, config, cycle, epoch)
        test_accuracy = scores[-1]
        best = run.state.best
        if test_accuracy is not None and test_accuracy > best["acc"]:
            best = {"net": weights_of(net), "acc": test_accuracy, "epoch": epoch}
        row = [cycle, task.labels, epoch, rate, *scores, best["acc"] if best["net"] else None]
        seconds = run.seconds[cycle, epoch] = round(time.perf_counter() - epoch_began, 6)
        momentum = [buffer.clone() for buffer in optimizer.buffers]
        run.move(
            finished_epoch=epoch, net=weights_of(net), momentum=momentum, best=best,
            last_accuracy=test_accuracy, metrics=[*run.state.metrics, row],
        )  # fmt: skip
        left = passes_an_epoch * (task.epochs - 1 - epoch) + remaining_passes
        pace = (time.perf_counter() - began) / (passes_an_epoch * (epoch + 1 - first_epoch))
        # On features an epoch takes milliseconds.
        if not task.pool.are_features or test_accuracy is not None or epoch == task.epochs - 1:
            processes.say(epoch_line([*row, seconds], task.epochs, left * pace))
        if epoch == task.epochs - 1 or run.saving_is_cheap():
            run.save()


def train_apart(net: nn.Module, task: Task, config: Config, cycle: int) -> None:
    """Train all epochs of a task as `train_cycle` does, and leave nothing but the network.

    Raises:
        UserError: as `train_and_test`.
    """
    optimizer = SGD(net, config)
    for epoch in range(task.epochs):
        optimizer.lr = learning_rate(config, task.milestones, epoch)
        train_and_test(net, optimizer, task._replace(evaluate=None), config, cycle, epoch)


def train_and_test(
    net: nn.Module, optimizer: SGD, task: Task, config: Config, cycle: int, epoch: int
) -> list[float | None]:
    """Train an epoch, and test where that is due: loss and accuracy in percent of either; None: not tested.

    Raises:
        UserError: a loss or a weight is no longer finite, or memory is out.
    """
    due = task.evaluate and (epoch == task.epochs - 1 or (epoch + 1) % config.eval_every == 0)
    try:
        scores = [*train_epoch(net, optimizer, task, config, cycle, epoch), None, None]
        problem = "" if math.isfinite(scores[0]) else f"the loss is {scores[0]}"
        problem = problem or ("" if is_finite(net) else "the weights are no longer finite")
        if due and not problem:
            scores[2:] = task.evaluate(net)
            problem = "" if math.isfinite(scores[2]) else f"the test loss is {scores[2]}"
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory with a batch of {task.batch_size} and width {config.width}: lower --batch-size "
            "(--rotation-batch-size for the pretext task), --eval-batch-size or --width"
        ) from None
    if problem:
        rate = learning_rate(config, task.milestones, epoch)
        raise UserError(
            f"{problem} in cycle {cycle}, epoch {epoch + 1}, at learning rate {rate:g}: lower --lr and start "
            "again with --restart; last.pth keeps the last good state, if any"
        )
    return scores


def epoch_line(row: list[Any], epochs: int, seconds_left: float) -> str:
    """A metrics row for a person."""
    cycle, labels, epoch, rate, loss, accuracy, _, test_accuracy, best, seconds = row
    test = "" if test_accuracy is None else f"  test {test_accuracy:.2f} % (best {best:.2f})"
    return (
        f"cycle {cycle}  labels {labels}  epoch {epoch + 1}/{epochs}  lr {rate:g}  loss {loss:.4f}  "
        f"train {accuracy:.2f} %{test}  {seconds:.1f} s, {duration(seconds_left)} left"
    )


def duration(seconds: float) -> str:
    """`3 h 20 min`, `12 min`, `45 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
