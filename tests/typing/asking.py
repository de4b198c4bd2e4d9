"""What tools that ask are inferred as. Read by type checkers, never run."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Literal, assert_type

from flowpersist import AwaitInput
from flowpersist.dynamicflow import Tool, ToolContext, tool

SIZE = AwaitInput(id="size", prompt="?", schema=int)


async def drafted() -> bytes:
    """What a tool keeps."""
    return b""


async def asks(context: ToolContext, choice: AwaitInput[Literal["a", "b"]]) -> None:
    """An answer is of its schema's class, and what is kept of the function's."""
    assert_type(await context.ask(SIZE), int)
    assert_type(await context.ask(choice), Literal["a", "b"])
    assert_type(await context.link(SIZE), str)
    assert_type(await context.memo("n", lambda: 1), int)
    assert_type(await context.memo("draft", drafted), bytes)
    await context.ask("size")  # type: ignore[arg-type]


def makes(executor: Executor) -> None:
    """A plain function is a tool too."""

    @tool(executor=executor)
    def square(number: int) -> int:
        return number * number

    assert_type(square, Tool)
