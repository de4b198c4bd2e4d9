"""Methods of an async object as blocking ones: each is forwarded by one line, and keeps its arguments and its types."""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from returns.result import Failure, Success

from flowpersist.blocking.blocks import Block, Items
from flowpersist.blocking.portal import ClosedError, Portal
from flowpersist.blocking.threads import asynchronous
from flowpersist.errors import PersistenceError
from flowpersist.errors.secrecy import forgetting
from flowpersist.hub.outcome import or_raise

__all__ = ["Blocking", "Owner", "as_if", "endless", "entered", "iterated", "plain", "settled", "verb", "worked"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
#: The async object.
W_co = TypeVar("W_co", covariant=True)


class Blocking(Generic[W_co]):
    """The synchronous form of an async object, which is made and used on the loop of a portal."""

    def __init__(self, portal: Portal[Any], make: Callable[[], W_co]) -> None:
        async def made() -> W_co:
            return make()

        self._portal = portal
        self._wrapped = portal.call(made)


class Owner(Blocking[W_co]):
    """The same of an object that has a portal of its own, which is closed with it."""

    def __init__(self, portal: Portal[Any], make: Callable[[], W_co]) -> None:
        super().__init__(portal, make)
        self._unclosed = weakref.finalize(self, _unclosed, portal, type(self).__name__)
        # What is open at the end of the interpreter is closed by the portals, and that is no fault.
        self._unclosed.atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what runs, and close the store. Twice: a no-op."""
        self._unclosed.detach()
        self._portal.close()


def _unclosed(portal: Portal[Any], name: str) -> None:
    if portal.is_forked:
        return
    message = f"a flowpersist.blocking.{name} was not closed: use it in a with block"
    warnings.warn(message, ResourceWarning, stacklevel=2)
    portal.abandon()


def verb(
    method: Callable[Concatenate[W_co, P], Coroutine[Any, Any, T]], *, threaded: str | None = None
) -> Callable[Concatenate[Blocking[W_co], P], T]:
    """An async method that returns a value or raises.

    ``threaded`` names an argument that is a function of the caller's: a plain one runs in a thread.
    """
    prepared = _prepared(method, threaded)

    def forwarded(self: Blocking[W_co], /, *args: P.args, **kwargs: P.kwargs) -> T:
        with forgetting():
            return self._portal.call(partial(prepared, self._wrapped, *args, **kwargs))

    return as_if(forwarded, method)


def settled(
    method: Callable[Concatenate[W_co, P], Coroutine[Any, Any, Success[T] | Failure[PersistenceError]]],
) -> Callable[Concatenate[Blocking[W_co], P], T]:
    """An async method that returns an ``Outcome``. What is blocking among its arguments is passed on as what it
    wraps.
    """

    def forwarded(self: Blocking[W_co], /, *args: P.args, **kwargs: P.kwargs) -> T:
        called: Any = method
        given = [one._wrapped if isinstance(one, Blocking) else one for one in args]  # noqa: SLF001 - its own class
        named = {name: one._wrapped if isinstance(one, Blocking) else one for name, one in kwargs.items()}  # noqa: SLF001
        with forgetting():
            settled_as: T = or_raise(self._portal.call(partial(called, self._wrapped, *given, **named)))
            return settled_as

    return as_if(forwarded, method)


def plain(method: Callable[Concatenate[W_co, P], T]) -> Callable[Concatenate[Blocking[W_co], P], T]:
    """A plain method, which runs on the loop as it would where the object is used without this."""

    def forwarded(self: Blocking[W_co], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def called() -> T:
            return method(self._wrapped, *args, **kwargs)

        with forgetting():
            return self._portal.call(called)

    return as_if(forwarded, method)


def endless(
    method: Callable[Concatenate[W_co, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[Blocking[W_co], P], None]:
    """An async method that goes on until it is cancelled: it returns when another thread closes the hub."""

    def forwarded(self: Blocking[W_co], /, *args: P.args, **kwargs: P.kwargs) -> None:
        with forgetting(), suppress(ClosedError):
            self._portal.call(partial(method, self._wrapped, *args, **kwargs))

    return as_if(forwarded, method)


def worked(
    method: Callable[Concatenate[W_co, Callable[[T], Awaitable[object]], P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[Blocking[W_co], Callable[[T], object], P], None]:
    """An endless method that calls a handler: a plain handler runs in a thread."""
    forwarded: Any = as_if(endless(_prepared(method, "handler", "expired")), method)
    return cast("Callable[Concatenate[Blocking[W_co], Callable[[T], object], P], None]", forwarded)


def iterated(
    method: Callable[Concatenate[W_co, P], AsyncIterator[T]],
) -> Callable[Concatenate[Blocking[W_co], P], Items[T]]:
    """A method that gives an async iterator."""

    def forwarded(self: Blocking[W_co], /, *args: P.args, **kwargs: P.kwargs) -> Items[T]:
        with forgetting():
            return Items(self._portal, method(self._wrapped, *args, **kwargs))

    return as_if(forwarded, method)


def entered(
    method: Callable[Concatenate[W_co, P], AbstractAsyncContextManager[T]],
) -> Callable[Concatenate[Blocking[W_co], P], AbstractContextManager[T]]:
    """A method that gives an async context manager.

    Its block runs in the caller's thread and is never interrupted: what would cancel it is raised at its end.
    """

    def forwarded(self: Blocking[W_co], /, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return Block(self._portal, partial(method, self._wrapped, *args, **kwargs))

    return as_if(forwarded, method)


def as_if(forwarded: F, method: Callable[..., Any]) -> F:
    """Give it the name, the signature and the docstring of the async method, whose samples lose their keywords."""
    update_wrapper(forwarded, method)
    doc = method.__doc__ or ""
    forwarded.__doc__ = doc.replace("async with", "with").replace("async for", "for").replace("await ", "")
    return forwarded


def _prepared(method: Callable[P, T], *names: str | None) -> Callable[P, T]:
    """The method, given those of its arguments that are plain functions as async ones."""
    parameters = inspect.signature(method)
    functions = [name for name in names if name is not None]

    def prepared(*args: P.args, **kwargs: P.kwargs) -> T:
        given = parameters.bind(*args, **kwargs)
        given.arguments |= {name: asynchronous(given.arguments[name]) for name in functions if name in given.arguments}
        return method(*given.args, **given.kwargs)

    return prepared if functions else method
