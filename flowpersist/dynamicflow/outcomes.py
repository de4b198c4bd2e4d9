"""How a step of a running flow ends, inside the interpreter. Pausing is one of the ways, and no exception that a tool
can swallow.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final, TypeAlias

from attrs import field, frozen

from flowpersist.errors import FlowError

__all__ = ["PENDING", "RAISED", "Done", "Failed", "Pending", "StepOutcome"]


#: What the user's code may raise where nothing is awaited: a CancelledError there is its own, and cancels nobody.
RAISED: Final = (Exception, asyncio.CancelledError)


@frozen
class Done:
    """A step has its result. ``tool`` is the id of the tool that returned it, as long as it is passed on unchanged."""

    value: object = field(repr=False)
    tool: str | None = None


@frozen
class Failed:
    """A step has failed, its attempts used up."""

    error: FlowError


class Pending(Enum):
    """The type of ``PENDING``: the step, or one within it, awaits an answer."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING

StepOutcome: TypeAlias = Done | Failed | Pending
