"""The HTTP interface: adapt, predict, save and open a task; its OpenAPI document is at /openapi.json, to be read at /docs."""

from __future__ import annotations

import base64
import binascii
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from innerloop.data.picture_decoding import UNDECIDED, Reading
from innerloop.errors import InnerloopError, InputError
from innerloop.meta_learner.fitted import Fitted
from innerloop.serving.reference_page import reference_page
from innerloop.serving.service import Busy, Gone, Service

UNKNOWN = "unknown"
_BYTES = "application/octet-stream"


class Inputs(BaseModel):
    """Either rows of numbers, rows of a table or pictures."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    x: list[Any] | None = Field(
        None, description="inputs, one entry each: (nested) lists of numbers, objects {column: cell}, or texts"
    )
    pictures: list[str] | None = Field(None, description="picture files (PNG, JPEG, ...) in base64, one entry an input")
    invert: bool | None = Field(
        None,
        description="take dark for ink, for black drawings on white; null: as the learner's own pictures were read",
    )


class AdaptRequest(Inputs):
    """The support set of a new task."""

    y: list[str | int | float | list[float]] | None = Field(
        None, description="a class name, a number or several numbers for each input"
    )
    target: str | None = Field(
        None, description="instead of y, where x has objects: the column to learn; null: as in training"
    )


class AdaptAnswer(BaseModel):
    task: str = Field(description="the key of what was adapted; whoever has it can predict with it")
    classes: list[str | int | float] | None = Field(description="the class names, in the order of probabilities")
    examples: int
    seconds: float | None = Field(None, description="that adapting took; null: the task was opened from a file")
    threshold: dict[str, Any] | None = Field(
        description="how inputs of no class are told with unknown=true: a score and its least value, and what that kept and "
        "let through on validation tasks of the size given here; null: it cannot be asked"
    )
    judged: dict[str, Any] | None = Field(
        None,
        description="how good it is on its own examples, some left out at a time, with 95 % intervals, and the simplest "
        "predictors on the same ones; lacking says why it could not be judged; null: adapting takes too long for it",
    )


class PredictRequest(Inputs):
    """Inputs of a task adapted before."""

    task: str = Field(description="the key that /adapt gave; 'first' for the task file that is served")
    unknown: bool = Field(
        False, description="label inputs 'unknown' that are probably of no class; needs a task with a threshold"
    )


class PredictAnswer(BaseModel):
    labels: list[str | int | float] | None = Field(description="the most probable class of each input")
    confidences: list[float] | None = Field(description="its probability")
    probabilities: list[list[float]] | None = Field(description="of all classes, for each input")
    values: list[list[float]] | None = Field(description="predicted numbers, for a regression task")
    std: list[list[float]] | None = Field(None, description="their standard deviations, where the method predicts them")


def interface(service: Service) -> FastAPI:
    """The application around a service; every refusal is ``{"error": "one line"}`` with a status of 400, 404, 413 or 503."""
    app = FastAPI(
        title="innerloop",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        description=f"{service.learner.name}: adapt to a few examples, then predict. "
        f"An input has shape {service.input_shape}. Limits: {service.limits}.",
    )
    app.add_middleware(SizeLimit, most=int(service.limits.megabytes * 1e6))

    @app.exception_handler(InnerloopError)
    async def refused(request: Request, error: Exception) -> JSONResponse:
        status = 503 if isinstance(error, Busy) else 404 if isinstance(error, Gone) else 400
        return _error(status, str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            what = first.get("ctx", {}).get("error", "no JSON")
            return _error(
                400, f"the body expected JSON, got a mistake at character {first['loc'][-1]} ({what}); mend it"
            )
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return _error(400, f"{where}: {first['msg']}; see /openapi.json")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _error(error.status_code, str(error.detail))

    @app.exception_handler(RecursionError)
    async def nested(request: Request, error: Exception) -> JSONResponse:
        return _error(400, "the body is nested too deeply; send flat lists")

    # Plain functions: they run in threads of their own, so one request's work does not hold up another's connection.
    @app.post("/adapt", summary="Adapt to a new task", response_model=AdaptAnswer)
    def adapt(request: AdaptRequest) -> AdaptAnswer:
        x, reading = _inputs(service, request)
        if request.y is not None and len(x) != len(request.y):
            raise InputError(f"expected one y for each input, got {len(x)} inputs and {len(request.y)} targets")
        y = None if request.y is None else _targets(service, request.y)
        key, fitted, seconds = service.adapt(x, y, request.target, reading, None if request.x else request.invert)
        return _about(key, fitted, len(x), seconds)

    @app.post("/predict", summary="Predict with an adapted task", response_model=PredictAnswer)
    def predict(request: PredictRequest) -> PredictAnswer:
        of = service.task(request.task)  # an unknown key is said before any picture is decoded
        fitted, found, known, std = service.predict(request.task, _inputs(service, request, of)[0])
        if request.unknown and known is None:
            raise InputError(
                "unknown expected a task with a threshold that works, got none, as "
                f"{service.why_no_threshold(fitted)}; leave it out"
            )
        sure = known if request.unknown and known is not None else [True] * len(found)
        if fitted.classes_ is None:
            spread = None if std is None else std.tolist()
            return PredictAnswer(labels=None, confidences=None, probabilities=None, values=found.tolist(), std=spread)
        best = found.argmax(1)
        return PredictAnswer(
            labels=[fitted.classes_[i] if s else UNKNOWN for i, s in zip(best, sure, strict=True)],
            confidences=[float(row[i]) for row, i in zip(found, best, strict=True)],
            probabilities=found.tolist(),
            values=None,
            std=None,
        )

    @app.get(
        "/tasks/{task}",
        summary="Save a task",
        description="The task file, with its examples: for POST /open, innerloop predict and il.load.",
        response_class=Response,
        responses={200: {"content": {_BYTES: {}}, "description": "the file"}},
    )
    def save(task: str) -> Response:
        name = 'attachment; filename="task.il"'
        return Response(service.saved(task), media_type=_BYTES, headers={"content-disposition": name})

    body = {"content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}}, "required": True}

    @app.post(
        "/open",
        summary="Open a task file",
        description="The body is a task file of this very learner, from GET /tasks/{task} or innerloop adapt.",
        response_model=AdaptAnswer,
        openapi_extra={"requestBody": body},
    )
    async def open_file(request: Request) -> AdaptAnswer:
        key, fitted = await run_in_threadpool(service.opened, await request.body())
        return _about(key, fitted, fitted.num_examples or 0, None)

    @app.get("/docs", include_in_schema=False)
    def reference() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()))

    return app


def _about(key: str, fitted: Fitted, examples: int, seconds: float | None) -> AdaptAnswer:
    limit = fitted.threshold.to_dict() if fitted.threshold is not None and fitted.threshold.works else None
    judged = None if fitted.judged is None else fitted.judged.to_dict()
    return AdaptAnswer(
        task=key, classes=fitted.classes_, examples=examples, seconds=seconds, threshold=limit, judged=judged
    )


def _inputs(service: Service, request: Inputs, of: Fitted | None = None) -> tuple[Any, Reading]:
    """(inputs, what was decided about pictures among them); ``of``: the task that is asked."""
    if (request.x is None) == (request.pictures is None):
        raise InputError("expected either x or pictures, got both or neither; send one of them")
    if request.x is not None:
        found, reading = request.x, UNDECIDED
    else:
        assert request.pictures is not None
        most = max(service.limits.examples, service.limits.inputs)
        if len(request.pictures) > most:
            raise InputError(f"expected at most {most} pictures in a request, got {len(request.pictures)}; send fewer")
        found, reading = service.pictures([_decoded(text) for text in request.pictures], request.invert, of)
    if not len(found):
        raise InputError("expected at least one input, got none; send some")
    return found, reading


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):  # as a browser's canvas gives it
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("pictures expected files in base64, got text that is none; encode their bytes") from None


def _targets(service: Service, y: list[Any]) -> list[Any]:
    """Class names of one kind, or numbers."""
    if not service.classifies:
        rows = [value if isinstance(value, list) else [value] for value in y]
        if any(isinstance(v, str) for row in rows for v in row) or len({len(row) for row in rows}) > 1:
            raise InputError("y expected numbers, equally many for each input, for a regression learner; mend y")
        return [[float(v) for v in row] for row in rows]
    if any(isinstance(value, list) for value in y):
        raise InputError("y expected one class name for each input, got lists; send names")
    return y


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(text.split())}, status)


class SizeLimit:
    """Refuses a body above ``most`` bytes, by what it declares and by what arrives."""

    app: ASGIApp
    most: int

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Files of the page are limited one by one where they are received.
        if scope["type"] != "http" or scope["path"].removeprefix("/zh").startswith("/gradio_api/upload"):
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.most:
            await self._refuse(scope, receive, send)
            return
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self.most:
                raise HTTPException(413, self._text())
            return message

        await self.app(scope, counted, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _error(413, self._text())(scope, receive, send)

    def _text(self) -> str:
        return f"expected a body of at most {self.most / 1e6:g} MB, got a larger one; send less at a time"
