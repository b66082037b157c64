"""Writing an adapted learner, or the adapting of a metric method, as a file that runs without innerloop."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.data.table_preprocessing import table_record
from innerloop.errors import ConfigError, InnerloopError, first_line
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.serving import metadata
from innerloop.serving.graphs import Asked, OneLook, Predictor, Updated, as_state
from innerloop.storage import write_atomically
from innerloop.waiting import waiting

Format = Literal["onnx", "torch-export"]
FORMATS: tuple[Format, ...] = ("onnx", "torch-export")
ABOUT = "innerloop.json"  # what a torch archive says of itself
# Other kernels than torch's add in another order.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


class ExportFailed(InnerloopError):
    """What was exported is not what PyTorch computes, or cannot be exported."""


def export_fitted(fitted: Fitted, path: str | Path, format: Format = "onnx") -> float:
    """Write an adapted learner: inputs (examples, ...) to class probabilities or values, for any number of examples.

    The file says what it takes and gives (`innerloop.serving.metadata`). Of a table it takes the numbers as they stand there, and
    gives values in the targets' units. Where the learner's model mixes examples (batch statistics), the file takes one input at a
    time, beside the support set that it holds.

    Args:
        fitted: an adapted learner.
        path: the file.
        format: "onnx" (needs the extra ``export``) or "torch-export" (its archive holds pickled parts, by torch's design).

    Returns:
        The largest difference from PyTorch's own results on random inputs.

    Raises:
        ConfigError: an unknown format, or packages that are missing.
        ExportFailed: an operation that cannot be exported, or other numbers than PyTorch's.
    """
    like = getattr(fitted.support, "x", None)
    if not isinstance(like, Tensor):
        raise ConfigError(
            "export expected a task of labelled examples whose inputs are one tensor, got another kind of task"
        )
    module, about = Predictor(fitted), metadata.of_fitted(fitted)
    inputs, others = (module.as_given(_random(like, n)) for n in ((1, 2) if module.alone else (3, 5)))
    axis = {} if module.alone else {0: "examples"}
    return _export(
        module, Path(path), format, (inputs,), (others[:1] if module.alone else others,), ["x"], [axis], about
    )


def export_learner(learner: MetaLearner, path: str | Path, format: Format = "onnx", ways: int = 5) -> float:
    """Write the adapting itself of a metric method: (support_x, support_y, query_x) to probabilities (queries, ways).

    The numbers of support examples and of queries are open; ``ways`` is fixed.

    Args:
        learner: trained; of a method that adapts by looking at the support set once.
        path: the file.
        format: see `export_fitted`.
        ways: classes of a task.

    Raises:
        ConfigError: a method that adapts otherwise, unknown input shape; else as `export_fitted`.
    """
    if not learner.learner.any_ways or learner.eval_steps != 1:
        raise ConfigError(
            f"expected a metric method to export with its adapting, got {learner.name}; adapt it first and export the task file"
        )
    if learner.input_shape is None:
        raise ConfigError(
            "the shape of this learner's inputs is not known; train it before exporting, or adapt it and export the task"
        )
    like = torch.zeros(1, *learner.input_shape, dtype=learner.dtype, device=learner.device)

    def inputs(shots: int, queries: int) -> tuple[Tensor, ...]:
        y = torch.arange(ways, device=like.device).repeat(shots)
        return _random(like, len(y)), y, _random(like, queries)

    names, axes = ["support_x", "support_y", "query_x"], [{0: "support"}, {0: "support"}, {0: "queries"}]
    about = metadata.of_learner(learner, ways)
    return _export(OneLook(learner, ways), Path(path), format, inputs(2, 3), inputs(3, 7), names, axes, about)


@dataclasses.dataclass(frozen=True)
class OnlineExport:
    """What `export_online` wrote.

    Attributes:
        update: the file that takes (state, x, y) to the state after one more example.
        predict: the file that takes (state, x) to mean and standard deviation.
        state: the .npy file of the state as the task is now.
        numbers, size: in a state, and bytes of them.
        off: the largest difference from PyTorch's own results, of the largest value.
    """

    update: Path
    predict: Path
    state: Path
    numbers: int
    size: int
    off: float


def export_online(fitted: Fitted, folder: str | Path, format: Format = "onnx") -> OnlineExport:
    """Write an adapted learner that goes on learning where there is no innerloop: update, predict and the state as it is.

    The state is one vector; ``update`` takes (state, x of one example, its y) to the next one, ``predict`` takes (state, x of any
    number of examples) to means and standard deviations, both in the model's own units.

    Args:
        fitted: adapted to values, by a method that absorbs examples and predicts a distribution, such as `il.alpaca`.
        folder: where; made if it is not there.
        format: as of `export_fitted`.

    Raises:
        ConfigError: another kind of task or method; else as `export_fitted`.
        ExportFailed: as `export_fitted`.
    """
    learner, like = fitted.learner, getattr(fitted.support, "x", None)
    if fitted.classes_ is not None or not isinstance(like, Tensor):
        raise ConfigError(
            "expected a task of values whose inputs are one tensor to export with its learning, got another"
        )
    if (
        not (learner.absorbs and learner.predicts_distribution)
        or fitted.owner.mixes_examples
        or fitted.owner.loss is not None
    ):
        raise ConfigError(
            f"expected a method that takes in example by example and predicts a spread, got {fitted.owner.name} as it is here; "
            "export the task alone"
        )
    record = table_record(fitted.preprocessing)
    if record is not None and record.scaling != "none":
        raise ConfigError(
            "expected a task of plain numbers to export with its learning, got one of a table whose numbers are scaled; "
            "train on arrays that you have scaled yourself"
        )
    state = as_state(fitted.fast)
    ending = {"onnx": "onnx", "torch-export": "pt2"}.get(format, "")
    folder, about = Path(folder), metadata.of_fitted(fitted)
    examples = [_random(like, n) for n in (3, 5)]
    targets = [_random(fitted.support.y, n + 10) for n in (3, 5)]
    with torch.no_grad():  # a state that comes later, to compare at
        later = Updated(fitted)(state, examples[0][0], targets[0][0])
    paths = [folder / f"{name}.{ending}" for name in ("update", "predict")]
    update = Updated(fitted)
    off = _export(
        update, paths[0], format, (state, examples[0][0], targets[0][0]), (later, examples[1][1], targets[1][1]),
        ["state", "x", "y"], [{}, {}, {}], {**about, "part": "update"}, ("next_state",), update.parts,
    )  # fmt: skip
    other = _export(
        Asked(fitted), paths[1], format, (state, examples[0]), (later, examples[1]), ["state", "x"], [{}, {0: "examples"}],
        {**about, "part": "predict"}, ("mean", "std"),
    )  # fmt: skip
    buffer = io.BytesIO()
    np.save(buffer, state.cpu().numpy(), allow_pickle=False)
    write_atomically(folder / "state.npy", buffer.getvalue())
    return OnlineExport(
        paths[0], paths[1], folder / "state.npy", state.numel(), state.numel() * state.element_size(), max(off, other)
    )


@waiting("exporting, and comparing with PyTorch")
def _export(
    module: nn.Module,
    path: Path,
    format: Format,
    inputs: tuple[Tensor, ...],
    others: tuple[Tensor, ...],
    names: list[str],
    axes: list[dict[int, str]],
    about: dict[str, str],
    gives: tuple[str, ...] = ("output",),
    parts: Callable[[Tensor], Sequence[Tensor]] = lambda value: (value,),
) -> float:
    """Export, write, read back, and compare on inputs of other sizes than it was exported with.

    What comes out is compared part by part, each in units of its own largest value.
    """
    if format not in FORMATS:
        raise ConfigError(f"format expected one of {', '.join(FORMATS)}, got {format!r}")
    if format == "onnx":
        _need_onnx()
    module.eval()
    sizes = {name: torch.export.Dim(name) for axis in axes for name in axis.values()}
    dynamic = tuple({i: sizes[name] for i, name in axis.items()} for axis in axes)
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(module, inputs, dynamic_shapes=dynamic)
    except Exception as error:  # torch raises of many kinds here
        raise ExportFailed(f"this model cannot be exported: {first_line(error)[:200]}") from error
    content, found = (
        _onnx(program, names, axes, others, about, gives) if format == "onnx" else _archive(program, others, about)
    )
    with torch.no_grad():
        expected = _several(module(*others))
    off = max(
        float((one.to(own) - own).abs().max() / own.abs().max().clamp(min=1e-6))
        for pair in zip(_several(found), expected, strict=True)
        for one, own in zip(*map(parts, pair), strict=True)
    )
    if not off <= _TOLERANCE.get(expected[0].dtype, 1e-2):
        raise ExportFailed(
            f"the exported file differs from PyTorch by {off:.2g} of the largest value; nothing was written"
        )
    write_atomically(path, content)
    return off


def _several(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given,) if isinstance(given, Tensor) else tuple(given)


def _archive(program: Any, inputs: tuple[Tensor, ...], about: dict[str, str]) -> tuple[bytes, tuple[Tensor, ...]]:
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files={ABOUT: json.dumps(about, ensure_ascii=False)})
        buffer.seek(0)
        return buffer.getvalue(), _several(torch.export.load(buffer).module()(*inputs))


def _onnx(
    program: Any,
    names: list[str],
    axes: list[dict[int, str]],
    inputs: tuple[Tensor, ...],
    about: dict[str, str],
    gives: tuple[str, ...],
) -> tuple[bytes, tuple[Tensor, ...]]:
    import onnx
    import onnxruntime

    try:
        with _quiet():
            made = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=names, output_names=list(gives)
            )
            assert made is not None
            model = made.model_proto
            onnx.helper.set_model_props(model, about)
            _name_axes(model.graph, axes)
            content = model.SerializeToString()
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportFailed(
            f"this model cannot be written as ONNX: {first_line(error.__cause__ or error)[:200]}; try --format torch-export"
        ) from error
    given = {i.name: x.cpu().numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return content, tuple(torch.from_numpy(value) for value in session.run(None, given))


def _name_axes(graph: Any, axes: list[dict[int, str]]) -> None:
    """Name the open axes of a graph's inputs, and where they come back in what it gives, as `_export` was told."""
    shapes = [value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output, *graph.value_info)]
    made = {dims[i].dim_param: name for dims, axis in zip(shapes, axes, strict=False) for i, name in axis.items()}
    for dim in (dim for dims in shapes for dim in dims if dim.dim_param in made):
        dim.dim_param = made[dim.dim_param]


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"expected onnx, onnxscript and onnxruntime for this format, got none of {error.name}; "
            "install them: pip install 'innerloop[export]', or take --format torch-export"
        ) from None


def _random(like: Tensor, examples: int) -> Tensor:
    shape = (examples, *like.shape[1:])
    if not like.is_floating_point():
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    generator = torch.Generator().manual_seed(examples)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(like)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn at length about packages that are not needed, and about torch's own deprecations."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
