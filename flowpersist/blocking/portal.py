"""An event loop in a thread of its own, and the calls of other threads to it.

anyio's blocking portal does not fit: if its caller is interrupted, the call goes on and nothing waits for its end.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - its hook at exit is registered before ours, and runs after it
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

__all__ = ["ClosedError", "Portal", "awaited", "check_no_loop"]

T = TypeVar("T")
U = TypeVar("U")
#: How long the end of the interpreter waits for a hub that was not closed.
PATIENCE: Final = timedelta(seconds=10)
CLOSED: Final = "the {} is closed: open another one"
ENDED: Final = "the {} was closed before the verb ended: it may have been done or not"
FORKED: Final = "the {} was opened before a fork: open one in this process"
IN_A_LOOP: Final = (
    "flowpersist.blocking was called in a running event loop, which it would block: use flowpersist.RaisingHub there, "
    "or call the blocking hub in a thread (asyncio.to_thread)"
)


#: In a thread that a loop waits for: ``loop``.
awaited: Final = threading.local()


class ClosedError(RuntimeError):
    """The portal was closed before a call ended."""


def check_no_loop() -> None:
    """``RuntimeError`` where the calling thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(IN_A_LOOP)


class Call(Generic[T]):
    """One call of another thread: a task on the loop, and the outcome that the thread waits for."""

    def __init__(self, function: Callable[[], Awaitable[T]], context: Context, noun: str) -> None:
        self.outcome: Future[T] = Future()
        self._noun = noun
        self._function = function
        self._context = context
        self._task: asyncio.Task[T] | None = None
        self._interrupted = False

    def start(self, tasks: set[asyncio.Task[Any]]) -> None:
        """On the loop: begin, unless the caller was interrupted before."""
        if self._interrupted:
            self.end()
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), context=self._context)
        tasks.add(self._task)
        self._task.add_done_callback(tasks.discard)
        self._task.add_done_callback(self._ended)

    def interrupt(self) -> None:
        """On the loop: cancel the task; its end is the outcome."""
        self._interrupted = True
        if self._task is not None:
            self._task.cancel()
        else:
            # The caller was interrupted before it handed ``start`` over: the loop keeps the order of what it is given.
            self.end()

    def end(self) -> None:
        """Give an outcome to a call that has none because the loop has ended."""
        if not self.outcome.done():
            self.outcome.set_exception(ClosedError(ENDED.format(self._noun)))

    async def _run(self) -> T:
        return await self._function()

    def _ended(self, task: asyncio.Task[T]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.outcome.set_exception(error)
        elif task.cancelled():
            self.end()
        else:
            self.outcome.set_result(task.result())


class Portal(Generic[T]):
    """Runs an async context, and on its loop the calls of any number of threads, until it is closed.

    ``value`` is what the context gives; ``noun`` names it in messages. Raises what entering the context raises.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], noun: str = "hub") -> None:
        check_no_loop()
        self._noun = noun
        self._pid = os.getpid()
        # A signal handler may call while its thread holds the lock.
        self._lock = threading.RLock()
        self._closed = False
        self._calls: set[Call[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        opened: Future[T] = Future()
        run = self._run
        # A daemon, so that a program which ends without closing does end: `_close_all` closes before that.
        self._thread = threading.Thread(
            target=run, args=(make, opened, copy_context()), daemon=True, name="flowpersist hub"
        )
        try:
            _open.add(self)
            self._thread.start()
            self.value = opened.result()
        except BaseException:
            self._abort(opened)
            raise

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked since: the portal's thread is not in it."""
        return self._pid != os.getpid()

    def call(self, function: Callable[[], Awaitable[U]], context: Context | None = None) -> U:
        """Await it on the loop, in a copy of the caller's context.

        If the wait is interrupted by Ctrl-C, or by another signal handler that raises, the call is cancelled and waited
        for before the exception goes on. A second interruption does not wait.
        """
        self._check()
        call = Call(function, copy_context() if context is None else context, self._noun)
        try:
            self._submit(call)
            return call.outcome.result()
        except BaseException:
            if call in self._calls and not call.outcome.done():
                self._on_loop(call.interrupt)
                wait([call.outcome])
            raise
        finally:
            with self._lock:
                self._calls.discard(call)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """On the loop: keep a task that outlives the call that made it, until the portal closes and cancels it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Nobody may ask: a block whose thread has ended never leaves.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def finish(self, function: Callable[[], Awaitable[object]]) -> None:
        """Call if that is possible, else leave it to the loop."""
        try:
            self.call(function)
        except RuntimeError:
            self.begin(function)

    def begin(self, function: Callable[[], Awaitable[object]]) -> None:
        """Leave it to the loop: a garbage collection may do this in any thread, where nothing must wait."""
        if not self.is_forked:
            self._on_loop(lambda: Call(function, copy_context(), self._noun).start(self._tasks))

    def abandon(self) -> None:
        """Begin to close, and wait for nothing. After a fork: a no-op."""
        # First: another thread may have held the lock when the process was forked.
        if self.is_forked:
            return
        self._refuse()
        self._on_loop(self._stop.set)

    def close(self, timeout: timedelta | None = None) -> None:
        """Cancel what runs, leave the context, and end the thread. Twice: a no-op. After a fork: a no-op.

        In a thread that the loop itself waits for, such as a handler's, it begins to close and does not wait.
        """
        if self.is_forked:
            return
        check_no_loop()
        self.abandon()
        if getattr(awaited, "loop", None) is self._loop:
            return
        self._thread.join(None if timeout is None else timeout.total_seconds())
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _refuse(self) -> list[Call[Any]]:
        """Refuse further calls, and give those that have begun."""
        with self._lock:
            self._closed = True
            return list(self._calls)

    def _check(self) -> None:
        if self.is_forked:
            raise RuntimeError(FORKED.format(self._noun))
        check_no_loop()

    def _submit(self, call: Call[Any]) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED.format(self._noun))
            self._calls.add(call)
            try:
                self._loop.call_soon_threadsafe(call.start, self._tasks)
            except RuntimeError:
                self._calls.discard(call)
                raise RuntimeError(CLOSED.format(self._noun)) from None

    def _on_loop(self, function: Callable[[], object]) -> None:
        # The loop is closed, so whatever it ran has ended.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def _abort(self, opened: Future[T]) -> None:
        """Opening failed or was interrupted."""
        if self._thread.ident is None:
            _open.discard(self)
            self._loop.close()
            return
        if not opened.done():
            self._on_loop(lambda: [task.cancel() for task in asyncio.all_tasks()])
        elif opened.exception() is None:
            self.abandon()
        self._thread.join()

    def _run(self, make: Callable[[], AbstractAsyncContextManager[T]], opened: Future[T], context: Context) -> None:
        """The thread."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                try:
                    runner.run(self._serve(make, opened), context=context)
                finally:
                    # Whatever ended it: the loop goes on while the runner closes it.
                    self._refuse()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that opens or closes
            if not opened.done():
                opened.set_exception(error)
            else:
                self._error = error
        finally:
            for call in self._refuse():
                call.end()
            _open.discard(self)

    async def _serve(self, make: Callable[[], AbstractAsyncContextManager[T]], opened: Future[T]) -> None:
        async with make() as value:
            opened.set_result(value)
            await self._stop.wait()
            while self._tasks:
                tasks = set(self._tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)


_open: Final[set[Portal[Any]]] = set()


def _close_all() -> None:
    for portal in list(_open):
        with suppress(Exception):
            portal.close(PATIENCE)


# Closing a store needs concurrent.futures, which accepts no work any more when functions of atexit run. This hook runs
# before; it is not a public name, so it may be missing.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
