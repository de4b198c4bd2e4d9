"""Holding a run: the lease is renewed in the background, and the work is cancelled if the lease is lost."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Protocol, Self

from returns.result import Failure, Success

from flowpersist.errors import BackendUnavailable, LeaseLost, PermissionDenied, PersistenceError, StorageError
from flowpersist.errors.arguments import check_duration, mistyped
from flowpersist.hub.outcome import DEFAULT_LEASE, Outcome
from flowpersist.hub.transactions import Suspensions
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.views import Resumption, check_run

__all__ = ["Leasing", "hold"]

#: A lease is renewed after a third of its time, so that two renewals may fail.
RENEWALS: Final = 3
log = logging.getLogger("flowpersist.hub")


class Leasing(Protocol):
    """What a lease needs of a hub."""

    suspensions: Suspensions
    holds: dict[tuple[SuspensionId, int], asyncio.Event]

    async def renew(self, run: Resumption[Any], *, lease: timedelta = DEFAULT_LEASE) -> Outcome[datetime]:
        """Move the end of the lease."""
        ...


class hold:  # noqa: N801 - used as a verb, as asyncio.timeout is
    """``async with hold(hub, run, lease=…):`` renews while the body runs.

    When the lease is lost the body is cancelled, and the block raises the ``LeaseLost`` (or ``SuspensionCancelled``)
    that said so. Once the body itself has completed, released, failed or paused the run, renewing stops; ``finished``
    tells.
    """

    def __init__(self, hub: Leasing, run: Resumption[Any], *, lease: timedelta = DEFAULT_LEASE) -> None:
        if not hasattr(hub, "holds"):
            mistyped("hub", "a PersistenceHub (of a RaisingHub, its .hub)", hub)
        check_run(run)
        check_duration(lease, "lease")
        self._hub = hub
        self._run = run
        self._lease = lease
        self._finished = asyncio.Event()
        self._lost: PersistenceError | None = None

    @property
    def finished(self) -> bool:
        """Whether the run was completed, released, failed or paused from here."""
        return self._finished.is_set()

    @property
    def lost(self) -> PersistenceError | None:
        """The error that ended the lease, if this process did not end it."""
        return self._lost

    async def __aenter__(self) -> Self:
        """Start renewing."""
        task = asyncio.current_task()
        if task is None:
            msg = "hold must be used in an asyncio task"
            raise RuntimeError(msg)
        self._body = task
        self._cancelling = task.cancelling()
        self._hub.holds[self._run.suspension.id, self._run.fence] = self._finished
        self._renewer = asyncio.create_task(self._renew(), name=f"renew {self._run.suspension.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop renewing. If the lease was lost, raise that error in place of the cancellation that it caused."""
        self._hub.holds.pop((self._run.suspension.id, self._run.fence), None)
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
        pause = self._lease.total_seconds() / RENEWALS
        ends = loop.time() + self._lease.total_seconds()
        while not self.finished:
            await asyncio.sleep(pause)
            started = loop.time()
            match await self._renewed(ends):
                case Success(_):
                    ends = started + self._lease.total_seconds()
                case Failure(StorageError() as error) if loop.time() < ends:
                    log.warning("the lease on %s could not be renewed yet: %s", self._run.suspension.id, error)
                case None if loop.time() < ends:
                    pass
                case None:
                    self._lose(
                        LeaseLost(f"the lease on run {self._run.suspension.id} has ended: the authorizer raised")
                    )
                    return
                case Failure(error):
                    self._lose(error)
                    return

    async def _renewed(self, ends: float) -> Outcome[datetime] | None:
        """One renewal; None where users' code raised. A store that does not answer must not keep the work going past
        the lease.
        """
        try:
            async with asyncio.timeout_at(ends):
                renewed = await self._hub.renew(self._run, lease=self._lease)
        except TimeoutError:
            name = self._hub.suspensions.records.backend.name
            return Failure(BackendUnavailable(f"{name} did not answer before the lease ended", name, retryable=True))
        except Exception as error:  # noqa: BLE001 - a backend may be the user's code, and no one awaits this task
            self._hub.suspensions.tracebacks.log(log, error, "renewing the lease on %s raised", self._run.suspension.id)
            return None
        refused = renewed.failure() if isinstance(renewed, Failure) else None
        # The cause is what an authorizer raised, which may pass: its own refusal has none.
        return None if isinstance(refused, PermissionDenied) and refused.__cause__ is not None else renewed

    def _lose(self, error: PersistenceError) -> None:
        if self.finished:
            return
        lost = error
        if isinstance(error, StorageError):
            lost = LeaseLost(f"the lease on run {self._run.suspension.id} has ended: the store could not be reached")
            lost.__cause__ = error
        self._lost = lost
        self._body.cancel()
