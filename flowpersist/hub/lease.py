"""Holding a run: the lease is renewed in the background, and the work is cancelled if the lease is lost."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from returns.result import Failure

from flowpersist.errors import PermissionDenied
from flowpersist.errors.arguments import check_duration, mistyped
from flowpersist.hub.outcome import DEFAULT_LEASE, Outcome
from flowpersist.hub.renewing import Renewing
from flowpersist.hub.transactions import Suspensions
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.views import Resumption, check_run

__all__ = ["Leasing", "hold"]

log = logging.getLogger("flowpersist.hub")


class Leasing(Protocol):
    """What a lease needs of a hub."""

    suspensions: Suspensions
    holds: dict[tuple[SuspensionId, int], asyncio.Event]

    async def renew(self, run: Resumption[Any], *, lease: timedelta = DEFAULT_LEASE) -> Outcome[datetime]:
        """Move the end of the lease."""
        ...


class hold(Renewing):  # noqa: N801 - used as a verb, as asyncio.timeout is
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
        super().__init__(self._tried, lease, f"run {run.suspension.id}", hub.suspensions.records.backend.name)
        self._hub = hub
        self._run = run

    async def __aenter__(self) -> Self:
        """Start renewing."""
        await super().__aenter__()
        self._hub.holds[self._run.suspension.id, self._run.fence] = self._finished
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop renewing. If the lease was lost, raise that error in place of the cancellation that it caused."""
        self._hub.holds.pop((self._run.suspension.id, self._run.fence), None)
        await super().__aexit__(kind, error, traceback)

    async def _tried(self) -> Outcome[datetime] | None:
        """One renewal; None where users' code raised."""
        try:
            renewed = await self._hub.renew(self._run, lease=self._lease)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - a backend may be the user's code, and no one awaits this task
            self._hub.suspensions.tracebacks.log(log, error, "renewing the lease on %s raised", self._run.suspension.id)
            return None
        refused = renewed.failure() if isinstance(renewed, Failure) else None
        # The cause is what an authorizer raised, which may pass: its own refusal has none.
        return None if isinstance(refused, PermissionDenied) and refused.__cause__ is not None else renewed
