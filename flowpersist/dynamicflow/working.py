"""The worker of a runner: the hub's, which passes over the runs that need tools it lacks, before it claims them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from returns.result import Failure, Result

from flowpersist.claiming import Worker, claim_each
from flowpersist.dynamicflow.facts import needs
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.lifecycle import Resumption

if TYPE_CHECKING:
    from flowpersist.lifecycle.model import Head
    from flowpersist.records import Loaded

__all__ = ["FlowWorker"]

_log = logging.getLogger("flowpersist.dynamicflow")


@frozen
class FlowWorker(Worker):
    """Claims flows that are due, and of these the ones that it has the tools for."""

    can_run: Callable[[frozenset[str]], bool] = field(kw_only=True)

    async def _claim(self, free: int) -> tuple[Resumption[Any], ...]:
        async def one(record: Loaded[Head]) -> Result[Resumption[Any], PersistenceError]:
            if not self.can_run(needs(record.head.metadata)):
                return Failure(FlowError(f"run {record.head.id} needs tools that this worker lacks"))
            return await self.hub.claim(record.head.id, lease=self.lease)

        claimed = await claim_each(self.hub, self.criteria, one, free)
        if isinstance(claimed, Failure):
            _log.error("no run could be claimed, trying again in %s: %s", self.poll, claimed.failure())
            return ()
        return claimed.unwrap()
