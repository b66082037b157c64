"""One pass over a stream: learn each part's examples as they come, and judge all parts after each."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innerloop import keys as random_keys
from innerloop.core import Examples
from innerloop.errors import CheckpointError, ConfigError, InputError, expect_whole, nearest
from innerloop.lifelong.learner import OnlineLearner
from innerloop.lifelong.stream_report import StreamReport
from innerloop.provenance import commit, environment
from innerloop.storage import load_tensors, save_tensors
from innerloop.tasks.streams.stream import Stream
from innerloop.training.interrupt import Interrupted, on_interrupt
from innerloop.waiting import waiting

KIND, VERSION = "innerloop.stream", 1
STATE = "stream.safetensors"
_SAVED_EVERY = 60.0  # seconds
_HELD = 300 * 2**20  # bytes of examples to be judged on that are made once; more are made anew each time
ORDERS = ("stream", "shuffled")


class _Judge:
    """What is reached on each part."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        first = stream.test(0)
        self._keeps = len(stream) * first.x.numel() * first.x.element_size() <= _HELD
        self._held: dict[int, Examples] = {0: first} if self._keeps else {}

    def test(self, part: int) -> Examples:
        if part in self._held:
            return self._held[part]
        found = self.stream.test(part)
        if self._keeps:
            self._held[part] = found
        return found

    def row(self, learner: OnlineLearner) -> list[float]:
        if not learner.ready:
            return [math.nan] * len(self.stream)
        return [reached(learner, self.test(part), self.stream.metric) for part in range(len(self.stream))]


def reached(learner: OnlineLearner, side: Examples, metric: str) -> float:
    """The share of right labels, or the mean squared error."""
    output = learner.predict(side.x)
    if metric == "mse":
        return float(((output - side.y.to(output).reshape(output.shape)) ** 2).mean())
    return float((output.argmax(-1) == side.y.to(output.device)).double().mean())


@waiting("learning the stream")
def learn_stream(
    learner: OnlineLearner,
    stream: Stream,
    *,
    memory: int | None = None,
    glances: int | None = None,
    batch: int = 10,
    order: Literal["stream", "shuffled"] = "stream",
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    judge_every: int = 1,
) -> StreamReport:
    """Learn a stream, each example once and in order, and judge all parts after each.

    Args:
        learner: ``il.la_maml(net)`` or another of `il.lifelong`; a copy learns, this one stays as it is.
        stream: such as ``il.tasks.mnist_rotations()``.
        memory: how many examples are kept; None: the learner's own number.
        glances: how many times each batch is learned from; None: the learner's own number.
        batch: how many examples come at a time.
        order: "shuffled" mixes the examples of all parts: the same steps without an order that could do harm, for comparison.
        seed: of what is kept and drawn; None: the learner's own.
        out: folder of `stream.safetensors`, from which an interrupted pass goes on: the learner, its memory, the matrix so far.
            Written after each part and once a minute.
        resume: go on from the state in ``out``; it must be of the same learner, stream and settings.
        judge_every: judge after each so many parts, and at the end; rows between are left out, and so are the numbers that need
            all rows.

    Returns:
        A `StreamReport`; ``report.learner`` is the copy that learned.

    Raises:
        InputError: an example that cannot be learned from, with the part that it is in; what came before is in ``out``.
        ConfigError: a number out of range, a learner that does not fit the stream.
        CheckpointError: there is nothing to go on from, or it is of another pass; a state is there and ``resume`` was not asked.
    """
    if not isinstance(learner, OnlineLearner):
        raise ConfigError(
            f"learn_stream expected a learner for streams, such as il.la_maml(net), got {type(learner).__name__}; a method that "
            "is meta-trained on streams, such as il.oml, is judged by il.evaluate_stream"
        )
    if not isinstance(stream, Stream):
        got = getattr(stream, "name", type(stream).__name__)
        raise ConfigError(f"learn_stream expected a stream, such as il.tasks.mnist_rotations(), got {got}")
    for what, value in (("batch", batch), ("judge_every", judge_every)):
        expect_whole(what, value)
    if order not in ORDERS:
        raise ConfigError(f"unknown order {order!r}: {nearest(order, ORDERS)}")
    learns = learner.restarted(memory=memory, glances=glances, seed=seed)
    run = _Pass(learns, stream, batch, order, judge_every, None if out is None else Path(out))
    if run.out is not None and (run.out / STATE).exists() and not resume:
        raise CheckpointError(f"{run.out / STATE} is there already; go on with resume=True, or choose another folder")
    if resume:
        run.restore()
    with on_interrupt() as interrupted:
        run.go(interrupted)
    return StreamReport(
        method=learns.name,
        stream=stream.name,
        parts=stream.parts,
        metric=stream.metric,
        matrix=np.array(run.rows),
        prequential=tuple(run.prequential()),
        examples=run.seen,
        order=order,
        seed=learns.seed,
        config={**run.settings(), "model": type(learner.pure.module).__name__},
        commit=commit(),
        environment=environment(),
        wall_seconds=run.seconds(),
        learner=learns,
    )


class _Pass:
    """A pass that can stop anywhere between two batches and go on there."""

    def __init__(
        self, learner: OnlineLearner, stream: Stream, batch: int, order: str, judge_every: int, out: Path | None
    ) -> None:
        self.learner, self.stream, self.batch, self.order, self.judge_every, self.out = (
            learner, stream, batch, order, judge_every, out
        )  # fmt: skip
        self.judge = _Judge(stream)
        self.part, self.at, self.seen = 0, 0, 0  # the next example to learn
        self.rows: list[list[float]] = []
        self.before: list[list[float]] = [
            [0.0, 0.0] for _ in stream.parts
        ]  # sum and number of what was reached before learning
        self._saved = self._begun = time.monotonic()
        self._earlier = 0.0  # seconds before it was resumed

    def seconds(self) -> float:
        return self._earlier + time.monotonic() - self._begun

    def settings(self) -> dict[str, Any]:
        return {
            "learner": {"method": self.learner.name, "options": self.learner.options},
            "stream": {"name": self.stream.name, "options": self.stream.options, "parts": list(self.stream.parts)},
            "batch": self.batch,
            "order": self.order,
            "judge_every": self.judge_every,
        }

    def prequential(self) -> list[float]:
        return [total / number if number else math.nan for total, number in self.before]

    def examples(self, part: int) -> tuple[Examples, Tensor]:
        """What is learned in this part, and the part each comes from."""
        if self.order == "stream":
            shown = self.stream.train(part)
            return shown, torch.full((len(shown.y),), part)
        parts = [self.stream.train(p) for p in range(len(self.stream))]
        of = torch.cat([torch.full((len(shown.y),), p) for p, shown in enumerate(parts)])
        rows = random_keys.permutation(torch.tensor(self.learner.seed), len(of))
        x, y = torch.cat([shown.x for shown in parts]), torch.cat([shown.y for shown in parts])
        return Examples(x[rows], y[rows]), of[rows]

    def go(self, interrupted: Interrupted) -> None:
        if not self.rows:
            self.rows.append(self.judge.row(self.learner))
        parts = len(self.stream) if self.order == "stream" else 1
        while self.part < parts:
            shown, of = self.examples(self.part)
            if not self.at:
                self.learner.begin_part(self.part)
            while self.at < len(shown.y):
                rows = slice(self.at, self.at + self.batch)
                self._learn(shown.x[rows], shown.y[rows], of[rows])
                self.at += self.batch
                if interrupted.asked:
                    self.save()
                    raise KeyboardInterrupt
                if time.monotonic() - self._saved > _SAVED_EVERY:
                    self.save()
            self.learner.end_part()
            self.part, self.at = self.part + 1, 0
            if self.part % self.judge_every == 0 or self.part == parts:
                self.rows.append(self.judge.row(self.learner))
            self.save()

    def _learn(self, x: Tensor, y: Tensor, of: Tensor) -> None:
        try:
            x, y = self.learner.checked(x, y)
            if self.learner.ready:
                for part in of.unique().tolist():
                    mine = of == part
                    self.before[part][0] += reached(self.learner, Examples(x[mine], y[mine]), self.stream.metric) * int(
                        mine.sum()
                    )
                    self.before[part][1] += int(mine.sum())
            self.learner.learn_checked(x, y)
        except InputError as error:
            self.save()
            where = f"{self.stream.parts[int(of[0])]}, examples {self.at + 1} to {self.at + len(y)}"
            raise type(error)(f"{where}: {error}") from error
        self.seen += len(y)

    def save(self) -> None:
        """Write the state, whole or not at all."""
        if self.out is None:
            return
        header = {
            "settings": self.settings(), "learner": self.learner.about(), "part": self.part, "at": self.at, "seen": self.seen,
            "rows": self.rows, "before": self.before, "seconds": self.seconds(),
        }  # fmt: skip
        save_tensors(self.out / STATE, KIND, VERSION, self.learner.tensors(), header)
        self._saved = time.monotonic()

    def restore(self) -> None:
        if self.out is None:
            raise CheckpointError("resume expected out, the folder of the state to go on from, got none; give it")
        tensors, header = load_tensors(self.out / STATE, KIND, VERSION)
        own, theirs = self.settings(), header["settings"]
        for name in own:
            if own[name] != theirs[name]:
                raise CheckpointError(
                    f"{self.out / STATE} expected the same {name} as before, {theirs[name]}, got {own[name]}; give the same, or "
                    "begin in another folder"
                )
        self.learner.restore(tensors, header["learner"])
        self.part, self.at, self.seen = header["part"], header["at"], header["seen"]
        self.rows, self.before = header["rows"], header["before"]
        self._earlier = header["seconds"]
