"""What the page and the HTTP interface both do: adapt to a request's examples, keep what was adapted, predict; within limits."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float

from innerloop.core import TaskDistribution
from innerloop.data import picture_decoding
from innerloop.data.support_files import KIND, inverts, picture_shape, preprocessing_of, reading_of, with_ink
from innerloop.data.table_preprocessing import table_record
from innerloop.data.table_support import named
from innerloop.data.tables import Table, as_table, is_tabular
from innerloop.data.texts import are_texts, read_texts
from innerloop.errors import InnerloopError, InputError
from innerloop.evaluation.calibration import expectation, typical_shots
from innerloop.evaluation.own_examples import judge
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.unknown_inputs import LEAST_AUROC, Threshold, cannot_tell
from innerloop.objectives import losses
from innerloop.objectives.denoising import Denoising
from innerloop.serving.task_files import Examples, from_bytes, in_bytes, of_task, table_text
from innerloop.serving.texts import EN, Texts

_WAYS, _SHOTS = (2, 5), (1, 5)  # sizes of tasks whose thresholds are measured
_LEVELS = 20  # noise levels of the pictures that a visitor waits for
_PARTS = 5  # that a visitor's examples are dealt into at most, to judge the task by


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """For unknown inputs of the tasks that visitors make: measured once, while the first of them look around.

    A threshold depends on how many classes a task has and how many examples of each, so a few sizes are measured and a task
    takes the one nearest to its own.

    Attributes:
        found: one a size of task.
        lacking: why there is none, as words after "as".
    """

    found: tuple[Threshold, ...] = ()
    lacking: str = "nobody measured one"

    def nearest(self, ways: int, shots: int) -> Threshold | None:
        """That of the size nearest to ``ways`` classes with ``shots`` examples of each, classes first; None: there is none."""

        def away(one: Threshold) -> tuple[float, float]:
            return abs(math.log(one.ways / ways)), abs(math.log(one.shots / shots))

        return min(self.found, key=away, default=None)

    def told(self) -> str:
        """One sentence about them."""
        if not self.found:
            return f"unknown inputs: no threshold is known, as {self.lacking}"
        sizes = ", ".join(
            f"{t.ways} classes and {t.shots} example{'s' * (t.shots != 1)} of each ("
            + (
                f"{t.kept:.0%} of the known kept, {t.false_accept:.0%} of others taken for known)"
                if t.works
                else f"not offered: AUROC {t.auroc:.2f})"
            )
            for t in self.found
        )
        return f"unknown inputs: thresholds measured for {sizes}"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may ask for.

    Attributes:
        megabytes: of a request's body.
        examples: support examples of a task.
        classes: of a task.
        inputs: to predict in one request.
        pixels: of a picture as it comes, width times height.
        seconds: that a request waits for its turn; one is computed at a time.
        tasks: kept at once; the one that was longest unused goes first.
        minutes: that an unused task is kept.
        judging: seconds that a task may be judged on its own examples for; one that takes half as long to adapt is not.
    """

    megabytes: float = 20.0
    examples: int = 500
    classes: int = 100
    inputs: int = 1000
    pixels: int = 20_000_000
    seconds: float = 30.0
    tasks: int = 200
    minutes: float = 60.0
    judging: float = 2.0


class Busy(InnerloopError):
    """Others are being served, for longer than a request waits."""


class Gone(InputError):
    """A task that was never made here, or that was unused for too long."""


class Predicted(NamedTuple):
    """What a task says of some inputs.

    Attributes:
        fitted: the task.
        values: class probabilities, or regression values.
        known: whether each input is probably of one of the classes; None: the task has no threshold that works.
        std: standard deviations of the values; None: the method predicts none.
    """

    fitted: Fitted
    values: Float[np.ndarray, "inputs columns"]
    known: list[bool] | None
    std: Float[np.ndarray, "inputs columns"] | None = None


class Kept(NamedTuple):
    """A task that was adapted here.

    Attributes:
        used: when it was last asked, by a clock that only goes forward.
        fitted: the task.
        examples: what it was shown; None: only its file knows, if that.
    """

    used: float
    fitted: Fitted
    examples: Examples | None


class Service:
    """A trained learner that adapts to anybody's task, each of which only the holder of its key can use.

    Args:
        learner: a trained learner, or one that is adapted already.
        limits: see `Limits`.
        thresholds: for unknown inputs of tasks that are adapted here; None: none are known. They may be set later too, and
            hold then for tasks that were adapted before.
    """

    def __init__(
        self, learner: MetaLearner | Fitted, limits: Limits | None = None, thresholds: Thresholds | None = None
    ) -> None:
        self.thresholds: Thresholds = thresholds or Thresholds()
        self.learner: MetaLearner = cast(MetaLearner, learner.owner) if isinstance(learner, Fitted) else learner
        self.limits: Limits = limits or Limits()
        self.first: Fitted | None = learner if isinstance(learner, Fitted) else None
        objective = self.learner.task_objective
        if self.learner.loss is None and not (losses.is_labelled(objective) or isinstance(objective, Denoising)):
            raise InputError(
                f"the page expected a learner of classes, of values or of drawings, got one whose tasks have the objective "
                f"{losses.name_of(objective)}; see innerloop evaluate, and innerloop play for policies"
            )
        shown = None if self.first is None else self.first.support
        shape = self.learner.input_shape if shown is None else tuple(getattr(shown, "x", shown).shape[1:])
        if shape is None:
            raise InputError(
                "the shape of this learner's inputs is not known; train it with innerloop, or give a task file"
            )
        record = (self.first or self.learner).preprocessing
        self.reads_texts: bool = are_texts(record)
        self.input_shape: tuple[int, ...] = picture_shape(shape, record)
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._books = threading.Lock()
        self._turn = threading.Lock()  # a model is called with one task's weights at a time

    @property
    def takes_pictures(self) -> bool:
        """Whether an input is a picture: (1 or 3 channels, height, width)."""
        return len(self.input_shape) == 3 and self.input_shape[0] in (1, 3)

    @property
    def classifies(self) -> bool:
        objective = self.learner.loss or self.learner.task_objective
        if not losses.is_labelled(objective):
            return False
        return self.first.classes_ is not None if self.first is not None else not losses.predicts_values(objective)

    @property
    def makes_pictures(self) -> bool:
        """Whether it is a score model of pictures, which is shown a few and makes more."""
        if not isinstance(self.learner.task_objective, Denoising):
            return False
        if not self.takes_pictures:
            raise InputError(
                f"the page expected a score model of pictures, got one of inputs {self.input_shape}; use innerloop sample"
            )
        return True

    @property
    def dark_is_ink(self) -> bool | None:
        """Whether pictures are read with dark as ink, as in training or adapting; None: not known."""
        record = self.learner.preprocessing if self.first is None else self.first.preprocessing
        return inverts(record) if record is not None and record.get("kind") == KIND else None

    @property
    def ink_by_paper(self) -> bool:
        """Whether the paper of some pictures decides what is ink in them, as the record of the learner or the task has it."""
        record = (self.first or self.learner).preprocessing or {}
        return record.get("kind") == KIND and inverts(record) is None

    # ---- adapting and predicting -----------------------------------------------------------------------------------
    def adapt(
        self,
        x: Any,
        y: Sequence[Any] | None = None,
        target: str | None = None,
        reading: picture_decoding.Reading = picture_decoding.UNDECIDED,
        invert: bool | None = None,
    ) -> tuple[str, Fitted, float]:
        """(key, what was adapted, seconds) for these examples, or for a table with its column ``target``.

        ``reading``: how pictures among them were read; ``invert``: whether dark was taken for ink, None: as by the learner.

        Raises:
            InputError: too many of something, or what `MetaLearner.adapt` refuses.
            Busy: no turn within the limit.
        """
        if isinstance(self.learner.task_objective, Denoising):
            raise InputError(
                "expected a learner of classes or values, got a score model, which makes examples; use the page, or innerloop "
                "sample"
            )
        given = self.inputs(x)
        names = y
        if y is None:
            if not isinstance(given, Table):
                raise InputError("expected y, one for each input, got none; send it, or a table and its target")
            record = table_record(self.learner.preprocessing)
            target = target or (record.targets[0] if record is not None and len(record.targets) == 1 else None)
            if self.reads_texts:
                target = target or (self.learner.preprocessing or {})["target"]
            names = given.labels(target).tolist() if target is not None else [None] * given.rows
        assert names is not None
        self._at_most("examples", len(names), self.limits.examples)
        if len(names) == 0:
            raise InputError("expected at least one example, got none; add some")
        if self.classifies:
            self._at_most("classes", len(set(names)), self.limits.classes)
        if isinstance(given, np.ndarray) and not np.isfinite(given).all():
            raise InputError("x expected finite numbers, got NaN or infinite ones; mend the rows")
        if self.classifies and len(set(names)) < 2 and (y is not None or target is not None):
            raise InputError("expected examples of at least two classes, got one; add another class")
        with self._in_turn():
            start = time.perf_counter()
            fitted = self.learner.adapt(given, None if y is None else list(y), target=target)
            seconds = time.perf_counter() - start
            if seconds < self.limits.judging / 2:
                # Without scikit-learn's, which take longer than a visitor waits.
                fitted = judge(fitted, parts=_PARTS, seconds=self.limits.judging, scikit=False)
        if reading != picture_decoding.UNDECIDED or invert is not None:
            dark = inverts(fitted.preprocessing) if invert is None else invert
            record = preprocessing_of(dark, reading, fitted.preprocessing)
            fitted = dataclasses.replace(fitted, preprocessing=record)
        if fitted.classes_ is not None:
            fitted = self._with_threshold(fitted, list(Counter(names).values()))
        return self._keep(fitted, self._examples(given, names, y is None)), fitted, seconds

    def _examples(self, given: Any, names: Sequence[Any], from_table: bool) -> Examples | None:
        """What is kept of a task's examples, to show them again."""
        if isinstance(given, Table):
            return Examples(table=table_text(given)) if from_table else None
        if isinstance(given, list):
            return Examples(texts=tuple(given), names=tuple(names))
        return Examples(pictures=given, names=tuple(names)) if self.takes_pictures and self.classifies else None

    def _with_threshold(self, fitted: Fitted, counts: list[int]) -> Fitted:
        """The task with the threshold of the size nearest to its own; ``counts``: of each class's examples."""
        return dataclasses.replace(fitted, threshold=self.thresholds.nearest(len(counts), typical_shots(counts)))

    def shown_kind(self, support: Float[np.ndarray, "support ..."]) -> tuple[str, float]:
        """(key, seconds) of a score model adapted to a few pictures of one kind.

        Raises:
            InputError: too many pictures, or what `MetaLearner.adapt` refuses.
            Busy: no turn within the limit.
        """
        self._at_most("examples", len(support), self.limits.examples)
        with self._in_turn():
            start = time.perf_counter()
            fitted = self.learner.adapt(support)
            seconds = time.perf_counter() - start
        return self._keep(fitted, Examples(pictures=support)), seconds

    def sample(
        self, key: str, n: int, *, seed: int = 0, guidance: float = 0.0
    ) -> tuple[Float[np.ndarray, "examples ..."], float]:
        """(new pictures of the kind that the task of this key was shown, seconds).

        Raises:
            Gone: an unknown key.
            Busy: no turn within the limit.
        """
        fitted: Any = self.task(key)
        with self._in_turn():
            start = time.perf_counter()
            made = fitted.sample(n, seed=seed, steps=_LEVELS, guidance=guidance).clamp(0, 1).cpu().numpy()
            return made, time.perf_counter() - start

    def predict(self, key: str, x: Any) -> Predicted:
        """What the task of this key says of the inputs; of a table in its units.

        Raises:
            Gone: an unknown key.
            InputError: too many inputs, or such as do not fit.
            Busy: no turn within the limit.
        """
        fitted = self.task(key)
        given = self.inputs(x)
        self._at_most("inputs", given.rows if isinstance(given, Table) else len(given), self.limits.inputs)
        sure = fitted.classes_ is None and fitted.learner.predicts_distribution and fitted.owner.loss is None
        with self._in_turn():
            out = fitted.outputs(given)
            std = fitted.predict_std(given).reshape(len(out), -1) if sure else None
        found = fitted.in_units(out, given) if fitted.classes_ is None else fitted.probabilities(out).cpu().numpy()
        known = fitted.knows(out).tolist() if fitted.threshold is not None and fitted.threshold.works else None
        return Predicted(fitted, found.reshape(len(out), -1), known, std)

    def inputs(self, x: Any) -> Table | list[str] | Float[np.ndarray, "*shape"]:
        """A table, or a list of texts; or nested numbers as an array of inputs in the learner's shape, flat rows reshaped."""
        if self.reads_texts and not is_tabular(x):
            return read_texts(x).texts
        if not is_tabular(x):
            x = named(x, table_record((self.first or self.learner).preprocessing))
        if is_tabular(x):
            return as_table(x)
        try:
            values = np.asarray(x, dtype=np.float32)
        except (TypeError, ValueError):
            raise InputError(
                "x expected rows of numbers, all of one length, got something else; mend the rows"
            ) from None
        if values.ndim == 2 and values.shape[1:] != self.input_shape and values.shape[1] == np.prod(self.input_shape):
            values = values.reshape(len(values), *self.input_shape)
        if values.shape[1:] != self.input_shape:
            raise InputError(
                f"x expected inputs of shape {self.input_shape}, got {tuple(values.shape[1:])}; give one row an input"
            )
        return values

    def pictures(
        self, contents: Sequence[bytes], invert: bool | None = None, of: Fitted | picture_decoding.Reading | None = None
    ) -> tuple[Float[np.ndarray, "pictures channels height width"], picture_decoding.Reading]:
        """(pictures as the learner takes them, what was decided for them) of the bytes of files.

        Args:
            contents: of the files.
            invert: dark is ink; None: as the learner's or the task's own record says, else not.
            of: the task, or the pictures before, that these are read alike; None: the learner's own.

        Raises:
            InputError: no picture, a damaged or too large one, or a learner of other inputs.
        """
        if not self.takes_pictures:
            raise InputError(
                f"expected rows of numbers for a learner of inputs {self.input_shape}, got a picture; use x"
            )
        dark = inverts((self.first or self.learner).preprocessing) if invert is None else invert
        kept = (
            of
            if isinstance(of, picture_decoding.Reading)
            else reading_of((of or self.first or self.learner).preprocessing)
        )
        found = picture_decoding.read_together(
            len(contents),
            lambda i: picture_decoding.opened(contents[i], self.limits.pixels),
            self.input_shape,
            bool(dark),
            kept,
        )
        for _, why in found.left_out:
            raise InputError(f"expected a picture, got a file that is {why}; send another")
        return picture_decoding.as_floats(with_ink(found.images, dark)[0]), found.reading

    def why_no_threshold(self, fitted: Fitted) -> str:
        """Why a task has none for unknown inputs, as words after "as"."""
        if fitted.classes_ is None:
            return "regression has no classes"
        if fitted.threshold is not None:
            return cannot_tell(fitted.threshold)
        return "its file has none" if fitted is self.first else self.thresholds.lacking

    def told_of_judged(self, fitted: Fitted, texts: Texts = EN) -> str:
        """How good a task is on its own examples beside the simplest predictors, in Markdown; what loses says so first."""
        found = fitted.judged
        if found is None:
            return texts.not_judged
        if found.learner is None:
            return texts.one_each if fitted.classes_ is not None and found.one_each else texts.not_judged
        others = texts.comma.join(
            f"{texts.baselines.get(name, name)} {found.shown(b.value)}" for name, b in found.baselines.items()
        )
        said = (texts.judged_values if fitted.classes_ is None else texts.judged).format(
            judged=found.judged,
            beside=texts.beside.format(others=others) if others else "",
            **{end: found.shown(getattr(found.learner, end)) for end in ("value", "low", "high")},
        )
        hardest = texts.baselines.get(found.hardest, found.hardest)
        if found.loses_to:
            return f"{texts.loses.format(name=hardest)} {said}"
        if not found.hardest:
            return said
        return f"{said} {texts.clearly_better if found.clearly_better else texts.not_clearly.format(name=hardest)}"

    def told_of_first(self, texts: Texts = EN) -> str:
        """What is known of the task file that is served; "" where none is."""
        return "" if self.first is None else self.told_of_kept(self.first, texts)

    def told_of_kept(self, fitted: Fitted, texts: Texts = EN) -> str:
        """What is known of a task that was adapted before."""
        return texts.kept_task.format(examples=fitted.num_examples, judged=self.told_of_judged(fitted, texts))

    def told_of_unknown(self, fitted: Fitted, texts: Texts = EN) -> str:
        """Whether a task can tell when an input is of none of its classes, and how far that holds, in a sentence."""
        limit = fitted.threshold
        if limit is None:
            why = self.why_no_threshold(fitted)
            return texts.no_unknown.format(why=texts.still_measured if why == EN.still_measured else why)
        if limit.works:
            said = texts.knows_unknown.format(ways=limit.ways, kept=limit.kept, accepted=limit.false_accept)
        else:
            said = texts.tells_badly.format(ways=limit.ways, auroc=limit.auroc, least=LEAST_AUROC)
        return said if limit.ece is None else f"{said} {texts.calibrated.format(ece=100 * limit.ece)}"

    # ---- what is kept ----------------------------------------------------------------------------------------------
    def task(self, key: str) -> Fitted:
        """What was adapted under this key; the task file that is served has the key "first"."""
        if key == "first" and self.first is not None:
            return self.first
        with self._books:
            self._forget()
            if key not in self._kept:
                raise Gone(
                    "expected the key of a task adapted here, got an unknown one or one unused for long; adapt again"
                )
            _, fitted, examples = self._kept.pop(key)
            if fitted.threshold is None and fitted.classes_ is not None and fitted.holds_support:
                # None was known when it was adapted.
                fitted = self._with_threshold(fitted, torch.bincount(fitted.support.y.flatten()).tolist())
            self._kept[key] = Kept(time.monotonic(), fitted, examples)
            return fitted

    def examples(self, key: str) -> Examples | None:
        """What the task of this key was shown; None where that is not known."""
        fitted = self.task(key)
        if fitted is self.first:
            return of_task(fitted, self.input_shape)
        with self._books:
            return self._kept[key].examples

    def saved(self, key: str) -> bytes:
        """The task file of the task of this key; its examples are in it.

        Raises:
            Gone: an unknown key.
            ConfigError: a task that no file holds.
        """
        fitted = self.task(key)
        return in_bytes(fitted, None if fitted is self.first else self.examples(key))

    def opened(self, content: bytes) -> tuple[str, Fitted]:
        """(key, task) of a task file that was saved here, or by innerloop adapt with this very learner.

        Raises:
            InputError: anything else.
            Busy: no turn within the limit.
        """
        with self._in_turn():
            fitted, examples = from_bytes(content, self.learner, self.input_shape)
        return self._keep(fitted.to(self.learner.device), examples), fitted

    def _keep(self, fitted: Fitted, examples: Examples | None = None) -> str:
        key = secrets.token_urlsafe(16)  # 128 bits: nobody guesses another's
        with self._books:
            self._forget()
            while len(self._kept) >= self.limits.tasks:
                self._kept.popitem(last=False)
            self._kept[key] = Kept(time.monotonic(), fitted, examples)
        return key

    def _forget(self) -> None:
        oldest = time.monotonic() - 60 * self.limits.minutes
        for key in [k for k, one in self._kept.items() if one.used < oldest]:
            del self._kept[key]

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self.limits.seconds):
            raise Busy(f"others are being served for more than {self.limits.seconds:g} s; try again")
        try:
            yield
        finally:
            self._turn.release()

    @staticmethod
    def _at_most(what: str, got: int, most: int) -> None:
        if got > most:
            raise InputError(f"expected at most {most} {what} in a request, got {got}; send fewer")


def measured_thresholds(
    learner: MetaLearner, tasks: TaskDistribution, num_tasks: int, keep: float = 0.95
) -> Thresholds:
    """Thresholds on validation tasks of up to four sizes: 2 and 5 classes, 1 and 5 examples of each, as far as there are such.

    Args:
        learner: of classes.
        tasks: the validation split of its problem.
        num_tasks: of each size; half of them calibrate, half measure.
        keep: the share of inputs of a task's classes that is to keep its class.

    Raises:
        InnerloopError: what `expectation` raises.
    """
    most = max(learner.output_size or max(_WAYS), 2)
    found: dict[tuple[int, int], Threshold] = {}
    lacking = "the validation tasks have no further classes"
    for ways in sorted({min(ways, most) for ways in _WAYS}):
        for shots in _SHOTS:
            one = expectation(learner, tasks, ways, shots, num_tasks=num_tasks, keep=keep)
            if one.threshold is None:
                lacking = one.lacking or lacking
            else:
                found[one.threshold.ways, one.threshold.shots] = one.threshold
    return Thresholds(tuple(found.values()), lacking)
