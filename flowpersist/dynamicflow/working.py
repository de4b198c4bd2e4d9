"""The worker of a runner: the hub's, which passes over the runs that need tools it lacks, before it claims them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from returns.result import Failure, Result

from flowpersist.claiming import Worker
from flowpersist.dynamicflow.facts import needs
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.lifecycle import Resumption

if TYPE_CHECKING:
    from flowpersist.lifecycle.model import Head
    from flowpersist.records import Loaded

__all__ = ["FlowWorker"]


@frozen
class FlowWorker(Worker):
    """Claims flows that are due, and of these the ones that it has the tools for."""

    can_run: Callable[[frozenset[str]], bool] = field(kw_only=True)

    async def claim(self, record: Loaded[Head]) -> Result[Resumption[Any], PersistenceError]:
        """Pass over a run whose tools are not here, before anything is taken."""
        if not self.can_run(needs(record.head.metadata)):
            return Failure(FlowError(f"run {record.head.id} needs tools that this worker lacks"))
        return await super().claim(record)
