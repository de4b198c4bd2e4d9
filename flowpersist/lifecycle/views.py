"""The public views of suspensions. None of them can resume anything, except ``NewSuspension.keys``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final, Generic, cast

from attrs import field, frozen
from returns.result import Failure, Result
from typing_extensions import TypeVar

from flowpersist.backends.base import Scalar
from flowpersist.errors import ConfigurationError, PersistenceError
from flowpersist.errors.arguments import check_instance
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import PERSONS, Principal, principal_from
from flowpersist.inputs.redaction import masked_question
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey, keys_of
from flowpersist.lifecycle.model import (
    Head,
    PartOfHead,
    Status,
    Until,
    WaitState,
    WaitStatus,
    rest_of,
    whole,
)
from flowpersist.lifecycle.scheduling import escalated_to, next_reminder, next_step
from flowpersist.lifecycle.shown import digest_text
from flowpersist.lifecycle.voting import Tally, principal_of, tally_of
from flowpersist.sealed.heads import json_size

__all__ = ["Checkpoint", "NewSuspension", "Peek", "Resumption", "Suspension", "Wait", "link_to"]

#: So many open waits of earlier pauses are shown with a part.
OTHERS: Final = 10

S = TypeVar("S")
#: The class of an answer: object, if the caller has not named what was asked.
A_co = TypeVar("A_co", covariant=True, default=object)


def _raise_or(result: Result[S, PersistenceError]) -> S:
    if isinstance(result, Failure):
        raise result.failure()
    return result.unwrap()


@frozen
class Wait:
    """One thing that is awaited, and how it stands.

    ``digest`` is that of what is shown with it, ``answered_digest`` that of what was shown to whoever answered.
    ``level`` counts the steps of its ladder that were reached, and ``escalated_to`` are those that it has gone to.
    ``next_reminder`` and ``next_escalation`` are when the next ones come, None where none does (or, of a step, only
    with the deadline).
    ``principal`` is who answered, as they were named then. ``tally`` says how its quorum stands; None without one.
    """

    name: str
    status: WaitStatus
    deadline: datetime | None
    answered_by: str | None
    answered_at: datetime | None
    _data: Mapping[str, object] | None = field(repr=False, alias="data")
    digest: str | None = None
    answered_digest: str | None = None
    level: int = 0
    escalated_to: tuple[str, ...] = ()
    next_reminder: datetime | None = None
    next_escalation: datetime | None = None
    principal: Principal | None = None
    tally: Tally | None = None

    @property
    def timed(self) -> bool:
        """Whether nobody may answer it, so that only time ends it."""
        return self._data is not None and self._data.get("answerable_by") == []

    @property
    def asks(self) -> bool:
        """Whether an answer is needed."""
        return self._data is not None

    @property
    def assignees(self) -> tuple[str, ...]:
        """The subjects that may answer, those that it was escalated to among them; empty with ``groups``: anybody."""
        return self._named("assignees")

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups whose members may answer, in the same way."""
        return self._named("groups")

    @property
    def answerable_by(self) -> tuple[str, ...]:
        """The kinds of principals whose answer it takes."""
        return tuple(cast("Sequence[str]", (self._data or {}).get("answerable_by", PERSONS)))

    def _named(self, what: str) -> tuple[str, ...]:
        data = cast("Mapping[str, Sequence[str]]", self._data or {})
        if not (data.get("assignees") or data.get("groups")):
            return ()
        return (*data.get(what, ()), *self.escalated_to)

    @property
    def size(self) -> int:
        """The bytes of what is awaited, as JSON; 0 where no answer is needed."""
        return 0 if self._data is None else json_size(self._data)

    @cached_property
    def awaiting(self) -> AwaitInput[object] | None:
        """What is awaited, with its schema as JSON Schema; None where no answer is needed."""
        # Made on demand: listing a thousand suspensions must not compile a thousand schemas.
        return None if self._data is None else _raise_or(AwaitInput.from_data(self._data))


@frozen
class Suspension:
    """A suspended run as of the moment of the call: never its state, never a key.

    ``sequence`` counts its pauses from 1; ``attempt`` the claims since the last pause. ``deadline`` is the earliest of
    its open waits'. ``reason`` is what cancel was given, ``error`` what release or fail was. ``requested_by`` made it.
    """

    id: SuspensionId
    status: Status
    waits: tuple[Wait, ...]
    sequence: int
    until: Until
    metadata: Mapping[str, Scalar]
    tenant: str | None
    created_at: datetime
    updated_at: datetime
    deadline: datetime | None
    closed_at: datetime | None
    reason: str | None
    error: str | None
    attempt: int
    requested_by: str | None = field(default=None, kw_only=True)
    _requester: Mapping[str, object] | None = field(default=None, kw_only=True, repr=False, alias="requester_data")

    @cached_property
    def requester(self) -> Principal | None:
        """Who made it, with roles and all as they were then; None where nobody was named."""
        # Made on demand: a listing has many suspensions.
        return None if self._requester is None else principal_from(self._requester)

    @property
    def open_waits(self) -> tuple[Wait, ...]:
        """The waits that still take an answer."""
        return tuple(wait for wait in self.waits if wait.status is WaitStatus.OPEN)


@frozen
class NewSuspension(Suspension):
    """A suspension with the keys of its open waits, by name; where ``suspend`` is repeated, or brings the state of a
    reserved one, those of waits that were answered meanwhile too.
    """

    keys: Mapping[str, SuspensionKey] = field(repr=False)
    #: Of the hub that made it.
    public_url: str | None = field(default=None, kw_only=True, repr=False)
    #: Whether its waits and keys are only those that concern this pause: of a run that was taken with a part of them.
    partial: bool = field(default=False, kw_only=True, repr=False)

    @property
    def key(self) -> SuspensionKey:
        """The only key; ``ValueError`` where there are several, or none."""
        if len(self.keys) != 1:
            msg = f"there are {len(self.keys)} keys: take the one of a wait from .keys by its name"
            raise ValueError(msg)
        return next(iter(self.keys.values()))

    @property
    def links(self) -> Mapping[str, str]:
        """Where each wait is answered, by name: the hub's ``public_url``, and the key as the last part of the path.
        As secret as the keys. ``ConfigurationError`` where the hub has no ``public_url``.
        """
        return {name: self._link(key) for name, key in self.keys.items()}

    @property
    def link(self) -> str:
        """The only link, as ``key`` is the only key."""
        return self._link(self.key)

    def _link(self, key: SuspensionKey) -> str:
        return link_to(self.public_url, key)


def link_to(public_url: str | None, key: SuspensionKey | None) -> str:
    """Where a wait is answered; None: the page alone. ``ConfigurationError`` without a ``public_url``."""
    if public_url is None:
        message = "there are no links without public_url: pass it to open_hub, or set FLOWPERSIST_PUBLIC_URL"
        raise ConfigurationError(message, "public_url")
    return public_url if key is None else f"{public_url.rstrip('/')}/{key}"


@frozen
class Resumption(Generic[S, A_co]):
    """A run that the caller holds now: its state, the new answers by wait, and the fence that its verbs carry.

    Answers are JSON data, or where ``awaiting`` was named to the verb that took the run, of its schema's class.
    ``expired`` names the waits that ended without an answer. ``principals`` has those who answered, and ``tallies`` the
    votes of quorums, by wait. ``(suspension.id, sequence)`` is the stable key for
    effects outside: it is the same for every attempt.
    """

    state: S = field(repr=False)
    answers: Mapping[str, object] = field(repr=False)
    answerers: Mapping[str, str | None]
    expired: tuple[str, ...]
    suspension: Suspension
    fence: int
    claim_id: str | None
    principals: Mapping[str, Principal] = field(factory=dict)
    tallies: Mapping[str, Tally] = field(factory=dict)
    #: The context of the OpenTelemetry span in which it was paused.
    trace: bytes | None = field(default=None, repr=False)
    #: None: ``suspension`` has all waits. Else it has those alone that concern this pause, and these are the beginnings
    #: of the digests of their keys' secrets, by which the next pause finds them.
    partial: frozenset[bytes] | None = field(default=None, kw_only=True, repr=False)

    @property
    def attempt(self) -> int:
        """Which claim of this pause it is, from 1."""
        return self.suspension.attempt

    @property
    def sequence(self) -> int:
        """Which pause it is, from 1."""
        return self.suspension.sequence

    @property
    def answer(self) -> A_co:
        """The only answer; None without one, which the verb's ``awaiting`` refuses; ``ValueError`` where there
        are several.
        """
        return cast("A_co", _only(self.answers))

    @property
    def answered_by(self) -> str | None:
        """Who gave the only answer; None without an answer, or where nobody was named."""
        return _only(self.answerers)


@frozen
class Checkpoint(Resumption[S, A_co]):
    """A run after a checkpoint, which the caller holds as before: the answers that came meanwhile and those that it
    had not read, and the keys of all open waits, by name.
    """

    keys: Mapping[str, SuspensionKey] = field(kw_only=True, repr=False)


@frozen
class Peek(Generic[S]):
    """A state as it was stored last, which the caller does not hold, and its suspension as of the same moment."""

    state: S = field(repr=False)
    suspension: Suspension


def _only(values: Mapping[str, S]) -> S | None:
    if len(values) > 1:
        msg = f"there are {len(values)} answers: take them from .answers by name"
        raise ValueError(msg)
    return next(iter(values.values()), None)


def check_run(run: object) -> None:
    """Refuse anything but a Resumption."""
    check_instance(run, "run", Resumption, "the Resumption that a claim gave")


def suspension_of(head: Head, *, masked: bool = False) -> Suspension:
    """The public view of a head; with ``masked`` its questions have what they redact masked."""
    return Suspension(**_view(head, whole(head).waits, masked=masked))


def without_waits(head: Head) -> Suspension:
    """The same for whoever asks for none of its waits."""
    return Suspension(**_view(head, ()))


def seen_by_holder(head: Head, *, opened: bool = False) -> Suspension:
    """The public view of a head for whoever holds the run.

    Of a part it has the waits alone that concern the pause: those that have ended, and with ``opened`` those that the
    pause has opened, and some others. Then ``deadline`` is the earliest moment that one of the others may have.
    """
    return Suspension(**_view(head, _concerned(head, opened=opened)))


def _concerned(head: Head, *, opened: bool) -> Sequence[WaitState]:
    if not isinstance(head, PartOfHead):
        return head.waits
    now = head.sequence
    # What an earlier holder was told is not told again.
    ended = [one for one in head.waits if one.status is not WaitStatus.OPEN and one.delivery in {None, now}]
    return [*ended, *_given_out(head, head.open_waits)] if opened else ended


def _given_out(head: PartOfHead, waits: Sequence[WaitState]) -> list[WaitState]:
    """Of these waits those that the pause has opened, and some of the others, so that there is always one to answer."""
    new = [one for one in waits if one.sequence == head.sequence]
    others = (one for one in waits if one.sequence != head.sequence and not one.timed)
    return [*islice(others, OTHERS), *new]


def _view(head: Head, waits: Sequence[WaitState], *, masked: bool = False) -> dict[str, Any]:
    deadlines = [rest_of(head).change, *[wait.deadline for wait in head.open_waits]]
    return {
        "id": head.id,
        "status": head.status,
        "waits": tuple([wait_of(one, masked=masked) for one in waits]),
        "sequence": head.sequence,
        "until": head.until,
        "metadata": dict(head.metadata),
        "tenant": head.tenant,
        "created_at": head.created_at,
        "updated_at": head.updated_at,
        "deadline": min([moment for moment in deadlines if moment is not None], default=None),
        "closed_at": head.closed_at,
        "reason": head.reason,
        "error": head.error,
        "attempt": head.attempt,
        "requested_by": None if head.requester is None else head.requester["subject"],
        "requester_data": head.requester,
    }


def wait_of(state: WaitState, *, masked: bool = False) -> Wait:
    """The public view of a wait; ``masked`` where it is not shown to be answered."""
    answer = state.answer
    data = state.awaiting
    if not masked and answer is None and state.schedule is None and (data is None or "quorum" not in data):
        # What most waits of a run with many are, and all of what they have.
        return Wait(state.name, state.status, state.deadline, None, None, data, digest_text(state.shown))
    return Wait(
        name=state.name,
        status=state.status,
        deadline=state.deadline,
        answered_by=None if answer is None else answer.by,
        answered_at=None if answer is None else answer.at,
        data=masked_question(data) if masked and data is not None else data,
        digest=digest_text(state.shown),
        answered_digest=None if answer is None else digest_text(answer.shown),
        level=0 if state.schedule is None else state.schedule.level,
        escalated_to=escalated_to(state),
        next_reminder=next_reminder(state) if state.open else None,
        next_escalation=next_step(state) if state.open else None,
        principal=principal_of(answer),
        tally=tally_of(state),
    )


def new_suspension_of(
    head: Head, *, prefix: str, public_url: str | None = None, answered: bool = False
) -> NewSuspension:
    """The same with the keys of all open waits; with ``answered``, of all the waits of this pause. Of a part it has
    those that the pause has made, and some others.
    """
    keys = _keys(head, head.waits if answered else head.open_waits, prefix)
    partial = isinstance(head, PartOfHead)
    view = _view(head, _concerned(head, opened=True))
    return NewSuspension(**view, keys=keys, public_url=public_url, partial=partial)


def open_keys(head: Head, prefix: str) -> Mapping[str, SuspensionKey]:
    """The keys of all open waits that somebody may answer; of a part those that its pause has made, and some others."""
    return _keys(head, head.open_waits, prefix)


def _keys(head: Head, waits: Sequence[WaitState], prefix: str) -> Mapping[str, SuspensionKey]:
    own = _given_out(head, waits) if isinstance(head, PartOfHead) else waits
    return keys_of(head.id, {wait.name: wait.secret for wait in own if not wait.timed}, prefix)
