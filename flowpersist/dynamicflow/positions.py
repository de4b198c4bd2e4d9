"""Where a step runs, what its leg counts, and who has given the answers that it was given."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field, frozen

from flowpersist.dynamicflow.outcomes import Done
from flowpersist.dynamicflow.pacing import Pace
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.state import Frame

if TYPE_CHECKING:
    from flowpersist.lifecycle import Resumption

__all__ = ["Giver", "StepPosition", "Tally", "givers_of"]

#: Who gave an answer, the digest of what they were shown, and when.
Giver: TypeAlias = tuple[str | None, str | None, datetime | None]


@frozen
class StepPosition:
    """Where a step runs: its path, its frame, its visible names, and the previous step's result.

    ``trail`` is the path with the attempt number of each step on it after its first attempt: ``publish#2[0].charge``.
    ``bound`` is the timeout of the step's attempt.
    """

    path: str
    trail: str
    frame: Frame = field(repr=False)
    scope: Scope = field(repr=False)
    previous: Done = field(repr=False)
    bound: asyncio.Timeout | None = field(default=None, repr=False)


@define
class Tally:
    """What one leg counts.

    ``room`` is left for further waits. ``finished`` counts the steps that have finished. ``put_off`` says whether a
    wait did not fit in this walk, and ``freed`` whether another one has been removed since.
    """

    room: int
    finished: int = 0
    put_off: bool = False
    freed: bool = False
    pace: Pace = field(factory=Pace)


def givers_of(run: Resumption[Any]) -> dict[str, Giver]:
    """Who gave each answer, the digest of what they were shown, and when, by path."""
    return {
        wait.name: (wait.answered_by, wait.answered_digest, wait.answered_at)
        for wait in run.suspension.waits
        if wait.name in run.answers
    }
