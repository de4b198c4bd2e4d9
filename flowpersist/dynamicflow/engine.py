"""The interpreter: walks a compiled flow, runs what can be run, and stops where answers are awaited.

It is durable by remembering. Each finished step leaves its result in its frame; walking the flow again finds it there
and runs nothing twice. A step that awaits an answer registers its wait and ends its branch; its siblings go on as far
as they can. When all branches have ended, the frames are the state that a suspended run keeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from flowpersist.dynamicflow import operators
from flowpersist.dynamicflow.events import Emit, nothing
from flowpersist.dynamicflow.outcomes import PENDING, RAISED, Done, Failed, Outcome, Pending
from flowpersist.dynamicflow.plain import WALK_ERRORS, Known, finished_soon, walk, walk_problem
from flowpersist.dynamicflow.scope import Resolver, Scope
from flowpersist.dynamicflow.state import Frame, error_of, failure_of, sub_frame
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled
from flowpersist.lifecycle.shown import digest_text, shown_digest

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Block, Flow, Node
    from flowpersist.dynamicflow.tools import Toolbox
    from flowpersist.inputs.await_input import AwaitInput

__all__ = ["MAX_OPEN", "ROOM_BYTES", "Backoff", "Engine", "Place", "backoff"]

#: From the number of attempts that have failed to the seconds before the next.
Backoff = Callable[[int], float]
#: How long the interpreter may keep the event loop to itself.
_SLICE_SECONDS: Final = 0.01
#: Of what is awaited, as JSON, in all open waits of a run together: it stands in the head of its record, which is
#: small.
ROOM_BYTES: Final = 96 * 1024
#: Waits of a run that are open at a time. Further ones open as these are answered.
MAX_OPEN: Final = 500
#: Of a step's path where it names a wait, in UTF-8.
MAX_PATH_BYTES: Final = 500
_KEPT_ON_RETRY: Final = frozenset({"failures", "error"})


def backoff(failures: int) -> float:
    """Seconds before the next attempt: 0.1, 0.2, 0.4 and so on, at most 5."""
    return min(0.1 * 2.0 ** (failures - 1), 5.0)


@frozen
class Place:
    """Where a step runs: its path, its frame, the names that it sees, and what the step before gave.

    ``trail`` is the path with the attempt of each step on it that is not its first: ``publish#2[0].charge``.
    """

    path: str
    trail: str
    frame: Frame = field(repr=False)
    scope: Scope = field(repr=False)
    previous: Done = field(repr=False)


@define
class Engine:
    """One leg's walks over a flow. ``waits`` are what it newly awaits, ``waiting`` the paths of all that is awaited.

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
    backoff: Backoff = backoff
    tracebacks: Tracebacks = field(factory=Tracebacks)
    waits: dict[str, AwaitInput[object]] = field(factory=dict)
    waiting: set[str] = field(factory=set)
    outputs: dict[str, object] = field(factory=dict, repr=False)
    _home: tuple[asyncio.Task[object] | None, int] = field(default=(None, 0), init=False)
    _known: Known = field(factory=Known, init=False, repr=False)
    _put_off: bool = field(default=False, init=False)
    _freed: bool = field(default=False, init=False)
    _yielded: float = field(factory=time.monotonic, init=False)

    async def run(self, frame: Frame) -> Outcome:
        """Walk the whole flow as far as it goes. ``outputs`` then has the results of all steps that are done."""
        task = asyncio.current_task()
        self._home = (task, 0 if task is None else task.cancelling())
        try:
            await self.walked(self.input, flatten=False)
        except WALK_ERRORS as error:
            return Failed(FlowError(f"the run's input {walk_problem(error)}", self.flow.name, reference="$input"))
        while True:
            self._put_off = self._freed = False
            scope = Scope()
            outcome = await self.block(self.flow.steps, Place("", "", frame, scope, Done(self.input)))
            self.outputs = scope.steps
            self._forget_waits(lambda path: path not in self.waiting)
            # A question that found no room may have it now, and perhaps there is no other whose answer would ask it.
            if outcome is not PENDING or not (self._put_off and self._freed):
                return outcome

    def register(self, node: Node, place: Place, awaited: AwaitInput[object]) -> Failed | Pending:
        """Open a wait under the step's path, if there is room; else it comes when others are answered."""
        size = awaited.size
        if size > ROOM_BYTES:
            return self.failed(
                node, f"what it awaits takes {size} characters, and at most {ROOM_BYTES} fit: show less with it"
            )
        if len(place.path.encode()) > MAX_PATH_BYTES:
            return self.failed(node, f"its path has more than {MAX_PATH_BYTES} bytes: give shorter ids, or nest less")
        if not self.open or (size <= self.room and len(self.open) < MAX_OPEN):
            self.room -= size
            self.open[place.path] = size
            self.waits[place.path] = awaited
            self.wait(place)
        else:
            self._put_off = True
        return PENDING

    def asks_otherwise(self, path: str, awaited: AwaitInput[object]) -> bool:
        """Whether the wait that is open there shows something else than what is awaited now."""
        return path in self.asked and self.asked[path] != digest_text(shown_digest(awaited.to_data()))

    def wait(self, place: Place) -> None:
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
        self._forget_waits(within)

    def _forget_waits(self, over: Callable[[str], bool]) -> None:
        for name in [name for name in self.open if over(name)]:
            self.room += self.open.pop(name)
            self.waits.pop(name, None)
            self.asked.pop(name, None)
            self._freed = True

    def resolver(self, node: Node, place: Place) -> Resolver:
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
        task, before = self._home
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

    async def block(self, block: Block, place: Place) -> Outcome:
        """Run steps one after another; the last one's result, or what the block was given where it is empty."""
        previous = place.previous
        for index, name in enumerate(block, start=1):
            known = "result" in sub_frame(place.frame, name)
            outcome = await self.step(self.flow.nodes[name], place, previous)
            if not isinstance(outcome, Done):
                return outcome
            previous = outcome
            if not place.path and not known:
                self.emit("flow-progress", {"step": index, "total": len(block), "node": name})
        return previous

    async def iteration(
        self,
        block: Block,
        place: Place,
        label: str,
        variables: Mapping[str, object],
        previous: Done,
        *,
        leaks: bool = False,
    ) -> Outcome:
        """Run one iteration or branch in a scope of its own: a finished one gives its result again.

        ``leaks``: its frame keeps the variables that it sets, for the one after it.
        """
        frame = sub_frame(place.frame, label)
        if "result" in frame:
            return Done(frame["result"], frame.get("tool"))
        scope = Scope(place.scope, dict(variables))
        within = Place(place.path + label, place.trail + label, frame, scope, previous)
        outcome = await self.block(block, within)
        if isinstance(outcome, Done):
            kept = {name: value for name, value in scope.variables.items() if leaks and name not in variables}
            _settle(frame, outcome, scope.steps, kept)
        return outcome

    async def step(self, node: Node, around: Place, previous: Done) -> Outcome:
        """Run one step unless it is done, and bind its names in the scope around it."""
        frame = sub_frame(around.frame, node.id)
        if "result" not in frame:
            path, trail = _below(around.path, node.id), _below(around.trail, node.id)
            outcome = await self._begin(node, Place(path, trail, frame, around.scope, previous))
            if not isinstance(outcome, Done):
                return outcome
        return _recall(node, frame, around.scope)

    async def _begin(self, node: Node, place: Place) -> Outcome:
        await self.pace()
        if not place.frame:
            self.emit("node-start", {"node": node.id, "path": place.path})
        outcome = await self._attempts(node, place)
        if isinstance(outcome, Failed) and node.on_error:
            outcome = await self._handle(node, place, outcome.error)
        if isinstance(outcome, Done):
            self.emit("node-complete", {"node": node.id, "path": place.path, "result": outcome.value})
        elif isinstance(outcome, Failed):
            self.emit("node-error", {"node": node.id, "path": place.path, "error": outcome.error.message})
        return outcome

    async def _attempts(self, node: Node, place: Place) -> Outcome:
        """Attempt until it is done, waits, or the attempts are used up: that is kept, so that none is made again."""
        if "error" in place.frame:
            return Failed(error_of(place.frame["error"]))
        while True:
            failures = place.frame.get("failures", 0)
            outcome = await self._attempt(node, place, failures + 1)
            if not isinstance(outcome, Failed):
                return outcome
            _forget(place.frame)
            self.give_up(place.path)
            place.frame["failures"] = failures + 1
            if failures >= node.retries:
                place.frame["error"] = failure_of(outcome.error)
                return outcome
            try:
                pause = max(0.0, float(self.backoff(failures + 1)))
            except RAISED as error:  # the runner's owner gave it, and it may fail
                return self.failed(node, f"the runner's backoff failed ({type(error).__name__})", cause=error)
            await asyncio.sleep(pause)

    async def _attempt(self, node: Node, place: Place, attempt: int) -> Outcome:
        scope = Scope(place.scope)
        trail = place.trail if attempt == 1 else f"{place.trail}#{attempt}"
        inner = Place(place.path, trail, place.frame, scope, place.previous)
        try:
            async with asyncio.timeout(node.timeout):
                outcome = await operators.operate(self, node, inner, attempt)
                if isinstance(outcome, Done):
                    outcome = await self.bounded(node, outcome.value, "its result") or outcome
        except TimeoutError:
            return self.failed(node, f"attempt {attempt} took longer than {node.timeout} s")
        if isinstance(outcome, Done):
            _settle(place.frame, outcome, scope.steps, scope.variables)
        return outcome

    async def _handle(self, node: Node, place: Place, error: FlowError) -> Outcome:
        """Run what stands in for a failed step. It sees the error as ``$error``."""
        scope = Scope(place.scope, {"error": failure_of(error)})
        outcome = await self.block(node.on_error, evolve(place, scope=scope))
        if isinstance(outcome, Done):
            del scope.variables["error"]
            _settle(place.frame, outcome, scope.steps, scope.variables)
        return outcome

    async def pace(self) -> None:
        """Let others have the event loop where a slice of time is used up."""
        if time.monotonic() - self._yielded > _SLICE_SECONDS:
            await asyncio.sleep(0)
            self._yielded = time.monotonic()


def _below(around: str, name: str) -> str:
    return f"{around}.{name}" if around else name


def _naming(node: Node, error: PersistenceError) -> str:
    prefix = f"step {node.id!r}: "
    return error.message if error.message.startswith(prefix) else prefix + error.message


def _settle(frame: Frame, done: Done, steps: Mapping[str, object], variables: Mapping[str, object]) -> None:
    """Make a frame that of a done step: what was within it is needed no more."""
    frame.clear()
    frame["result"] = done.value
    frame.update(_given({"tool": done.tool, "steps": dict(steps), "variables": dict(variables)}.items()))


def _given(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in fields if value}


def _recall(node: Node, frame: Frame, scope: Scope) -> Done:
    """Bind what a done step leaves behind."""
    scope.steps.update(frame.get("steps", {}))
    scope.variables.update(frame.get("variables", {}))
    scope.steps[node.id] = frame["result"]
    # A variable of the step's own name is the step: `$name.output` goes on to mean its result.
    if node.output is not None and node.output != node.id:
        scope.variables[node.output] = frame["result"]
    return Done(frame["result"], frame.get("tool"))


def _forget(frame: Frame) -> None:
    for name in [name for name in frame if name not in _KEPT_ON_RETRY]:
        del frame[name]
