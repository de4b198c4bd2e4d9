"""What whoever holds a run is given: the answers of its pause, and the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, UnexpectedType
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.keys.suspension_key import keys_of
from flowpersist.lifecycle.model import Head, Status, WaitState, WaitStatus, whole
from flowpersist.lifecycle.views import Checkpoint, Resumption, suspension_of
from flowpersist.lifecycle.voting import principal_of, tally_of, value_of

__all__ = ["answers_of", "checkpoint_of", "given", "resumption_of"]

S = TypeVar("S")


def delivered(waits: Sequence[WaitState], sequence: int) -> tuple[WaitState, ...]:
    """The waits whose end the holder of this pause is told."""
    return tuple(wait for wait in waits if wait.delivery == sequence)


def given(head: Head) -> Sequence[WaitState]:
    """The waits whose end the holder is told; all of them if the suspension has expired."""
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
    keys = keys_of(head.id, {wait.name: wait.secret for wait in head.answerable_waits}, prefix)
    return Checkpoint(**_held(head, state, answers, stored), keys=keys)


def _held(head: Head, state: object, answers: Mapping[str, object], stored: Mapping[bytes, object]) -> dict[str, Any]:
    ended = given(head)
    answerers = {wait.name: principal_of(wait.answer) for wait in ended}
    tallies = {wait.name: tally_of(wait, stored) for wait in ended}
    return {
        "state": state,
        "answers": answers,
        "answerers": {wait.name: wait.answer.by for wait in ended if wait.answer is not None},
        "expired": tuple(wait.name for wait in ended if wait.status is WaitStatus.EXPIRED),
        "suspension": suspension_of(head),
        "fence": head.fence,
        "claim_id": head.claim_id,
        "principals": {name: who for name, who in answerers.items() if who is not None},
        "trace": head.trace,
        "tallies": {name: one for name, one in tallies.items() if one is not None},
    }
