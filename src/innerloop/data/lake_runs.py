"""The official one-shot benchmark of Omniglot: 20 runs of 20 trials, each among 20 characters of an alphabet.

Source: Lake, Salakhutdinov and Tenenbaum (2015), Science 350:1332; ``one-shot-classification/all_runs.zip``.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from innerloop.data.omniglot_archive import SIDE, decode_drawing, omniglot_folder
from innerloop.data.zip_reading import check_checksums, open_zip
from innerloop.errors import InputError

RUNS, TRIALS = 20, 20
FILE = "one_shot_all_runs.zip"


class LakeRuns(NamedTuple):
    """The benchmark's pictures (255 is full ink) and answers.

    Attributes:
        training: one picture of each of a run's 20 classes.
        test: the pictures to recognise.
        answers: which class each test picture is of, 0 to 19.
    """

    training: UInt8[Tensor, "runs classes height width"]
    test: UInt8[Tensor, "runs trials height width"]
    answers: Int64[Tensor, "runs trials"]


def _members(run: int) -> tuple[str, list[str], list[str]]:
    folder = f"run{run + 1:02d}"
    training = [f"{folder}/training/class{number + 1:02d}.png" for number in range(TRIALS)]
    return folder, training, [f"{folder}/test/item{number + 1:02d}.png" for number in range(TRIALS)]


def _check_names(archive: zipfile.ZipFile, path: Path) -> None:
    wanted = {f"{_members(run)[0]}/class_labels.txt" for run in range(RUNS)}
    for run in range(RUNS):
        wanted.update(_members(run)[1], _members(run)[2])
    missing = sorted(wanted - set(archive.namelist()))
    if missing:
        raise InputError(
            f"{path} expected {len(wanted)} files of {RUNS} runs, got all but {len(missing)} of them "
            f"(the first: {missing[0]}); fetch it again with: innerloop data fetch omniglot"
        )


def check_runs(path: Path) -> None:
    """Raise InputError when the zip at ``path`` is missing, damaged or lacks a file of the benchmark."""
    with open_zip(path, "omniglot") as archive:
        _check_names(archive, path)
        check_checksums(archive)


def _answers(text: str, run: int, path: Path) -> list[int]:
    """Lines such as ``run01/test/item01.png run01/training/class08.png``."""
    found = re.findall(rf"run{run + 1:02d}/test/item(\d+)\.png\s+run{run + 1:02d}/training/class(\d+)\.png", text)
    answers = {int(item) - 1: int(label) - 1 for item, label in found}
    if sorted(answers) != list(range(TRIALS)) or not set(answers.values()) <= set(range(TRIALS)):
        raise InputError(
            f"{path}: class_labels.txt of run {run + 1} expected a class of 1 to {TRIALS} for each of "
            f"{TRIALS} items, got {len(answers)} usable lines; "
            "fetch it again with: innerloop data fetch omniglot"
        )
    return [answers[item] for item in range(TRIALS)]


def load_lake_runs(size: int = SIDE, path: Path | None = None) -> LakeRuns:
    """The benchmark, from INNERLOOP_DATA/omniglot unless another zip is given.

    Args:
        size: height and width in pixels; 105 leaves the pictures as they are.
        path: of the zip.

    Raises:
        InputError: a missing, damaged or wrong zip.
    """
    path = path or omniglot_folder() / FILE
    if not 1 <= size <= SIDE:
        raise InputError(f"one-shot runs: size expected 1 to {SIDE} pixels, got {size}; choose one of those")
    training = np.empty((RUNS, TRIALS, size, size), np.uint8)
    test = np.empty_like(training)
    answers = []
    with open_zip(path, "omniglot") as archive:
        _check_names(archive, path)
        for run in range(RUNS):
            folder, training_members, test_members = _members(run)
            for pictures, members in ((training, training_members), (test, test_members)):
                for number, member in enumerate(members):
                    data = archive.read(member)
                    try:
                        pictures[run, number] = decode_drawing(data, size)
                    except (OSError, ValueError, SyntaxError) as error:
                        raise InputError(
                            f"{path}: {member} expected a PNG of {SIDE} x {SIDE} pixels, got {error}; "
                            "fetch it again with: innerloop data fetch omniglot"
                        ) from error
            text = archive.read(f"{folder}/class_labels.txt").decode("utf-8", "replace")
            answers.append(_answers(text, run, path))
    return LakeRuns(torch.from_numpy(training), torch.from_numpy(test), torch.tensor(answers))
