"""Tools that are async generators: they yield what they ask, and at last their result."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from flowpersist.inputs.await_input import AwaitInput

__all__ = ["driven"]


async def driven(generator: AsyncGenerator[Any, Any], ask: Callable[[AwaitInput[Any]], Awaitable[Any]]) -> object:
    """Run a tool that yields its questions. What it yields at last, and is none, is its result."""
    try:
        yielded = await anext(generator)
        while isinstance(yielded, AwaitInput):
            try:
                answer = await ask(yielded)
            except TimeoutError as expired:
                yielded = await generator.athrow(expired)
            else:
                yielded = await generator.asend(answer)
    except StopAsyncIteration:
        return None
    finally:
        await generator.aclose()
    return yielded
