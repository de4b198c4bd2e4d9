"""Taking a run over: what its log says is put into its state, and the log is removed once a later state is stored."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from returns.result import Failure, Success

from flowpersist.dynamicflow.dormant import merged
from flowpersist.dynamicflow.facts import run_id_of
from flowpersist.dynamicflow.journal import replay
from flowpersist.dynamicflow.state import check_state, is_within
from flowpersist.errors import FlowError

if TYPE_CHECKING:
    from collections.abc import Collection

    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle import Resumption

__all__ = ["forget_log", "is_used", "recover"]

_log = logging.getLogger("flowpersist.dynamicflow")


async def recover(hub: PersistenceHub, run: Resumption[Any]) -> Outcome[tuple[str, ...] | None]:
    """Put the log of a run into its state. Gives the paths of the steps whose answers it has used; None: there is no
    log.
    """
    checked = check_state(run.state)
    # Nobody has held the run in this pause before its first attempt, and so nobody has logged anything.
    if run.attempt <= 1 or isinstance(checked, Failure):
        return Success(None)
    logged = await hub.suspensions.side_records.steps.read(run.suspension, before=run.fence)
    if isinstance(logged, Failure):
        return Failure(logged.failure())
    batches, state = logged.unwrap(), checked.unwrap()
    if not batches:
        return Success(None)
    try:
        await asyncio.to_thread(merged, state)
    except FlowError as error:
        return Failure(error)
    return Success(tuple(replay(state["frame"], batches)))


def is_used(name: str, paths: Collection[str]) -> bool:
    """Whether the answer of a wait was used by one of these steps, or within one."""
    return any(is_within(name, path) for path in paths)


async def forget_log(hub: PersistenceHub, run: Resumption[Any]) -> None:
    """Remove the logs of this and earlier sequences, once a later state is stored or the run has ended."""
    done = await hub.suspensions.side_records.steps.forget(run.suspension.id, run.sequence)
    if isinstance(done, Failure):
        # They are removed with the run.
        _log.debug("logs of run %s stay: %s", run_id_of(run.suspension), done.failure())
