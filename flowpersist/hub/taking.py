"""What whoever takes a run is given: its state and its answers, read before the put that takes the run.

What this process can't read, or what is of another class, stays as it was.
"""

from __future__ import annotations

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError, UnexpectedType
from flowpersist.hub.answering import delivered
from flowpersist.hub.outcome import A, S
from flowpersist.hub.transactions import Snapshot, Suspensions
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.lifecycle.decisions import Decision, refused
from flowpersist.lifecycle.giving import resumption_of
from flowpersist.lifecycle.model import Head
from flowpersist.lifecycle.views import Resumption

__all__ = ["expected", "taken"]


async def taken(
    suspensions: Suspensions,
    seen: Snapshot,
    decision: Decision[Head],
    expect: type[S],
    awaiting: AwaitInput[A] | None,
) -> Decision[Resumption[S, A]]:
    """The run that a decision takes; a failure leaves the suspension unchanged."""
    if not isinstance(decision.result, Success):
        return Decision(decision.head, Failure(decision.result.failure()))
    state = await suspensions.records.open_body(seen.record, purpose="state")
    fitting = state.bind(lambda value: expected(value, expect))
    if not isinstance(fitting, Success):
        return refused(seen.head, fitting.failure())
    stored = await suspensions.side_records.answers.values(decision.head)
    if not isinstance(stored, Success):
        return refused(seen.head, stored.failure())
    answers = await delivered(decision.head, stored.unwrap(), awaiting)
    if not isinstance(answers, Success):
        return refused(seen.head, answers.failure())
    return decision.map(lambda head: resumption_of(head, fitting.unwrap(), answers.unwrap(), stored.unwrap()))


def expected(state: object, expect: type[S]) -> Result[S, PersistenceError]:
    """The state, if it is of that class."""
    if isinstance(state, expect):
        return Success(state)
    message = (
        f"Invalid state: expected class {expect.__name__}, not {type(state).__name__}; the suspension is unchanged"
    )
    return Failure(UnexpectedType(message, "state"))
