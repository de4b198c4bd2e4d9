"""A runner's worker: the hub's worker, which also skips runs that need missing tools before it claims them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from returns.result import Failure, Result

from flowpersist.dynamicflow.facts import needs
from flowpersist.dynamicflow.parking import Failed, parks
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.hub.outcome import Outcome
from flowpersist.hub.worker import Worker
from flowpersist.lifecycle import Resumption, Suspension

if TYPE_CHECKING:
    from flowpersist.lifecycle.model import Head
    from flowpersist.sealed.drafts import Loaded

__all__ = ["FlowWorker"]


@frozen
class FlowWorker(Worker):
    """Claims flows that are due and whose tools it has."""

    #: The ids among these of tools that it lacks.
    lacking: Callable[[frozenset[str]], Sequence[str]] = field(kw_only=True)

    #: What becomes of a run that is given up, where its document does not say.
    failed: Failed = field(kw_only=True)
    #: The hub's ``park``.
    park: Callable[..., Awaitable[Outcome[Suspension]]] = field(kw_only=True)

    async def give_up(self, run: Resumption[Any], error: BaseException | str) -> Outcome[Suspension]:
        """Park a run that is to be parked, with the state that is stored."""
        if parks(run.state, self.failed):
            return await self.park(run, error=error)
        return await super().give_up(run, error)

    async def claim(self, record: Loaded[Head]) -> Result[Resumption[Any], PersistenceError]:
        """Skip a run whose tools are missing, before anything is changed."""
        lacking = self.lacking(needs(record.head.metadata))
        if lacking:
            # One text for all runs that lack it, so that it is reported once.
            message = f"this worker lacks the tool {lacking[0]!r} and leaves runs that call it to other workers"
            return Failure(FlowError(f"{message}; register it with FlowRunner(hub, tools=[…])", tool=lacking[0]))
        return await super().claim(record)
