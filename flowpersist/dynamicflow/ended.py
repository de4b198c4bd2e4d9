"""What is known of a run that has ended: its result, or why it failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from returns.result import Failure, Success

from flowpersist.dynamicflow.facts import run_id_of
from flowpersist.dynamicflow.results import Completed
from flowpersist.dynamicflow.state import error_of
from flowpersist.errors import FlowError
from flowpersist.lifecycle import Status

if TYPE_CHECKING:
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle import Suspension

__all__ = ["ended"]


async def ended(hub: PersistenceHub, run: Suspension) -> Outcome[Completed]:
    """The result of a run that has ended, or the error with which it did."""
    return await (_failed(hub, run) if run.status is Status.FAILED else _completed(hub, run))


async def _completed(hub: PersistenceHub, run: Suspension) -> Outcome[Completed]:
    found = await hub.outcome(run.id)
    if isinstance(found, Failure):
        return found
    outcome = cast("dict[str, Any]", found.unwrap())
    return Success(Completed(outcome["result"], outcome["outputs"]))


async def _failed(hub: PersistenceHub, run: Suspension) -> Outcome[Completed]:
    found = await hub.failure(run.id)
    if isinstance(found, Failure):
        return found
    why = found.unwrap()
    if isinstance(why, Mapping):
        return Failure(error_of(why))
    message = f"run {run_id_of(run)} has failed: {run.error or 'its worker recorded no error'}"
    return Failure(FlowError(message, str(run.metadata.get("flow", ""))))
