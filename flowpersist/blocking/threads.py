"""Plain functions as async ones, each call in a thread of its own: handlers and tools of synchronous code."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial, update_wrapper
from typing import Any, ParamSpec, TypeVar, get_type_hints

from flowpersist.blocking.portal import awaited
from flowpersist.dynamicflow import Tool
from flowpersist.dynamicflow import tool as async_tool

__all__ = ["asynchronous", "threaded", "tool"]

P = ParamSpec("P")
T = TypeVar("T")


def threaded(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """An async function that calls a plain one in a thread, in a copy of the caller's context.

    A thread can't be interrupted: if the call is cancelled, it still ends when the function returns. Functions don't
    run in the loop's thread pool, because the hub needs it and they may wait for the hub.
    """

    async def called(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        work = partial(copy_context().run, _work, loop, done, partial(function, *args, **kwargs))
        threading.Thread(target=work, daemon=True, name=f"flowpersist {getattr(function, '__name__', 'call')}").start()
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.wait({done})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            done.exception()
            raise cancelled
        return done.result()

    return _as_if(called, function)


def asynchronous(function: Any) -> Any:  # noqa: ANN401 - what is no callable is the verb's to refuse
    """The function if it is async, else its ``threaded`` form."""
    inner = inspect.unwrap(function.func if isinstance(function, partial) else function)
    is_plain = callable(function) and not isinstance(function, type) and not inspect.iscoroutinefunction(inner)
    return threaded(function) if is_plain else function


def _work(loop: asyncio.AbstractEventLoop, done: asyncio.Future[Any], function: Callable[[], Any]) -> None:
    """In the thread: call, and hand over what came of it."""
    awaited.loop = loop
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 - raised again where the call is awaited
        settle = partial(_settle, done, None, error)
    except BaseException as error:  # noqa: BLE001 - SystemExit ends a thread alone: it must not end the loop
        stopped = RuntimeError(f"{type(error).__name__} was raised in a thread")
        stopped.__cause__ = error
        settle = partial(_settle, done, None, stopped)
    else:
        settle = partial(_settle, done, result, None)
    # The loop is closed where the process ends or the hub could not wait.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)


def _settle(done: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


def _as_if(
    called: Callable[P, Coroutine[Any, Any, T]], function: Callable[P, T]
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Give it the name, the docstring and the signature of the plain function."""
    update_wrapper(called, function)
    # Whoever looks behind the wrapper finds a plain function, and would refuse it.
    del called.__wrapped__  # type: ignore[attr-defined]
    with suppress(TypeError, ValueError):
        called.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    # Resolved here: the names in them are those of the function's own module.
    with suppress(NameError, TypeError):
        called.__annotations__ = get_type_hints(function, include_extras=True)
    return called


def _of_plain(
    make: Callable[P, Callable[[Callable[..., Any]], Tool]],
) -> Callable[P, Callable[[Callable[..., object]], Tool]]:
    def tool(*args: P.args, **kwargs: P.kwargs) -> Callable[[Callable[..., object]], Tool]:
        """Make a tool of a plain function, which runs in a thread; the options are those of ``dynamicflow.tool``."""
        return lambda function: make(*args, **kwargs)(asynchronous(function))

    return tool


tool = _of_plain(async_tool)
