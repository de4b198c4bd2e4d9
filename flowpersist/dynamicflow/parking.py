"""What becomes of a run that fails: it ends, or it is parked with its state so that somebody can retry it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from flowpersist.dynamicflow.facts import run_id_of
from flowpersist.dynamicflow.state import State, error_of, failure_of
from flowpersist.errors import FlowError, FlowParked
from flowpersist.errors.arguments import check_choice
from flowpersist.hub.outcome import MISSING

if TYPE_CHECKING:
    from flowpersist.backends.base import Scalar
    from flowpersist.dynamicflow.document import Document
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle import Resumption, Suspension

__all__ = ["FAILED", "Failed", "check_failed", "failed_of", "named", "park", "parked", "parks"]

#: What becomes of a failed run.
Failed: TypeAlias = Literal["end", "park"]
#: The member of a document that says so, and of a parked run's state that holds its error.
FAILED: Final = "failed"


def check_failed(value: object, name: str) -> None:
    """``end`` or ``park``."""
    check_choice(value, name, get_args(Failed))


def failed_of(document: Document) -> Failed | None:
    """What the document asks for; None: what its runner does."""
    given = document.data.get(FAILED)
    if given is None or given in get_args(Failed):
        return cast("Failed | None", given)
    expected = "'end' or 'park'"
    message = f"Invalid 'failed': expected {expected}, not {given!r:.100}"
    document.problems.add(f"/{FAILED}", "invalid-value", message, expected=expected)
    return None


def parks(state: object, otherwise: Failed) -> bool:
    """Whether a run with this state is parked where it fails."""
    document = state.get("document") if isinstance(state, Mapping) else None
    given = document.get(FAILED) if isinstance(document, Mapping) else None
    return (otherwise if given is None else given) == "park"


def named(error: FlowError) -> str:
    """What is stored of an error in clear: the names of its step and tool, since its message may quote the state."""
    names = "".join(f" {what} {name!r}" for what, name in (("step", error.step), ("tool", error.tool)) if name)
    return f"{type(error).__name__}{names}"[:1000]


async def park(
    hub: PersistenceHub,
    run: Resumption[Any],
    error: FlowError,
    *,
    state: State | None,
    unread: Collection[str],
    metadata: Mapping[str, Scalar],
) -> Outcome[Suspension]:
    """Park a run with its state; None: with the one that is stored, since that of the failure can't be."""
    kept = MISSING if state is None else {**state, FAILED: failure_of(error)}
    return await hub.park(run, kept, error=named(error), unread=unread, metadata=metadata)


def parked(suspension: Suspension, error: FlowError | None, state: object = None) -> FlowParked:
    """The error of a parked run: the one that it failed with, or what its state holds of that."""
    run = run_id_of(suspension)
    kept = f"; the run {run} is parked: retry or cancel it"
    stored = state.get(FAILED) if isinstance(state, Mapping) else None
    if error is None and isinstance(stored, Mapping):
        error = error_of(stored)
    if error is None:
        message = f"run {run} has failed: {suspension.error or 'its worker recorded no error'}"
        return FlowParked(message + kept, str(suspension.metadata.get("flow", "")), run=run)
    made = FlowParked(
        error.message + kept, error.document, error.step, error.reference, error.tool, error.problems, run
    )
    made.__cause__ = error.__cause__
    return made
