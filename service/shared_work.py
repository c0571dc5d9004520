"""Work that goes on when those who asked for it have given up waiting."""

import asyncio
from typing import TypeVar

Result = TypeVar("Result")


def outliving(task: "asyncio.Task[Result]") -> "asyncio.Task[Result]":
    """The task, whose exception is looked at even where nobody is left to be told: asyncio would report it as
    forgotten, with a traceback.
    """
    task.add_done_callback(_look)
    return task


def _look(task: "asyncio.Task[Result]") -> None:
    if not task.cancelled():
        task.exception()
