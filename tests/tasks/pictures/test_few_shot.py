"""N-way K-shot tasks: which classes and drawings they are made of, and what may not be asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop import keys as random_keys
from innerloop.data.class_images import ClassImages
from innerloop.errors import InputError
from innerloop.tasks.pictures.few_shot import FewShotImages, few_shot_family
from innerloop.tasks.split_sizes import Sizes

CLASSES, DRAWINGS, SIDE = 12, 6, 4


def numbered_images() -> ClassImages:
    """Pictures that say what they are: pixel 0 is the class, pixel 1 the drawing, one more shows turns."""
    images = torch.zeros(CLASSES, DRAWINGS, SIDE, SIDE, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.arange(CLASSES)[:, None]
    images[:, :, 0, 1] = torch.arange(DRAWINGS)
    images[:, :, 3, 0] = 255
    return ClassImages(images, tuple(f"c{i}" for i in range(CLASSES)), tuple("abc"[i // 4] for i in range(CLASSES)))


def keys(num_tasks: int, seed: int = 0) -> torch.Tensor:
    return random_keys.task_keys(seed, "train", 0, 0, num_tasks)


def distribution(**options) -> FewShotImages:
    return FewShotImages(numbered_images(), range(CLASSES), **{"queries": 2, **options})


def decoded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The class and drawing numbers that unturned pictures show."""
    values = (x * 255).round().long()
    return values[:, :, 0, 0, 0], values[:, :, 0, 0, 1]


@settings(deadline=None, max_examples=30)
@given(ways=st.integers(2, CLASSES), shots=st.integers(1, 4), queries=st.integers(1, 2), rotations=st.booleans())
def test_any_sizes_give_disjoint_examples_of_the_right_classes(ways, shots, queries, rotations):
    tasks = distribution(ways=ways, shots=shots, queries=queries, rotations=rotations)
    index = tasks.indices(keys(7))
    assert all(len(set(row)) == ways for row in index.class_ids.tolist())
    assert torch.equal(tasks.classes[index.class_ids // tasks.turns], index.classes)
    for drawings in index.drawings.flatten(0, 1).tolist():
        assert len(set(drawings)) == shots + queries
    batch = tasks.from_keys(keys(7))
    assert batch.support.x.shape == (7, ways * shots, 1, SIDE, SIDE)
    assert batch.query.y.shape == (7, ways * queries)
    assert all(torch.bincount(y, minlength=ways).tolist() == [queries] * ways for y in batch.query.y)


def test_pictures_labels_and_global_numbers_belong_together():
    tasks = distribution(ways=3, shots=2)
    batch = tasks.from_keys(keys(20))
    seen = set()
    for side in (batch.support, batch.query):
        classes, drawings = decoded(side.x)
        assert torch.equal(classes, batch.class_ids.gather(1, side.y))
        seen.add(tuple(zip(classes[0].tolist(), drawings[0].tolist(), strict=True)))
    support, query = seen
    assert not set(support) & set(query)
    assert batch.num_classes == CLASSES and batch.objective == "cross_entropy"


def test_a_class_has_another_label_in_another_task():
    index = distribution(ways=4).indices(keys(200))
    labels = {label for row in index.classes.tolist() for label, number in enumerate(row) if number == 5}
    assert labels == {0, 1, 2, 3}


def test_all_classes_and_drawings_are_drawn_about_equally_often():
    index = distribution(ways=3, shots=1, queries=1).indices(keys(4000))
    share = torch.bincount(index.classes.flatten(), minlength=CLASSES) / index.classes.numel() * CLASSES
    assert share.min() > 0.85 and share.max() < 1.15
    share = torch.bincount(index.drawings[..., 0].flatten(), minlength=DRAWINGS) / index.classes.numel() * DRAWINGS
    assert share.min() > 0.9 and share.max() < 1.1


def test_two_classes_of_a_task_do_not_always_use_the_same_drawings():
    index = distribution(ways=2).indices(keys(50))
    assert not torch.equal(index.drawings[:, 0], index.drawings[:, 1])


@pytest.mark.parametrize("options", [{}, {"rotations": True}, {"within_group": True, "ways": 3}, {"shuffled": True}])
def test_a_task_depends_on_its_key_alone(options):
    tasks = distribution(**{"ways": 3, **options})
    whole, part = tasks.from_keys(keys(9)), tasks.from_keys(keys(9)[4:7])
    for side in ("support", "query"):
        assert torch.equal(getattr(whole, side).x[4:7], getattr(part, side).x)
        assert torch.equal(getattr(whole, side).y[4:7], getattr(part, side).y)
    assert torch.equal(whole.class_ids[4:7], part.class_ids) and torch.equal(whole.noise[4:7], part.noise)


def test_seed_and_split_change_the_tasks():
    first = distribution(ways=3)
    same, other = first.at(0, 0, 8), first.at(1, 0, 8)
    assert torch.equal(first.at(0, 0, 8).support.x, same.support.x)
    assert not torch.equal(same.support.x, other.support.x)
    assert not torch.equal(same.support.x, distribution(ways=3, split="test").at(0, 0, 8).support.x)


def test_rotation_turns_by_quarters_and_makes_new_classes():
    tasks = distribution(ways=5, rotations=True)
    index = tasks.indices(keys(40))
    turned, plain = tasks.pictures(index), distribution(ways=5).pictures(index)
    assert tasks.num_classes == 4 * CLASSES
    assert set(index.rotations.flatten().tolist()) == {0, 1, 2, 3}
    assert torch.equal(index.class_ids % 4, index.rotations)
    for task in range(40):
        for way in range(5):
            quarter = int(index.rotations[task, way])
            assert torch.equal(turned[task, way], torch.rot90(plain[task, way], quarter, (-2, -1)))


@pytest.mark.parametrize("rotations", [False, True])
def test_within_group_keeps_to_one_group_and_reaches_all(rotations):
    images = numbered_images()
    # Group a has four classes here, b three, c one: too small for three ways.
    tasks = FewShotImages(images, [0, 1, 2, 3, 4, 5, 6, 8], ways=3, queries=2, within_group=True, rotations=rotations)
    index = tasks.indices(keys(200))
    groups = [{images.groups[number] for number in row} for row in index.classes.tolist()]
    assert all(len(group) == 1 for group in groups)
    assert set().union(*groups) == {"a", "b"}
    assert set(index.classes.flatten().tolist()) == {0, 1, 2, 3, 4, 5, 6}
    assert all(len(set(row)) == 3 for row in index.classes.tolist())
    assert all(len(set(row)) == 1 for row in index.rotations.tolist())


def test_shuffled_examples_are_the_same_examples_in_another_order():
    blocks, mixed = (
        distribution(ways=3, shots=2).from_keys(keys(10)),
        distribution(ways=3, shots=2, shuffled=True).from_keys(keys(10)),
    )
    assert torch.equal(blocks.support.y[0], torch.tensor([0, 0, 1, 1, 2, 2]))
    assert not torch.equal(mixed.support.y, blocks.support.y)
    for side in (mixed.support, mixed.query):
        assert torch.equal(decoded(side.x)[0], mixed.class_ids.gather(1, side.y))
    assert torch.equal(mixed.support.y.sort(1).values, blocks.support.y)


def test_range_dtype_and_inversion():
    plain = distribution(dtype=torch.float64).from_keys(keys(3)).support.x
    assert plain.dtype == torch.float64 and plain.min() == 0 and plain.max() == 1
    torch.testing.assert_close(distribution(dtype=torch.float64, invert=True).from_keys(keys(3)).support.x, 1 - plain)
    assert distribution().from_keys(keys(3)).support.x.dtype == torch.get_default_dtype()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": CLASSES + 1}, "ways expected at most 12, .* got 13; use fewer ways"),
        ({"shots": 5, "queries": 2}, r"shots \+ queries expected at most 6, .* got 5 \+ 2"),
        ({"ways": 1}, "ways expected at least 2, got 1"),
        ({"queries": 0}, "queries expected at least 1, got 0"),
        ({"ways": 5, "within_group": True}, "within one group expected at most 4, .* got 5"),
    ],
)
def test_too_much_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        distribution(**options)


def test_bad_class_numbers_are_refused():
    with pytest.raises(InputError, match="got 12; correct the split"):
        FewShotImages(numbered_images(), [0, 1, 2, 3, 12], queries=2)
    with pytest.raises(InputError, match="distinct"):
        FewShotImages(numbered_images(), [0, 1, 2, 3, 3], queries=2, ways=2)


def test_family_keeps_splits_apart_and_overrides_training():
    splits = {"train": range(6), "valid": range(6, 9), "test": range(9, 12)}
    family = few_shot_family(
        "x",
        numbered_images(),
        splits,
        Sizes(2, 1, 1, train_ways=4, train_shots=2, train_queries=3),
        rotations=True,
    )
    assert (family.train.ways, family.train.shots, family.train.queries) == (4, 2, 3)
    assert (family.test.ways, family.test.shots, family.test.queries) == (2, 1, 1)
    assert family.train.num_classes == 24 and family.valid.num_classes == family.test.num_classes == 3
    shown = {name: set(getattr(family, name).indices(keys(200)).classes.flatten().tolist()) for name in splits}
    assert shown == {name: set(numbers) for name, numbers in splits.items()}
    with pytest.raises(InputError, match="'c5' in train and valid"):
        few_shot_family("x", numbered_images(), {**splits, "valid": range(5, 9)}, Sizes(2, 1, 1))


def test_class_names_of_the_split():
    tasks = FewShotImages(numbered_images(), range(6, 12), rotations=True, queries=2)
    assert tasks.class_name(0) == "c6" and tasks.class_name(7) == "c7 turned 270°"


def test_default_model_maps_pictures_to_ways():
    images = ClassImages(torch.zeros(5, 6, 28, 28, dtype=torch.uint8), tuple("abcde"), tuple("aaaaa"))
    tasks = FewShotImages(images, range(5), ways=3, queries=2)
    assert tasks.default_model()(tasks.at(0, 0, 1).support.x[0]).shape == (3, 3)


def test_class_images_refuses_floats_and_uneven_names():
    with pytest.raises(InputError, match="uint8"):
        ClassImages(torch.zeros(2, 2, 4, 4), ("a", "b"), ("a", "a"))
    with pytest.raises(InputError, match="2 names, one a class, got 1"):
        ClassImages(torch.zeros(2, 2, 4, 4, dtype=torch.uint8), ("a",), ("a", "a"))
    with pytest.raises(InputError, match="'a' twice"):
        ClassImages(torch.zeros(2, 2, 4, 4, dtype=torch.uint8), ("a", "a"), ("a", "a"))
