"""The one place that knows of processes and devices. Everything here is the identity when there is
one process.

Under `torchrun` each process holds the whole pool, works on its share of every global batch and of
every scoring pass, and adds up gradients and scores; rank 0 alone prints and writes.
"""

import contextlib
import ctypes
import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from config import Config
from pt4al.base import console
from pt4al.base.console import UserError, ignore_signals


class PeerLost(UserError):
    """Another process of this run has ended, so the run cannot go on."""


def launched(name: str, default: int) -> int:
    """A number that torchrun gives by the environment.

    Raises:
        UserError: it is none.
    """
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{name} is {text!r} in the environment: start with torchrun, or unset it")
    return int(text)


def world_size() -> int:
    return max(launched("WORLD_SIZE", 1), 1)


def rank() -> int:
    """0 where there is one process, whatever an earlier launcher left in the environment."""
    return launched("RANK", 0) if world_size() > 1 else 0


def is_main() -> bool:
    return rank() == 0


def say(text: str) -> None:
    """Print a line, from rank 0 only, at once."""
    if is_main():
        console.say(text)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; under torchrun `auto` and `cuda` take this process's own
    GPU.

    Raises:
        UserError: the device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device '{name}' is unknown: use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not supported: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"device '{name}' was asked for but this machine has no usable CUDA GPU: use --device cpu"
            )
        index = device.index if device.index is not None else int(os.environ.get("LOCAL_RANK", 0))
        if index >= torch.cuda.device_count():
            raise UserError(
                f"device cuda:{index} was asked for but there are {torch.cuda.device_count()} GPUs"
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic of its own."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & processor_features())


def processor_features() -> set[str]:
    """What the processor says it can do, by Linux's names; nothing elsewhere."""
    return set(processor_line("flags|Features").split())


def processor() -> str:
    """The processor's name for itself."""
    return processor_line("model name") or platform.processor() or "cpu"


def processor_line(name: str) -> str:
    """What Linux says about the first core under a name; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    found = re.search(rf"^(?:{name})\s*:(.*)$", text, re.M)
    return found[1].strip() if found else ""


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device computes in it and float32 elsewhere.

    Raises:
        UserError: bfloat16 was asked for on a device without it.
    """
    if name == "bf16" and not has_bf16(device):
        raise UserError(
            f"precision bf16 was asked for but {device} has no bfloat16 arithmetic: use --precision float32"
        )
    return torch.bfloat16 if name != "float32" and has_bf16(device) else torch.float32


def start(config: Config, trains: bool = True, on_images: bool = True) -> torch.device:
    """Join the process group that torchrun describes, if any, and set what is global in torch.

    Args:
        trains: whether the script trains, in `config.precision`.
        on_images: whether a network works on images, whose activations are large.

    Raises:
        UserError: the device is not there, or lacks the precision to train in.
    """
    device = choose_device(config.device)
    if trains:
        choose_precision(config.precision, device)
    if config.threads:
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        keep_freed_memory(2**25 if on_images else 2**22)
    torch.backends.cudnn.benchmark = not config.deterministic
    torch.backends.cudnn.allow_tf32 = False  # what ranks images is float32, not TF32's 10 bits
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a kernel for every new tensor
    if world_size() > 1 and not dist.is_initialized():
        if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
            raise UserError(
                f"WORLD_SIZE is {world_size()} but {missing[0]} is not set: start with torchrun, or "
                "unset WORLD_SIZE"
            )
        if rank() >= world_size() or not 0 < launched("MASTER_PORT", 0) < 2**16:
            raise UserError("RANK or MASTER_PORT is out of range: start with torchrun, or unset WORLD_SIZE")
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(hours=2))
    return device


def keep_freed_memory(most: int) -> None:
    """Let glibc keep what is freed, in pieces of up to `most` bytes. Given back to the system and fetched
    anew at every step, activations cost a tenth of the time of training, and half of that of a large
    network's scores. On features pieces above 4 MB are few, and kept they would leave gaps. Other C libraries
    have no such call."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, most)  # M_MMAP_THRESHOLD, 2**25 at most
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


@contextlib.contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Let torch compute in one thread, if `wanted`: several take longer to meet than a small step takes."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if wanted else threads)
        yield
    finally:
        torch.set_num_threads(threads)


def shard(batch: Tensor, rank: int, world: int) -> Tensor:
    """This rank's contiguous part of a batch; the parts of all ranks make the batch, sizes differ
    by one at most."""
    return batch.tensor_split(world)[rank]


def my_shard(batch: Tensor) -> Tensor:
    return batch if world_size() == 1 else shard(batch, rank(), world_size())


def add_up(values: Tensor) -> Tensor:
    """The sum over processes, in place.

    Raises:
        PeerLost: one of them has ended.
    """
    return reduce(values, dist.ReduceOp.SUM)


def reduce(values: Tensor, operation: dist.ReduceOp) -> Tensor:
    if world_size() > 1:
        with naming_lost_peers():
            dist.all_reduce(values, operation)
    return values


@contextlib.contextmanager
def naming_lost_peers() -> Iterator[None]:
    """gloo and nccl raise plain RuntimeErrors when another process has gone; here they get a
    name."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        ignore_signals()  # the launcher stops the others now, and the last epoch is yet to be saved
        raise PeerLost(
            f"process {rank()} of {world_size()} lost contact with another process, whose own message, if "
            "any, tells why. The same command resumes from the last whole epoch, on any number of processes "
            f"({error})"
        ) from None


def add_up_gradients(net: nn.Module) -> None:
    """Sum gradients over processes in one message; a process whose share was empty adds zeros."""
    if world_size() == 1:
        return
    parameters = list(net.parameters())
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = add_up(torch.cat([g.reshape(-1) for g in gradients]))
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))


def average_statistics(net: nn.Module, images: int) -> None:
    """Give every process the mean of all processes' batch-norm running statistics, weighted by the
    `images` that each has trained on, so that they score alike. One that had nothing to do counts
    for nothing."""
    statistics = [buffer for buffer in net.buffers() if buffer.is_floating_point()]
    if world_size() == 1 or not statistics:  # a linear layer has none
        return
    total = add_up(torch.tensor(images, dtype=torch.float64, device=statistics[0].device))
    for buffer in statistics:
        buffer.copy_(add_up(buffer.double() * images) / total)


def check_in_step(net: nn.Module) -> None:
    """Raise an AssertionError if the processes no longer hold the same weights."""
    if world_size() == 1:
        return
    total = torch.stack([p.detach().double().sum() for p in net.parameters()]).sum()
    ends = reduce(torch.stack([total, -total]), dist.ReduceOp.MAX)
    if ends[0] != -ends[1] and not ends.isnan().any():
        raise AssertionError("internal error: the weights of the processes are no longer the same")


def from_main(make: Callable[[], Any]) -> Any:
    """Call `make` on rank 0 and give every process its value (any picklable object); its errors
    reach all of them."""
    if world_size() == 1:
        return make()
    box: list[Any] = [None, None]
    if is_main():
        try:
            box[0] = make()
        except UserError as error:
            box[1] = str(error)
    with naming_lost_peers():
        dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise UserError(box[1])
    return box[0]


def gather(value: Any) -> list[Any]:
    """The value (any picklable object) of every process, by rank."""
    values = [value]
    if world_size() > 1:
        values *= world_size()
        with naming_lost_peers():
            dist.all_gather_object(values, value)
    return values


def check_same(value: Any, what: str) -> None:
    """Compare a value, as JSON, over the processes.

    Raises:
        UserError: they differ.
    """
    texts = gather(json.dumps(value, sort_keys=True))
    if len(set(texts)) > 1:
        odd = [i for i, text in enumerate(texts) if text != texts[0]]
        raise UserError(f"process {odd[0]} read other {what} than process 0: give all of them the same files")
