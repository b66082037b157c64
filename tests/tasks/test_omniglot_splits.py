"""Omniglot's named splits, by the names and counts of the real alphabets; no pictures are needed."""

import pytest
import torch

from innerloop.data.class_images import ClassImages
from innerloop.data.omniglot_archive import Omniglot
from innerloop.errors import InputError
from innerloop.tasks.omniglot_splits import omniglot_splits

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
