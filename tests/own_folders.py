"""Small folders of pictures that can be told apart: each class has its own grey pattern."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def make(folder: Path, classes: Mapping[str, int], size: int = 12, seed: int = 0) -> Path:
    """One subfolder a class with so many noisy pictures of the class's own pattern."""
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        pattern = rng.integers(40, 215, (size, size))
        for i in range(count):
            noisy = np.clip(pattern + rng.integers(-8, 9, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{i}.png")
    return folder


def alike(folder: Path, classes: int = 12, count: int = 6, size: int = 12) -> Path:
    """So many classes with equally many pictures."""
    return make(folder, {f"c{i:02}": count for i in range(classes)}, size)
