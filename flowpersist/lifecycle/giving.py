"""What whoever holds a run is given: the answers of its pause, and the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, UnexpectedType
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.lifecycle.model import Head, PartOfHead, Status, WaitState, WaitStatus, whole
from flowpersist.lifecycle.parts import prefix_of
from flowpersist.lifecycle.views import Checkpoint, Resumption, open_keys, seen_by_holder
from flowpersist.lifecycle.voting import principal_of, tally_of, value_of

__all__ = ["answers_of", "checkpoint_of", "given", "resumption_of"]

S = TypeVar("S")


def delivered(waits: Sequence[WaitState], sequence: int) -> tuple[WaitState, ...]:
    """The waits whose end the holder of this pause is told."""
    return tuple(wait for wait in waits if wait.delivery == sequence)


def given(head: Head) -> Sequence[WaitState]:
    """The waits whose end the holder is told; all of them if the suspension has expired."""
    if isinstance(head, PartOfHead) and head.told == head.sequence and head.status is not Status.EXPIRED:
        return delivered(head.waits, head.sequence)
    waits = whole(head).waits
    return waits if head.status is Status.EXPIRED else delivered(waits, head.sequence)


def answers_of(
    head: Head, stored: Mapping[bytes, object], awaiting: AwaitInput[Any] | None
) -> Result[Mapping[str, object], PersistenceError]:
    """The answers that this pause's holder is given, by wait; of the schema's class where ``awaiting`` is named.
    ``stored`` has the values that do not stand in the head, by the names of their records.
    """
    answers: dict[str, object] = {}
    for wait in given(head):
        if wait.answer is None:
            continue
        value = value_of(wait.answer, stored)
        made = Success(value) if awaiting is None else _made(wait, value, awaiting)
        if not isinstance(made, Success):
            return Failure(made.failure())
        answers[wait.name] = made.unwrap()
    if awaiting is not None and not answers:
        return Failure(UnexpectedType(f"there is no answer to {awaiting.id!r}; the run stays as it was", "answer"))
    return Success(answers)


def _made(wait: WaitState, value: object, awaiting: AwaitInput[Any]) -> Result[object, PersistenceError]:
    asked = None if wait.awaiting is None else wait.awaiting["id"]
    if asked == awaiting.id:
        return awaiting.parse(value)
    message = f"the answer of wait {wait.name!r} is not to {awaiting.id!r}, which was named; the run stays as it was"
    return Failure(UnexpectedType(message, "answer"))


def resumption_of(
    head: Head, state: S, answers: Mapping[str, object], stored: Mapping[bytes, object]
) -> Resumption[S, Any]:
    """The run as its holder gets it."""
    return Resumption(**_held(head, state, answers, stored))


def checkpoint_of(
    head: Head, state: S, answers: Mapping[str, object], stored: Mapping[bytes, object], prefix: str
) -> Checkpoint[S, Any]:
    """The run as its holder has it after a checkpoint."""
    return Checkpoint(**_held(head, state, answers, stored, opened=True), keys=open_keys(head, prefix))


def _held(
    head: Head,
    state: object,
    answers: Mapping[str, object],
    stored: Mapping[bytes, object],
    *,
    opened: bool = False,
) -> dict[str, Any]:
    ended = given(head)
    answerers = {wait.name: principal_of(wait.answer) for wait in ended}
    tallies = {wait.name: tally_of(wait, stored) for wait in ended}
    return {
        "state": state,
        "answers": answers,
        "answerers": {wait.name: wait.answer.by for wait in ended if wait.answer is not None},
        "expired": tuple(wait.name for wait in ended if wait.status is WaitStatus.EXPIRED),
        "suspension": seen_by_holder(head, opened=opened),
        "fence": head.fence,
        "claim_id": head.claim_id,
        "principals": {name: who for name, who in answerers.items() if who is not None},
        "trace": head.trace,
        "tallies": {name: one for name, one in tallies.items() if one is not None},
        "partial": _partial(head, opened=opened),
    }


def _partial(head: Head, *, opened: bool) -> frozenset[bytes] | None:
    """Where the waits stand that the next pause closes or may close: those that have ended, and those just opened."""
    if not isinstance(head, PartOfHead):
        return None
    now, still = head.sequence, WaitStatus.OPEN
    own = [one for one in head.waits if one.status is not still or (opened and one.sequence == now)]
    return frozenset([prefix_of(one.secret) for one in own])
