"""What a run is started with, beside its document and input, and the record that is stored before its first step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Scalar, check_text
from flowpersist.dynamicflow.facts import EVENTS, metadata_of
from flowpersist.dynamicflow.limits import deadline_wait
from flowpersist.dynamicflow.state import new_state
from flowpersist.errors.arguments import check_moment, check_optional, out_of_range
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, subject_of
from flowpersist.lifecycle.model import check_metadata
from flowpersist.sealed.encoding import encoded

if TYPE_CHECKING:
    from datetime import timedelta

    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.errors import PersistenceError
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle import NewSuspension

__all__ = ["START", "Terms"]

#: The wait of a run that is stored but not begun; no step has this path. Its default answers it if its starter has
#: died.
START: Final = "$start"
#: The names that the runner itself gives to a run's metadata.
_OWN: Final = re.compile(r"events|flow|hash|kind|run|tools\d*", re.ASCII)


def _metadata(given: Mapping[str, Scalar] | None) -> Mapping[str, Scalar]:
    checked = check_metadata({} if given is None else given)
    own = next((name for name in checked if _OWN.fullmatch(name)), None)
    if own is not None:
        out_of_range(
            "metadata", "names other than events, flow, hash, kind, run and tools, which the runner gives", repr(own)
        )
    return checked


@frozen
class Terms:
    """Who asks for the run, whose it is, its name, what it is listed with, and when its time is over.

    Raises ``TypeError`` or ``ConfigurationError`` for what can't be stored.
    """

    run_id: str | None = None
    by: By | None = None
    tenant: str | None = None
    metadata: Mapping[str, Scalar] = field(default=None, converter=_metadata)
    deadline: datetime | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("run_id", "tenant"):
            check_optional(getattr(self, name), name, check_text)
        check_optional(subject_of(self.by), "by", check_text)
        check_optional(self.deadline, "deadline", check_moment)

    async def store(
        self, hub: PersistenceHub, flow: Flow, value: object, lease: timedelta, *, events: bool
    ) -> Outcome[NewSuspension]:
        """Store the run, or find the one that was stored under its name. ``events``: whether its events are stored."""
        digest = Success(None) if self.run_id is None else await _digest(hub, flow, value)
        if isinstance(digest, Failure):
            return Failure(digest.failure())
        # If this process dies before it has claimed the run, the default answers, and a worker begins the run.
        begin = AwaitInput[object](id="start", prompt="The run is about to begin.", default=True, timeout=lease)
        return await hub.suspend(
            new_state(flow, value),
            awaiting={START: begin, **deadline_wait(flow, self.deadline)},
            until="each",
            metadata={**self.metadata, **metadata_of(flow, self.run_id), **({EVENTS: True} if events else {})},
            tenant=self.tenant,
            idempotency_key=self.run_id,
            idempotency_digest=digest.unwrap(),
            by=self.by,
        )


async def _digest(hub: PersistenceHub, flow: Flow, value: object) -> Result[bytes, PersistenceError]:
    """What makes two starts the same: the input, and what the document does. Its descriptions may differ."""
    same = {"flow": flow.hash, "input": value}
    return await encoded(hub.suspensions.records.sealer.codec, same, lambda data: Success(sha256(data).digest()))
