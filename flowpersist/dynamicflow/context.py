"""What every step of one leg works with: the run's answers and open waits, the bounds, and the failure of a step.

The modules that run operations import this one, and the engine, which walks the steps, is made from it.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from flowpersist.dynamicflow.events import Emit, nothing
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.plain import WALK_ERRORS, Known, finished_soon, walk, walk_problem
from flowpersist.dynamicflow.scope import Resolver, Scope
from flowpersist.dynamicflow.state import Frame
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled
from flowpersist.lifecycle.shown import digest_text, shown_digest

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Block, Flow, Node
    from flowpersist.dynamicflow.tools import Toolbox
    from flowpersist.inputs.await_input import AwaitInput

__all__ = ["MAX_OPEN", "ROOM_BYTES", "Context", "StepPosition"]

#: How long the interpreter may keep the event loop to itself.
_SLICE_SECONDS: Final = 0.01
#: Of what is awaited, as JSON, in all open waits of a run together: it stands in the head of its record, which is
#: small.
ROOM_BYTES: Final = 96 * 1024
#: Waits of a run that are open at a time. Further ones open as these are answered.
MAX_OPEN: Final = 500
#: Of a step's path where it names a wait, in UTF-8.
MAX_PATH_BYTES: Final = 500


@frozen
class StepPosition:
    """Where a step runs: its path, its frame, the names that it sees, and what the step before gave.

    ``trail`` is the path with the attempt of each step on it that is not its first: ``publish#2[0].charge``.
    """

    path: str
    trail: str
    frame: Frame = field(repr=False)
    scope: Scope = field(repr=False)
    previous: Done = field(repr=False)


@define
class Context(ABC):
    """One leg of a run. ``waits`` are what it newly awaits, ``waiting`` the paths of all that is awaited.

    ``answers`` and ``expired`` are by path what has come since the last leg; ``open`` are by path the waits that the
    run has already, with the bytes that each takes of ``room``. Those of a branch that is given up leave it, as what
    has come for them does. ``asked`` are the digests of what the open ones show, where another document may now show
    something else.
    """

    flow: Flow
    toolbox: Toolbox
    run_id: str
    input: object = field(repr=False)
    answers: dict[str, object] = field(factory=dict, repr=False)
    expired: set[str] = field(factory=set)
    open: dict[str, int] = field(factory=dict)
    room: int = ROOM_BYTES
    asked: dict[str, str | None] = field(factory=dict)
    emit: Emit = nothing
    tracebacks: Tracebacks = field(factory=Tracebacks)
    waits: dict[str, AwaitInput[object]] = field(factory=dict)
    waiting: set[str] = field(factory=set)
    #: The task that walks the flow, and how often it had been cancelled when the walk began.
    home: tuple[asyncio.Task[object] | None, int] = field(default=(None, 0), init=False)
    #: Whether a wait found no room in this walk, and whether another one has left it since.
    put_off: bool = field(default=False, init=False)
    freed: bool = field(default=False, init=False)
    _known: Known = field(factory=Known, init=False, repr=False)
    _yielded: float = field(factory=time.monotonic, init=False)

    @abstractmethod
    async def block(self, block: Block, place: StepPosition) -> StepOutcome:
        """Run steps one after another; the last one's result, or what the block was given where it is empty."""

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
        """Run one iteration or branch in a scope of its own: a finished one gives its result again.

        ``leaks``: its frame keeps the variables that it sets, for the one after it.
        """

    def register(self, node: Node, place: StepPosition, awaited: AwaitInput[object]) -> Failed | Pending:
        """Open a wait under the step's path, if there is room; else it comes when others are answered."""
        size = awaited.size
        if size > ROOM_BYTES:
            return self.failed(
                node, f"its question takes {size} characters, over the limit of {ROOM_BYTES}: show less data"
            )
        if len(place.path.encode()) > MAX_PATH_BYTES:
            return self.failed(node, f"its path has more than {MAX_PATH_BYTES} bytes: give shorter ids, or nest less")
        if not self.open or (size <= self.room and len(self.open) < MAX_OPEN):
            self.room -= size
            self.open[place.path] = size
            self.waits[place.path] = awaited
            self.wait(place)
        else:
            self.put_off = True
        return PENDING

    def asks_otherwise(self, path: str, awaited: AwaitInput[object]) -> bool:
        """Whether the wait that is open there shows something else than what is awaited now."""
        return path in self.asked and self.asked[path] != digest_text(shown_digest(awaited.to_data()))

    def wait(self, place: StepPosition) -> None:
        """Note that the step's wait is open."""
        place.frame["waiting"] = True
        self.waiting.add(place.path)

    def give_up(self, path: str) -> None:
        """Forget what is awaited within a step whose attempt has failed: a further one asks anew."""

        def within(name: str) -> bool:
            return name == path or name.startswith((f"{path}.", f"{path}["))

        for come in (self.answers, self.expired, self.waiting):
            for name in [name for name in come if within(name)]:
                come.pop(name) if isinstance(come, dict) else come.discard(name)
        self.forget_waits(within)

    def forget_waits(self, over: Callable[[str], bool]) -> None:
        """Drop the open waits whose paths these are, which frees their room."""
        for name in [name for name in self.open if over(name)]:
            self.room += self.open.pop(name)
            self.waits.pop(name, None)
            self.asked.pop(name, None)
            self.freed = True

    def resolver(self, node: Node, place: StepPosition) -> Resolver:
        """What resolves the references of a step."""
        return Resolver(self.flow.name, node.id, self.input, place.previous.value, place.scope)

    def blamed(self, node: Node, error: PersistenceError, tool: str | None = None) -> Failed:
        """The failure of a step by an error that something below it gave, with document and step named in it."""
        if not isinstance(error, FlowError) or error.document is None:
            reference = error.reference if isinstance(error, FlowError) else None
            named = FlowError(_naming(node, error), self.flow.name, node.id, reference, tool)
            named.__cause__ = error
            return Failed(named)
        return Failed(error)

    def failed(self, node: Node, message: str, tool: str | None = None, cause: BaseException | None = None) -> Failed:
        """The failure of a step, by name."""
        error = FlowError(f"step {node.id!r}: {message}", self.flow.name, node.id, None, tool)
        error.__cause__ = cause
        return Failed(error)

    def is_cancelled(self) -> bool:
        """Whether the task that runs now is being cancelled: branches have tasks of their own, which begin afresh."""
        task, before = self.home
        return is_cancelled(before if asyncio.current_task() is task else 0)

    async def walked(self, value: object, *, flatten: bool) -> object:
        """A value within the bounds, made plain where that is asked for; raises one of ``WALK_ERRORS``."""
        return (await finished_soon(walk(value, self._known, flatten=flatten), self.pace)).value

    async def bounded(self, node: Node, value: object, what: str, tool: str | None = None) -> Failed | None:
        """The failure of a step by a value that is too large to be handed on; None where it is not."""
        try:
            await self.walked(value, flatten=False)
        except WALK_ERRORS as error:
            return self.failed(node, f"{what} {walk_problem(error)}", tool, error)
        return None

    async def pace(self) -> None:
        """Let others have the event loop where a slice of time is used up."""
        if time.monotonic() - self._yielded > _SLICE_SECONDS:
            await asyncio.sleep(0)
            self._yielded = time.monotonic()


def _naming(node: Node, error: PersistenceError) -> str:
    prefix = f"step {node.id!r}: "
    return error.message if error.message.startswith(prefix) else prefix + error.message
