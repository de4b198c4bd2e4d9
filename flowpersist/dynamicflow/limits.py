"""What bounds a run as a whole: its deadline, and how many of its tools run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from attrs import frozen

from flowpersist.dynamicflow.building import MAX_CONCURRENCY, MAX_TIMEOUT
from flowpersist.dynamicflow.durability import TAKES, durability_of
from flowpersist.dynamicflow.ir import Limits
from flowpersist.dynamicflow.outcomes import Failed, StepOutcome
from flowpersist.dynamicflow.problems import shown
from flowpersist.errors import FlowDeadlinePassed
from flowpersist.inputs.await_input import AwaitInput

if TYPE_CHECKING:
    from flowpersist.dynamicflow.document import Document
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.lifecycle import Resumption

__all__ = ["DEADLINE", "Bound", "deadline_wait", "limits_of"]

#: The wait that ends a run's time; no step has this path.
DEADLINE: Final = "$deadline"


def limits_of(document: Document) -> Limits:
    """The limits beside the document's steps. What is wrong with them becomes a problem of the document."""
    data, timeout, concurrency = document.data, None, None
    if "timeout" in data:
        timeout = data["timeout"] if _is_number(data["timeout"]) and 0 < data["timeout"] <= MAX_TIMEOUT else None
        if timeout is None:
            _refuse(document, "timeout", f"a number of milliseconds over 0 and at most {MAX_TIMEOUT}")
    if "concurrency" in data:
        concurrency = data["concurrency"] if _is_count(data["concurrency"]) else None
        if concurrency is None:
            _refuse(document, "concurrency", f"a whole number from 1 to {MAX_CONCURRENCY}")
    durability = durability_of(data["durability"]) if "durability" in data else None
    if "durability" in data and durability is None:
        _refuse(document, "durability", TAKES)
    return Limits(None if timeout is None else timeout / 1000, concurrency, durability)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= MAX_CONCURRENCY


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(document: Document, name: str, expected: str) -> None:
    message = f"Invalid {name!r} of the document: expected {expected}, got {shown(document.data[name])}"
    document.problems.add(f"/{name}", "invalid-value", message, expected=expected)


def deadline_wait(flow: Flow, deadline: datetime | None) -> Mapping[str, AwaitInput[Any]]:
    """The wait that is open from the start to the end of a run whose time is bounded."""
    seconds = flow.limits.timeout
    if seconds is None and deadline is None:
        return {}
    timeout = None if seconds is None else timedelta(seconds=seconds)
    prompt = "The run ends at this time, if it has not ended before."
    return {
        DEADLINE: AwaitInput[Any](id="deadline", prompt=prompt, timeout=timeout, deadline=deadline, answerable_by=())
    }


@frozen
class Bound:
    """The deadline of a run, for whoever holds it: ``at`` by this process's monotonic clock; None: it has none."""

    flow: str
    moment: datetime | None
    at: float | None

    @classmethod
    def of(cls, run: Resumption[Any], flow: Flow, moment: datetime | None) -> Bound:
        """The deadline of a run that was just claimed; None: it has none."""
        if moment is None:
            return cls(flow.name, None, None)
        # Both by the store's clock: a claim is an update.
        left = (moment - run.suspension.updated_at).total_seconds()
        return cls(flow.name, moment, asyncio.get_running_loop().time() + left)

    async def within(self, run: Resumption[Any], work: Callable[[], Awaitable[StepOutcome]]) -> StepOutcome:
        """Do the work, unless the deadline has passed, and cancel it when it passes."""
        late = self.late(run)
        if late is not None:
            return late
        timeout = asyncio.timeout_at(self.at)
        try:
            async with timeout:
                return await work()
        except TimeoutError:
            if not timeout.expired():
                raise
            return self._passed()

    def late(self, run: Resumption[Any]) -> Failed | None:
        """The failure of a run that was told that its time is over; None for any other."""
        return self._passed() if DEADLINE in run.expired else None

    def _passed(self) -> Failed:
        at = "" if self.moment is None else f" of {self.moment.isoformat(timespec='seconds')}"
        message = f"the run has not ended by its deadline{at}: start it with a later deadline, or a longer 'timeout'"
        return Failed(FlowDeadlinePassed(message, self.flow))
