"""`innerloop stream METHOD STREAM`: learn one long stream, each example once, and say what is left of each part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import output, parts, program
from innerloop.cli.options import own_flags
from innerloop.errors import ConfigError, InputError
from innerloop.lifelong import STREAM_METHODS


def learn_stream(argv: Sequence[str]) -> int:
    """``argv``: METHOD, STREAM and flags; those of both are made from their signatures."""
    words, own = program.dashed(argv), own_flags(_learn)
    method = words[0]
    stream = words[1] if len(words) > 1 and not program.is_flag(words[1]) and words[1] != "-h" else None
    if stream is None and not {"--help", "-h"} & set(words):
        raise ConfigError(
            f"expected a stream after {method}, got nothing; for example: innerloop stream {method} mnist_rotations, or a table "
            "or folder of your own"
        )
    chosen = {"stream_method": method} | ({} if stream is None else {"stream": parts.known("stream", stream)})
    made = parts.parts({key: chosen.get(key) for key in ("stream_method", "stream")}, own)
    doc = f"Learn a stream with {method}: {STREAM_METHODS[method].summary}\n\nWrites stream.json and stream.png into --out."
    command = made.command(_learn, chosen, made, doc=doc)
    return program.run(" ".join(["stream", method, stream or "STREAM"]), command, words[2 if stream else 1 :])


def _learn(
    names: dict[str, str],
    made: parts.Parts,
    records: dict[str, Any],
    /,
    *,
    batch: int = 10,
    shuffled: bool = False,
    out: Path | None = None,
    resume: bool = False,
    force: bool = False,
    model_seed: int = 0,
    json: bool = False,
) -> int:
    """Learn a stream.

    Args:
        batch: How many examples come at a time.
        shuffled: Mix the examples of all parts, for comparison: the same steps without an order that does harm.
        out: Folder of the findings and of the state to go on from; left out: runs/stream-METHOD-STREAM.
        resume: Go on where an interrupted pass in --out stopped.
        force: Begin anew in a folder that holds a pass.
        model_seed: Of the network's first weights.
        json: Print one JSON object and nothing else.
    """
    method = names["stream_method"]
    settings = made.merged(records)
    place = out or Path("runs") / f"stream-{method}-{parts.short(names['stream'])}{'-shuffled' * shuffled}"
    output.folder(place)
    from innerloop.lifelong.learn import STATE

    if (place / STATE).exists() and not resume:
        if not force:
            raise InputError(
                f"{place} holds a pass already; add --resume to go on, --force to begin anew, or give another --out"
            )
        (place / STATE).unlink()
    import torch

    from innerloop import lifelong
    from innerloop.report.streams import stream_figure
    from innerloop.report.style import png
    from innerloop.storage import write_atomically
    from innerloop.tasks import stream_named

    stream = stream_named(names["stream"], settings.get("stream", {}))
    torch.manual_seed(model_seed)
    net = torch.nn.Flatten() if method == "class_means" else stream.default_model()
    learner = getattr(lifelong, method)(net, **settings.get("stream_method", {}))
    report = lifelong.learn_stream(
        learner, stream, batch=batch, order="shuffled" if shuffled else "stream", out=place, resume=resume
    )
    card = place / "stream.json"
    output.write_json(card, report.to_dict())
    with output.writing(place / "stream.png"):
        write_atomically(place / "stream.png", png(stream_figure(report)))
    if json:
        output.print_json({**report.to_dict(), "card": str(card), "picture": str(place / "stream.png")})
    else:
        print(report)
        print(f"card: {card}\npicture: {place / 'stream.png'}")
    return 0
