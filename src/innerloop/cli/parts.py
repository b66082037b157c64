"""The parts of a command line that depend on the names in it: training, method, problem, model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from innerloop.cli.config_file import File, settings
from innerloop.cli.listing import offered, registry_of
from innerloop.cli.options import Option, Section, arity, described, flag, options_of, parameter, sections
from innerloop.cli.program import closest
from innerloop.errors import ConfigError
from innerloop.models import EMBEDDINGS, is_embedding
from innerloop.registry import Entry, find, is_place, load


class Part(NamedTuple):
    """How a part of a command line is called."""

    kind: str  # what `innerloop list` calls all of them
    noun: str  # in messages
    title: str  # in help


PARTS = {
    "algorithm": Part("algorithms", "algorithm", "Method"),
    "tasks": Part("tasks", "problem", "Problem"),
    "model": Part("models", "model", "Model"),
    "meta_gradient": Part("meta-gradients", "meta-gradient", "Meta-gradient"),
    "stream_method": Part("stream-methods", "stream method", "Method"),
    "stream": Part("tasks", "stream", "Stream"),
    "training": Part("", "", "Training"),
}


def known(part: str, name: str, *, typed: bool = True) -> str:
    """``name``, when it is ours or an installed package's, or says where something is (``package.module:name``).

    Args:
        part: a key of `PARTS`.
        name: the word; of a problem also a path, which is made absolute.
        typed: it comes from the command line, not from a file; only then does ``package.module:name`` need no package's word.

    Raises:
        ConfigError: an unknown name; the message has the nearest.
        InputError: a path where there is nothing.
    """
    if part == "stream":
        from innerloop.tasks import LONG_STREAMS

        if name in LONG_STREAMS or Path(name).exists():
            return name
        otherwise = "see innerloop list tasks, or give the path of a table or folder that is there"
        raise ConfigError(f"unknown stream {name!r}: {closest(name, LONG_STREAMS, otherwise)}")
    if _entry(part, name, typed) is not None or (part == "model" and is_embedding(name)):
        return name
    if part == "tasks" and not is_place(name):
        from innerloop.tasks import own_data

        own_data.refuse_memory(name)
        if own_data.looks_like_path(name):
            return str(own_data.existing(name))
    if not typed and is_place(name):
        raise ConfigError(
            f"the {PARTS[part].noun} {name!r} is offered by no installed package, and files do not say what to import; give it "
            f"on the command line: --{part.replace('_', '-')} {name}"
        )
    others = {
        "meta_gradient": "",
        "tasks": ", or give the path of a folder or file, or package.module:function",
    }
    otherwise = f"see innerloop list {PARTS[part].kind}{others.get(part, ', or give package.module:name')}"
    names = [*offered(PARTS[part].kind), *(EMBEDDINGS if part == "model" else ())]
    raise ConfigError(f"unknown {PARTS[part].noun} {name!r}: {closest(name, names, otherwise)}")


def _entry(part: str, name: str, typed: bool = True) -> Entry | None:
    return find(PARTS[part].noun, registry_of(PARTS[part].kind), name, typed=typed)


def summary(part: str, name: str) -> str:
    """About a named part: ours from its registry and from what it declares, somebody else's from its docstring."""
    ours = registry_of(PARTS[part].kind)
    made = load(PARTS[part].noun, ours, name, typed=True)
    if name in ours:
        traits = getattr(made, "traits", None)
        return ours[name].summary + (f" {traits.sentence()}" if traits is not None else "")
    return (inspect.getdoc(made) or "").strip().partition("\n\n")[0].replace("\n", " ") or f"{name}, no docstring"


def short(name: str) -> str:
    """A part's name as part of a file's name: of a path, what is last in it."""
    if find("problem", registry_of("tasks"), name) is not None and not is_place(name):
        return name
    stem = name if is_place(name) else Path(name).stem
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "tasks"


def part_options(part: str, name: str | None) -> list[Option]:
    """The settings of one named part; of none, none. Imports what the name stands for."""
    if part == "training":
        from innerloop.training.config import TrainConfig

        return options_of(TrainConfig)
    if name is None:
        return []
    name = known(part, name)
    if part == "stream":
        from innerloop.tasks import stream_factory

        return options_of(stream_factory(name), leave_out=("path",))
    if part == "tasks" and _entry(part, name) is None:
        from innerloop.tasks import own_data

        return options_of(own_data.factory_of(name))
    if part == "model" and is_embedding(name):
        from innerloop.models.embeddings import pretrained

        return options_of(pretrained)
    return options_of(load(PARTS[part].noun, registry_of(PARTS[part].kind), name, typed=True), leave_out=("model",))


class Parts(NamedTuple):
    """The sections of one command."""

    sections: list[Section]

    def command(self, function: Callable[..., int], *fixed: Any, doc: str | None = None) -> Callable[..., int]:
        """``function`` as `program.run` takes it: its keyword-only parameters are flags, beside those of the parts.

        Args:
            function: called with ``fixed``, then what was typed of the parts, for `merged`, and with the flags that were typed.
                Its docstring has the sentence of each flag.
            fixed: see ``function``.
            doc: the help's beginning; None: that of the function's docstring.
        """
        from cyclopts import Group, Parameter

        texts, hints = described(function.__doc__), get_type_hints(function)

        def command(**typed: Any) -> int:
            records: dict[str, dict[str, Any]] = {section.key: {} for section in self.sections}
            for key in [key for key in typed if "__" in key]:
                part, _, name = key.partition("__")
                records[part][name] = typed.pop(key)
            return function(*fixed, records, **typed)

        signature = [
            own.replace(annotation=Annotated[hints[name], Parameter(name=flag(name), help=texts[name])])
            for name, own in inspect.signature(function).parameters.items()
            if own.kind is own.KEYWORD_ONLY
        ]
        for place, section in enumerate(self.sections, 1):
            group = Group(section.title, sort_key=place)
            signature += [parameter(section, name, group) for name in section.options]
        command.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
        command.__annotations__ = {flag.name: flag.annotation for flag in signature}
        command.__doc__ = doc or (inspect.getdoc(function) or "").partition("\nArgs:")[0]
        return command

    def arity(self) -> dict[str, int | None]:
        return arity(self.sections)

    def merged(
        self, records: Mapping[str, dict[str, Any]], file: File | None = None, names: dict[str, str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Part -> settings that were given: the file's, and over them the flags'."""
        result = settings(file, self.sections, names or {}) if file is not None else {}
        return {s.key: {**result.get(s.key, {}), **records.get(s.key, {})} for s in self.sections}


def parts(names: dict[str, str | None], reserved: Iterable[str]) -> Parts:
    """The sections of these parts, in the order that decides who gets a plain flag (training needs no name)."""
    listed = []
    for key, name in names.items():
        title = PARTS[key].title + (
            f" ({short(name) if key == 'tasks' and name else name})" if key != "training" else ""
        )
        listed.append((key, title, part_options(key, name)))
    return Parts([section for section in sections(listed, reserved) if section.options])


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag, read before the flags of the whole command are known."""
    for i, word in enumerate(words):
        if word == "--":
            return None
        if word.startswith(flag + "="):
            return word.partition("=")[2]
        if word == flag and i + 1 < len(words):
            return words[i + 1]
    return None


def assembled(
    names: Mapping[str, str], settings: Mapping[str, Any], seed: int, *, typed: bool = False
) -> tuple[Any, Any]:
    """(learner, problem) of these parts and their settings; see `innerloop.assemble.assemble`."""
    from innerloop.assemble import assemble

    return assemble(
        names["algorithm"],
        names["tasks"],
        names.get("model"),
        algorithm_options=settings.get("algorithm"),
        task_options=settings.get("tasks"),
        model_options=settings.get("model"),
        meta_gradient=names.get("meta_gradient"),
        meta_gradient_options=settings.get("meta_gradient"),
        seed=seed,
        typed=typed,
    )
