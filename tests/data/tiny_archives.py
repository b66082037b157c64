"""Small zips in the official layouts, made on the spot."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from innerloop.data.omniglot_archive import Contents

TINY = Contents("images_background.zip", 2, 5, 15)  # 2 alphabets of 3 and 2 characters, 3 drawings each


def png(picture: np.ndarray) -> bytes:
    """A 1-bit PNG; True is ink (black)."""
    file = io.BytesIO()
    Image.fromarray(np.where(picture, 0, 255).astype(np.uint8)).convert("1").save(file, "PNG")
    return file.getvalue()


def drawing(number: int, side: int = 105) -> np.ndarray:
    """A square of ink whose place depends on the number."""
    picture = np.zeros((side, side), bool)
    picture[5 * number + 5 : 5 * number + 25, 20:60] = True
    return picture


def write_tiny_omniglot(path: Path, skip: int = 0, side: int = 105) -> Path:
    """An archive with the contents TINY, less its first ``skip`` drawings."""
    members = []
    for alphabet, characters in (("Beta", 2), ("Alpha", 3)):
        for character in range(characters):
            folder = f"images_background/{alphabet}/character{character + 1:02d}"
            for number in range(3):
                name = f"{folder}/{character:04d}_{number + 1:02d}.png"
                members.append((name, png(drawing(len(members), side))))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images_background/", b"")
        for name, data in members[skip:]:
            archive.writestr(name, data)
    return path


def write_tiny_runs(path: Path, leave_out: str = "", labels: str | None = None) -> Path:
    """The 20 runs with random pictures; item i of run r is class (i + r) mod 20, drawn one pixel lower."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in range(20):
            folder, lines, training = f"run{run + 1:02d}", [], []
            for _ in range(20):
                picture = np.zeros((105, 105), bool)
                picture[30:60, 30:60] = generator.random((30, 30)) < 0.1
                training.append(picture)
            for number in range(20):
                answer = (number + run) % 20
                members = {
                    f"{folder}/training/class{number + 1:02d}.png": png(training[number]),
                    f"{folder}/test/item{number + 1:02d}.png": png(np.roll(training[answer], 1, 0)),
                }
                for name, data in members.items():
                    if name != leave_out:
                        archive.writestr(name, data)
                lines.append(f"{folder}/test/item{number + 1:02d}.png {folder}/training/class{answer + 1:02d}.png")
            archive.writestr(f"{folder}/class_labels.txt", "\n".join(lines) if labels is None else labels)
    return path
