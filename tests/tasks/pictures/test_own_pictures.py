"""A folder of one's own as a problem: tasks, splits, and what is refused."""

import json
import warnings

import pytest
import torch

import innerloop as il
import own_folders
from innerloop.errors import ConfigError, InnerloopWarning, InputError
from innerloop.tasks.pictures.changes import jittered
from innerloop.tasks.pictures.own import cut, default_share


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_folder_makes_tasks_of_its_pictures(tmp_path):
    family = il.tasks.from_path(own_folders.alike(tmp_path / "mine"), shots=2)
    assert family.name == str((tmp_path / "mine").resolve()) and family.train.name == "mine"
    train = family.train
    assert (train.ways, train.shots, train.queries) == (3, 2, 4), (
        "as many as three validation classes of six pictures allow"
    )
    task = train.at(0, 0, 5)
    assert task.support.x.shape == (5, 6, 1, 12, 12) and task.query.x.shape == (5, 12, 1, 12, 12)
    # Pictures of a class are nearer to each other than to any other class: labels belong to pictures.
    near = torch.cdist(task.query.x.flatten(2), task.support.x.flatten(2)).argmin(-1)
    assert task.support.y.gather(1, near).equal(task.query.y)


def test_unequal_classes_give_distinct_pictures_of_the_right_class(tmp_path):
    counts = {f"c{i}": 3 + i for i in range(9)}
    family = il.tasks.from_path(own_folders.make(tmp_path / "mine", counts), queries=2)
    for split in ("train", "valid", "test"):
        tasks = getattr(family, split)
        index = tasks.indices(torch.arange(300))
        sizes = torch.tensor(tasks.images.sizes)[index.classes]
        assert (index.drawings < sizes[..., None]).all() and (index.drawings >= 0).all()
        assert (index.drawings.sort(-1).values.diff() > 0).all(), "support and query are disjoint"
        last = (index.drawings.amax(-1) == sizes - 1).any()
        assert last, "the last picture of a class is drawn too"
        pictures = tasks.pictures(index).flatten(0, 2).flatten(1)
        rows = tasks.images.rows(torch.device("cpu")).flatten(1).float() / 255
        owner = torch.repeat_interleave(torch.arange(9), torch.tensor(tasks.images.sizes))
        found = owner[torch.cdist(pictures[:40], rows).argmin(1)]
        assert found.equal(index.classes[..., None].expand(index.drawings.shape).flatten()[:40])


def test_classes_with_too_few_pictures_are_left_out_and_said(tmp_path):
    counts = {f"c{i:02}": 8 for i in range(12)} | {"few": 2}
    folder = own_folders.make(tmp_path / "mine", counts)
    with pytest.warns(InnerloopWarning, match=r"left out 1 of \d+ classes, which have fewer than the 6"):
        family = il.tasks.from_path(folder, queries=5)
    names = [family.train.images.names[c] for s in family[1:4] for c in s.classes.tolist()]
    assert "few" not in names and len(names) == 12
    with pytest.raises(InputError, match=r"shots \+ queries expected at most 8"):
        il.tasks.from_path(folder, shots=5, queries=5)
    with pytest.raises(InputError, match=r"ways expected at most 7"):
        il.tasks.from_path(folder, ways=9, queries=1)


def test_options_make_it_again_and_new_classes_move_nobody_into_the_test(tmp_path):
    folder = own_folders.alike(tmp_path / "mine", 20, 3)
    family = il.tasks.from_path(folder)
    again = il.tasks.from_path(family.name, **json.loads(json.dumps(dict(family.options))))
    assert again.test.at(0, 0, 3).query.x.equal(family.test.at(0, 0, 3).query.x)
    trained = {family.train.images.names[c] for c in family.train.classes.tolist()}
    own_folders.make(folder, {f"new{i}": 3 for i in range(15)})
    later = il.tasks.from_path(family.name, **dict(family.options))
    assert not trained & {later.test.images.names[c] for c in later.test.classes.tolist()}
    assert len(later.test.classes) == len(family.test.classes) == 5 and len(later.train.classes) == 25


def test_splits_are_of_names_and_seed_alone():
    names = [f"c{i}" for i in range(30)]
    first = cut("x", names, {}, None, None, 0)
    assert {k: len(v) for k, v in first.items()} == {"test": 6, "valid": 6, "train": 18}
    shuffled = names[::-1]
    second = cut("x", shuffled, {}, None, None, 0)
    for split in first:
        assert {names[i] for i in first[split]} == {shuffled[i] for i in second[split]}
    assert cut("x", names, {}, None, None, 1) != first
    assert [default_share(n) for n in (6, 12, 20, 25, 100)] == [2, 3, 5, 5, 20]


def test_named_and_missing_splits(tmp_path):
    folder = own_folders.alike(tmp_path / "mine", 10, 3)
    family = il.tasks.from_path(folder, test_classes=("c00", "c01"), valid_classes=("c0[2-4]",))
    assert family.test.classes.tolist() == [0, 1] and family.valid.classes.tolist() == [2, 3, 4]
    with pytest.warns(InnerloopWarning, match="no classes of their own for test"):
        borrowed = il.tasks.from_path(folder, test_classes=0)
    assert borrowed.test.classes.equal(borrowed.valid.classes) and len(borrowed.train.classes) == 8
    with pytest.raises(InputError, match="'c000', which no class is called: did you mean 'c00'"):
        il.tasks.from_path(folder, test_classes=("c000",))
    with pytest.raises(InputError, match="got 'c00' in valid and test"):
        il.tasks.from_path(folder, test_classes=("c0?",), valid_classes=("c00",))


@pytest.mark.parametrize(
    ("classes", "said"), [({"a": 3}, "at least two classes, got one"), ({"a": 3, "b": 3, "c": 3}, "at least 6 classes")]
)
def test_too_few_classes_are_told(tmp_path, classes, said):
    with pytest.raises(InputError, match=said):
        il.tasks.from_path(own_folders.make(tmp_path / "mine", classes))


def test_an_empty_class_is_left_out_and_said(tmp_path):
    folder = own_folders.alike(tmp_path / "mine", 8, 3)
    (folder / "empty").mkdir()
    with pytest.warns(InnerloopWarning, match=r"left out 1 folders without pictures \(empty\)"):
        assert il.tasks.from_path(folder).train.images.num_classes == 8


def test_options_out_of_range_are_told(tmp_path):
    folder = own_folders.alike(tmp_path / "mine", 8, 3)
    for options, said in (
        ({"channels": 2}, "channels expected 1"),
        ({"size": 0}, "size expected"),
        ({"way": 3}, "did you mean 'ways'"),
    ):
        with pytest.raises(ConfigError, match=said):
            il.tasks.from_path(folder, **options)


def test_tables_and_pictures_are_told_apart(tmp_path):
    from innerloop.tasks import own_data

    own_folders.alike(tmp_path / "mine", 2, 1)
    assert own_data.holds(tmp_path / "mine") == "pictures"
    (tmp_path / "list.csv").write_text("file,class\nmine/c00/0.png,a\n")
    (tmp_path / "table.csv").write_text("age,label\n1,2\n")
    assert own_data.holds(tmp_path / "list.csv") == "pictures" and own_data.holds(tmp_path / "table.csv") == "tables"
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "a.tsv").write_text("a\tb\n")
    assert own_data.holds(tmp_path / "many") == "tables"
    (tmp_path / "said" / "a").mkdir(parents=True)
    (tmp_path / "said" / "a" / "1.txt").write_text("hello")
    assert own_data.holds(tmp_path / "said") == "texts"
    (tmp_path / "many" / "notes.txt").write_text("about the table")
    assert own_data.holds(tmp_path / "many") == "tables"
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="got none of these"):
        il.tasks.from_path(tmp_path / "none")
    with pytest.raises(InputError, match="got nothing at"):
        il.tasks.from_path(tmp_path / "nowhere")


def test_changes_are_functions_of_the_key_and_small(tmp_path):
    folder = own_folders.alike(tmp_path / "mine", 8, 4, size=24)
    plain, changed = (il.tasks.from_path(folder, changes=c) for c in ("none", "photos"))
    keys = torch.arange(6)
    whole = changed.train.from_keys(keys)
    assert whole.query.x[2:4].equal(changed.train.from_keys(keys[2:4]).query.x)
    assert not whole.query.x.equal(plain.train.from_keys(keys).query.x)
    assert changed.test.from_keys(keys).query.x.equal(plain.test.from_keys(keys).query.x), (
        "tests see the pictures as they are"
    )
    assert whole.support.x.min() >= 0 and whole.support.x.max() <= 1


def test_no_change_at_all_is_the_picture_itself():
    x = torch.rand(2, 3, 1, 9, 7)
    still = jittered(x, torch.arange(2), mirror=False, shift=0, angle=0, zoom=0)
    torch.testing.assert_close(still, x, atol=1e-5, rtol=0)
    ramp = torch.linspace(0, 1, 16).expand(1, 40, 1, 16, 16).contiguous()
    moved = jittered(ramp, torch.arange(1), mirror=True, angle=0, zoom=0, shift=0, light=0)
    up = moved[0, :, 0, 8, -1] > moved[0, :, 0, 8, 0]
    assert 8 < up.sum() < 32, "about half are mirrored"


def test_a_learner_learns_from_a_folder(tmp_path):
    family = il.tasks.from_path(own_folders.alike(tmp_path / "mine", 12, 6), shots=1)
    learner = il.protonet(il.models.mlp((1, 12, 12), 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        il.fit(learner, family, steps=5, num_tasks=2, out=tmp_path / "run", quiet=True, validate_every=0)
    assert il.evaluate(learner, family.test, num_tasks=20).mean > 0.9
