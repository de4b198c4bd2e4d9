"""``persistent`` for plain functions and generators: they run in threads, and the async decorator does the rest."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from functools import partial, update_wrapper, wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from flowpersist.backends.base import StorageBackend
from flowpersist.blocking.blocks import Items
from flowpersist.blocking.portal import Portal
from flowpersist.blocking.stores import Stores, ValueStore
from flowpersist.blocking.threads import threaded
from flowpersist.errors.arguments import check_instance, mistyped, out_of_range
from flowpersist.errors.secrecy import forgetting
from flowpersist.stores import PersistentOptions, StoreConfig
from flowpersist.stores import persistent as async_persistent

__all__ = ["persistent"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
END: Final = object()
Source: TypeAlias = Stores | ValueStore[Any] | str | StorageBackend | StoreConfig


class _Place:
    """Where the calls of a function run: on the hub of a store, or on an event loop of their own."""

    def __init__(self, store: Source) -> None:
        takes = "a Stores or ValueStore of flowpersist.blocking, a URL, a backend, or a StoreConfig"
        check_instance(store, "store", (Stores, ValueStore, str, StorageBackend, StoreConfig), takes)
        self._lock = threading.Lock()
        self._own: Portal[Any] | None = None
        self._of = store if isinstance(store, Stores | ValueStore) else None
        self.source: Any = store if self._of is None else self._of._wrapped  # noqa: SLF001 - of this package

    @property
    def portal(self) -> Portal[Any]:
        """The portal, which is made at the first call, and again after a fork."""
        if self._of is not None:
            return self._of._portal  # noqa: SLF001 - of this package
        with self._lock:
            if self._own is None or self._own.is_forked:
                self._own = Portal(nullcontext)
            return self._own


@overload
def persistent(
    *, store: Source, attribute: None = None, **options: Unpack[PersistentOptions]
) -> Callable[[Callable[Concatenate[Any, P], R]], Callable[P, R]]: ...


@overload
def persistent(*, store: Source, attribute: str, **options: Unpack[PersistentOptions]) -> Callable[[F], F]: ...


def persistent(*, store: Source, attribute: str | None = None, **options: Unpack[PersistentOptions]) -> Any:
    """``flowpersist.stores.persistent`` for plain functions and generators, which run in threads.

    - ``store``: a ``Stores`` or ``ValueStore`` of ``flowpersist.blocking``, a URL, a backend, or a ``StoreConfig``.
      What it opens is closed when the interpreter ends.
    - ``attribute``: of ``self``, which holds the state; None: the function's first argument, after ``self``, is it.
    - ``options``: the others of ``flowpersist.stores.persistent``. ``checkpoint_every`` is a number of items.

    Raises what that raises, and ``RuntimeError`` in a running event loop.
    """
    if isinstance(options.get("checkpoint_every"), timedelta):
        out_of_range(
            "checkpoint_every", "a number of items, since the state of a running thread can't be saved", "a time"
        )
    place = _Place(store)
    decorator: Any = async_persistent(store=place.source, attribute=attribute, **options)

    def decorate(function: Callable[..., Any]) -> Any:  # noqa: ANN401 - as the overloads have it
        if inspect.isgeneratorfunction(function):
            return _iterated(place, decorator(_stepped(function)))
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) or not callable(function):
            mistyped("function", "a plain function (for an async one use flowpersist.stores.persistent)", function)
        return _called(place, decorator(threaded(function)))

    return decorate


def _called(place: _Place, awaited: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's
        with forgetting():
            return place.portal.call(partial(awaited, *args, **kwargs))

    return _as_plain(called, awaited)


def _iterated(place: _Place, made: Callable[..., Any]) -> Callable[..., Any]:
    def iterated(*args: Any, **kwargs: Any) -> Iterator[Any]:  # noqa: ANN401 - the function's
        source: Items[Any] = Items(place.portal, made(*args, **kwargs))
        try:
            yield from source
        finally:
            source.close()

    return _as_plain(iterated, made)


def _as_plain(called: Callable[..., Any], awaited: Callable[..., Any]) -> Callable[..., Any]:
    plain: Any = update_wrapper(called, awaited)
    # Whoever looks behind it would find an async function.
    del plain.__wrapped__
    plain.__signature__ = inspect.signature(awaited)
    made: Callable[..., Any] = plain
    return made


def _stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A generator as an async one, each of whose steps runs in a thread."""

    @wraps(function)
    async def stepped(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - the function's
        source = function(*args, **kwargs)

        def step() -> Any:  # noqa: ANN401 - as above
            return next(source, END)

        def close() -> None:
            source.close()

        try:
            while (item := await threaded(step)()) is not END:
                yield item
        finally:
            await threaded(close)()

    return stepped
