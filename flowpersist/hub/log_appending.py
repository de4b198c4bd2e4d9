"""What a round adds to the audit log: leaves of the suspensions' trails, and of the trail of the halts."""

from __future__ import annotations

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.hub.transactions import Suspensions

__all__ = ["append_to_log"]


async def append_to_log(suspensions: Suspensions) -> Result[int, PersistenceError]:
    """Add a leaf for each trail that has grown; gives how many."""
    log = suspensions.side_records.log
    added = await log.append(suspensions.records)
    if not isinstance(added, Success) or not log.kept:
        return added
    halts = await append_halts(suspensions)
    return halts.map(lambda more: added.unwrap() + more)


async def append_halts(suspensions: Suspensions) -> Result[int, PersistenceError]:
    """Add a leaf for the trail of the halts, if it has grown."""
    found = await suspensions.halts.trail.leaf()
    if not isinstance(found, Success):
        return Failure(found.failure())
    leaf = found.unwrap()
    return Success(0) if leaf is None else await suspensions.side_records.log.add_leaf(leaf)
