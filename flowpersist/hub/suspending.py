"""Making a pause: its waits with new secrets, its sealed state, and the comparison with an earlier request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Scalar, check_text
from flowpersist.codec import TypeRegistry
from flowpersist.errors import ConfigurationError, IdempotencyConflict, PersistenceError
from flowpersist.errors.arguments import (
    check_aware,
    check_choice,
    check_duration,
    check_optional,
    mistyped,
    out_of_range,
)
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, Principal, Quorum, principal_data
from flowpersist.inputs.schedule import lacks_deadline
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.changes import update_status
from flowpersist.lifecycle.model import UNTIL, Head, Status, Until, WaitState, check_metadata, fingerprint
from flowpersist.lifecycle.moments import in_utc, later
from flowpersist.lifecycle.scheduling import opened_schedule
from flowpersist.lifecycle.shown import shown_digest
from flowpersist.sealed.drafts import Loaded, record_context
from flowpersist.sealed.encoding import encoded
from flowpersist.sealed.records import SealedRecords

__all__ = [
    "Awaiting",
    "Facts",
    "Plan",
    "SealedState",
    "check_digest",
    "check_requester",
    "check_superseded",
    "lacks_voters",
    "plan",
    "requester_of",
    "same_request",
    "same_state",
    "seal_state",
]

Awaiting: TypeAlias = AwaitInput[Any] | Mapping[str, AwaitInput[Any]] | None
MAX_WAITS = 10_000
#: The most characters of everything that a pause awaits; more does not fit in a head.
MAX_AWAITED = 4 * 1024 * 1024
#: The name of the wait of a pause that needs no answer.
NO_ANSWER = "answer"


@frozen
class Planned:
    """A wait to be opened once the store's time is known."""

    name: str
    secret: bytes = field(repr=False)
    awaiting: AwaitInput[Any] | None
    types: TypeRegistry | None = field(repr=False)
    data: Mapping[str, object] | None = field(init=False, repr=False)
    shown: bytes | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        data = None if self.awaiting is None else self.awaiting.to_data(self.types)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "shown", None if data is None else shown_digest(data))

    def opened(self, deadline: datetime | None, now: datetime) -> WaitState:
        """The open wait."""
        schedule = opened_schedule(self.data, now)
        return WaitState(self.name, self.secret, 1, self.data, deadline, shown=self.shown, schedule=schedule)


@frozen
class Plan:
    """What a pause will wait for. Timeouts count from the store's time at the put that makes the pause durable."""

    waits: tuple[Planned, ...]
    until: Until
    timeout: timedelta | None
    deadline: datetime | None
    default_timeout: timedelta | None

    def opened(self, now: datetime) -> tuple[WaitState, ...]:
        """Its waits, opened at ``now``."""
        return tuple(wait.opened(self._deadline(wait.awaiting, now), now) for wait in self.waits)

    def question(self) -> bytes:
        """The digest of what is asked: names, texts, schemas, defaults and ``until``. Not until when, which a caller
        who counts from now says otherwise each time.
        """
        asked = {wait.name: None if wait.awaiting is None else _timeless(wait.awaiting) for wait in self.waits}
        return fingerprint([self.until, asked])

    def _deadline(self, awaiting: AwaitInput[Any] | None, now: datetime) -> datetime | None:
        own = (None, None) if awaiting is None else (awaiting.deadline, awaiting.timeout)
        for deadline, timeout in ((self.deadline, self.timeout), own, (None, self.default_timeout)):
            if deadline is not None or timeout is not None:
                return earliest(deadline, timeout, now)
        return None


def _timeless(awaiting: AwaitInput[Any]) -> dict[str, object]:
    return {name: value for name, value in awaiting.to_data().items() if name not in {"timeout", "deadline"}}


def earliest(deadline: datetime | None, timeout: timedelta | None, now: datetime) -> datetime | None:
    """The earlier of a deadline and a timeout from now; None if neither is given."""
    absolute = None if deadline is None else in_utc(deadline)
    relative = None if timeout is None else later(now, timeout)
    return min((moment for moment in (absolute, relative) if moment is not None), default=None)


def check_times(timeout: timedelta | None, deadline: datetime | None) -> None:
    """Refuse a timeout that is not positive, and a deadline without a time zone."""
    check_optional(timeout, "timeout", check_duration)
    check_optional(deadline, "deadline", check_aware)


def plan(
    awaiting: Awaiting,
    *,
    until: Until,
    timeout: timedelta | None,
    deadline: datetime | None,
    default_timeout: timedelta | None,
    entropy: Callable[[int], bytes],
    types: TypeRegistry | None = None,
) -> Plan:
    """What a pause will wait for, with a new secret for each wait. ``ValueError`` for invalid arguments."""
    check_choice(until, "until", UNTIL)
    check_times(timeout, deadline)
    named = _named(awaiting)
    if len(named) > MAX_WAITS:
        out_of_range("awaiting", f"at most {MAX_WAITS} waits", len(named))
    size = sum(item.size for item in named.values() if item is not None)
    if size > MAX_AWAITED:
        out_of_range("awaiting", f"at most {MAX_AWAITED} characters as JSON in all", size)
    waits = tuple(
        Planned(check_text(name, "the name of a wait in awaiting"), entropy(32), item, types)
        for name, item in named.items()
    )
    if timeout is None and deadline is None and default_timeout is None:
        _require_deadlines(named)
    return Plan(waits, until, timeout, deadline, default_timeout)


def _require_deadlines(named: Mapping[str, AwaitInput[Any] | None]) -> None:
    for name, item in named.items():
        what = None if item is None else lacks_deadline(item)
        if what is not None:
            message = f"Invalid {what} of the wait {name!r}: it has no deadline; give it a timeout or a deadline"
            raise ConfigurationError(message, what)


def _named(awaiting: Awaiting) -> Mapping[str, AwaitInput[Any] | None]:
    if awaiting is None:
        return {NO_ANSWER: None}
    if isinstance(awaiting, AwaitInput):
        return {awaiting.id: awaiting}
    takes = "an AwaitInput, a mapping of names to AwaitInputs, or None"
    if not isinstance(awaiting, Mapping):
        mistyped("awaiting", takes, awaiting)
    if not awaiting:
        mistyped("awaiting", takes, awaiting)
    for item in awaiting.values():
        if not isinstance(item, AwaitInput):
            mistyped("awaiting", takes, item)
    return awaiting


def check_superseded(names: object, what: str = "superseded") -> frozenset[str]:
    """The names of waits in an argument; ``TypeError`` for a str, whose letters would be taken for names."""
    if isinstance(names, str) or not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        msg = f"Invalid {what}: expected a collection of names of waits, not {type(names).__name__}"
        raise TypeError(msg)
    return frozenset(names)


def requester_of(by: By | None) -> Mapping[str, object] | None:
    """Whoever asks, as a head keeps it."""
    if isinstance(by, Principal):
        return principal_data(by)
    return {"subject": by} if by else None


def lacks_voters(asked: AwaitInput[Any], requester: str | None) -> str | None:
    """What is wrong with a quorum that the others can't reach, where whoever asks is one of its assignees."""
    if not isinstance(quorum := asked.quorum, Quorum):
        return None
    voters = quorum.voters(asked.assignees, asked.groups, requester)
    if voters is None or voters >= quorum.votes:
        return None
    return (
        f"it takes {quorum.votes} votes, and without whoever asks there are {voters} assignees; name more, or use "
        "Quorum(self_approval=True)"
    )


def check_requester(plan: Plan, requester: str | None) -> None:
    """Refuse a quorum that the others can't reach, where whoever asks is one of its assignees."""
    for wait in plan.waits:
        lacking = None if wait.awaiting is None else lacks_voters(wait.awaiting, requester)
        if lacking is not None:
            raise ConfigurationError(f"Invalid quorum of {wait.name!r}: {lacking}", "quorum")


@frozen
class Facts:
    """The facts of a suspension that never change. ``fresh``: its id is random, so nobody else uses it."""

    id: SuspensionId
    metadata: Mapping[str, Scalar] = field(converter=check_metadata)
    tenant: str | None
    retention: timedelta
    fresh: bool = False

    def __attrs_post_init__(self) -> None:
        if self.tenant is not None:
            check_text(self.tenant, "tenant")

    def head(
        self,
        plan: Plan,
        now: datetime,
        status: Status,
        mark: bytes | None,
        requester: Mapping[str, object] | None = None,
    ) -> Head:
        """A new suspension; ``mark`` is the sealed digest of its state, ``requester`` who asks."""
        head = Head(
            id=self.id,
            tenant=self.tenant,
            metadata=self.metadata,
            created_at=now,
            updated_at=now,
            retention=self.retention,
            status=status,
            until=plan.until,
            waits=plan.opened(now),
            fingerprint=mark,
            question=None if self.fresh else plan.question(),
            requester=requester,
        )
        return update_status(head, now)


@frozen
class SealedState:
    """A state as its record keeps it, and its digest to compare it by (None if it is never compared)."""

    body: bytes = field(repr=False)
    digest: bytes | None = field(default=None, repr=False)
    fingerprint: bytes | None = field(default=None, repr=False)


def check_digest(given: object, name: str) -> None:
    """A str or bytes."""
    if not isinstance(given, str | bytes):
        mistyped(name, "a str or bytes", given)
    if isinstance(given, str):
        check_text(given, name)


async def seal_state(
    records: SealedRecords[Head],
    key: str,
    tenant: str | None,
    state: object,
    *,
    compared: bool,
    instead: str | bytes | None = None,
    verify: bool = False,
) -> Result[SealedState, PersistenceError]:
    """Encode once, and seal the bytes. In a thread, unless a bounded look finds the state small; ``StateChanged`` where
    another task changes it meanwhile.

    ``compared``: somebody may come with the same name again, so that a digest must tell whether the state is the same.
    It takes as long as all other digests and the cipher together. ``instead`` is compared in the state's place.
    ``verify``: decode what was encoded, and compare it with the state.
    """
    context = record_context(records.ref(key), tenant)
    failed = await records.ready({"tenant": tenant})
    if failed is not None:
        return Failure(failed)
    sealer = records.sealer.for_tenant(tenant)

    def sealed(data: bytes) -> Result[SealedState, PersistenceError]:
        body = sealer.seal_bytes(data, context=context, purpose="state")
        if not compared:
            return body.map(SealedState)
        digest = hashlib.sha256(data).digest() if instead is None else _digest_instead(instead)
        # The digest is sealed as the state is, so that a process that may only answer can't confirm a guess.
        fingerprint = sealer.seal_bytes(digest, context=context, purpose="fingerprint")
        return body.bind(lambda made: fingerprint.map(lambda mark: SealedState(made, digest, mark)))

    return await encoded(sealer.codec.verifying() if verify else sealer.codec, state, sealed)


def _digest_instead(given: str | bytes) -> bytes:
    """A digest that no state has, since no encoded state begins with this prefix."""
    return hashlib.sha256(b"idempotency_digest\0" + (given.encode() if isinstance(given, str) else given)).digest()


def same_request(
    records: SealedRecords[Head], record: Loaded[Head], plan: Plan, state: SealedState | None
) -> Result[None, PersistenceError]:
    """Whether an existing suspension was made with this question and this state (None: no state was named)."""
    if record.head.question is not None and record.head.question != plan.question():
        return Failure(_conflict(record.head, "another question"))
    return same_state(records, record, state)


def same_state(
    records: SealedRecords[Head], record: Loaded[Head], state: SealedState | None
) -> Result[None, PersistenceError]:
    """Whether an existing suspension was made with this state (None: no state was named)."""
    # Without a digest the suspension was found by a random id, which nobody but this call knows.
    if state is None or state.digest is None:
        return Success(None)
    if record.head.fingerprint is None:
        return Failure(_conflict(record.head, "another state"))
    context = record_context(record.ref, record.tenant)
    opened = records.sealer.open_bytes(record.head.fingerprint, context=context, purpose="fingerprint")
    match opened:
        case Success(digest) if hmac.compare_digest(digest, state.digest):
            return Success(None)
        case Success(_):
            return Failure(_conflict(record.head, "another state or idempotency_digest"))
    return Failure(opened.failure())


def _conflict(head: Head, other: str) -> PersistenceError:
    message = f"suspension {head.id} was made under the same idempotency key with {other}; use another key"
    return IdempotencyConflict(message)
