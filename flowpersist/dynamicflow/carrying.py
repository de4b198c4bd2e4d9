"""The open waits with which a leg of a run begins: as the record has them, or as the run's state keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen
from returns.result import Failure, Success

from flowpersist.dynamicflow.dormant import OPEN, Dormant
from flowpersist.dynamicflow.limits import DEADLINE

if TYPE_CHECKING:
    from flowpersist.dynamicflow.state import State
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle import Resumption
    from flowpersist.lifecycle import Wait as SuspensionWait

__all__ = ["Carried", "carried_waits"]

#: The field of the state with the time of the run's deadline.
UNTIL: Final = "until"


@frozen
class Carried:
    """The open waits of a run that are not dormant, by path: their sizes, the digests of what they show, and those that
    only time ends, with the ends. ``until`` is the run's own deadline.
    """

    sizes: Mapping[str, int]
    digests: Mapping[str, str | None] = field(factory=dict)
    delays: Mapping[str, datetime] = field(factory=dict)
    until: datetime | None = None


async def carried_waits(hub: PersistenceHub, run: Resumption[Any], state: State, dormant: Dormant) -> Outcome[Carried]:
    """Those of a run that was just claimed. One whose waits were read in part has kept them in its state, or else all
    are read.
    """
    ended = {*run.answers, *run.expired}
    if run.partial is not None and OPEN in state:
        until = state.get(UNTIL)
        sizes = {name: size for name, size in state[OPEN].items() if name not in ended}
        return Success(Carried(sizes, until=None if until is None else datetime.fromisoformat(until)))
    if run.partial is None:
        waits: Sequence[SuspensionWait] = run.suspension.waits
    else:
        looked = await hub.inspect(run.suspension.id)
        if isinstance(looked, Failure):
            return Failure(looked.failure())
        waits = looked.unwrap().waits
    own = [wait for wait in waits if wait.name not in ended and wait.name != DEADLINE and not dormant.has(wait.name)]
    return Success(
        Carried(
            {wait.name: wait.size for wait in own},
            {wait.name: wait.digest for wait in own},
            {wait.name: wait.deadline for wait in own if wait.timed and wait.deadline is not None},
            next((wait.deadline for wait in waits if wait.name == DEADLINE), None),
        )
    )
