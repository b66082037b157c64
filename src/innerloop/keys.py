"""Random numbers as pure functions of a 64-bit key: the same under vmap, in any chunk, in any process.

A torch generator is a stream: what it gives depends on what was asked before. Here ``uniform(key, shape, salt)`` depends on
its arguments alone, works on tensors of keys, and can be vmapped. The mixing function is the finaliser of SplitMix64
(Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), applied to key and counter in turn.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor


# torch has no unsigned 64-bit integers. Sums and products of signed ones wrap round to the same bits.
def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX1 = _signed(0xBF58476D1CE4E5B9)
_MIX2 = _signed(0x94D049BB133111EB)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's shift of int64 copies the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(z: Tensor) -> Tensor:
    """A bijection of 64-bit integers that scatters neighbours."""
    z = z + _GOLDEN
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def fold(key: Tensor, salt: int | Tensor) -> Tensor:
    """A new key from a key and a number: how one key becomes many."""
    # The key is mixed before the salt meets it: keys and salts are both counted up from 0, and key ^ salt alone would come to
    # the same for different pairs.
    return mix(mix(key) ^ (salt * _GOLDEN if isinstance(salt, Tensor) else _signed(salt * _GOLDEN)))


def task_keys(seed: int, split: str, step: int, start: int, num_tasks: int) -> Int64[Tensor, " tasks"]:
    """The keys of tasks ``start`` to ``start + num_tasks`` of an outer step: a function of (seed, split, step, index)."""
    digest = hashlib.blake2b(f"{seed}/{split}/{step}".encode(), digest_size=8).digest()
    # Hashed, not added up: seed 1 at step 2 and seed 2 at step 1 are other tasks. The index stays outside of the hash, so a
    # process draws its part of a batch without the rest.
    base = torch.tensor(int.from_bytes(digest, "little", signed=True))
    return fold(base, torch.arange(start, start + num_tasks))


def bits(key: Tensor, shape: Sequence[int], salt: int | Tensor = 0) -> Tensor:
    """64 random bits in each element, shape (*key.shape, *shape)."""
    count = torch.arange(math.prod(shape), device=key.device).reshape(tuple(shape))
    # From here on it is SplitMix64 itself: its state goes on by the golden ratio.
    return mix(fold(key, salt).reshape(key.shape + (1,) * len(shape)) + count * _GOLDEN)


def uniform(key: Tensor, shape: Sequence[int] = (), salt: int = 0, dtype: torch.dtype | None = None) -> Tensor:
    """Uniform on [0, 1), shape (*key.shape, *shape); 24 bits fine in float32, 53 in float64."""
    dtype = dtype or torch.get_default_dtype()
    # As many of the upper bits as the type holds exactly: none is rounded up to 1.
    precision = 53 if dtype == torch.float64 else 24
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    return (_shift(bits(key, shape, salt), 64 - precision).to(exact) * 2.0**-precision).to(dtype)


def normal(key: Tensor, shape: Sequence[int] = (), salt: int = 0, dtype: torch.dtype | None = None) -> Tensor:
    """Standard normal, shape (*key.shape, *shape), by Box and Muller."""
    first = uniform(key, shape, 2 * salt + 1_000_003, dtype)
    second = uniform(key, shape, 2 * salt + 1_000_004, dtype)
    # first is below 1, so the logarithm is finite. The sine of the pair is not used: an element is a function of its own
    # place, whatever is asked for beside it.
    return torch.sqrt(-2 * torch.log1p(-first)) * torch.cos(2 * math.pi * second)


def permutation(key: Tensor, n: int, salt: int | Tensor = 0) -> Tensor:
    """A random order of 0..n-1, shape (*key.shape, n)."""
    return torch.argsort(bits(key, (n,), salt), dim=-1)


def places(key: Tensor, index: Tensor, n: int) -> Tensor:
    """Some places of a random order of 0..n-1, in the shape of ``index``, at a cost that does not grow with n.

    Each index below n leads to a place of its own; the order is another than `permutation`'s. By the swap-or-not shuffle (Hoang,
    Morris and Rogaway 2012, "An enciphering scheme based on a card shuffle"): in each round an index and its mirror about a
    random centre change places, or not, by a random bit of the two. Ten operations for each of its 2 log2(n) rounds, at least 24.

    Args:
        key: of the order, (); or one for each index, in its shape.
        index: integers from 0 to n - 1.
        n: how many there are.
    """
    rounds = bits(key, (max(24, 2 * n.bit_length()),))
    centres = _shift(rounds, 1) % n
    for turn, centre in zip(rounds.unbind(-1), centres.unbind(-1), strict=True):
        mirror = (centre - index) % n
        # Of the two alike, so whether they change places is one bit.
        pair = (torch.maximum(index, mirror) ^ turn) * _MIX1
        index = torch.where((pair ^ (pair >> 32)) * _MIX2 < 0, mirror, index)
    return index


def integers(key: Tensor, high: int, shape: Sequence[int] = (), salt: int = 0) -> Tensor:
    """Uniform on 0..high-1, shape (*key.shape, *shape); the bias is below high / 2**63."""
    return _shift(bits(key, shape, salt), 1) % high
