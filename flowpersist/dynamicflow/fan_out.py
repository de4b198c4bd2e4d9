"""Iterations and branches that run at once: how many, until when, and what becomes of those that are given up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from attrs import define, field

from flowpersist.dynamicflow.branches import Branches, Verdict
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.state import failure_of, sub_frame

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition

__all__ = ["FanOut", "first_of", "settle_failure"]


@define(eq=False)
class FanOut:
    """Several iterations or branches of the step at ``path``, with a bound on how many run at once.

    One that waits makes room for the next, unless they run one after another, and goes on when its answer comes while
    others run. ``judge`` is asked after each that has finished or failed; left out, the first failure ends the others.
    """

    context: Context
    path: str
    count: int
    run: Callable[[int], Awaitable[StepOutcome]]
    concurrency: int
    #: What a finished or failed one means for the others: True ends them, a failure fails them all.
    judge: Callable[[int, Done | Failed], bool | Failed] = field(
        default=lambda _, outcome: outcome if isinstance(outcome, Failed) else False
    )
    _waiting: set[int] = field(factory=set, init=False)
    #: Those whose answers have come.
    _due: deque[int] = field(factory=deque, init=False)
    _busy: int = field(default=0, init=False)
    _due_or_over: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def all(self) -> Failed | Pending | None:
        """Run all. None if all, or enough of them, have finished."""
        indexes = iter(range(self.count))
        branches = Branches()
        self.context.fans.add(self._revive)
        try:
            for _ in range(min(self.concurrency, self.count)):
                self._busy += 1
                branches.start(self._work(indexes))
            ended = await branches.verdict()
        finally:
            self.context.fans.discard(self._revive)
        if ended is not None:
            return ended.failed
        return PENDING if self._waiting else None

    def _revive(self) -> None:
        """Let those go on whose answers have come, unless all have ended: then another walk visits them."""
        if not self._busy:
            return
        self._go_on(sorted(self._waiting & self.context.come_within(self.path)))

    def _go_on(self, come: list[int]) -> None:
        if come:
            self._waiting.difference_update(come)
            self._due.extend(come)
            self._due_or_over.set()

    async def _work(self, indexes: Iterator[int]) -> Verdict | None:
        while (index := await self._next(indexes)) is not None:
            outcome = await self.run(index)
            if isinstance(outcome, Pending):
                self._waiting.add(index)
                if self.concurrency == 1:
                    return None
                # Its answer may have come before it was among those that wait.
                self._go_on([index] if self.context.has_come(f"{self.path}[{index}]") else [])
                continue
            verdict = self.judge(index, outcome)
            if isinstance(verdict, Failed):
                return Verdict(verdict)
            if verdict:
                return Verdict(None)
        return None

    async def _next(self, indexes: Iterator[int]) -> int | None:
        """The next one to run; None once none runs and none can go on."""
        while True:
            if self._due:
                return self._due.popleft()
            index = next(indexes, None)
            if index is not None:
                return index
            self._busy -= 1
            if not self._busy:
                self._due_or_over.set()
                return None
            self._due_or_over.clear()
            await self._due_or_over.wait()
            if not self._busy:
                return None
            self._busy += 1


@define
class _Race:
    """The first ``needed`` of ``count`` branches to finish; fails when so many can finish no more."""

    count: int
    needed: int
    #: The numbers of those that have finished, the first one first; it is a part of the frame.
    won: list[int]
    _lost: set[int] = field(factory=set, init=False)

    def judge(self, index: int, outcome: Done | Failed) -> bool | Failed:
        if isinstance(outcome, Failed):
            self._lost.add(index)
            return outcome if self.count - len(self._lost) < self.needed else False
        if index not in self.won and len(self.won) < self.needed:
            self.won.append(index)
        return len(self.won) == self.needed


async def first_of(
    context: Context, place: StepPosition, count: int, needed: int, run: Callable[[int], Awaitable[StepOutcome]]
) -> StepOutcome:
    """Run ``count`` branches until ``needed`` have finished, and give the others up with their waits.

    Gives a list by branch, with None for each that was given up.
    """
    won: list[int] = place.frame.setdefault("won", [])

    async def branch(index: int) -> StepOutcome:
        outcome = await run(index)
        if isinstance(outcome, Failed):
            context.give_up(f"{place.path}[{index}]")
        return outcome

    if len(won) < needed:
        stopped = await FanOut(context, place.path, count, branch, count, _Race(count, needed, won).judge).all()
        if stopped is not None:
            return stopped
    for index in range(count):
        if index not in won:
            context.give_up(f"{place.path}[{index}]")
            place.frame["sub"].pop(f"[{index}]", None)
    return Done([place.frame["sub"][f"[{index}]"]["result"] if index in won else None for index in range(count)])


def settle_failure(context: Context, place: StepPosition, label: str, failed: Failed) -> Done:
    """The error of one iteration in the place of its result, which is kept as one."""
    context.give_up(place.path + label)
    frame = sub_frame(place.frame, label)
    frame.clear()
    frame["result"] = {"error": failure_of(failed.error)}
    return Done(frame["result"])
