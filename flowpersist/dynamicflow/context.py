"""The context of one leg that every step shares: the run's answers and open waits, the limits, and the failure of a
step.

The modules that run operations import this one, and the engine, which visits the steps, extends it.
"""

from __future__ import annotations

import asyncio
import copy
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from attrs import Factory, define, field

from flowpersist.codec import Codec
from flowpersist.dynamicflow.dormant import Dormant, Paused, index_of, wake
from flowpersist.dynamicflow.events import Emit, nothing
from flowpersist.dynamicflow.naming import RUN_PARTS
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.pacing import SLICE_SECONDS
from flowpersist.dynamicflow.plain import SIZE, WALK_ERRORS, Flat, Form, Known, finished_soon, walk, walk_problem
from flowpersist.dynamicflow.positions import Giver, StepPosition, Tally, givers_of
from flowpersist.dynamicflow.scope import Resolver
from flowpersist.dynamicflow.state import Frame, is_within
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled
from flowpersist.hub.suspending import lacks_voters
from flowpersist.inputs.schedule import lacks_deadline
from flowpersist.lifecycle.shown import digest_text, shown_digest

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Block, Flow, Node
    from flowpersist.dynamicflow.journal import Journal
    from flowpersist.dynamicflow.tools import Toolbox
    from flowpersist.inputs.await_input import AwaitInput
    from flowpersist.keys.suspension_key import SuspensionKey
    from flowpersist.lifecycle import Resumption

__all__ = ["MAX_OPEN", "ROOM_BYTES", "Context", "StepPosition", "givers_of"]

#: The most characters, as JSON, of one question, and of those of all open waits of a run together.
QUESTION_BYTES: Final = 96 * 1024
ROOM_BYTES: Final = 4 * 1024 * 1024
#: The most waits of a run that are open at a time. Further ones open as these are answered.
MAX_OPEN: Final = 10_000
#: The most bytes, in UTF-8, of a step's path that names a wait.
MAX_PATH_BYTES: Final = 500


@define
class Context(ABC):
    """One leg of a run. ``waits`` are its new waits, ``waiting`` the paths of all waits.

    ``answers`` and ``expired`` hold by path what has arrived since the last leg, ``givers`` who gave an answer, the
    digest of what they were shown, and when; ``renewed`` are the answered waits whose question is asked anew. ``open``
    holds by path the waits that the run has already, with the bytes that each takes of ``room``. The waits of a branch
    that is given up are removed, with their answers. ``asked`` are the digests of what the open waits show, for the
    case that another document now shows something else. ``codec`` tells what the run can keep.
    """

    flow: Flow
    toolbox: Toolbox
    run_id: str
    input: object = field(repr=False)
    answers: dict[str, object] = field(factory=dict, repr=False)
    givers: dict[str, Giver] = field(factory=dict)
    expired: set[str] = field(factory=set)
    open: dict[str, int] = field(factory=dict)
    #: Iterations apart from the frames, and the frame that they belong to.
    dormant: Dormant = field(factory=Dormant, repr=False)
    root: Frame = field(factory=dict, repr=False)
    room: int = ROOM_BYTES
    asked: dict[str, str | None] = field(factory=dict)
    codec: Codec = field(factory=Codec, repr=False)
    emit: Emit = nothing
    tracebacks: Tracebacks = field(factory=Tracebacks)
    waits: dict[str, AwaitInput[object]] = field(factory=dict)
    waiting: set[str] = field(factory=set)
    #: Of the open waits, those that only time ends.
    timed: set[str] = field(factory=set)
    renewed: set[str] = field(factory=set)
    #: The waits of the record without an answer that this leg was given, those of dormant iterations left out.
    carried: set[str] = field(default=Factory(lambda self: set(self.open), takes_self=True), init=False)
    #: The steps that paused in this walk with iterations that wait, by path.
    paused: dict[str, Paused] = field(factory=dict, init=False, repr=False)
    #: What ``$run`` refers to.
    about: Mapping[str, object] = Factory(
        lambda self: {RUN_PARTS[0]: self.run_id, **dict.fromkeys(RUN_PARTS[1:])}, takes_self=True
    )
    #: The store's time when this leg began, where it is known.
    now: datetime | None = None
    #: Where people answer, as the hub says.
    public_url: str | None = None
    #: The waits whose keys tools want as soon as they are stored, by path.
    wanted: dict[str, asyncio.Future[SuspensionKey]] = field(factory=dict, init=False, repr=False)
    #: Holds a step back while too many events are not stored yet; None: events are not stored.
    held_back: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    #: Where finished steps are stored between pauses; None: nowhere.
    journal: Journal | None = field(default=None, repr=False)
    #: Set when a wait has opened, or one was given up.
    stirred: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    #: Answers that a step has taken and whose effect does not stand in its frame yet.
    _taken: set[str] = field(factory=set, init=False)
    #: What has come since the walk began.
    _come: set[str] = field(factory=set, init=False)
    #: Who runs several iterations or branches now: each is told of what has come.
    fans: set[Callable[[], object]] = field(factory=set, init=False, repr=False)
    #: The task that runs the flow, and how often it had been cancelled when the walk began.
    home: tuple[asyncio.Task[object] | None, int] = field(default=(None, 0), init=False)
    _known: Known = field(factory=Known, init=False, repr=False)
    _turns: asyncio.Semaphore | None = field(
        default=Factory(lambda self: self.as_many(), takes_self=True), init=False, repr=False
    )
    #: Counted for the leg as a whole, its sub-flows included.
    tally: Tally = field(default=Factory(lambda self: Tally(self.room), takes_self=True), init=False, repr=False)

    def as_many(self) -> asyncio.Semaphore | None:
        """What bounds how many tools run at a time; None: nothing does."""
        most = self.flow.limits.concurrency
        return None if most is None else asyncio.Semaphore(most)

    def inside(self, flow: Flow, value: object) -> Self:
        """The same leg within a sub-flow, with that flow and its input. All that changes is shared."""
        inner = copy.copy(self)
        inner.flow, inner.input = flow, value
        return inner

    @abstractmethod
    async def outermost(self, place: StepPosition) -> StepOutcome:
        """Run the outermost steps of the flow."""

    @abstractmethod
    async def block(self, block: Block, place: StepPosition) -> StepOutcome:
        """Run steps one after another; gives the last one's result, or the block's input if it is empty."""

    @abstractmethod
    async def step(self, node: Node, around: StepPosition, previous: Done) -> StepOutcome:
        """Run one step unless it is finished, and bind its names in the enclosing scope."""

    @abstractmethod
    async def iteration(
        self,
        block: Block,
        place: StepPosition,
        label: str,
        variables: Mapping[str, object],
        previous: Done,
        *,
        leaks: bool = False,
    ) -> StepOutcome:
        """Run one iteration or branch in a scope of its own; a finished one gives its result again.

        ``leaks``: its frame passes the variables that it sets to the next one.
        """

    def register(self, node: Node, place: StepPosition, awaited: AwaitInput[object]) -> Failed | Pending:
        """Open a wait under the step's path if it fits; otherwise it opens after others are answered."""
        size = awaited.size
        if size > QUESTION_BYTES:
            return self.failed(
                node, f"its question takes {size} characters, over the limit of {QUESTION_BYTES}: show less data"
            )
        if len(place.path.encode()) > MAX_PATH_BYTES:
            return self.failed(node, f"its path has more than {MAX_PATH_BYTES} bytes: give shorter ids, or nest less")
        requester = self.about["by"]
        unmet = lacks_voters(awaited, None if requester is None else str(requester))
        if unmet is not None:
            return self.failed(node, f"its quorum can't be reached: {unmet}")
        counted = lacks_deadline(awaited)
        if counted is not None:
            return self.failed(node, f"its {counted} count from a deadline: give it a timeout or a deadline")
        if self.fits(size):
            place.frame.pop("put_off", None)
            self.tally.room -= size
            self.open[place.path] = size
            self.waits[place.path] = awaited
            if not awaited.answerable_by:
                self.timed.add(place.path)
            self.wait(place)
            self.stirred.set()
        else:
            self.tally.put_off = True
            place.frame["put_off"] = size
        return PENDING

    @property
    def asleep(self) -> int:
        """How many waits of dormant iterations are open: those for which something has come may wake later."""
        come = [name for name in self.answers.keys() | self.expired if self.dormant.has(name)]
        return self.dormant.waits - len(come)

    def fits(self, size: int) -> bool:
        """Whether a further wait may open."""
        count = len(self.open) + self.dormant.waits
        return not count or (size <= self.tally.room and count < MAX_OPEN)

    def asks_otherwise(self, path: str, awaited: AwaitInput[object]) -> bool:
        """Whether the open wait shows something else than the current AwaitInput."""
        return path in self.asked and self.asked[path] != digest_text(shown_digest(awaited.to_data()))

    def wait(self, place: StepPosition) -> None:
        """Record that the step's wait is open."""
        place.frame["waiting"] = True
        self.waiting.add(place.path)

    def take(self, path: str) -> object:
        """The answer of a wait, which is used once: a further attempt of an enclosing step asks again."""
        self._taken.add(path)
        return self.answers.pop(path)

    def lapse(self, path: str) -> None:
        """Take the end of a wait that only time ends."""
        self._taken.add(path)
        self.expired.discard(path)

    def settled(self, path: str) -> None:
        """What came of the step's answer stands in its frame now."""
        self._taken.discard(path)

    @property
    def unread(self) -> set[str]:
        """The answers, and the waits that ended without one, of which the frames hold nothing yet."""
        return {*self.answers, *self.expired, *self._taken}

    @property
    def news(self) -> bool:
        """Whether something has come during the last walk that no step has taken."""
        return not self._come.isdisjoint([*self.answers, *self.expired])

    def stored(self, waits: Mapping[str, AwaitInput[object]], renewed: Collection[str]) -> None:
        """Note that these waits are in the record, and that those that were asked anew are closed there."""
        for name, awaited in waits.items():
            if self.waits.get(name) is awaited:
                del self.waits[name]
        self.renewed.difference_update(renewed)

    def key_of(self, path: str) -> asyncio.Future[SuspensionKey]:
        """The key of an open wait, once that is stored."""
        self.wanted[path] = asyncio.get_running_loop().create_future()
        self.stirred.set()
        return self.wanted[path]

    def give_keys(self, keys: Mapping[str, SuspensionKey] | PersistenceError) -> None:
        """Pass on the keys of waits that are stored now, or why they can't be."""
        for path in [path for path in self.wanted if isinstance(keys, PersistenceError) or path in keys]:
            future = self.wanted.pop(path)
            if not future.done():
                future.set_exception(keys) if isinstance(keys, PersistenceError) else future.set_result(keys[path])

    def deliver(self, run: Resumption[Any]) -> None:
        """Let the branches go on whose answers have come while they waited."""
        givers = givers_of(run)
        for name in (*run.answers, *run.expired):
            # Not if it was given up meanwhile, or asked again.
            if (name in self.open and name not in self.waits) or self.dormant.has(name):
                if name in run.answers:
                    self.answers[name] = run.answers[name]
                    self.givers[name] = givers[name]
                else:
                    self.expired.add(name)
                self.waiting.discard(name)
                self._come.add(name)
                if name in self.open:
                    self._drop(name)
        for revive in tuple(self.fans):
            revive()

    def has_come(self, path: str) -> bool:
        """Whether something has come for a wait within a step, a branch or an iteration, or for its own."""
        come = [name for name in self._come if is_within(name, path)]
        return any(name in self.answers or name in self.expired for name in come)

    def come_within(self, path: str) -> set[int]:
        """The numbers of the iterations or branches of a step for which something has come in this walk."""
        return self.unread_within(path, self._come)

    def unread_within(self, path: str, names: Collection[str] | None = None) -> set[int]:
        """The numbers of those for which there is something that no step has taken, of these waits or of all."""
        prefix = f"{path}["
        unread = self.answers.keys() | self.expired if names is None else names
        come = [name for name in unread if name.startswith(prefix) and (name in self.answers or name in self.expired)]
        return {index_of(name, len(path)) for name in come}

    def give_up(self, path: str, *, answers: bool = True) -> None:
        """Drop the waits within a step whose attempt has failed, so that a further attempt asks again; with
        ``answers``, those that have come too.
        """
        for fan, group in self.dormant.within(path):
            wake(self, fan, group)
        self.dormant.forget(path)
        for name in [name for name in self.paused if is_within(name, path)]:
            del self.paused[name]
        within = partial(is_within, outer=path)
        for come in (self.waiting, self._taken, *((self.answers, self.expired) if answers else ())):
            for name in [name for name in come if within(name)]:
                come.pop(name) if isinstance(come, dict) else come.discard(name)
        self.forget_waits(within)

    def forget_waits(self, over: Callable[[str], bool]) -> None:
        """Remove the open waits of these paths, which frees their room."""
        for name in [name for name in self.open if over(name)]:
            self._drop(name)
            self.stirred.set()

    def _drop(self, name: str) -> None:
        self.tally.room += self.open.pop(name)
        self.waits.pop(name, None)
        self.asked.pop(name, None)
        self.timed.discard(name)
        if name in self.wanted:
            self.wanted.pop(name).cancel()
        self.tally.freed = True

    def resolver(self, node: Node, place: StepPosition) -> Resolver:
        """The resolver of a step's references."""
        return Resolver(self.flow.name, node.id, self.input, place.previous, place.scope, self.about)

    def blamed(self, node: Node, error: PersistenceError, tool: str | None = None) -> Failed:
        """The failure of a step by an inner error, with document and step named in it."""
        if not isinstance(error, FlowError) or error.document is None:
            reference = error.reference if isinstance(error, FlowError) else None
            named = FlowError(_naming(node, error), self.flow.name, node.id, reference, tool)
            named.__cause__ = error
            return Failed(named)
        return Failed(error)

    def failed(self, node: Node, message: str, tool: str | None = None, cause: BaseException | None = None) -> Failed:
        """The failure of a step, by its name."""
        error = FlowError(f"step {node.id!r}: {message}", self.flow.name, node.id, None, tool)
        error.__cause__ = cause
        return Failed(error)

    def is_cancelled(self) -> bool:
        """Whether the current task is being cancelled. Branches have their own tasks, without earlier cancellations."""
        task, before = self.home
        return is_cancelled(before if asyncio.current_task() is task else 0)

    async def walked(self, value: object, form: Form = SIZE) -> Flat:
        """Check a value's limits, and make a form of it; raises one of ``WALK_ERRORS``."""
        return await finished_soon(walk(value, self._known, form=form), self.pace)

    async def bounded(self, node: Node, value: object, what: str, tool: str | None = None) -> Failed | None:
        """The failure of a step by a value that is too large to pass on; None if it is small enough."""
        try:
            await self.walked(value)
        except WALK_ERRORS as error:
            return self.failed(node, f"{what} {walk_problem(error)}", tool, error)
        return None

    @asynccontextmanager
    async def turn(self, place: StepPosition) -> AsyncGenerator[None]:
        """Held while a step's tool runs, by as many at once as the document's ``concurrency`` says.

        A tool that waits for its turn is not yet running, so its step's timeout does not count that.
        """
        if self._turns is None:
            yield
            return
        bound, loop = place.bound, asyncio.get_running_loop()
        left = None if bound is None or (moment := bound.when()) is None else moment - loop.time()
        if bound is not None:
            bound.reschedule(None)
        async with self._turns:
            if bound is not None and left is not None:
                bound.reschedule(loop.time() + left)
            yield

    async def pace(self) -> None:
        """Let other tasks run once a time slice is used up."""
        if time.monotonic() - self.tally.pace.began > SLICE_SECONDS:
            await self.tally.pace.turn()


def _naming(node: Node, error: PersistenceError) -> str:
    prefix = f"step {node.id!r}: "
    return error.message if error.message.startswith(prefix) else prefix + error.message
