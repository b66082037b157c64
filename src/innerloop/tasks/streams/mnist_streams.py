"""MNIST's digits one after another turned, or with their pixels in another order: the streams of GEM, MER and La-MAML."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import Examples
from innerloop.data.mnist_files import mnist_test_examples, mnist_training_examples
from innerloop.errors import InputError, expect_whole
from innerloop.tasks.streams.stream import Stream

_ORDER, _SHOWN, _JUDGED, _ANGLE = range(1, 5)
_HELD_OUT = 10_000  # the last training pictures: validation streams are judged on them and show none of them


class _Changed(Stream):
    """Digits of the same two sets, changed in another way in each part.

    Args:
        shown, judged: pictures (digits, 1, size, size) to draw from, and their labels.
        examples, tested: how many a part shows and is judged on.
        key: what is drawn is a function of it and of the part's number.
    """

    def __init__(
        self,
        name: str,
        parts: tuple[str, ...],
        shown: Examples,
        judged: Examples,
        *,
        examples: int,
        tested: int,
        key: Tensor,
        valid: Stream | None,
        options: dict[str, Any],
    ) -> None:
        size = math.prod(shown.x.shape[1:])
        super().__init__(name, parts, (size,), 10, valid=valid, options=options)
        for what, wanted, of in (("examples", examples, shown), ("tested", tested, judged)):
            if wanted > len(of.y):
                raise InputError(f"{name}: {what} expected at most {len(of.y)} digits, got {wanted}; ask for fewer")
        self._from, self._on, self._key = shown, judged, key
        self._examples = examples
        self._tested = random_keys.permutation(key, len(judged.y), _JUDGED)[:tested]  # the same digits in each part

    def train(self, part: int) -> Examples:
        key = random_keys.fold(self._key, part)
        return self._part(self._from, random_keys.permutation(key, len(self._from.y), _SHOWN)[: self._examples], part)

    def test(self, part: int) -> Examples:
        return self._part(self._on, self._tested, part)

    def _part(self, source: Examples, rows: Tensor, part: int) -> Examples:
        return Examples(self._change(source.x[rows], part).flatten(1), source.y[rows])

    def _change(self, x: Tensor, part: int) -> Tensor:
        raise NotImplementedError


class Rotations(_Changed):
    """A part's digits are turned by one angle, larger from part to part."""

    def _change(self, x: Tensor, part: int) -> Tensor:
        return rotated(x, self.angle(part))

    def angle(self, part: int) -> float:
        """Degrees, drawn from this part's share of 180."""
        share = float(random_keys.uniform(random_keys.fold(self._key, part), (), _ANGLE, torch.float64))
        return 180 * (part + share) / len(self)


class Permutations(_Changed):
    """A part's pixels are in one order, another in each part; the first part's in their own."""

    def _change(self, x: Tensor, part: int) -> Tensor:
        if not part:
            return x
        return x.flatten(1)[
            :, random_keys.permutation(random_keys.fold(self._key, part), math.prod(x.shape[1:]), _ORDER)
        ]


def rotated(
    x: Float[Tensor, "pictures channels height width"], degrees: float
) -> Float[Tensor, "pictures channels height width"]:
    """Pictures turned counter-clockwise about their middle, by bilinear interpolation; what comes in from outside is 0."""
    turn = math.radians(degrees)
    matrix = x.new_tensor([[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]])
    grid = F.affine_grid(matrix.expand(len(x), -1, -1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _made(of: type[_Changed], name: str, options: dict[str, Any]) -> Stream:
    parts, examples, tested, seed, size = (options[key] for key in ("parts", "examples", "tested", "seed", "size"))
    for what, value in (("parts", parts), ("examples", examples), ("tested", tested)):
        expect_whole(what, value)
    expect_whole("seed", seed, 0)
    training, test = mnist_training_examples(size), mnist_test_examples(size)
    names = tuple(f"{name.removeprefix('mnist_').removesuffix('s')} {part + 1}" for part in range(parts))
    train_of, test_of = slice(None, -_HELD_OUT), slice(-_HELD_OUT, None)

    def stream(split: str, shown: Examples, judged: Examples, valid: Stream | None) -> Stream:
        key = random_keys.task_keys(seed, split, 0, 0, 1)[0]
        return of(
            f"{name} ({split})" if split != "test" else name, names, shown, judged, examples=examples, tested=tested, key=key,
            valid=valid, options=options,
        )  # fmt: skip

    valid = stream(
        "valid",
        Examples(training.x[train_of], training.y[train_of]),
        Examples(training.x[test_of], training.y[test_of]),
        None,
    )
    return stream("test", training, test, valid)


def mnist_rotations(
    *, parts: int = 20, examples: int = 1000, tested: int = 2000, seed: int = 0, size: int = 28
) -> Stream:
    """Digits turned further from part to part, 0 to 180 degrees; read from INNERLOOP_DATA/mnist.

    As Lopez-Paz and Ranzato 2017 (arXiv:1706.08840): a part's angle is drawn from its share of the half turn. The labels are the
    ten digits in all parts. `.valid` is another such stream, which shows and is judged on training digits alone.

    Args:
        parts: how many.
        examples: training digits that each shows, drawn anew.
        tested: test digits that each is judged on, the same in all.
        seed: of the angles and of what is drawn.
        size: height and width in pixels; smaller ones are averages.

    Returns:
        A `Stream`: x (examples, size * size) in [0, 1].

    Raises:
        InputError: absent or damaged files, more digits than there are.
        ConfigError: a number out of range.
    """
    return _made(Rotations, "mnist_rotations", dict(locals()))


def mnist_permutations(
    *, parts: int = 20, examples: int = 1000, tested: int = 2000, seed: int = 0, size: int = 28
) -> Stream:
    """Digits whose pixels are in another order in each part; read from INNERLOOP_DATA/mnist.

    Kirkpatrick et al. 2017 (arXiv:1612.00796). "Many permutations" of Riemer et al. 2019 (arXiv:1810.11910) are ``parts=100,
    examples=200``.

    Args:
        parts, examples, tested, seed, size: see `mnist_rotations`.

    Returns:
        A `Stream`: x (examples, size * size) in [0, 1].

    Raises:
        InputError: absent or damaged files, more digits than there are.
        ConfigError: a number out of range.
    """
    return _made(Permutations, "mnist_permutations", dict(locals()))
