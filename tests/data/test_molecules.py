"""SMILES: what rdkit refuses is named, salts and repeats are told of, counts are those of Morgan fragments."""

import pytest
import torch

import innerloop as il
from innerloop.data import molecules
from innerloop.functional.tanimoto import tanimoto

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def test_what_rdkit_refuses_is_named_and_left_out():
    pytest.importorskip("rdkit")
    found = molecules.read(molecules.written(["CCO", "C1CC", "CC(=O)[O-].[Na+]", "CP(C)(C)(C)(C)C", " "]))
    assert found.rows == [0, 2] and len(found.counts) == 2
    refused, salts = found.notes
    assert "row 2 'C1CC' (no SMILES)" in refused and "Explicit valence for atom # 1 P" in refused
    assert "row 5 '' (an empty text)" in refused and "row 3 'CC(=O)[O-].[Na+]'; they are taken whole" in salts
    with pytest.raises(il.InputError, match=r"got 1 that it refuses: row 1 'xx'"):
        molecules.read(molecules.written(["xx"]))


def test_counts_are_those_of_morgan_fragments():
    generator = pytest.importorskip("rdkit.Chem.rdFingerprintGenerator")
    from rdkit import Chem

    found = molecules.read(molecules.written([ASPIRIN])).counts.dense()[0]
    own = generator.GetMorganGenerator(radius=2, fpSize=2048).GetCountFingerprint(Chem.MolFromSmiles(ASPIRIN))
    assert {i: int(found[i]) for i in found.nonzero().flatten().tolist()} == own.GetNonzeroElements()


def test_repeats_count_once_and_those_that_disagree_not_at_all():
    canonical = ["a", "b", "a", "c", "c", "a"]
    kept, classes, notes = molecules.without_repeats(canonical, [1, 0, 1, 0, 1, 1], values=False)
    assert kept == [0, 1] and classes == [1, 0] and "3 rows" in notes[0] and "left out: c" in notes[1]
    kept, values, _ = molecules.without_repeats(canonical, [1.0, 0.0, 2.0, 5.0, 7.0, 3.0], values=True)
    assert kept == [0, 1, 3] and values == [2.0, 0.0, 6.0]
    assert molecules.without_repeats(["a", "a"], [1, 0], ["t", "u"], values=False)[0] == [0, 1]  # of two tasks


def test_files_of_smiles(tmp_path):
    path = tmp_path / "library.smi"
    path.write_text("smiles name\nCCO ethanol\n\n# a note\nCCC propane gas\nC\n")
    found = molecules.written(path)
    assert found.smiles == ["CCO", "CCC", "C"] and found.names == ["ethanol", "propane gas", ""]


def test_without_rdkit_the_extra_is_named(monkeypatch):
    import importlib

    def missing(name, *rest):
        if name.startswith("rdkit"):
            raise ImportError(name)
        return real(name, *rest)

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", missing)
    molecules._generator.cache_clear()
    with pytest.raises(il.InputError, match=r"pip install 'innerloop\[molecules\]'"):
        molecules.read(molecules.written(["CCO"]))


@pytest.mark.parametrize("levels", [3, 200])  # level by level, row by row
def test_tanimoto_is_that_of_counts(levels):
    generator = torch.Generator().manual_seed(0)
    a, b = (
        (torch.rand(n, 40, generator=generator) < 0.4) * torch.randint(1, levels, (n, 40), generator=generator).float()
        for n in (6, 5)
    )
    a[0] = b[1] = 0
    rows = [il.Counts(*_sparse(x), kinds=40).packed(width=40) for x in (a, b)]
    least, most = (f(a[:, None], b).sum(-1) for f in (torch.minimum, torch.maximum))
    expected = torch.where(most > 0, least / most.clamp(min=1e-9), 1.0)
    assert torch.allclose(tanimoto(*rows, 40), expected, atol=1e-6)
    many = torch.vmap(lambda x: tanimoto(x, rows[1], 40))(rows[0].expand(3, -1, -1, -1))
    assert torch.equal(many[2], tanimoto(*rows, 40))


def _sparse(x):
    row, column = x.nonzero(as_tuple=True)
    return column, x[row, column], torch.searchsorted(row, torch.arange(len(x) + 1))
