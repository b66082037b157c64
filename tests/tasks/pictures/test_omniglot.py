"""Omniglot's splits: on a small copy, by the names and counts of the real alphabets, and on the real archives if at hand."""

from __future__ import annotations

import os

import pytest
import torch

from innerloop.data.class_images import ClassImages
from innerloop.data.omniglot_archive import CONTENTS, Omniglot, omniglot_folder
from innerloop.errors import ConfigError, InputError
from innerloop.tasks.pictures import omniglot as problem
from innerloop.tasks.pictures.omniglot import omniglot, omniglot_splits

# Characters of each alphabet, in the order of the archives.
BACKGROUND = {
    "Alphabet_of_the_Magi": 20, "Anglo-Saxon_Futhorc": 29, "Arcadian": 26, "Armenian": 41, "Asomtavruli_(Georgian)": 40,
    "Balinese": 24, "Bengali": 46, "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14, "Braille": 26,
    "Burmese_(Myanmar)": 34, "Cyrillic": 33, "Early_Aramaic": 22, "Futurama": 26, "Grantha": 43, "Greek": 24,
    "Gujarati": 48, "Hebrew": 22, "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16, "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47, "Korean": 40, "Latin": 26, "Malay_(Jawi_-_Arabic)": 40, "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33, "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14, "Sanskrit": 42, "Syriac_(Estrangelo)": 23, "Tagalog": 17,
    "Tifinagh": 55,
}  # fmt: skip
EVALUATION = {
    "Angelic": 20, "Atemayar_Qelisayer": 26, "Atlantean": 26, "Aurek-Besh": 26, "Avesta": 26, "Ge_ez": 26,
    "Glagolitic": 45, "Gurmukhi": 45, "Kannada": 41, "Keble": 26, "Malayalam": 47, "Manipuri": 40, "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45, "Oriya": 46, "Sylheti": 28, "Syriac_(Serto)": 23, "Tengwar": 25,
    "Tibetan": 42, "ULOG": 26,
}  # fmt: skip


def small(alphabets: int, letters: int, prefix: str, size: int = 28) -> ClassImages:
    images = torch.zeros(alphabets * letters, 20, size, size, dtype=torch.uint8)
    names = [(f"{prefix}{a}", f"{prefix}{a}/character{c:02d}") for a in range(alphabets) for c in range(letters)]
    return ClassImages(images, tuple(name for _, name in names), tuple(alphabet for alphabet, _ in names))


@pytest.fixture
def small_omniglot(monkeypatch):
    first, second = small(8, 10, "B"), small(3, 12, "E")
    images = torch.cat([first.images, second.images])
    both = Omniglot(ClassImages(images, first.names + second.names, first.groups + second.groups), first.num_classes)
    monkeypatch.setattr(problem, "load_omniglot", lambda size: both)
    monkeypatch.setattr(problem, "TRAINING_CHARACTERS", 60)
    return both


def names_of(tasks) -> set[str]:
    return {tasks.images.names[number] for number in tasks.classes.tolist()}


@pytest.mark.usefixtures("small_omniglot")
def test_background_split_holds_out_whole_alphabets():
    family = omniglot(valid_alphabets=2)
    train, valid, test = (names_of(tasks) for tasks in family[1:4])
    alphabets = [{name.split("/")[0] for name in names} for names in (train, valid, test)]
    assert [len(names) for names in (train, valid, test)] == [60, 20, 36]
    assert alphabets[2] == {"E0", "E1", "E2"} and not alphabets[0] & alphabets[1]
    assert names_of(omniglot(valid_alphabets=2).valid) == valid
    assert names_of(omniglot(valid_alphabets=2, split_seed=1).valid) != valid


@pytest.mark.usefixtures("small_omniglot")
def test_random_split_is_disjoint_and_complete():
    family = omniglot(split="random", valid_characters=10)
    train, valid, test = (names_of(tasks) for tasks in family[1:4])
    assert [len(names) for names in (train, valid, test)] == [50, 10, 56]
    assert len(train | valid | test) == 116
    assert {name[0] for name in test} == {"B", "E"}
    assert names_of(omniglot(split="random", valid_characters=10, split_seed=5).test) != test


@pytest.mark.usefixtures("small_omniglot")
def test_rotations_by_split():
    family = omniglot(valid_alphabets=2)
    assert (family.train.num_classes, family.valid.num_classes, family.test.num_classes) == (240, 20, 36)
    family = omniglot(valid_alphabets=2, rotate_test=True, rotations=False)
    assert (family.train.num_classes, family.valid.num_classes, family.test.num_classes) == (60, 80, 144)


@pytest.mark.usefixtures("small_omniglot")
def test_options_make_the_same_problem_again():
    family = omniglot(valid_alphabets=2, train_ways=7, within_alphabet=True, dtype="float64")
    again = omniglot(**family.options)
    assert torch.equal(family.train.at(0, 0, 4).class_ids, again.train.at(0, 0, 4).class_ids)
    assert again.train.ways == 7 and again.test.at(0, 0, 2).support.x.dtype == torch.float64
    assert again.test.within_group


@pytest.mark.usefixtures("small_omniglot")
def test_without_validation_there_are_no_validation_tasks():
    family = omniglot(valid_alphabets=0)
    assert len(names_of(family.train)) == 80 and family.valid.metrics == family.train.metrics
    assert family.valid.default_model() is not None
    with pytest.raises(InputError, match="validate_every=0"):
        family.valid.at(0, 0, 1)


def test_changed_drawings_are_those_of_training_alone(small_omniglot):
    small_omniglot.images.images[:, :, 10:18, 10:18] = 255
    plain, changed = omniglot(valid_alphabets=2), omniglot(valid_alphabets=2, changes="drawings")
    before, after = plain.train.at(0, 0, 2), changed.train.at(0, 0, 2)
    assert torch.equal(before.class_ids, after.class_ids) and not torch.equal(before.support.x, after.support.x)
    assert torch.equal(after.support.x, changed.train.at(0, 0, 2).support.x), "a pure function of the task's key"
    assert after.query.x.shape == before.query.x.shape and 0 <= after.query.x.min() <= after.query.x.max() <= 1
    assert torch.equal(plain.test.at(0, 0, 2).query.x, changed.test.at(0, 0, 2).query.x)


@pytest.mark.usefixtures("small_omniglot")
def test_bad_options():
    with pytest.raises(ConfigError, match=r"expected one of 'background', .* got 'backgroud'"):
        omniglot(split="backgroud")
    with pytest.raises(InputError, match="valid_alphabets expected 0 to 7, got 8"):
        omniglot(valid_alphabets=8)
    with pytest.raises(InputError, match="valid_characters expected 1 to 59, got 60"):
        omniglot(split="random", valid_characters=60)
    with pytest.raises(InputError, match=r"at most 20, .* got 10 \+ 15"):
        omniglot(valid_alphabets=2, shots=10)


def test_absent_data_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    with pytest.raises(InputError, match=f"{tmp_path}.*innerloop data fetch omniglot"):
        omniglot()


@pytest.mark.slow
@pytest.mark.skipif(
    not (os.environ.get("INNERLOOP_DATA") and all((omniglot_folder() / c.file).is_file() for c in CONTENTS.values())),
    reason="needs INNERLOOP_DATA/omniglot with the two official archives",
)
def test_the_real_characters(monkeypatch, tmp_path_factory):
    if "INNERLOOP_CACHE" not in os.environ:
        monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
    family = omniglot(split="random", rotate_test=True)
    assert (family.train.num_classes, family.valid.num_classes, family.test.num_classes) == (4400, 400, 1692)
    family = omniglot()
    assert family.train.num_classes == 4 * (964 - family.valid.num_classes) and family.test.num_classes == 659
    x = family.test.at(0, 0, 50).support.x
    assert x.shape == (50, 5, 1, 28, 28) and x.min() == 0 and x.max() == 1
    assert 0.03 < x.mean() < 0.2, "ink is 1 and most of the paper is 0"


@pytest.fixture(scope="module")
def characters() -> Omniglot:
    counts = [*BACKGROUND.items(), *EVALUATION.items()]
    groups = tuple(alphabet for alphabet, count in counts for _ in range(count))
    names = tuple(f"{alphabet}/character{i + 1:02d}" for alphabet, count in counts for i in range(count))
    return Omniglot(ClassImages(torch.zeros(len(names), 1, 1, 1, dtype=torch.uint8), names, groups), 964)


def cut(characters, split, valid_alphabets=5, **more):
    settings = {"valid_characters": 100, "seed": 0, **more}
    found = omniglot_splits(characters, split, valid_alphabets=valid_alphabets, **settings)
    assert not set(found["train"]) & set(found["valid"]) and not set(found["train"] + found["valid"]) & set(
        found["test"]
    )
    alphabets = {name: {characters.images.groups[number] for number in own} for name, own in found.items()}
    return {name: len(own) for name, own in found.items()}, alphabets


def test_minimal_sets_are_five_alphabets_each(characters):
    for split, count, one in (("minimal1", 136, "Balinese"), ("minimal2", 156, "Tagalog")):
        counts, alphabets = cut(characters, split)
        assert counts["train"] == count and counts["test"] == 659 and len(alphabets["train"]) == 5
        assert one in alphabets["train"] and {"Greek", "Latin"} <= alphabets["train"]
        assert len(alphabets["valid"]) == 5 and alphabets["valid"] <= set(BACKGROUND)
        counts, alphabets = cut(characters, split, 25)
        assert counts["train"] + counts["valid"] == 964 and len(alphabets["valid"]) == 25


def test_nothing_need_be_held_out(characters):
    assert cut(characters, "background", 0)[0] == {"train": 964, "valid": 0, "test": 659}
    assert cut(characters, "minimal1", 0)[0] == {"train": 136, "valid": 0, "test": 659}
    assert cut(characters, "vinyals", 0)[0] == {"train": 1200, "valid": 0, "test": 423}


def test_vinyals_split_has_the_published_counts(characters):
    counts, alphabets = cut(characters, "vinyals")
    assert counts == {"train": 1028, "valid": 172, "test": 423}
    assert (len(alphabets["train"]), len(alphabets["valid"])) == (33, 5)
    assert alphabets["train"] & alphabets["test"] == {"Gurmukhi"} and alphabets["test"] <= set(EVALUATION)
    last = [characters.images.names[n] for n in omniglot_splits(
        characters, "vinyals", valid_alphabets=5, valid_characters=1, seed=0)["test"]][:4]  # fmt: skip
    assert last == [f"Gurmukhi/character{i}" for i in (42, 43, 44, 45)]


def test_more_than_there_is_cannot_be_held_out(characters):
    with pytest.raises(InputError, match="valid_alphabets expected 0 to 29, got 30"):
        cut(characters, "background", 30)
    with pytest.raises(InputError, match="valid_alphabets expected 0 to 25, got 26"):
        cut(characters, "minimal2", 26)
    with pytest.raises(InputError, match="expected 5, those it names, or 0, got 3"):
        cut(characters, "vinyals", 3)


def test_pictures_without_the_splits_alphabets_are_told(characters):
    images = characters.images
    other = Omniglot(ClassImages(images.images[:20], images.names[:20], images.groups[:20]), 20)
    with pytest.raises(InputError, match="expected the alphabet Balinese, got pictures without it"):
        cut(other, "minimal1")
