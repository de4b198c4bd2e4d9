"""Where plain functions run: in threads, or wherever an executor takes them, such as processes or a cluster.

An executor of processes pickles the function, its arguments and what comes of them. Executors are reached through the
interface of ``concurrent.futures`` alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import pickle
import sys
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

__all__ = ["Executors", "run_plain"]

#: More bytes than this are unpickled in a thread.
_INLINE_BYTES: Final = 32 * 1024
#: The most characters of a foreign error's text.
_MAX_TEXT: Final = 500
_Function: TypeAlias = Callable[..., Any]
#: The calls that are being withdrawn.
_cancelling: Final[set[asyncio.Future[bool]]] = set()


@define
class Executors:
    """The executor of a runner's plain functions: the ``given`` one, or threads that are started when first needed and
    closed with ``exits``.
    """

    given: Executor | None = None
    exits: ExitStack | None = field(default=None, repr=False)
    _own: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)

    def get(self) -> Executor:
        """The executor for a tool that has none of its own."""
        if self.given is not None:
            return self.given
        if self._own is None:
            # Not the event loop's own threads, which seal states and renew leases: tools that block would keep them.
            self._own = ThreadPoolExecutor(thread_name_prefix="flowpersist-tool")
            if self.exits is not None:
                # A thread can't be stopped, so nobody waits for one that still runs.
                self.exits.callback(self._own.shutdown, wait=False, cancel_futures=True)
        return self._own


async def run_plain(executor: Executor | None, function: _Function, arguments: Mapping[str, object]) -> object:
    """Call a plain function in an executor; None: in a thread of the event loop's own.

    If the caller is cancelled, a call that has not begun is withdrawn; what comes of one that has begun is dropped.
    """
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        call = partial(contextvars.copy_context().run, _Call(function, arguments))
        return await asyncio.get_running_loop().run_in_executor(executor, call)
    _make_findable(function)
    data = await _submitted(executor, _Call(function, arguments, carried=True))
    return _loaded(data) if len(data) <= _INLINE_BYTES else await asyncio.to_thread(_loaded, data)


def _loaded(data: bytes) -> object:
    return pickle.loads(data)  # noqa: S301 - from the executor, which pickles too


async def _submitted(executor: Executor, call: _Call) -> Any:  # noqa: ANN401 - what the executor gives
    loop = asyncio.get_running_loop()
    # In a thread, because an executor may start processes, write to a socket or wait for a lock in submit and cancel.
    submitting = loop.run_in_executor(None, executor.submit, call)
    ended: asyncio.Future[None] = loop.create_future()
    try:
        future = await asyncio.shield(submitting)
        future.add_done_callback(partial(_wake, loop, ended))
        await ended
    except asyncio.CancelledError:
        submitting.add_done_callback(partial(_withdraw, loop))
        raise
    return future.result()


def _wake(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], _: Future[Any]) -> None:
    """Tell the event loop, from the executor's thread, that a call has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, ended)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _withdraw(loop: asyncio.AbstractEventLoop, submitting: asyncio.Future[Future[Any]]) -> None:
    """Cancel a call, once it is submitted."""
    if not submitting.cancelled() and submitting.exception() is None:
        cancelling = loop.run_in_executor(None, submitting.result().cancel)
        # The event loop keeps no reference to it.
        _cancelling.add(cancelling)
        cancelling.add_done_callback(_cancelling.discard)


@frozen
class _Call:
    """One call of a function. ``carried``: between processes. Its result is pickled here, and what it raises can be:
    what fails at that in an executor's own code would break a pool of processes, and never end on a cluster.
    """

    function: _Function = field(repr=False)
    arguments: Mapping[str, object] = field(repr=False)
    carried: bool = False
    #: No two calls are equal: some executors make equal ones once, as if a function had no effects.
    id: str = field(factory=lambda: uuid.uuid4().hex)

    def __call__(self) -> object:
        try:
            value = self.function(**self.arguments)
        except (Exception, asyncio.CancelledError) as error:
            portable = _portable(error) if self.carried else _raisable(error)
            if portable is error:
                raise
            raise portable from None
        except BaseException as error:  # noqa: BLE001 - all of it is passed on, as another class
            # SystemExit ends the process that raises it: here it would end another one.
            raise RuntimeError(_named(error)) from None
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError("a plain function returned an awaitable: make it an async function (async def)")
        return _pickled(value) if self.carried else value


def _pickled(value: object) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - the user's class may raise anything
        raise TypeError(f"its result can't be passed between processes: {_named(error)}") from None


def _raisable(error: BaseException) -> BaseException:
    """What a future can raise instead of this error: a StopIteration would end the coroutine that awaits it."""
    return RuntimeError(_named(error)) if isinstance(error, StopIteration | asyncio.CancelledError) else error


def _portable(error: BaseException) -> BaseException:
    """What another process can load instead of this error."""
    if _raisable(error) is not error:
        return _raisable(error)
    try:
        loaded = pickle.loads(pickle.dumps(error))  # noqa: S301 - it was made here
    except Exception:  # noqa: BLE001 - the user's class may raise anything
        loaded = None
    return error if type(loaded) is type(error) else RuntimeError(_named(error))


def _named(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {error}"[:_MAX_TEXT]
    except Exception:  # noqa: BLE001 - the text comes from the user's class
        return type(error).__qualname__


def _make_findable(function: _Function) -> None:
    """Let picklers find a function whose name in its module ``@tool`` has given to the tool.

    Pickle stores a function by module and qualified name. The function is the attribute ``function`` of its tool, so
    that is its name, if the tool is found under the name that the function had.
    """
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    try:
        hidden = attrgetter(f"{name}.function")(module) is function
    except AttributeError:
        return
    if hidden:
        function.__qualname__ = f"{name}.function"
