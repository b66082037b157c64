"""The page's part for classes of pictures: drawn, taken from files or by the camera; then others are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from innerloop.data.picture_decoding import UNDECIDED, Reading
from innerloop.data.support_files import reading_of
from innerloop.errors import InputError
from innerloop.meta_learner.fitted import Fitted
from innerloop.serving.camera import camera
from innerloop.serving.canvas import canvas, content, locked, unlocked
from innerloop.serving.service import Service
from innerloop.serving.shown_pictures import listed, plain, shown_pictures, thumbnail
from innerloop.serving.task_link import opening, saving
from innerloop.serving.telling import told
from innerloop.serving.texts import Texts

_BY_PAPER, _DARK, _LIGHT = "paper", "dark", "light"  # what is ink in a file
_INVERT = {_BY_PAPER: None, _DARK: True, _LIGHT: False}


class Shown:
    """What one visitor has shown the learner; every browser tab has its own. (Not a dataclass: gradio would take it apart.)

    Attributes:
        pictures: as the learner takes them.
        names: the class of each.
        thumbnails: each as it is drawn on the page.
        key: of the task that these adapt to; None before the first.
        reading: what was decided for picture files among them; None: nothing yet.
        invert: whether dark was taken for ink in files, as the visitor said; None: nobody said so.
        asked: the picture that was asked last, as the learner takes it; None: none was.
    """

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.names: list[str] = []
        self.thumbnails: list[str] = []
        self.key: str | None = None
        self.reading: Reading | None = None
        self.invert: bool | None = None
        self.asked: np.ndarray | None = None

    def with_more(self, pictures: Sequence[np.ndarray], names: Sequence[str], reading: Reading | None = None) -> Shown:
        """A copy with these pictures added, and no task yet."""
        more = self.of(range(len(self.names)))
        more.reading = reading or self.reading
        more.pictures += pictures
        more.names += names
        more.thumbnails += [thumbnail(picture) for picture in pictures]
        return more

    def of(self, places: Sequence[int]) -> Shown:
        """A copy with the pictures at these places, and no task yet."""
        some = Shown()
        some.reading, some.invert, some.asked = self.reading, self.invert, self.asked
        some.pictures = [self.pictures[i] for i in places]
        some.names = [self.names[i] for i in places]
        some.thumbnails = [self.thumbnails[i] for i in places]
        return some


def picture_tab(service: Service, texts: Texts) -> None:
    """Ways to show pictures, first the one that fits the learner; what was shown; the same ways to ask, and the answer."""
    begun, begun_status = _of_first(service, texts)
    shown = gr.State(begun)
    with gr.Row():
        with gr.Column(min_width=300):
            gr.Markdown(f"## {texts.show}")
            name = gr.Textbox(label=texts.name, placeholder=texts.name_hint, max_lines=1, elem_id="class-name")
            to_show = _Ways(service, texts, "support", many=True)
            status = gr.Markdown(begun_status, elem_id="status")
            seen = shown_pictures("seen", listed(begun.thumbnails, begun.names, texts))
            save = gr.HTML(saving(begun.key, texts), elem_id="save")
            with gr.Row():
                open_file = opening(texts)
                clear = gr.Button(texts.start_over, elem_id="start-over", min_width=120)
        with gr.Column(min_width=300):
            gr.Markdown(f"## {texts.ask}")
            to_ask = _Ways(service, texts, "query", many=False)
            asked = shown_pictures("asked")
            answer = gr.Label(label=texts.answer, num_top_classes=service.limits.classes, elem_id="answer")
            verdict = gr.Markdown("", elem_id="verdict")

    def after(found: Shown, said: str) -> tuple[Any, ...]:
        """All that the page shows from now on; what was asked before is asked again."""
        pictures, link = listed(found.thumbnails, found.names, texts), saving(found.key, texts)
        return found, pictures, said, link, *_answered(service, texts, found)

    def added(
        shown: Shown,
        name: str,
        pictures: Sequence[np.ndarray],
        reading: Reading | None = None,
        invert: bool | None = None,
    ) -> tuple[Any, ...]:
        name = (name or "").strip()
        if not name:
            raise InputError(texts.want_name)
        more = shown.with_more(pictures, [name] * len(pictures), reading)
        more.invert = more.invert if invert is None else invert
        return after(*_adapted(service, texts, more))

    @told(texts)
    def add_drawing(shown: Shown, name: str, drawing: Any) -> tuple[Any, ...]:
        # The file of a task says what is ink where the learner's own record does not.
        unsaid = service.dark_is_ink is None and not service.ink_by_paper and service.input_shape[0] == 1
        return (*added(shown, name, [_ink(service, texts, drawing)], None, unsaid or None), "")

    @told(texts)
    def add_taken(shown: Shown, name: str, taken: Any) -> tuple[Any, ...]:
        found, reading = _photo(service, texts, taken, shown.reading)
        return (*added(shown, name, [found], reading), "")

    @told(texts)
    def add_files(shown: Shown, name: str, paths: list[str] | None, ink: str) -> tuple[Any, ...]:
        if not paths:
            raise InputError(texts.want_pictures)
        most = service.limits.examples - len(shown.names)
        if len(paths) > most:
            raise InputError(texts.want_fewer.format(most=most, got=len(paths)))
        invert = _INVERT[ink] if service.input_shape[0] == 1 else None
        found, reading = service.pictures([Path(p).read_bytes() for p in paths], invert, shown.reading)
        return (*added(shown, name, list(found), reading, invert), None)

    @told(texts)
    def taken_away(shown: Shown, event: gr.EventData) -> tuple[Any, ...]:
        left = shown.of([i for i in range(len(shown.names)) if i != int(event.index)])
        return after(*_adapted(service, texts, left))

    @told(texts)
    def renamed(shown: Shown, event: gr.EventData) -> tuple[Any, ...]:
        before, name = shown.names[int(event.index)], str(event.name).strip()
        if name in shown.names:
            raise InputError(texts.want_other_name.format(name=name))
        found = shown.of(range(len(shown.names)))
        found.names = [name if one == before else one for one in found.names]
        return after(*_adapted(service, texts, found))

    @told(texts)
    def opened(path: str | None) -> tuple[Any, ...]:
        assert path is not None
        key, fitted = service.opened(Path(path).read_bytes())
        return after(*_again(service, texts, key, fitted))

    def asking(shown: Shown, picture: np.ndarray) -> tuple[Any, ...]:
        if shown.key is None:
            raise InputError(texts.want_classes)
        shown.asked = picture
        return shown, *_answered(service, texts, shown)

    @told(texts)
    def ask_drawing(shown: Shown, drawing: Any) -> tuple[Any, ...]:
        return (*asking(shown, _ink(service, texts, drawing)), "")

    @told(texts)
    def ask_taken(shown: Shown, taken: Any) -> tuple[Any, ...]:
        return (*asking(shown, _photo(service, texts, taken, shown.reading)[0]), "")

    @told(texts)
    def ask_file(shown: Shown, path: str | None, ink: str) -> tuple[Any, ...]:
        if not path:
            raise InputError(texts.want_picture)
        invert = _INVERT[ink] if service.input_shape[0] == 1 else None
        found = service.pictures([Path(path).read_bytes()], invert, shown.reading)[0][0]
        return (*asking(shown, found), None)

    def start_over() -> tuple[Any, ...]:
        return after(Shown(), texts.nothing_yet)

    quiet: dict[str, Any] = {"api_visibility": "private"}
    said = [answer, verdict, asked]
    state = [shown, seen, status, save, *said]
    while_adding: dict[str, Any] = {**quiet, "show_progress_on": [status]}
    while_asking: dict[str, Any] = {**quiet, "show_progress_on": [answer]}
    if to_show.drawing is not None and to_ask.drawing is not None:
        locked(to_show.add_drawing, "support-canvas")
        done = to_show.add_drawing.click(
            add_drawing, [shown, name, to_show.drawing], [*state, to_show.drawing], **while_adding
        )
        unlocked(done, "support-canvas")
        locked(to_ask.add_drawing, "query-canvas")
        done = to_ask.add_drawing.click(
            ask_drawing, [shown, to_ask.drawing], [shown, *said, to_ask.drawing], **while_asking
        )
        unlocked(done, "query-canvas")
    to_show.add_taken.click(add_taken, [shown, name, to_show.taken], [*state, to_show.taken], **while_adding)
    files = [to_show.files, to_show.ink]
    to_show.add_files.click(add_files, [shown, name, *files], [*state, to_show.files], **while_adding)
    seen.delete(taken_away, [shown], state, **while_adding)
    seen.edit(renamed, [shown], state, **while_adding)
    open_file.upload(opened, [open_file], state, **while_adding)
    clear.click(start_over, None, state, **quiet)
    to_ask.add_taken.click(ask_taken, [shown, to_ask.taken], [shown, *said, to_ask.taken], **while_asking)
    to_ask.add_files.click(ask_file, [shown, to_ask.files, to_ask.ink], [shown, *said, to_ask.files], **while_asking)


class _Ways:
    """Tabs to draw, to choose files and to use the camera; of photographs the last two come first.

    Attributes:
        drawing, files, ink, taken: the inputs; no drawing where a learner of coloured photographs takes none.
        add_drawing, add_files, add_taken: their buttons.
    """

    def __init__(self, service: Service, texts: Texts, side: str, many: bool) -> None:
        self._side, self._many, self._texts = side, many, texts
        grey, dark = service.input_shape[0] == 1, service.dark_is_ink
        self._ink_matters = grey
        self._ink = _BY_PAPER if service.ink_by_paper else _DARK if (grey if dark is None else dark) else _LIGHT
        drawn, chosen, photographed = self._drawn, self._chosen, self._photographed
        self.drawing: gr.HTML | None = None
        if not grey and not dark and not service.ink_by_paper:  # photographs, which nobody draws
            ways = chosen, photographed
        else:
            ways = (chosen, photographed, drawn) if dark is False else (drawn, chosen, photographed)
        for way in ways:
            way()

    def _button(self, adding: str, asking: str) -> gr.Button:
        said = getattr(self._texts, adding.replace("-", "_")) if self._many else self._texts.which
        return gr.Button(said, variant="primary", elem_id=adding if self._many else asking)

    def _drawn(self) -> None:
        with gr.Tab(self._texts.draw):
            self.drawing = canvas(f"{self._side}-canvas", self._texts.wipe)
            self.add_drawing = self._button("add-drawing", "ask-drawing")

    def _chosen(self) -> None:
        texts = self._texts
        with gr.Tab(texts.pictures if self._many else texts.picture):
            self.files = gr.File(
                label=texts.pictures_of if self._many else texts.a_picture,
                file_count="multiple" if self._many else "single",
                file_types=["image"],
                height=160,
                elem_id=f"{self._side}-file{'s' * self._many}",
            )
            choices = [(texts.ink_by_paper, _BY_PAPER), (texts.ink_dark, _DARK), (texts.ink_light, _LIGHT)]
            self.ink = gr.Radio(choices, value=self._ink, label=texts.ink, visible=self._ink_matters)
            self.add_files = self._button("add-pictures", "ask-picture")

    def _photographed(self) -> None:
        with gr.Tab(self._texts.camera):
            self.taken = camera(f"{self._side}-camera", self._texts)
            self.add_taken = self._button("add-taken", "ask-taken")


def _of_first(service: Service, texts: Texts) -> tuple[Shown, str]:
    """What the page begins with: the examples of the task file that is served, or none."""
    if service.first is None:
        return Shown(), texts.nothing_yet
    found = _again(service, texts, "first", service.first)[0]
    return found, service.told_of_first(texts)


def _again(service: Service, texts: Texts, key: str, fitted: Fitted) -> tuple[Shown, str]:
    """A task that was adapted before, with its pictures where they are known; and what is said of it."""
    examples = service.examples(key)
    said = {"judged": service.told_of_judged(fitted, texts), "unknown": service.told_of_unknown(fitted, texts)}
    found = Shown()
    if examples is None or examples.pictures is None:
        found.key = key
        return found, texts.opened_without.format(examples=fitted.num_examples, **said)
    found = found.with_more(list(examples.pictures), list(map(str, examples.names)))
    found.key = key
    read = reading_of(fitted.preprocessing)
    found.reading = None if read == UNDECIDED else read
    return found, texts.opened.format(shown=_counted(found, texts), **said)


def _counted(shown: Shown, texts: Texts) -> str:
    return texts.so_many(len(shown.names), len(set(shown.names)))


def _adapted(service: Service, texts: Texts, shown: Shown) -> tuple[Shown, str]:
    """The visitor's examples with a task adapted to them, and what is said of it."""
    classes = len(set(shown.names))
    if classes == 0:
        return shown, texts.nothing_yet
    if classes < 2:
        return shown, texts.second_class.format(shown=_counted(shown, texts))
    reading = shown.reading or UNDECIDED
    shown.key, fitted, seconds = service.adapt(
        np.stack(shown.pictures), shown.names, reading=reading, invert=shown.invert
    )
    said = {"judged": service.told_of_judged(fitted, texts), "unknown": service.told_of_unknown(fitted, texts)}
    return shown, texts.adapted.format(shown=_counted(shown, texts), seconds=seconds, **said)


def _answered(service: Service, texts: Texts, shown: Shown) -> tuple[dict[str, float], str, str]:
    """Of the picture that was asked last: the share of each class, a sentence where it is probably none, its HTML."""
    if shown.key is None or shown.asked is None:
        return {}, "", ""
    fitted, found, known, _ = service.predict(shown.key, shown.asked[None])
    said = {str(name): float(p) for name, p in zip(fitted.classes_ or [], found[0], strict=True)}
    sentence = "" if known is None or known[0] else texts.none_of_these
    return said, sentence, plain([thumbnail(shown.asked)], texts.asked)


def _ink(service: Service, texts: Texts, drawing: str | None) -> np.ndarray:
    """A canvas as the learner takes it: of a grey one strokes are ink and the paper is nothing; of colours as it looks."""
    if not drawing:
        raise InputError(texts.want_drawing)
    dark = service.input_shape[0] == 1 or bool(service.dark_is_ink)
    found = service.pictures([content(drawing)], dark)[0][0]
    if found.max() - found.min() < 0.1:
        raise InputError(texts.want_drawing)
    return found


def _photo(service: Service, texts: Texts, taken: str | None, reading: Reading | None) -> tuple[np.ndarray, Reading]:
    """What the camera took as the learner takes it, read as its files are."""
    if not taken:
        raise InputError(texts.want_photo)
    found, reading = service.pictures([content(taken)], None, reading)
    return found[0], reading
