"""What a visitor of the page did wrong, told there in one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from innerloop.errors import InnerloopError
from innerloop.serving.texts import Texts

P = ParamSpec("P")
R = TypeVar("R")


def told(texts: Texts) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function of the page: its errors become messages there, under a heading in the page's language."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def work(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except InnerloopError as error:
                said = " ".join(str(error).split())
                raise gr.Error(said, title=texts.error, print_exception=False) from None

        return work

    return decorate
