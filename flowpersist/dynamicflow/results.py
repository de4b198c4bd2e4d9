"""The outcomes of starting or resuming a run: completed, suspended, or accepted by the process that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from flowpersist.inputs.await_input import AwaitInput
    from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
    from flowpersist.lifecycle import Receipt, Suspension
    from flowpersist.lifecycle import Wait as SuspensionWait

__all__ = ["Accepted", "Completed", "FlowOutcome", "Suspended", "Wait", "delays_of", "due_of", "open_waits"]


@frozen
class Wait:
    """One answer that a run awaits: the path of its step, such as ``each[2].ask``, and the key for the answer."""

    step: str
    key: SuspensionKey
    _asked: SuspensionWait = field(repr=False, alias="asked")

    @property
    def awaiting(self) -> AwaitInput[object]:
        """What is awaited, with its schema as JSON Schema."""
        # Made on demand: a run with a thousand open waits must not check a thousand schemas at each answer.
        awaiting = self._asked.awaiting
        if awaiting is None:
            msg = "a wait of a run that asks nothing"
            raise ValueError(msg)
        return awaiting


@frozen
class Completed:
    """The run is done: the last step's result, and every step's by id (of a step in a map: a list, by iteration)."""

    result: object = field(repr=False)
    outputs: Mapping[str, object] = field(repr=False)


@frozen
class Suspended:
    """The run is stored and awaits answers, in any order; any process that has its tools may continue it."""

    run_id: str
    waits: tuple[Wait, ...]
    #: The id of the run's suspension: ``resume`` takes it, to go on at ``due``.
    suspension_id: SuspensionId
    #: When the run goes on by itself, if nobody answers before: the end of its earliest delay.
    due: datetime | None = None
    #: How many waits are open that ``waits`` leaves out, since a run with more than 128 open ones lists those alone
    #: that this call has opened: ``hub.keys(suspension_id)`` gives the keys of all.
    further: int = 0

    @property
    def key(self) -> SuspensionKey:
        """The key of the only wait; ``ValueError`` where there are several, or none."""
        if len(self.waits) != 1 or self.further:
            msg = f"there are {len(self.waits) + self.further} open waits: take the key from .waits or .keys"
            raise ValueError(msg)
        return self.waits[0].key

    @property
    def keys(self) -> Mapping[str, SuspensionKey]:
        """The keys of ``waits``, by the paths of their steps."""
        return {wait.step: wait.key for wait in self.waits}


@frozen
class Accepted:
    """The answer is recorded, and another process continues the flow with it."""

    receipt: Receipt


FlowOutcome: TypeAlias = Completed | Suspended | Accepted


def open_waits(suspension: Suspension, keys: Mapping[str, SuspensionKey]) -> tuple[Wait, ...]:
    """The open waits of a run whose keys are there."""
    return tuple(
        [Wait(wait.name, keys[wait.name], wait) for wait in suspension.waits if wait.name in keys and wait.asks]
    )


def delays_of(suspension: Suspension) -> dict[str, datetime]:
    """When the open delays of a run are over, by their paths. The run's own waits are not among them."""
    delays = (wait for wait in suspension.open_waits if wait.timed and not wait.name.startswith("$"))
    return {wait.name: wait.deadline for wait in delays if wait.deadline is not None}


def due_of(suspension: Suspension) -> datetime | None:
    """When a run goes on by itself; None if it has no delay."""
    return min(delays_of(suspension).values(), default=None)
