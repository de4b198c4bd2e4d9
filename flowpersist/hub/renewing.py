"""A lease is renewed in the background while a block runs; if it is lost, the block is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from returns.result import Failure, Success

from flowpersist.errors import BackendUnavailable, LeaseLost, PersistenceError, StorageError
from flowpersist.hub.outcome import Outcome

__all__ = ["Renewing"]

#: A lease is renewed after a third of its time, so that two renewals may fail.
RENEWALS: Final = 3
log = logging.getLogger("flowpersist.hub")


class Renewing:
    """An async context manager that renews a lease while its block runs.

    When the lease is lost the block is cancelled, and the error that said so is raised in place of the cancellation.
    ``renewal`` renews once for another ``lease``, and gives None where that could not be tried for no fault of the
    lease; ``what`` is what is leased, in the words of a message that holds no secret; ``store`` names the backend;
    ``left`` is what is left of the lease at the beginning, if that is not all of it.
    """

    def __init__(
        self,
        renewal: Callable[[], Awaitable[Outcome[Any] | None]],
        lease: timedelta,
        what: str,
        store: str,
        *,
        left: timedelta | None = None,
    ) -> None:
        self._renewal = renewal
        self._lease = lease
        self._left = lease if left is None else left
        self._what = what
        self._store = store
        self._finished = asyncio.Event()
        self._lost: PersistenceError | None = None
        self._ends = 0.0

    @property
    def finished(self) -> bool:
        """Whether nothing is to be renewed any more, since the block itself has ended the lease."""
        return self._finished.is_set()

    @property
    def lost(self) -> PersistenceError | None:
        """The error that ended the lease, if this process did not end it."""
        return self._lost

    @property
    def overdue(self) -> bool:
        """Whether the lease may have ended by now, by the clock of this process."""
        return asyncio.get_running_loop().time() >= self._ends

    async def __aenter__(self) -> Self:
        """Start renewing."""
        task = asyncio.current_task()
        if task is None:
            msg = f"{type(self).__name__} must be used in an asyncio task"
            raise RuntimeError(msg)
        self._body = task
        self._cancelling = task.cancelling()
        self._ends = asyncio.get_running_loop().time() + self._left.total_seconds()
        self._renewer = asyncio.create_task(self._renew(), name=f"renew {self._what}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop renewing. If the lease was lost, raise that error in place of the cancellation that it caused."""
        cancelled = await self._stopped()
        if self._lost is None:
            if cancelled:
                raise asyncio.CancelledError
            return
        if self._body.uncancel() > self._cancelling:
            # Somebody else has cancelled the task too: their cancellation takes precedence.
            if kind is None:
                raise asyncio.CancelledError
            return
        if kind is None or kind is asyncio.CancelledError:
            raise self._lost

    async def _stopped(self) -> bool:
        """Stop the renewing task; True if a cancellation arrived meanwhile."""
        cancelled = False
        self._renewer.cancel()
        while not self._renewer.done():
            try:
                await asyncio.wait({self._renewer})
            except asyncio.CancelledError:
                cancelled = True
        if self._lost is not None and not cancelled:
            # The body may have ended before the cancellation that the loss caused could reach it.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                cancelled = True
        return cancelled

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._left
        while not self.finished:
            await asyncio.sleep(left.total_seconds() / RENEWALS)
            left = self._lease
            started = loop.time()
            match await self._renewed():
                case Success(_):
                    self._ends = started + self._lease.total_seconds()
                case Failure(StorageError() as error) if not self.overdue:
                    log.warning("the lease on %s could not be renewed yet: %s", self._what, error)
                case None if not self.overdue:
                    pass
                case None:
                    self._lose(LeaseLost(f"the lease on {self._what} has ended: the authorizer raised"))
                    return
                case Failure(error):
                    self._lose(error)
                    return

    async def _renewed(self) -> Outcome[Any] | None:
        """One renewal. A store that does not answer must not keep the work going past the lease."""
        try:
            async with asyncio.timeout_at(self._ends):
                return await self._renewal()
        except TimeoutError:
            message = f"{self._store} did not answer before the lease ended"
            return Failure(BackendUnavailable(message, self._store, retryable=True))

    def _lose(self, error: PersistenceError) -> None:
        if self.finished:
            return
        lost = error
        if isinstance(error, StorageError):
            lost = LeaseLost(f"the lease on {self._what} has ended: the store could not be reached")
            lost.__cause__ = error
        self._lost = lost
        self._body.cancel()
