"""How a step of a running flow ends, inside the interpreter. Pausing is one of these outcomes, not an exception that a
tool could catch.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final, TypeAlias

from attrs import field, frozen

from flowpersist.dynamicflow.later import needs, now
from flowpersist.errors import FlowError

__all__ = ["PENDING", "RAISED", "Done", "Failed", "Pending", "StepOutcome"]


#: The errors of the user's code where nothing is awaited: a CancelledError there comes from that code, and cancels no
#: task.
RAISED: Final = (Exception, asyncio.CancelledError)


@frozen
class Done:
    """A step has its result. While it is passed on unchanged, ``tool`` is the id of the tool that returned it, and
    ``given`` says who gave it and when, if it is an answer. Both may stand apart until they are asked for.
    """

    _value: object = field(repr=False, alias="value")
    tool: str | None = None
    _given: object = field(default=None, repr=False, eq=False, alias="given")

    @property
    def value(self) -> object:
        """The result."""
        return now(self._value)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of what has to be read for them."""
        return frozenset([*needs(self._value), *needs(self._given)])

    @property
    def given(self) -> object:
        """Who gave it, and when."""
        return now(self._given)


@frozen
class Failed:
    """A step has failed and used all its attempts, or a ``final`` one has: no further attempt may be made of it."""

    error: FlowError
    final: bool = False


class Pending(Enum):
    """The type of ``PENDING``: the step, or one within it, awaits an answer."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING

StepOutcome: TypeAlias = Done | Failed | Pending
