"""A chemist's own table: trained on, adapted to, a library ranked; what is wrong with it is one line."""

import csv
import itertools
import warnings

import numpy as np
import pytest

import innerloop as il

Chem = pytest.importorskip("rdkit.Chem")
MIDDLES, ENDS = ("C", "CC", "C(=O)"), ("C", "O", "N", "F", "Cl", "OC")
MOLECULES = sorted(
    {
        Chem.MolToSmiles(Chem.MolFromSmiles("".join(parts)))
        for parts in itertools.product(("C", "CC", "N", "c1ccccc1"), MIDDLES, ENDS)
    }
)


def written(path, rows, header=("assay", "smiles", "active", "pic50")):
    with open(path, "w", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return path


@pytest.fixture
def table(tmp_path):
    """Nine assays: the number of carbons decides."""
    random = np.random.default_rng(0)
    rows = []
    for assay in range(9):
        for one in random.choice(MOLECULES, 24, replace=False):
            carbons = one.lower().count("c")
            rows.append((f"assay{assay}", one, int(carbons > 4), 4 + 0.3 * carbons + 0.1 * assay))
    return written(tmp_path / "assays.csv", rows)


def trained(table, target, **options):
    family = il.tasks.from_path(table, smiles="smiles", target=target, task_column="assay", support_size=8, **options)
    learner = il.dkt(il.models.counts_mlp(2048, None, hidden=(16, 8)), kernel="tanimoto+rbf", scale_steps=3)
    il.fit(learner, family, steps=8, num_tasks=4, outer_lr=1e-2, quiet=True, valid_tasks=4)
    return family, learner


def test_from_a_table_to_a_ranked_library(table, tmp_path):
    family, learner = trained(table, "active")
    assert family.train.metrics[0] == "delta_auprc" and family.train.preprocessing["kind"] == "molecules"
    shown = [one for one in MOLECULES if one.lower().count("c") in (2, 8)][:10]
    answers = ["active" if one.lower().count("c") > 4 else "inactive" for one in shown]
    fitted = learner.adapt(shown, answers)
    assert fitted.classes_ == ["active", "inactive"] and fitted.predict(shown).tolist() == answers
    again = il.load(fitted.save(tmp_path / "task.il"))
    with pytest.warns(il.errors.InnerloopWarning, match="row 2 'C1CC'"):
        found = il.screen(again, [MOLECULES[0], "C1CC", shown[0], *MOLECULES[5:9]])
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert {one.row for one in found} == {1, 3, 4, 5, 6, 7}
    own = next(one for one in found if one.row == 3)
    assert own.nearest[0].smiles == shown[0] and own.nearest[0].similarity == 1 and own.nearest[0].answer == answers[0]
    assert own.score == pytest.approx(float(fitted.predict_proba([shown[0]])[0, 0]), abs=1e-6)  # the chance of "active"
    with pytest.raises(il.InputError, match=r"row 2 'C1CC' \(no SMILES\)"):
        fitted.predict([MOLECULES[0], "C1CC"])


def test_values_come_back_in_their_unit_with_a_spread(table):
    family, learner = trained(table, "pic50")
    mean, std = family.train.preprocessing["mean"], family.train.preprocessing["std"]
    assert 4 < mean < 9 and std > 0 and family.train.metrics[0] == "rmse"
    shown = MOLECULES[::6]
    values = np.array([4 + 0.3 * one.lower().count("c") for one in shown])
    fitted = learner.adapt(shown, values)
    found, spread = fitted.predict(shown), fitted.predict_std(shown)
    assert found.shape == (len(shown), 1) and np.abs(found[:, 0] - values).mean() < 0.5 and (spread > 0).all()
    more = fitted.learn(MOLECULES[1:3], [5.0, 6.0])
    assert more.num_examples == len(shown) + 2 and more.preprocessing["shown"][-1] == MOLECULES[2]
    both = learner.adapt([*shown, *MOLECULES[1:3]], [*values, 5.0, 6.0])
    assert np.allclose(more.predict(MOLECULES[:4]), both.predict(MOLECULES[:4]), atol=1e-5)


def test_repeats_salts_and_gaps_are_told_of(table):
    with open(table, "a", newline="") as opened:
        csv.writer(opened).writerows(
            [
                ("assay0", "OCCCCCO", 1, 5),
                ("assay0", "C(CO)CCCO", 1, 5),
                ("assay0", "CC.Cl", 1, 5),
                ("assay0", "xx", 1, 5),
                ("assay0", "CCCCCCCCO", "", ""),
            ]
        )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        il.tasks.from_path(table, smiles="smiles", target="active", task_column="assay", support_size=8)
    said = " ".join(str(one.message) for one in found)
    for words in ("'xx' (no SMILES)", "salts, mixtures", "1 cells without a measurement", "1 rows are molecules that"):
        assert words in said


def test_several_columns_are_several_tasks(tmp_path):
    random = np.random.default_rng(1)
    rows = [
        (one, *("" if random.random() < 0.2 else int(random.random() < 0.5) for _ in range(6))) for one in MOLECULES
    ]
    path = written(tmp_path / "wide.csv", rows, ("smiles", *"abcdef"))
    with pytest.warns(il.errors.InnerloopWarning, match="cells without a measurement are left out"):
        family = il.tasks.from_path(path, smiles="smiles", target="a,b,c,d,e,f", support_size=8)
    names = {*family.train.task_names, *family.valid.task_names, *family.test.task_names}
    assert names == set("abcdef")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([("a", "xx", 1, 5)] * 3, {}, "expected SMILES that rdkit reads, got 3 that it refuses: row 1 'xx'"),
        ([("a", one, 1, 5) for one in MOLECULES[:9]], {}, "expected different values, got '1' in every row"),
        ([("a", one, 1, "") for one in MOLECULES[:9]], {"target": "pic50"}, "expected measurements in pic50, got none"),
        ([("a", one, 1, f"{i} {'nu'[i % 2]}M") for i, one in enumerate(MOLECULES[:9])], {"target": "pic50"}, "several units"),
        ([("a", one, i % 2, i) for i, one in enumerate(MOLECULES[:9])], {"task_column": "essay"}, "did you mean 'assay'"),
    ],
)  # fmt: skip
def test_a_table_that_will_not_do_is_one_line(tmp_path, rows, options, message):
    path = written(tmp_path / "assays.csv", rows)
    given = {"smiles": "smiles", "target": "active", "task_column": "assay", **options}
    with pytest.raises(il.InnerloopError, match=message.replace("(", r"\(")) as found:
        il.tasks.from_path(path, **given)
    assert "\n" not in str(found.value)


def test_mixed_units_in_a_column_of_their_own(tmp_path):
    rows = [("a", one, i + 0.5, "nM" if i % 3 else "uM") for i, one in enumerate(MOLECULES[:9])]
    path = written(tmp_path / "assays.csv", rows, ("assay", "smiles", "ic50", "standard_units"))
    with pytest.raises(il.InputError, match=r"expected one unit, got nM \(6 rows\), uM \(3 rows\) in 'standard_units'"):
        il.tasks.from_path(path, smiles="smiles", target="ic50", task_column="assay")


def test_a_support_set_that_will_not_do_is_one_line(table):
    _, learner = trained(table, "active")
    with pytest.raises(il.InputError, match="expected molecules of two classes, got 'x' alone in all 3"):
        learner.adapt(MOLECULES[:3], ["x"] * 3)
    with pytest.raises(il.ShapeError, match="equally many examples, got 3 and 2"):
        learner.adapt(MOLECULES[:3], ["x", "y"])
    _, values = trained(table, "pic50")
    with pytest.raises(il.InputError, match=r"expected different values, got 5.0 alone in all 3"):
        values.adapt(MOLECULES[:3], [5.0, 5.0, 5.0])
