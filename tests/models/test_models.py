"""What every model of the registry keeps: shapes, spec, second derivatives, vmap, clear errors."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from innerloop import models
from innerloop.data.counts import as_counts
from innerloop.errors import ConfigError, ShapeError
from innerloop.models import MODELS, build, describe

# A small case of every model: arguments, and what turns its norms off.
SMALL: dict[str, tuple[dict, dict]] = {
    "mlp": ({"inputs": 3, "outputs": 2, "hidden": [5, 4], "activation": "tanh"}, {}),
    "conv4": ({"inputs": [1, 16, 16], "outputs": 2, "filters": 3}, {"norm": "none"}),
    "resnet12": ({"inputs": [2, 8, 8], "outputs": 2, "widths": [2, 3]}, {"norm": "none"}),
    "vit": (
        {"inputs": [2, 4, 6], "outputs": 2, "patch": 2, "width": 4, "heads": 2, "depth": 1},
        {"norm": "none"},
    ),
    "transformer": (
        {"inputs": [4, 3], "outputs": 2, "width": 4, "heads": 2, "depth": 1},
        {"norm": "none"},
    ),
    "lstm": ({"inputs": [4, 3], "outputs": 2, "hidden": 4, "layers": 2}, {}),
    "oriented_gradients": ({"inputs": [2, 8, 6], "outputs": 2, "cell": 3}, {}),
    "adapter": ({"inputs": 4, "outputs": 2, "hidden": 3}, {}),
    "counts_mlp": ({"inputs": 9, "outputs": 2, "hidden": [5, 4], "counts": "log"}, {}),
    "gaussian_policy": ({"inputs": 4, "outputs": 2, "hidden": [3]}, {}),
    "scaled_policy": ({"inputs": 4, "outputs": 2, "hidden": [3]}, {}),
    "items_mlp": ({"inputs": 4, "outputs": 2, "items": [3, 2], "width": 2, "hidden": [3]}, {}),
    "cell_net": ({"inputs": [2, 6, 5], "outputs": 2, "channels": 2}, {"norm": "none"}),
    "cell_supernet": ({"inputs": [1, 4, 5], "outputs": 2, "channels": 2, "nodes": 2}, {"norm": "none"}),
}
NORMED = {
    "mlp": {"batch_norm": True},
    "conv4": {"norm": "batch"},
    "resnet12": {"norm": "batch"},
    "vit": {"norm": "layer", "pooling": "class", "positions": "learned"},
    "transformer": {"norm": "layer"},
    "cell_net": {"norm": "batch"},
    "cell_supernet": {"norm": "batch"},
}
VARIANTS = [
    *((name, arguments) for name, (arguments, _) in SMALL.items()),
    *((name, {**SMALL[name][0], **option}) for name, option in NORMED.items()),
    ("mlp", {"inputs": [1, 2, 2], "outputs": 3, "hidden": [], "bias": False}),
    ("mlp", {"inputs": 2, "outputs": 1, "activation": "sigmoid", "init": "finn"}),
    ("conv4", {"inputs": [1, 16, 16], "outputs": 2, "filters": 3, "downsample": "max_pool"}),
    ("conv4", {"inputs": [1, 20, 16], "outputs": 2, "filters": 3, "spatial": "flatten"}),
    ("vit", {"inputs": [1, 4, 4], "outputs": 2, "patch": 2, "width": 6, "heads": 2, "positions": "learned"}),
    ("counts_mlp", {"inputs": 6, "outputs": 3, "hidden": [4], "counts": "plain"}),
    ("counts_mlp", {"inputs": 6, "outputs": 1, "hidden": [4], "counts": "present"}),
    ("oriented_gradients", {"inputs": [1, 8, 8], "outputs": 2, "mirror": True, "length": 2.0}),
    ("items_mlp", {"inputs": 4, "outputs": 2, "items": [9], "hidden": []}),
    ("cell_net", {"inputs": [1, 8, 8], "outputs": 2, "channels": 2, "cell": "max_pool3x3~0 | dil_conv3x3~1 skip~0"}),
]


def example_input(arguments: dict, examples: int = 6, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    inputs = arguments["inputs"]
    if "counts" in arguments:
        full = torch.poisson(torch.full((examples, inputs), 0.6), generator=torch.Generator().manual_seed(0))
        return as_counts(full).packed(dtype=dtype)
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    return torch.randn(examples, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def small(name: str, **extra: object) -> nn.Module:
    torch.manual_seed(1)
    return build(name, {**SMALL[name][0], **extra})


def test_every_model_has_a_case():
    assert set(SMALL) == set(MODELS) - {"gru_policy"}  # which takes what a policy is told: test_policies.py


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_output_shape(name, arguments):
    model = build(name, arguments)
    out = model(example_input(arguments, dtype=torch.float32))
    assert out.shape == (6, arguments["outputs"])
    assert out.isfinite().all()


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_spec_round_trip(name, arguments):
    model = build(name, arguments)
    spec = json.loads(json.dumps(describe(model)))
    assert spec["name"] == name
    again = build(spec["name"], spec["arguments"])
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in again.state_dict().items()} == shapes
    assert describe(again) == spec
    assert describe(copy.deepcopy(model)) == spec


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_state_dict_round_trip(name, arguments):
    first, second = build(name, arguments).eval(), build(name, arguments).eval()
    x = example_input(arguments, dtype=torch.float32)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


def test_the_spec_holds_defaults_too():
    assert describe(models.mlp(1, 1)) == {
        "name": "mlp",
        "arguments": {
            "inputs": 1,
            "outputs": 1,
            "hidden": [40, 40],
            "activation": "relu",
            "batch_norm": False,
            "bias": True,
            "init": "torch",
        },
    }
    assert describe(models.conv4((1, 28, 28), outputs=5)) == describe(models.conv4([1, 28, 28], 5))


def test_conv4_begins_as_imaml_where_told_and_files_of_before_stay_as_they_were():
    before = describe(models.conv4(1, 5))
    assert before is not None and "init" not in before["arguments"]
    made = models.conv4(1, 5, filters=8, spatial="flatten", init="rajeswaran")
    assert describe(made) == {
        "name": "conv4",
        "arguments": {**before["arguments"], "filters": 8, "spatial": "flatten", "init": "rajeswaran"},
    }
    layers = [layer for layer in made.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, (inputs, outputs) in zip(layers, [(9, 72), (72, 72), (72, 72), (72, 72), (32, 5)], strict=True):
        bound = 1.73 * math.sqrt(6 / (inputs + outputs))
        assert 0.8 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert layer.bias is not None and float(layer.bias.min()) >= 0 and float(layer.bias.max()) <= 0.05


def test_foreign_modules_have_no_spec():
    assert describe(nn.Linear(1, 1)) is None
    foreign = nn.Linear(1, 1)
    foreign.spec = {"name": "somebody's", "arguments": {}}  # type: ignore[assignment]
    assert describe(foreign) is None
    foreign.spec = "text"  # type: ignore[assignment]
    assert describe(foreign) is None
    changed = models.mlp(1, 1)
    changed.head = nn.Linear(40, 2)
    assert describe(changed) is None
    assert describe(models.mlp(1, 1).double()) is not None


@pytest.mark.parametrize("name", sorted(SMALL))
def test_twice_differentiable(name):
    """gradgradcheck against finite differences, in all parameters of the small net without norms."""
    arguments, no_norm = SMALL[name]
    model: nn.Module = small(name, **no_norm).double()
    for layer in list(
        model.modules()
    ):  # a ReLU's kink spoils finite differences; its second derivative is checked elsewhere
        for key, part in list(layer.named_children()):
            if isinstance(part, nn.ReLU) and name in ("conv4", "cell_net", "cell_supernet"):
                setattr(layer, key, nn.Tanh())
    x = example_input(arguments, examples=2)
    names, values = zip(*model.named_parameters(), strict=True)

    def output(*parameters):
        return functional_call(model, dict(zip(names, parameters, strict=True)), (x,)).square().sum()

    inputs = tuple(value.detach().clone().requires_grad_() for value in values)
    assert torch.autograd.gradgradcheck(output, inputs, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "extra"), [*((name, {}) for name in sorted(SMALL)), ("conv4", {"downsample": "max_pool"})]
)
def test_meta_gradient_under_vmap(name, extra):
    """Per-task parameters, one differentiated inner step: vmapped and looped give the same outer gradient."""
    arguments, no_norm = SMALL[name]
    nets = [build(name, {**arguments, **no_norm, **extra}).double() for _ in range(3)]
    params, _ = stack_module_state(nets)
    params = {key: value.detach() for key, value in params.items()}
    x = example_input(arguments)
    x = torch.stack([x.roll(i, 0) if "counts" in arguments else x + i for i in range(3)])

    def loss(p, inputs):
        return functional_call(nets[0], p, (inputs,)).square().mean()

    def outer(p, inputs):
        inner = grad(loss)(p, inputs[:3])
        return loss({key: value - 0.1 * inner[key] for key, value in p.items()}, inputs[3:])

    together = vmap(grad(outer))(params, x)
    for i in range(3):
        alone = grad(outer)({key: value[i] for key, value in params.items()}, x[i])
        assert any(value.abs().max() > 0 for value in alone.values())
        for key, value in alone.items():
            torch.testing.assert_close(together[key][i], value, rtol=1e-9, atol=1e-12)


def test_sparse_rows_of_another_form_are_refused():
    model, x = small("counts_mlp"), example_input(SMALL["counts_mlp"][0], dtype=torch.float32)
    assert model(torch.cat([x, torch.zeros_like(x)], -1)).equal(model(x))  # room that is not used changes nothing
    for wrong in (x[0], x[:, :1], x[..., 0]):
        with pytest.raises(ShapeError, match=r"expected packed sparse rows of shape \(examples, 2, entries\), got"):
            model(wrong)
    for wrong in (x.long(), x.half()):
        with pytest.raises(ShapeError, match="expected floats of 32 or 64 bits, which hold entry numbers, got"):
            model(wrong)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"counts_mlp"}))
def test_wrong_width(name):
    arguments, _ = SMALL[name]
    model = small(name)
    x = example_input(arguments, dtype=torch.float32)
    wider = torch.cat([x, x[..., :1]], -1)
    with pytest.raises(ShapeError, match=r"expected inputs of shape \(examples, .*\), got \(6, .*: reshape"):
        model(wider)
    with pytest.raises(ShapeError, match="got"):
        model(x[0])  # the axis of examples is missing
    with pytest.raises(ShapeError, match=r"x.float\(\)"):
        model(x.long())
    with pytest.raises(ShapeError, match="expected inputs of shape"):
        vmap(model)(torch.stack([wider, wider]))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mpl", {}, "did you mean 'mlp'"),
        ("mlp", {"inputs": 1, "outputs": 1, "hiden": [3]}, "did you mean 'hidden'"),
        ("mlp", {"inputs": 1}, "expected the argument 'outputs'"),
        ("mlp", {"inputs": 0, "outputs": 1}, "at least 1, got 0"),
        ("mlp", {"inputs": [], "outputs": 1}, "at least 1, got 0"),
        ("mlp", {"inputs": 1, "outputs": 1, "hidden": [4, 0]}, r"hidden\[1\] expected"),
        ("mlp", {"inputs": 1, "outputs": 1, "activation": "rellu"}, "did you mean 'relu'"),
        ("conv4", {"inputs": 1, "outputs": 5, "spatial": "men"}, "one of 'mean', 'flatten', 'map', got 'men'"),
        ("conv4", {"inputs": [28, 28], "outputs": 5}, r"\(channels, height, width\)"),
        ("conv4", {"inputs": [1, 15, 28], "outputs": 5, "downsample": "max_pool"}, "at least 16x16"),
        ("conv4", {"inputs": [1, 28, 28], "outputs": 5, "halvings": 5}, "halvings expected 0 to 4"),
        (
            "conv4",
            {"inputs": [1, 28, 28], "outputs": 5, "spatial": "map"},
            "no linear layer: expected outputs=None, got 5",
        ),
        ("conv4", {"inputs": [1, 3, 9], "outputs": 5, "downsample": "max_pool", "halvings": 2}, "at least 4x4"),
        ("resnet12", {"inputs": [3, 8, 8], "outputs": 5}, "at least 16x16"),
        ("resnet12", {"inputs": [3, 8, 8], "outputs": 5, "widths": []}, "blocks expected"),
        ("transformer", {"inputs": [4, 3], "outputs": 1, "width": 30}, "multiple of heads=4, got 30: use 32"),
        ("transformer", {"inputs": 4, "outputs": 1}, r"\(time, features\)"),
        ("lstm", {"inputs": [4, 3], "outputs": 1, "hidden": 0}, "hidden expected an integer"),
        (
            "cell_net",
            {"inputs": 1, "outputs": 5, "cell": "conv3x3~0 | conv3~1"},
            "unknown operation 'conv3' .* 'conv3x3'",
        ),
        ("cell_net", {"inputs": 1, "outputs": 5, "cell": "conv3x3~1"}, "node 1 to read nodes 0 to 0, got 'conv3x3~1'"),
        ("cell_net", {"inputs": 1, "outputs": 5, "cell": "skip~0 | "}, "at least one operation into node 2, got none"),
        ("cell_net", {"inputs": 1, "outputs": 5, "cell": "skip 0"}, "words such as \"conv3x3~0\".* got 'skip'"),
        ("cell_net", {"inputs": [1, 3, 3], "outputs": 5, "cells": 3}, "at least 4x4, got 3x3"),
        (
            "cell_supernet",
            {"inputs": 1, "outputs": 5, "operations": ["zero", "skip"]},
            "two different ones besides zero",
        ),
        ("cell_supernet", {"inputs": 1, "outputs": 5, "operations": ["skp", "zero"]}, "did you mean 'skip'"),
        ("vit", {"inputs": 1, "outputs": 5, "patch": 8}, "divisor of height and width 28x28, got 8: use 7"),
        ("vit", {"inputs": 1, "outputs": 5, "width": 6, "heads": 2}, "multiple of 4 for heads=2 .* got 6: use 8"),
        ("vit", {"inputs": 1, "outputs": 5, "pooling": "max"}, "one of 'mean', 'class', got 'max'"),
        ("vit", {"inputs": [28, 28], "outputs": 5}, r"\(channels, height, width\)"),
    ],
)
def test_arguments_that_cannot_work(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        build(name, arguments)


def test_registry_needs_no_torch():
    code = "import innerloop.models as m, sys; m.MODELS['mlp']; m.describe(3); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError):
        models.no_such_model  # noqa: B018
    assert {"mlp", "build"} <= set(dir(models))


def test_finn_initialisation():
    """Weights of sd 0.01 cut at two sd (which leaves 0.8796 of the sd), biases zero (cbfinn/maml)."""
    model = models.mlp(1, 1, hidden=(200, 200), init="finn")
    weight = model.body[2].weight  # type: ignore[union-attr]
    assert weight.abs().max() <= 0.02  # type: ignore[operator, union-attr]
    assert weight.std().item() == pytest.approx(0.008796, rel=0.03)  # type: ignore[operator, union-attr]
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_sizes_of_the_papers():
    """As published: 1-40-40-1; 64 features at 28x28; 1600 at 84x84 with pooling (Snell 2017)."""
    assert [tuple(p.shape) for p in models.mlp(1, 1).parameters()] == [
        (40, 1),
        (40,),
        (40, 40),
        (40,),
        (1, 40),
        (1,),
    ]
    assert models.conv4(1, 5).head.in_features == 64
    assert models.conv4(1, 5, downsample="max_pool").head.in_features == 64
    assert models.conv4((3, 84, 84), 5, downsample="max_pool").head.in_features == 1600
    assert models.conv4(1, None)(torch.randn(2, 1, 28, 28)).shape == (2, 64)
    assert models.mlp(3, None, hidden=(5, 7))(torch.randn(2, 3)).shape == (2, 7)
    assert models.lstm((4, 3), None, hidden=6)(torch.randn(2, 4, 3)).shape == (2, 6)
    assert models.transformer((4, 3), None, width=8)(torch.randn(2, 4, 3)).shape == (2, 8)
    assert models.vit(1, None, width=8)(torch.randn(2, 1, 28, 28)).shape == (2, 8)
    twelve = models.resnet12((3, 16, 16), 5)
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in twelve.modules()) == 12
    assert twelve.head.in_features == 640


def test_lstm_computes_what_torch_computes():
    torch.manual_seed(0)
    ours = models.lstm((5, 3), 2, hidden=4).double()
    theirs = nn.LSTM(3, 4, batch_first=True).double()
    layer = ours.body[0]
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(layer.from_input.weight)  # type: ignore[union-attr, arg-type]
        theirs.weight_hh_l0.copy_(layer.from_state.weight)  # type: ignore[union-attr, arg-type]
        theirs.bias_ih_l0.copy_(layer.from_input.bias)  # type: ignore[union-attr, arg-type]
        theirs.bias_hh_l0.zero_()
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x), ours.head(theirs(x)[0][:, -1]))


def test_attention_computes_what_torch_computes():
    from innerloop.models.attention import SelfAttention

    torch.manual_seed(0)
    ours = SelfAttention(width=6, heads=2).double()
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    query, key, value = (p.reshape(3, 5, 2, 3).transpose(1, 2) for p in ours.mix_in(x).chunk(3, -1))
    reference = nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(ours(x), ours.mix_out(reference.transpose(1, 2).reshape(3, 5, 6)))


def test_positions_and_time_matter():
    """Without learned positions a mean over time could not tell an order; the LSTM sees it anyway."""
    x = example_input(SMALL["lstm"][0])
    for name in ("transformer", "lstm"):
        model = small(name).double()
        assert not torch.allclose(model(x), model(x.flip(1)))


def test_patches_are_squares_of_the_picture_row_by_row():
    model = models.vit((2, 4, 6), 2, patch=2, width=4, heads=2)
    x = torch.arange(2 * 48.0).reshape(2, 2, 4, 6)
    cut = model.patches(x)
    assert cut.shape == (2, 6, 8)
    for place in range(6):
        row, column = 2 * (place // 3), 2 * (place % 3)
        square = x[:, :, row : row + 2, column : column + 2]
        assert torch.equal(cut[:, place], square.reshape(2, -1))


def test_fixed_positions_are_sines_of_row_and_column():
    from innerloop.models.vision_transformer import sin_cos_positions

    found = sin_cos_positions(2, 3, 8)
    row, column, rate = 1, 2, 0.01
    by_hand = [f(place * r) for place in (row, column) for f in (math.sin, math.cos) for r in (1.0, rate)]
    torch.testing.assert_close(found[3 * row + column], torch.tensor(by_hand))
    assert len(torch.unique(found, dim=0)) == 6


@pytest.mark.parametrize("positions", ["learned", "sin_cos"])
@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_the_places_of_patches_matter(positions, pooling):
    """Without positions neither attention nor a mean over patches could tell an order."""
    torch.manual_seed(0)
    model = models.vit((1, 4, 4), 2, patch=2, width=8, heads=2, positions=positions, pooling=pooling).double()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    moved = x.roll(2, -1)  # the patches change places, each staying as it is
    assert (model(x) - model(moved)).abs().max() > 1e-4
    if positions == "learned":
        with torch.no_grad():
            model.position.zero_()
        torch.testing.assert_close(model(x), model(moved))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_outputs_are_not_cut_off(name):
    """A ReLU or sigmoid on the logits is a mistake of tutorial code; both signs must come out."""
    scale = torch.tensor([1.0, 3.0])[:, None] if name == "counts_mlp" else 3
    x = example_input(SMALL[name][0], examples=200, dtype=torch.float32) * scale
    out = small(name)(x)
    flipped = small(name)
    with torch.no_grad():
        for p in flipped.head.parameters():  # type: ignore[union-attr]
            p.neg_()
    torch.testing.assert_close(flipped(x), -out)


def test_lstm_starts_like_torch():
    bound = 1 / math.sqrt(50)
    layer = models.lstm((5, 3), 2, hidden=50).body[0]
    largest = max(p.abs().max().item() for p in layer.parameters())
    assert 0.95 * bound < largest <= bound


@pytest.mark.parametrize("downsample", ["stride", "max_pool"])
@pytest.mark.parametrize(("halvings", "size"), [(4, (1, 1)), (2, (4, 5)), (0, (16, 22))])
def test_conv4_halves_as_often_as_told_and_gives_maps(downsample, halvings, size):
    torch.manual_seed(0)
    x = torch.randn(2, 1, 16, 22)
    maps = models.conv4((1, 16, 22), None, filters=3, downsample=downsample, halvings=halvings, spatial="map")
    found = maps(x)
    if downsample == "stride":
        size = tuple(-(-n // 2**halvings) for n in (16, 22))
    assert found.shape == (2, 3, *size)
    flat = models.conv4((1, 16, 22), 4, filters=3, downsample=downsample, halvings=halvings, spatial="flatten")
    flat.body.load_state_dict(maps.body.state_dict())
    assert torch.allclose(flat(x), flat.head(found.flatten(1)), atol=1e-6)
