"""What a verb returns, and the defaults that say that an argument was not given."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from enum import Enum
from typing import Any, Final, TypeAlias, cast

from returns.result import Failure, Result, Success
from typing_extensions import TypeVar

from flowpersist.errors import PersistenceError
from flowpersist.inputs.await_input import AwaitInput

__all__ = [
    "ANY_ANSWER",
    "ANY_CLASS",
    "DEFAULT_LEASE",
    "MISSING",
    "A",
    "Outcome",
    "S",
    "as_outcome",
    "attempt",
    "or_raise",
]

T = TypeVar("T")
#: The class of a state: what ``expect`` names, and Any where it names none.
S = TypeVar("S", default=Any)
#: The class of an answer, as ``awaiting`` names it.
A = TypeVar("A", default=object)
Outcome: TypeAlias = Success[T] | Failure[PersistenceError]


class Missing(Enum):
    """The type of ``MISSING``: no value was given, which None would be."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
#: The default of ``awaiting`` where a run is taken: answers as JSON data.
ANY_ANSWER: AwaitInput[object] = cast("Any", None)
#: The default of ``expect``: every class is an object, and its state is typed as Any.
ANY_CLASS: Any = object
DEFAULT_LEASE: Final = timedelta(seconds=30)


def as_outcome(result: Result[T, PersistenceError]) -> Outcome[T]:
    """A Result as a union, so that ``match`` and ``isinstance`` narrow its type."""
    return result if isinstance(result, Success) else Failure(result.failure())


def or_raise(result: Result[T, PersistenceError] | Success[T] | Failure[PersistenceError]) -> T:
    """The value of a success; a failure's error is raised."""
    if isinstance(result, Success):
        value: T = result.unwrap()
        return value
    if isinstance(result, Failure):
        raise result.failure()
    msg = f"Invalid result: expected a Result, which or_raise takes, not {type(result).__name__}"
    raise TypeError(msg)


async def attempt(awaitable: Awaitable[T]) -> Outcome[T]:
    """The outcome of a call that raises: a value becomes a ``Success``, a ``PersistenceError`` a ``Failure``.

    - ``awaitable``: the call, such as ``stores.values("orders").load("A-7")`` or a verb of ``RaisingHub``.
    """
    try:
        return Success(await awaitable)
    except PersistenceError as error:
        return Failure(error)
