"""Walks over many suspensions: pages by criteria, what is due, and settling it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Where
from flowpersist.errors import PersistenceError
from flowpersist.lifecycle.changes import present
from flowpersist.lifecycle.indexing import matches, order_of, where
from flowpersist.lifecycle.model import Head, Status
from flowpersist.lifecycle.views import Criteria, Suspension, suspension_of
from flowpersist.records import Loaded
from flowpersist.suspensions import Suspensions

__all__ = ["due", "query", "settle_due"]

log = logging.getLogger("flowpersist.hub")
#: The statuses that time alone can change.
CHANGING: Final = (Status.RESERVED, Status.WAITING, Status.RUNNING)
BATCH: Final = 100


async def query(
    suspensions: Suspensions, criteria: Criteria, *, limit: int, after: str | None, by: str | None = None
) -> Result[Page[Suspension], PersistenceError]:
    """A page of suspensions as of now, in order of their ids (of their due or creation, where the criteria have such a
    bound). What the authorizer refuses is left out; where there is one, what can't be read is not named either.
    """
    if after is None and (criteria.status is not None or criteria.due_before is not None):
        # The index knows status and due of the last put; what time has changed since must be put before it is asked.
        settled = await settle_due(suspensions)
        if not isinstance(settled, Success):
            return Failure(settled.failure())
    conditions = where(criteria)
    order, first = order_of(conditions), after is None
    page = await suspensions.records.page(conditions, order=order, limit=limit, after=after, told=first)
    if not isinstance(page, Success):
        return Failure(page.failure())
    return Success(await _shown(suspensions, page.unwrap(), criteria, by))


async def _shown(
    suspensions: Suspensions, page: Page[Loaded[Head]], criteria: Criteria, by: str | None
) -> Page[Suspension]:
    heads = [present(record.head, page.now) for record in page.items]
    shown = [
        suspension_of(head)
        for head in heads
        if matches(criteria, head) and isinstance(await suspensions.allowed("query", head, by), Success)
    ]
    # Whether somebody may know of a record is said of its suspension, which can't be read.
    unreadable = page.unreadable if suspensions.open_to_all else ()
    return Page(tuple(shown), page.next, page.now, unreadable)


async def due(
    suspensions: Suspensions, conditions: Where, *, batch: int = BATCH
) -> AsyncGenerator[Result[Loaded[Head], PersistenceError], None]:
    """The records that are due by the store's clock, longest overdue first; ends at the first failure."""
    after: str | None = None
    while True:
        found = await suspensions.records.page(conditions, order="due", limit=batch, after=after)
        if not isinstance(found, Success):
            yield Failure(found.failure())
            return
        page = found.unwrap()
        for record in page.items:
            if record.due_at is None or record.due_at > page.now:
                return
            yield Success(record)
        after = page.next
        if after is None:
            return


async def settle_due(suspensions: Suspensions, statuses: Sequence[Status] = CHANGING) -> Result[int, PersistenceError]:
    """Put what time has changed: gives how many suspensions were settled. One that fails is reported and left."""
    settled = 0
    for status in statuses:
        async for found in due(suspensions, Where({"status": str(status)})):
            if not isinstance(found, Success):
                return Failure(found.failure())
            key = found.unwrap().ref.key
            result = await suspensions.settle(key)
            if isinstance(result, Failure):
                log.error("suspension %s could not be settled: %s", key, result.failure())
            elif result.unwrap():
                settled += 1
    return Success(settled)
