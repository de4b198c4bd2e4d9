"""Iterations and branches that run at once: how many, until when, and what becomes of those that are given up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

from attrs import define, field

from flowpersist.dynamicflow.branches import Branches, Verdict
from flowpersist.dynamicflow.dormant import Fan, Group, wake
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.state import Frame, failure_of, path_to, sub_frame

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.progress import Progress

__all__ = ["FanOut", "first_of", "settle_failure"]


#: The frame of an iteration whose steps have begun, and of a step that waits and does nothing else.
_BLOCK: Final = frozenset({"sub"})
_WAIT: Final = frozenset({"waiting", "began"})
_PUT_OFF: Final = frozenset({"put_off", "began"})


@define(eq=False)
class FanOut:
    """Several iterations or branches of the step at ``place``, with a bound on how many run at once.

    One that waits makes room for the next, unless they run one after another, and goes on when its answer comes while
    others run. ``judge`` is asked after each that has finished or failed; left out, the first failure ends the others.
    Those that have finished, or still wait for their answers, are not run again: an answer to one of many would cost
    what all of them do.
    """

    context: Context
    place: StepPosition
    count: int
    run: Callable[[int], Awaitable[StepOutcome]]
    concurrency: int
    #: What a finished or failed one means for the others: True ends them, a failure fails them all.
    judge: Callable[[int, Done | Failed], bool | Failed] | None = None
    #: Is told of each that has finished; None: nobody is.
    progress: Progress | None = None
    #: The item that one is for, and its giver.
    item: Callable[[int], tuple[object, object]] = lambda _: (None, None)
    _waiting: set[int] = field(factory=set, init=False)
    #: Those whose answers have come.
    _due: deque[int] = field(factory=deque, init=False)
    #: Those that are still to be run.
    _indexes: Iterator[int] = field(default=iter(()), init=False)
    _branches: Branches = field(factory=Branches, init=False)
    _workers: int = field(default=0, init=False)
    _busy: int = field(default=0, init=False)
    _due_or_over: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def all(self) -> Failed | Pending | None:
        """Run all. None if all, or enough of them, have finished."""
        self.context.paused.pop(self.place.path, None)
        to_run = self._to_run()
        if self.progress is not None:
            self.progress.begin(self.count - len(to_run) - len(self._waiting) - self._dormant)
        self._indexes = iter(to_run)
        self.context.fans.add(self._revive)
        try:
            # One is enough for those whose waits did not fit: it passes over them while nothing has room.
            held_back = len([index for index in to_run if self._put_off(index) is not None])
            self._employ(len(to_run) - held_back + min(held_back, 1))
            ended = await self._branches.verdict()
        finally:
            self.context.fans.discard(self._revive)
        if ended is not None:
            return ended.failed
        if self._waiting or self._dormant:
            if self.sleeps:
                self.context.paused[self.place.path] = self
            return PENDING
        for number in tuple(self._groups()):
            wake(self.context, self.place.path, number)
            await self.context.pace()
        return None

    @property
    def sleeps(self) -> bool:
        """Whether its iterations may be apart from the frames while they wait: they go on each for itself."""
        return self.judge is None and self.concurrency > 1

    @property
    def waiting(self) -> AbstractSet[int]:
        """Those that wait, of which the dormant ones are left out."""
        return self._waiting

    @property
    def _dormant(self) -> int:
        """How many dormant ones wait."""
        return 0 if self._fan is None else self._fan.waiting

    @property
    def _fan(self) -> Fan | None:
        """Its dormant iterations; None: it has had none in this leg."""
        return self.context.dormant.fans.get(self.place.path)

    def _groups(self) -> Mapping[int, Group]:
        return {} if self._fan is None else self._fan.groups

    def _wake(self, come: set[int]) -> set[int]:
        """Bring back the groups of those for which something has come; gives these of them."""
        found: set[int] = set()
        fan = self._fan
        if fan is None:
            return found
        for number in {index // fan.per_group for index in come} & fan.groups.keys():
            self._waiting |= wake(self.context, self.place.path, number, come)
            found |= come & set(fan.numbers(number))
        return found

    def _employ(self, count: int) -> None:
        """Let so many more run at once, if the bound allows it."""
        for _ in range(min(count, self.concurrency - self._workers)):
            self._workers += 1
            self._busy += 1
            self._branches.start(self._work())

    def _to_run(self) -> Sequence[int]:
        """Those that may go on."""
        self._wake(self.context.unread_within(self.place.path))
        frames = self.place.frame.get("sub", {})
        if self.judge is not None or not (frames or self._groups()):
            return range(self.count)
        found: list[int] = []
        for index in self._at_hand():
            name = f"[{index}]"
            frame = frames.get(name)
            if index in self._waiting or (frame is not None and "result" in frame):
                continue
            if frame is not None and self.concurrency > 1 and _still_waits(self.context, self.place.path + name, frame):
                self._waiting.add(index)
            else:
                found.append(index)
        return found

    def _at_hand(self) -> Iterable[int]:
        """Those that are not dormant."""
        fan = self._fan
        if fan is None:
            return range(self.count)
        return (
            index
            for number in range(-(-self.count // fan.per_group))
            if number not in fan.groups
            for index in fan.numbers(number)
        )

    def _put_off(self, index: int) -> int | None:
        """The size of the wait that one comes to next and that did not fit, where that is known."""
        frames = self.place.frame.get("sub")
        if not frames or self.judge is not None or self.concurrency == 1 or self.context.asked:
            return None
        frame = frames.get(f"[{index}]")
        step = None if frame is None else _unfinished(frame)
        return step[1]["put_off"] if step is not None and step[1].keys() == _PUT_OFF else None

    def _revive(self) -> None:
        """Let those go on whose answers have come, unless all have ended: then another walk visits them."""
        if not self._busy:
            return
        come = self.context.come_within(self.place.path)
        self._go_on(sorted(self._wake(come) | (self._waiting & come)))

    def _go_on(self, come: list[int]) -> None:
        if come:
            self._waiting.difference_update(come)
            self._due.extend(come)
            self._employ(len(come))
            self._due_or_over.set()

    async def _work(self) -> Verdict | None:
        while (index := await self._next()) is not None:
            outcome = await self.run(index)
            if isinstance(outcome, Pending):
                self._waiting.add(index)
                if self.concurrency == 1:
                    # None runs any more: what comes before ``all`` goes on is for another walk.
                    self._busy -= 1
                    return None
                # Its answer may have come before it was among those that wait.
                self._go_on([index] if self.context.has_come(f"{self.place.path}[{index}]") else [])
                continue
            if self.progress is not None and isinstance(outcome, Done):
                self.progress.further()
            verdict = outcome if self.judge is None else self.judge(index, outcome)
            if isinstance(verdict, Failed):
                return Verdict(verdict)
            if verdict is True:
                return Verdict(None)
        return None

    async def _next(self) -> int | None:
        """The next one to run; None once none runs and none can go on."""
        while True:
            if self._due:
                return self._due.popleft()
            index = next(self._indexes, None)
            if index is not None:
                size = self._put_off(index)
                if size is None or self.context.fits(size):
                    return index
                self._waiting.add(index)
                self.context.tally.put_off = True
                continue
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
        stopped = await FanOut(context, place, count, branch, count, _Race(count, needed, won).judge).all()
        if stopped is not None:
            return stopped
    for index in range(count):
        if index not in won:
            context.give_up(f"{place.path}[{index}]")
            place.frame["sub"].pop(f"[{index}]", None)
    return Done([place.frame["sub"][f"[{index}]"]["result"] if index in won else None for index in range(count)])


def _still_waits(context: Context, path: str, frame: Frame) -> bool:
    """Whether an unfinished iteration or branch can't go on: the one of its steps that has not finished waits for an
    answer that has not come. It keeps its wait. False also where only running it tells.
    """
    # Another document may ask something else.
    step = None if context.asked else _unfinished(frame)
    if step is None or not step[1].keys() <= _WAIT:
        return False
    wait = path_to(path, step[0])
    if wait not in context.open:
        return False
    context.waiting.add(wait)
    return True


def _unfinished(frame: Frame) -> tuple[str, Frame] | None:
    """The one step of an iteration or branch that has begun and not finished; None where only running it tells."""
    if frame.keys() != _BLOCK:
        return None
    steps = [(name, step) for name, step in frame["sub"].items() if "result" not in step]
    return steps[0] if len(steps) == 1 else None


def settle_failure(context: Context, place: StepPosition, label: str, failed: Failed) -> Done:
    """The error of one iteration in the place of its result, which is kept as one."""
    context.give_up(place.path + label)
    frame = sub_frame(place.frame, label)
    frame.clear()
    frame["result"] = {"error": failure_of(failed.error)}
    return Done(frame["result"])
