"""A run as it is stored: its state, with what was logged since, and the flow that it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.apart import whole
from flowpersist.dynamicflow.compile import compile_soon
from flowpersist.dynamicflow.facts import no_flow
from flowpersist.dynamicflow.journal import replay
from flowpersist.dynamicflow.nested import Library
from flowpersist.dynamicflow.state import State
from flowpersist.errors import PersistenceError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.keys.suspension_key import SuspensionId
    from flowpersist.lifecycle import Suspension

__all__ = ["StoredRun", "flow_of", "stored_run"]


@frozen
class StoredRun:
    """A run that has not ended, as of one moment. Another process may hold it and go on."""

    suspension: Suspension
    state: State = field(repr=False)
    flow: Flow = field(repr=False)


async def stored_run(hub: PersistenceHub, run: SuspensionId) -> Outcome[StoredRun]:
    """Read a run and its log, and compile its document; nothing is written. ``SuspensionClosed`` if it has ended."""
    looked = await hub.peek(run)
    if isinstance(looked, Failure):
        return looked
    seen = looked.unwrap()
    stranger = no_flow(seen.suspension)
    checked = await whole(seen.state) if stranger is None else Failure(stranger)
    if isinstance(checked, Failure):
        return Failure(checked.failure())
    state = checked.unwrap()
    logged = await hub.suspensions.side_records.steps.read(seen.suspension)
    if isinstance(logged, Failure):
        return Failure(logged.failure())
    # All of it, whoever has used which answers.
    list(replay(state["frame"], logged.unwrap()))
    compiled = await flow_of(state)
    if isinstance(compiled, Failure):
        return Failure(compiled.failure())
    return Success(StoredRun(seen.suspension, state, compiled.unwrap()))


async def flow_of(state: State) -> Result[Flow, PersistenceError]:
    """The flow of a run's own document, and of the registered flows that it was started with."""
    return await compile_soon(state["document"], Library(state.get("flows", {})))
