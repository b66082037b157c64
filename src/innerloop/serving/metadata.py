"""What an exported file says of itself: texts by name, most of them JSON, that are read without innerloop."""

from __future__ import annotations

import json
from typing import Any

from innerloop import __version__
from innerloop.data.table_preprocessing import TablePreprocessing, table_record
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.meta_learner import MetaLearner

FORMAT, VERSION = "innerloop-export", 1


def of_fitted(fitted: Fitted) -> dict[str, str]:
    """Of an adapted learner; docs/serving.md has the names."""
    record = table_record(fitted.preprocessing)
    own: dict[str, Any] = {"metric": "accuracy" if fitted.classes_ else "mse"}
    if fitted.classes_ is None:
        own |= {"task": "regression", "targets": _targets(fitted, record)}
    else:
        own |= {"task": "classification", "classes": fitted.classes_}
    shape = list(fitted.support.x.shape[1:])
    if record is not None:
        columns = [f._asdict() for f in record.features()]
        own["inputs"] = [{key: f[key] for key in ("column", "part", "level", "reads") if f[key]} for f in columns]
        shape = [len(columns)]
    if fitted.judged is not None:
        own["judged"] = fitted.judged.to_dict()
    return _texts({"adapted": True, **own, **_of_any(fitted.owner.name, shape, fitted.preprocessing)})


def of_learner(learner: MetaLearner, ways: int) -> dict[str, str]:
    """Of a metric method with its adapting."""
    shape = list(learner.input_shape or ())
    own = {"adapted": False, "task": "classification", "ways": ways, "metric": "accuracy"}
    return _texts({**own, **_of_any(learner.name, shape, learner.preprocessing)})


def _of_any(method: str, shape: list[int], preprocessing: Any) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "innerloop_version": __version__,
        "method": method,
        "input_shape": shape,
        "preprocessing": preprocessing,
    }


def _texts(values: dict[str, Any]) -> dict[str, str]:
    """Texts as they are, all else as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in values.items()}


def _targets(fitted: Fitted, record: TablePreprocessing | None) -> list[dict[str, str]]:
    """Name and unit of each number that comes out."""
    outputs = fitted.support.y.shape[1:].numel()
    if record is None or len(record.targets) != outputs:
        return [{"name": "prediction" if outputs == 1 else f"prediction_{i + 1}"} for i in range(outputs)]
    readings = record.target_readings or (None,) * outputs
    return [
        {"name": name, **({} if reading is None else {"unit": reading.unit, "reads": str(reading)})}
        for name, reading in zip(record.targets, readings, strict=True)
    ]
