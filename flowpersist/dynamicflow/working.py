"""The worker of a runner: the hub's, which passes over the runs that need tools it lacks, before it claims them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from returns.result import Failure, Result

from flowpersist.dynamicflow.facts import needs
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.hub.worker import Worker
from flowpersist.lifecycle import Resumption

if TYPE_CHECKING:
    from flowpersist.lifecycle.model import Head
    from flowpersist.sealed.drafts import Loaded

__all__ = ["FlowWorker"]


@frozen
class FlowWorker(Worker):
    """Claims flows that are due, and of these the ones that it has the tools for."""

    #: The tools of these ids that it has not.
    lacking: Callable[[frozenset[str]], Sequence[str]] = field(kw_only=True)

    async def claim(self, record: Loaded[Head]) -> Result[Resumption[Any], PersistenceError]:
        """Pass over a run whose tools are not here, before anything is taken."""
        lacking = self.lacking(needs(record.head.metadata))
        if lacking:
            # One text for all runs that lack it, so that it is told once.
            message = f"this worker lacks the tool {lacking[0]!r}: runs that call it are left to others"
            return Failure(FlowError(f"{message}; register it with FlowRunner(hub, tools=[…])", tool=lacking[0]))
        return await super().claim(record)
