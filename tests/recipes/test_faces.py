"""How the faces recipes count, on made-up scores and on real photographs where they are at hand."""

import pytest
import torch

from innerloop.core import Examples, Task
from innerloop.data.locations import data_folder
from innerloop.recipes import faces

needs_faces = pytest.mark.skipif(
    not (data_folder() / "orl_faces").exists(), reason="the ORL faces are not in INNERLOOP_DATA/orl_faces"
)


def test_a_person_is_found_by_all_photographs_together():
    # Two people, two photographs each; of the first person's, one alone points to the wrong candidate.
    scores = torch.tensor([[[1.0, 0.9], [0.2, 0.25], [0.0, 1.0], [0.0, 1.0]], [[0, 1.0], [0, 1], [0, 1], [0, 1]]])
    assert faces.found(scores, 2).tolist() == [1.0, 0.5]
    assert faces.right(scores, 2).tolist() == [0.75, 0.5]


def test_sums_of_squared_distances_are_the_distance_to_the_mean():
    generator = torch.Generator().manual_seed(0)
    photographs, candidates = torch.randn(50, 4, 7, generator=generator), torch.randn(50, 4, 7, generator=generator)
    scores = -(torch.cdist(photographs, candidates) ** 2)
    nearest = torch.cdist(photographs.mean(1, keepdim=True), candidates)[:, 0].argmin(-1)
    assert faces.found(scores.repeat(1, 4, 1), 4).tolist() == (torch.full((50,), 0.25)).tolist()
    assert scores.sum(1).argmax(-1).equal(nearest)


def test_pixels_are_the_nearest_of_each_persons_photographs():
    x = torch.tensor([0.0, 1.0, 5.0, 9.0]).reshape(1, 4, 1, 1, 1)
    q = torch.tensor([0.9, 7.5]).reshape(1, 2, 1, 1, 1)
    task = Task(Examples(x, torch.tensor([[0, 0, 1, 1]])), Examples(q, torch.tensor([[0, 1]])))
    expected = torch.tensor([[[-0.01, -(4.1**2)], [-(6.5**2), -(1.5**2)]]])
    torch.testing.assert_close(faces._pixels(task), expected, atol=1e-3, rtol=1e-3)


@needs_faces
def test_rotations_test_everybody_once_and_share_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path))
    tested = []
    for rotation in range(faces.ROTATIONS):
        people = faces.family(rotation, size=(14, 12))
        names = {
            split: {people.train.images.names[c] for c in getattr(people, split).classes.tolist()}
            for split in ("train", "valid", "test")
        }
        assert [len(names[split]) for split in ("train", "valid", "test")] == [25, 5, 10]
        tested += names["test"]
    assert sorted(tested) == sorted(faces.PEOPLE)
    assert {f"s{i}" for i in range(31, 41)} == set(tested[:10])


@needs_faces
def test_raw_pixels_find_most_people(monkeypatch):
    monkeypatch.setattr(faces, "_NUM_TASKS", 50)
    monkeypatch.setattr(faces, "ROTATIONS", 1)
    rows = faces.run_pixels()
    assert 80 < rows[2]["value"] < 97 and rows[2]["metric"] == "accuracy % 5w1s, raw pixels"


@needs_faces
def test_whitened_histograms_know_new_people_better_than_pixels(monkeypatch):
    monkeypatch.setattr(faces, "SETTINGS", ((5, 1),))
    monkeypatch.setattr(faces, "_NUM_TASKS", 20)
    monkeypatch.setattr(faces, "ROTATIONS", 1)
    person, recognised = (row["value"] for row in faces.run_protonet())
    assert person > 96 and recognised > 94
