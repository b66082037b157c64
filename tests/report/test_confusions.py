"""Which classes are taken for which: counted over tasks by the classes' names, drawn or listed."""

from __future__ import annotations

import pytest
import torch
from fake_learner import LabelLearner

from innerloop.core import Examples, Task
from innerloop.objectives.losses import as_objective
from innerloop.report import cards, confusions
from innerloop.report.html import to_html
from innerloop.report.page import Section


class Named:
    """Two classes of six in each task; a picture is as bright as its label, so that `LabelLearner` knows it."""

    objective = as_objective("cross_entropy")

    def at(self, seed: int, step: int, num_tasks: int) -> Task:
        y = torch.tensor([[0, 1, 1]]).expand(num_tasks, 3)
        x = y[..., None, None, None].expand(num_tasks, 3, 1, 4, 4).float()
        ids = torch.stack([torch.tensor([i % 5, 5]) for i in range(num_tasks)])
        return Task(support=Examples(x, y), query=Examples(x, y), class_ids=ids)

    def class_name(self, class_id: int) -> str:
        return "abcdef"[class_id]


def test_they_are_counted_by_the_names_of_classes():
    right = confusions.counted(LabelLearner(2), Named(), num_tasks=10)  # type: ignore[arg-type]
    assert right == {("a", "a"): 2, ("b", "b"): 2, ("c", "c"): 2, ("d", "d"): 2, ("e", "e"): 2, ("f", "f"): 20}
    wrong = confusions.counted(LabelLearner(2, wrong=1), Named(), num_tasks=5)  # type: ignore[arg-type]
    assert wrong["a", "f"] == 1 and wrong["f", "a"] == 2 and ("a", "a") not in wrong


def test_few_classes_are_a_square_and_many_a_list(monkeypatch):
    (drawn,) = confusions.section({"one": LabelLearner(2, wrong=1)}, Named())  # type: ignore[arg-type]
    assert drawn.parts[0].name == "confusions"
    monkeypatch.setattr(confusions, "_SQUARE", 3)
    (listed,) = confusions.section({"one": LabelLearner(2, wrong=1)}, Named())  # type: ignore[arg-type]
    assert ("f", "a", "40", "200") in listed.parts[1].rows
    (none,) = confusions.section({"one": LabelLearner(2)}, Named())  # type: ignore[arg-type]
    assert none.parts == ["one takes no query of 100 validation tasks for another class."]


@pytest.mark.parametrize(
    ("lead", "said"), [(0.1, "10.00 ± 2.00 % ahead"), (-0.1, "10.00 ± 2.00 % behind"), (0.01, "not told apart")]
)
def test_the_verdict_is_in_words(lead, said):
    from innerloop.core import Beside, Report

    report = Report("accuracy", 0.8, 0.01, (0.8,), 1, 0, "test", False)
    near, far = Beside(0.7, 0.02, 1, True, lead, 0.02), Beside(0.3, 0.02, 1, True, 0.5, 0.02)
    report = type(report)(**{**vars(report), "baselines": {"far": far, "near": near}})
    assert "near does best: 70.00 ± 2.00 %" in cards.verdict(report) and f"is {said}" in cards.verdict(report)


def test_what_is_folded_is_opened_by_a_click():
    page = to_html("title", [Section("Settings", ["a sentence"], folded=True)])
    assert "<details><summary><h2>Settings</h2></summary>\n<p>a sentence</p>\n</details></section>" in page


def test_long_names_of_classes_stand_in_the_caption(monkeypatch):
    from innerloop.report.image_tasks import predicted_images

    tasks, learners = Named().at(0, 0, 1), {"one": LabelLearner(2)}
    (short,) = predicted_images(learners, tasks, distribution=Named())
    assert list(short.support_labels) == ["a", "f", "f"] and not short.legend
    monkeypatch.setattr(Named, "class_name", lambda self, class_id: f"a long name {class_id}")
    (long,) = predicted_images(learners, tasks, distribution=Named())
    assert list(long.support_labels) == ["0", "1", "1"] and long.legend == {"0": "a long name 0", "1": "a long name 5"}
