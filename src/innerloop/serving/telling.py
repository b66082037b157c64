"""What a visitor of the page did wrong, told there in one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from innerloop.errors import InnerloopError

P = ParamSpec("P")
R = TypeVar("R")


def told(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose errors become messages of the page."""

    @functools.wraps(function)
    def work(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except InnerloopError as error:
            raise gr.Error(" ".join(str(error).split()), print_exception=False) from None

    return work
