"""A runner's worker: the hub's worker, which also skips runs that need missing tools before it claims them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.event_recorder import recorder_of
from flowpersist.dynamicflow.facts import needs, run_id_of
from flowpersist.dynamicflow.parking import Failed, parks
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.hub.outcome import Outcome
from flowpersist.hub.worker import Worker
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import Resumption, Suspension

if TYPE_CHECKING:
    from flowpersist.lifecycle.model import Head
    from flowpersist.sealed.drafts import Loaded

__all__ = ["FlowWorker"]

_log = logging.getLogger("flowpersist.dynamicflow")


@frozen
class FlowWorker(Worker):
    """Claims flows that are due and whose tools it has."""

    #: The ids among these of tools that it lacks.
    lacking: Callable[[frozenset[str]], Sequence[str]] = field(kw_only=True)

    #: What becomes of a run that is given up, where its document does not say.
    failed: Failed = field(kw_only=True)
    #: The hub's ``park``.
    park: Callable[..., Awaitable[Outcome[Suspension]]] = field(kw_only=True)
    #: Claims a run by its id, with the waits alone that this claim concerns.
    claim_run: Callable[[SuspensionId], Awaitable[Outcome[Resumption[Any]]]] = field(kw_only=True)

    async def give_up(self, run: Resumption[Any], error: BaseException | str) -> Outcome[Suspension]:
        """Park a run that is to be parked, with the state that is stored."""
        if not parks(run.state, self.failed):
            return await super().give_up(run, error)
        unrecorded = await self._recorded(run, error)
        if unrecorded is not None:
            _log.warning("an event of run %s could not be stored: %s", run_id_of(run.suspension), unrecorded)
        return await self.park(run, error=error)

    async def _recorded(self, run: Resumption[Any], error: BaseException | str) -> PersistenceError | None:
        """Store the event that the run is parked, if it has events; the error if that fails."""
        found = await recorder_of(self.hub.suspensions, run, lambda *_: None, lambda: run)
        if not isinstance(found, Success):
            return found.failure()
        recorder = found.unwrap()
        if recorder is None:
            return None
        if not isinstance(error, PersistenceError):
            # As in the stored error, only the class of an exception: its text may hold state.
            error = FlowError(error if isinstance(error, str) else type(error).__name__)
        recorder.parked(error)
        return await recorder.flush()

    async def claim(self, record: Loaded[Head]) -> Result[Resumption[Any], PersistenceError]:
        """Skip a run whose tools are missing, before anything is changed."""
        lacking = self.lacking(needs(record.head.metadata))
        if lacking:
            # One text for all runs that lack it, so that it is reported once.
            message = f"this worker lacks the tool {lacking[0]!r} and leaves runs that call it to other workers"
            return Failure(FlowError(f"{message}; register it with FlowRunner(hub, tools=[…])", tool=lacking[0]))
        return await self.claim_run(record.head.id)
