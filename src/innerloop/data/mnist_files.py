"""MNIST's test pictures by digit and its training pictures, from the official IDX files (LeCun, Cortes and Burges 1998).

An IDX file is two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of axes, each axis as four bytes,
the largest first, and then the values.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from innerloop.core import Examples
from innerloop.data.class_images import ClassImages
from innerloop.data.locations import data_folder
from innerloop.errors import InputError

FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAINING_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
SIDE = 28
_LARGEST = 1 << 27  # bytes; the official pictures are 7.8 million


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, gzipped or not.

    Raises:
        InputError: missing, damaged, of another kind, or longer or shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} expected an IDX file, got {error}; put the official file there") from error
    header = 4 + 4 * axes
    if len(data) < header or data[:4] != bytes((0, 0, 8, axes)):
        raise InputError(
            f"{path} expected an IDX file of bytes with {axes} axes, got another; put the official file there"
        )
    shape = np.frombuffer(data, ">u4", axes, 4).astype(np.int64).tolist()
    if len(data) != header + math.prod(shape):
        raise InputError(
            f"{path} expected {header + math.prod(shape)} bytes for the shape {tuple(shape)} of its header, got "
            f"{len(data)}; put the official file there"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def load_mnist(size: int = SIDE, folder: Path | None = None) -> ClassImages:
    """The ten digits of the test set, equally many drawings each (the first 892 of the official files), ink 255.

    Args:
        size: height and width in pixels; other than 28: resampled.
        folder: where the two files lie, gzipped (``.gz``) or not; None: INNERLOOP_DATA/mnist.

    Raises:
        InputError: files that are missing or damaged, or a digit without any picture.
    """
    pictures, labels = _read(FILES, folder)
    folder = data_folder() / "mnist" if folder is None else folder
    each = int(np.bincount(labels, minlength=10).min())
    if each == 0:
        raise InputError(f"{folder} expected pictures of all ten digits, got none of one; put the official files there")
    chosen = np.stack([pictures[np.flatnonzero(labels == digit)[:each]] for digit in range(10)])
    images = torch.from_numpy(chosen)
    if size != SIDE:
        smooth = F.interpolate(
            images.float().flatten(0, 1)[:, None], (size, size), mode="bilinear", align_corners=False, antialias=True
        )
        images = smooth.round().clamp(0, 255).to(torch.uint8).reshape(10, each, size, size)
    return ClassImages(images, tuple(f"digit {digit}" for digit in range(10)), ("digits",) * 10)


def mnist_training_examples(size: int = SIDE, folder: Path | None = None) -> Examples:
    """The 60,000 training digits: x (60000, 1, size, size) floats in [0, 1], average-pooled, y their labels.

    Args:
        size: height and width in pixels, at most 28.
        folder: as for `load_mnist`.

    Raises:
        InputError: files that are missing or damaged, or a size that cannot be.
    """
    return _examples(TRAINING_FILES, size, folder)


def mnist_test_examples(size: int = SIDE, folder: Path | None = None) -> Examples:
    """The 10,000 test digits, as `mnist_training_examples`."""
    return _examples(FILES, size, folder)


def _examples(files: tuple[str, str], size: int, folder: Path | None) -> Examples:
    if not 1 <= size <= SIDE:
        raise InputError(f"size expected 1 to {SIDE} pixels, got {size}")
    pictures, labels = _read(files, folder)
    x = torch.from_numpy(pictures.copy()).float()[:, None] / 255
    return Examples(x if size == SIDE else F.adaptive_avg_pool2d(x, size), torch.from_numpy(labels.astype(np.int64)))


def _read(files: tuple[str, str], folder: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(pictures, labels) of the official files."""
    folder = data_folder() / "mnist" if folder is None else folder
    paths = []
    for name in files:
        found = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
        if found is None:
            raise InputError(
                f"expected MNIST's {name}.gz in {str(folder)!r}, found nothing there; put the official file there, or set "
                "INNERLOOP_DATA to the folder above"
            )
        paths.append(found)
    pictures, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(pictures) != len(labels) or pictures.shape[1:] != (SIDE, SIDE) or not (labels < 10).all():
        raise InputError(
            f"{folder} expected pictures of {SIDE} x {SIDE} and as many labels from 0 to 9, got pictures "
            f"{pictures.shape} and labels {labels.shape}; put the official files there"
        )
    return pictures, labels
