"""The training loop, in one place: rotation.py and the classifier scripts differ in data, head and
length only."""

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
from pt4al.run.tables import State
from pt4al.train.network import is_finite, learning_rate, make_optimizer, momentum_of, restore, weights_of
from pt4al.train.scoring import autocast
from pt4al.train.seeding import epoch_order


class Task(NamedTuple):
    """What is trained, and how it is judged.

    Attributes:
        pool: the images that positions are positions of.
        positions: int64 (n,), the pool positions to train on.
        passes: (cycle, epoch, repeat) -> function of uint8 images (b, 3, h, w) and their positions (b,)
            that yields the forward passes of one step as (inputs float32 (b, 3, h, w), targets
            int64 (b,)); `num_passes` of them.
        evaluate: network -> (mean loss, accuracy in percent); None where there is no test set.
        eval_cost: images that `evaluate` scores, for the estimate of the time left.
        repeats: how often an epoch passes over the images.
    """

    pool: Images
    positions: Tensor
    passes: Callable[[int, int, int], Callable[[Tensor, Tensor], Iterable[tuple[Tensor, Tensor]]]]
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
    net: nn.Module,
    optimizer: torch.optim.SGD,
    task: Task,
    config: Config,
    cycle: int,
    epoch: int,
    device: torch.device,
) -> tuple[float, float]:
    """One epoch over the task's images; returns mean training loss and accuracy in percent.

    Every process takes its share of each global batch. A step sums gradients over its passes and
    over processes, so it is the step of the mean loss of the global batch. Nothing waits for the
    GPU until the epoch ends.
    """
    net.train()
    precision = processes.choose_precision(config.precision, device)
    draws = config.seed, len(task.pool), task.positions, cycle, epoch
    orders = [epoch_order(*draws, repeat) for repeat in range(task.repeats)]
    batches = [batch for order in orders for batch in order.split(task.batch_size)]
    steps_a_pass = len(batches) // task.repeats
    stream = task.pool.stream([processes.my_shard(batch) for batch in batches])
    totals = torch.zeros(3, dtype=torch.float64, device=device)  # loss, correct, seen
    hidden = None if processes.is_main() else True  # None: shown on a terminal only
    bar = tqdm(
        zip(batches, stream, strict=True),
        total=len(batches),
        desc=f"epoch {epoch + 1}",
        unit="step",
        leave=False,
        disable=hidden,
    )
    for step, (batch, (images, positions)) in enumerate(bar):
        if step % steps_a_pass == 0:
            passes_of = task.passes(cycle, epoch, step // steps_a_pass)
        optimizer.zero_grad(set_to_none=True)
        idle = len(images) == 0 and not config.sync_batchnorm  # the last batch may be a small one
        for inputs, targets in () if idle else passes_of(images, positions):
            with autocast(device, precision):
                logits = net(inputs)
            loss = F.cross_entropy(logits.float(), targets, reduction="sum")
            (loss / (len(batch) * task.num_passes)).backward()
            correct = (logits.argmax(1) == targets).sum()
            totals += torch.stack([loss.detach(), correct, torch.full_like(correct, len(targets))])
        processes.add_up_gradients(net)
        optimizer.step()
        if device.type == "cpu" and not bar.disable:
            bar.set_postfix(
                loss=f"{totals[0] / totals[2]:.3f}",
                acc=f"{100 * totals[1] / totals[2]:.1f} %",
                refresh=False,
            )
    trained_here = int(totals[2])
    processes.average_statistics(net, trained_here)
    processes.check_in_step(net)
    loss, correct, seen = processes.add_up(totals).tolist()
    return loss / seen, 100 * correct / seen


# --- a cycle of epochs


def train_cycle(
    net: nn.Module,
    task: Task,
    run: RunFolder,
    state: State,
    config: Config,
    device: torch.device,
    work_after: float = 0,
) -> None:
    """Train the epochs of `state["cycle"]` that are not in `state` yet; `state` then holds the end
    of the cycle.

    The optimiser and its schedule begin anew with the cycle. The best epoch on `task.evaluate` is
    kept beside the last.

    Args:
        work_after: images to train in later cycles (times 3) and to score, for the estimate of the
            time left.

    Raises:
        UserError: the loss is no longer finite, or memory is out; the last good checkpoint stays.
    """
    optimizer = make_optimizer(net, config)
    cycle = state["cycle"]
    if state["finished_epoch"] >= 0:
        restore(net, optimizer, state)
    trained = len(task.positions) * task.num_passes * task.repeats
    work_an_epoch = 3 * trained + task.eval_cost / config.eval_every
    first_epoch = state["finished_epoch"] + 1
    began = time.perf_counter()
    for epoch in range(first_epoch, task.epochs):
        epoch_began = time.perf_counter()
        rate = learning_rate(config, task.milestones, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        try:
            train_loss, train_accuracy = train_epoch(net, optimizer, task, config, cycle, epoch, device)
            problem = None if math.isfinite(train_loss) else f"the loss is {train_loss}"
            if problem is None and not is_finite(net):
                problem = "the weights are no longer finite"
            test_loss = test_accuracy = None
            its_turn = (epoch + 1) % config.eval_every == 0 or epoch == task.epochs - 1
            if problem is None and task.evaluate and its_turn:
                test_loss, test_accuracy = task.evaluate(net)
                if not math.isfinite(test_loss):
                    problem = f"the test loss is {test_loss}"
            if problem:
                raise UserError(
                    f"{problem} in cycle {cycle}, epoch {epoch + 1}, at learning rate {rate:g}: lower --lr "
                    f"and start again with --restart; {run.last} keeps the last good state, if any"
                )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"out of memory with a batch of {task.batch_size} and width {config.width}: lower --batch-size "
                "(--rotation-batch-size for the pretext task), --eval-batch-size or --width"
            ) from None
        if test_accuracy is not None and test_accuracy > state["best"]["acc"]:
            state["best"] = {"net": weights_of(net), "acc": test_accuracy, "epoch": epoch}
        state["net"], state["momentum"] = weights_of(net), momentum_of(net, optimizer)
        state["finished_epoch"], state["last_accuracy"] = epoch, test_accuracy
        seconds = run.seconds[cycle, epoch] = round(time.perf_counter() - epoch_began, 6)
        best = state["best"]["acc"] if state["best"]["net"] else None
        scores = [rate, train_loss, train_accuracy, test_loss, test_accuracy, best]
        state["metrics"] = [*state["metrics"], [cycle, task.labels, epoch, *scores]]
        run.keep(state)
        left = work_an_epoch * (task.epochs - 1 - epoch) + work_after
        pace = (time.perf_counter() - began) / (work_an_epoch * (epoch + 1 - first_epoch))
        processes.say(epoch_line([*state["metrics"][-1], seconds], task.epochs, left * pace))
        due = (epoch + 1) % config.checkpoint_every == 0 and run.saving_is_cheap()
        if due or epoch == task.epochs - 1:
            run.save()


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
