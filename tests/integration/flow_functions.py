"""Plain functions that workers of pools and clusters import, as they do those of an application."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flowpersist.dynamicflow import ToolContext, tool


class OddError(Exception):
    """Its class can't be made of what ``args`` holds, so that loading it raises."""

    def __init__(self, message, place):
        super().__init__(message)
        self.place = place


class PlainError(Exception):
    pass


def noted(log: str, line: object) -> None:
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@tool()
def square(value: int, log: str) -> int:
    noted(log, value)
    return sum(value for _ in range(value))


@tool()
def where(context: ToolContext) -> list[Any]:
    return [os.getpid(), context.run_id, context.path, context.attempt, context.key]


@tool()
def asks_whether_to_stop(context: ToolContext) -> bool:
    return context.cancellation.requested


@tool()
def nap(value: int, log: str) -> int:
    noted(log, value)
    time.sleep(0.2)
    return value


@tool()
def fails(kind: str, context: ToolContext) -> int:
    if context.attempt == 1:
        raise {"odd": OddError("odd", 1), "plain": PlainError("plain"), "exit": SystemExit(1)}[kind]
    return context.attempt
