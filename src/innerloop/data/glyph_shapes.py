"""Which characters look alike: two forms compared whatever their size, place and (within bounds) proportions.

A drawing of a class is placed, scaled and stretched at random, so two characters that differ in these alone
(c and C; o, O and 0; a Latin, a Greek and a Cyrillic A) cannot be told apart. They are one class, drawn as
its first member. Turned forms (arrows, Canadian syllabics) are not alike: drawings are turned by a few
degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

# Chosen by looking at pairs on both sides. Between splits the bar is lower: a test class must not even
# resemble a training class, while two training classes need only be possible to tell apart.
ALIKE_WITHIN = 0.92
ALIKE_ACROSS = 0.80

# Pixels of a thumbnail, with a margin of one. Its values are 0..127, so float32 sums of products are exact.
SIDE = 20
MAX_STRETCH = 1.5  # forms whose width over height differs by more than this factor are not alike
_BLOCK = 512


def thumbnail(ink: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "side side"]:
    """A cropped character stretched to SIDE x SIDE, as whole numbers 0 to 127."""
    from PIL import Image

    # Pillow scales bytes in integer arithmetic: the same on every machine.
    inner = Image.fromarray(ink).resize((SIDE - 2, SIDE - 2), Image.Resampling.BILINEAR)
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[1:-1, 1:-1] = np.asarray(inner) >> 1
    return picture


def correlations(
    first: UInt8[np.ndarray, "n side side"], second: UInt8[np.ndarray, "m side side"]
) -> Float32[np.ndarray, "n m"]:
    """Pearson's correlation of each thumbnail of ``first`` with each of ``second``."""
    # BLAS may add in any order, which differs between machines; sums of whole numbers do not.
    sums, factors, flat = [], [], []
    for pictures in (first, second):
        values = pictures.reshape(len(pictures), -1).astype(np.float32)
        total = values.sum(1, dtype=np.float64)
        variance = SIDE * SIDE * np.square(values).sum(1, dtype=np.float64) - total**2
        flat.append(values)
        sums.append(total.astype(np.float32))
        factors.append((1 / np.sqrt(variance)).astype(np.float32))
    products = flat[0] @ flat[1].T
    products *= SIDE * SIDE
    products -= sums[0][:, None] * sums[1]
    products *= factors[0][:, None]
    products *= factors[1]
    return products


class Shapes:
    """The forms of n characters, each in up to two faces.

    Args:
        ink: for each character its drawings, cropped to the ink, in one or two faces.
    """

    def __init__(self, ink: Sequence[Sequence[UInt8[np.ndarray, "_ _"]]]) -> None:
        pictures = [[faces[min(k, len(faces) - 1)] for faces in ink] for k in (0, 1)]
        self._thumbnails = [np.stack([thumbnail(picture) for picture in row]) for row in pictures]
        self._proportions = [np.array([math.log(p.shape[1] / p.shape[0]) for p in row], np.float32) for row in pictures]

    def __len__(self) -> int:
        return len(self._thumbnails[0])

    def similarity(self, first: Int64[np.ndarray, " n"], second: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "n m"]:
        """The largest correlation over pairs of faces; -1 where the proportions differ too much."""
        best = np.full((len(first), len(second)), -1, np.float32)
        for a in (0, 1):
            for b in (0, 1):
                found = correlations(self._thumbnails[a][first], self._thumbnails[b][second])
                apart = np.abs(self._proportions[a][first][:, None] - self._proportions[b][second])
                found[apart > math.log(MAX_STRETCH)] = -1
                np.maximum(best, found, out=best)
        return best

    def representatives(self, splits: Sequence[str]) -> Int64[np.ndarray, " n"]:
        """For each character the one that stands for its shape; its own number where it stands for itself.

        Greedy, in the given order: a character belongs to the representative that it resembles most, if any
        is alike (ALIKE_WITHIN the same split, ALIKE_ACROSS splits), and otherwise becomes a representative.
        So no two representatives are alike, and chains of small differences do not run into one group.

        Args:
            splits: the split of each character.
        """
        kinds = np.array(splits)
        answer = np.arange(len(self))
        leaders = np.empty(0, np.int64)
        for start in range(0, len(self), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(self)))
            columns = np.concatenate([leaders, rows])
            similar = self.similarity(rows, columns)
            similar[similar < _bars(kinds[rows], kinds[columns])] = -1
            standing: Bool[np.ndarray, " columns"] = columns < start  # the leaders so far
            for i, row in enumerate(rows):
                candidates = np.where(standing, similar[i], -1)
                best = int(candidates.argmax())
                if candidates[best] > 0:
                    answer[row] = columns[best]
                else:
                    standing[len(leaders) + i] = True
            leaders = columns[standing]
        return answer

    def alike_pairs(self, numbers: Int64[np.ndarray, " chosen"], splits: Sequence[str]) -> list[tuple[int, int]]:
        """Which of these characters, of these splits, are alike."""
        kinds = np.array(splits)
        pairs = []
        for start in range(0, len(numbers), _BLOCK):
            part = slice(start, start + _BLOCK)
            alike = self.similarity(numbers[part], numbers) >= _bars(kinds[part], kinds)
            rows, columns = np.nonzero(alike)
            later = columns > rows + start
            pairs += zip(numbers[rows[later] + start].tolist(), numbers[columns[later]].tolist(), strict=True)
        return pairs


def _bars(first: np.ndarray, second: np.ndarray) -> Float32[np.ndarray, "n m"]:
    """The similarity from which two characters of these splits are alike."""
    return np.where(first[:, None] == second, ALIKE_WITHIN, ALIKE_ACROSS).astype(np.float32)
