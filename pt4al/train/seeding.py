"""Randomness by position: every draw is a function of (seed, purpose, cycle, epoch, pass) and of
nothing that happened before.

This is what makes resume exact without storing generator states, and what gives two methods with
the same seed the same crops for the same image in the same epoch. Draws are made for the whole
pool, then looked up by pool position, so they depend neither on which images are labeled nor on
the number of processes.
"""

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, purpose: str, cycle: int = 0, epoch: int = 0, repeat: int = 0) -> int:
    """63 bits that no other (seed, purpose, cycle, epoch, repeat) shares."""
    place = [seed, purpose, cycle, epoch, *([repeat] if repeat else [])]
    key = "/".join(map(str, place)).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1


def generator(seed: int, purpose: str, *position: int) -> torch.Generator:
    """A CPU generator for one purpose at one position (cycle, epoch, repeat; 0 where left out)."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *position))


def epoch_order(
    seed: int, pool_size: int, positions: Tensor, cycle: int, epoch: int, repeat: int = 0
) -> Tensor:
    """int64 (len(positions),): the pool positions to train on, in the order of this epoch's pass
    number `repeat`.

    The whole pool is permuted and the wanted positions are kept, so that the order of two images
    never depends on which others are labeled.
    """
    order = torch.randperm(pool_size, generator=generator(seed, "order", cycle, epoch, repeat))
    wanted = torch.zeros(pool_size, dtype=torch.bool)
    wanted[positions] = True
    return order[wanted.index_select(0, order)]


def crop_draws(
    seed: int, pool_size: int, padding: int, cycle: int, epoch: int, repeat: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Row offset and column offset in 0..2*padding (int64) and whether to flip (bool), each
    (pool_size,)."""
    source = generator(seed, "crop", cycle, epoch, repeat)
    rows = torch.randint(2 * padding + 1, (pool_size,), generator=source)
    columns = torch.randint(2 * padding + 1, (pool_size,), generator=source)
    return rows, columns, torch.rand(pool_size, generator=source) < 0.5


def rotation_draws(seed: int, pool_size: int, epoch: int) -> Tensor:
    """int64 (pool_size, 4): for each image its four rotations in random order, one for each
    forward pass."""
    return torch.rand(pool_size, 4, generator=generator(seed, "turns", 0, epoch)).argsort(1)
