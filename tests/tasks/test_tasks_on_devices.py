"""Tasks drawn on a device: every tensor is made there, and nothing comes from elsewhere once the pictures have been sent.

The "meta" device stands for an accelerator: it knows shapes and places, and refuses values of another device.
"""

from __future__ import annotations

import pytest
import torch
from test_few_shot import CLASSES, numbered_images
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import innerloop as il
from innerloop import keys as random_keys
from innerloop.tasks.pictures.changes import pixel_sources, turned_blocks, turned_gather
from innerloop.tasks.pictures.few_shot import FewShotImages


class Places(TorchDispatchMode):
    """Records on which devices tensors of more than one number are made or read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in pytree.tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor) and value.numel() > 1:
                self.seen.add(value.device.type)
        return result


def pictures(**options) -> FewShotImages:
    return FewShotImages(numbered_images(), range(CLASSES), **{"ways": 3, "queries": 2, **options})


PROBLEMS = {
    "pictures": pictures,
    "turned": lambda: pictures(rotations=True),
    "turned, one group, shuffled": lambda: pictures(rotations=True, within_group=True, shuffled=True, invert=True),
    "sine": lambda: il.tasks.sinusoid().train,
    "sine on a grid": lambda: il.tasks.sinusoid(preset="grid").train,
    "quadratics": lambda: il.tasks.quadratics(noise=0.1).train,
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_tasks_are_made_where_their_keys_are(name):
    tasks = PROBLEMS[name]()
    here = tasks.from_keys(random_keys.task_keys(0, "train", 0, 0, 7))
    keys = torch.empty(7, dtype=torch.int64, device="meta")
    there = tasks.from_keys(keys)
    for a, b in zip(pytree.tree_leaves(here), pytree.tree_leaves(there), strict=True):
        assert b.device.type == "meta" and b.shape == a.shape and b.dtype == a.dtype
    with Places() as places:
        tasks.from_keys(keys)
    assert places.seen == {"meta"}, "the second batch needs nothing from the CPU"


def test_the_recorder_sees_what_comes_from_elsewhere():
    with Places() as places:
        torch.ones(3).to("meta")
    assert places.seen == {"cpu", "meta"}


def test_pictures_are_sent_once_and_shared_by_the_splits():
    images = numbered_images()
    device = torch.device("meta")
    sent = images.rows(device)
    assert sent.device == device and images.rows(device) is sent
    assert images.rows(torch.device("cpu")).data_ptr() == images.images.data_ptr()


@pytest.mark.parametrize("channels", [1, 3])
def test_both_ways_of_turning_are_that_of_torch(channels):
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (9, channels, 5, 5), generator=generator, dtype=torch.uint8)
    rows = torch.randint(0, 9, (40,), generator=generator)
    for most in (4, 1):  # and none that is turned at all
        turns = torch.randint(0, most, (40,), generator=generator)
        expected = torch.stack(
            [torch.rot90(stored[r], t, (-2, -1)) for r, t in zip(rows.tolist(), turns.tolist(), strict=True)]
        )
        assert torch.equal(turned_blocks(stored, rows, turns), expected)
        assert torch.equal(turned_gather(stored, rows, turns, pixel_sources(5)), expected)
