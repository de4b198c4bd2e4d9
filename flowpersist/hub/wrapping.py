"""An async function or generator that runs within a block: again where it fails, with checkpoints on the way."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import timedelta
from functools import wraps
from importlib import import_module
from typing import Any, TypeAlias

from attrs import field, frozen

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_duration, check_optional, check_whole, mistyped
from flowpersist.errors.secrecy import forgetting
from flowpersist.hub.outcome import attempt

__all__ = ["Args", "Checkpoint", "Kwargs", "Retry", "Wrapping"]

log = logging.getLogger("flowpersist.stores")
Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = Mapping[str, Any]
Checkpoint: TypeAlias = Callable[[], Awaitable[None]]
#: Exceptions, a function that is asked about one, or the arguments of ``stamina.retry``.
Retry: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], Any] | Mapping[str, Any]


def _retrying(retry: Retry | None) -> Any:  # noqa: ANN401 - a decorator
    if retry is None:
        return lambda once: once
    if not (callable(retry) or isinstance(retry, tuple | Mapping)):
        mistyped("retry", "exceptions, a callable, the arguments of stamina.retry as a mapping, or None", retry)
    try:
        stamina: Any = import_module("stamina")
    except ImportError:
        message = "Missing stamina, which retry needs: pip install 'flowpersist[retry]'"
        raise ConfigurationError(message, "retry") from None
    return stamina.retry(**(retry if isinstance(retry, Mapping) else {"on": retry}))


def _check_every(every: object, name: str) -> None:
    if isinstance(every, timedelta):
        check_duration(every, name)
    else:
        check_whole(every, name)


@frozen
class Wrapping:
    """How functions are wrapped.

    ``every``: a checkpoint is made after so many items of a generator, or each time that long. ``retry``: when the
    block is entered again.
    """

    every: int | timedelta | None
    retry: Any = field(converter=_retrying, repr=False)

    def __attrs_post_init__(self) -> None:
        check_optional(self.every, "checkpoint_every", _check_every)

    def __call__(
        self,
        function: Callable[..., Any],
        run: Callable[[Args, Kwargs], AbstractAsyncContextManager[tuple[Args, Checkpoint]]],
        place: int | None,
    ) -> Any:  # noqa: ANN401 - of the function's kind
        """The function, called within the block ``run``, which gives its arguments and what makes a checkpoint.

        ``place``: of the argument that callers do not give.
        """
        items = inspect.isasyncgenfunction(function)
        if not items and not inspect.iscoroutinefunction(function):
            mistyped("function", "an async function (for a plain one use flowpersist.blocking.persistent)", function)
        if not items and self.every is not None:
            check_duration(self.every, "checkpoint_every")
        signature = inspect.signature(function)
        left = [one for at, one in enumerate(signature.parameters.values()) if at != place]
        called: Any = wraps(function)(self._items(function, run) if items else self._result(function, run))
        called.__signature__ = signature.replace(parameters=left)
        return called

    def _result(self, function: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
        async def result(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's
            # Without arguments, since stamina logs those.
            @wraps(function)
            async def once() -> Any:  # noqa: ANN401 - as above
                async with run(args, kwargs) as (given, save), _Saving(self.every, save):
                    return await function(*given, **kwargs)

            with forgetting():
                return await self.retry(once)()

        return result

    def _items(self, function: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
        async def items(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - the function's
            @wraps(function)
            async def once() -> AsyncIterator[Any]:
                async with (
                    run(args, kwargs) as (given, save),
                    _Saving(self.every, save),
                    aclosing(function(*given, **kwargs)) as source,
                ):
                    number = 0
                    async for item in source:
                        try:
                            yield item
                        except GeneratorExit:
                            # Who has enough of it ends it as it is.
                            return
                        number += 1
                        if isinstance(self.every, int) and number % self.every == 0:
                            await save()

            with forgetting():
                async with aclosing(self.retry(once)()) as made:
                    async for item in made:
                        yield item

        return items


class _Saving:
    """Makes a checkpoint from time to time while a block runs, if ``every`` is a time."""

    def __init__(self, every: int | timedelta | None, save: Checkpoint) -> None:
        self._every, self._save = every, save

    async def __aenter__(self) -> None:
        every = self._every
        self._task = asyncio.create_task(self._keep_saving(every)) if isinstance(every, timedelta) else None

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep_saving(self, every: timedelta) -> None:
        while True:
            await asyncio.sleep(every.total_seconds())
            saved = await attempt(self._save())
            saved.alt(lambda error: log.warning("a checkpoint of a state was not saved (%s)", error.code))
