"""The interpreter: it runs the steps of a compiled flow that can run, and stops where answers are awaited.

It survives restarts through its state. Each finished step stores its result in its frame; running the flow again finds
it there and repeats nothing. A step that awaits an answer registers its wait and ends its branch, while its siblings
continue. When all branches have ended, the frames are the state that a suspended run keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field

from flowpersist.dynamicflow import history, operators
from flowpersist.dynamicflow.answered import bring, named, unmarked
from flowpersist.dynamicflow.apart import Parts, held
from flowpersist.dynamicflow.budgets import MAX_BEGUN
from flowpersist.dynamicflow.context import Context, StepPosition
from flowpersist.dynamicflow.graph_runs import run_graph
from flowpersist.dynamicflow.ir import Map
from flowpersist.dynamicflow.journal import is_logged
from flowpersist.dynamicflow.later import needs, now
from flowpersist.dynamicflow.located import inner_of, outer_of, takes_previous, within
from flowpersist.dynamicflow.outcomes import PENDING, RAISED, Done, Failed, StepOutcome
from flowpersist.dynamicflow.plain import WALK_ERRORS, walk_problem
from flowpersist.dynamicflow.references import Reference
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.state import Frame, error_of, failure_of, is_finished, path_to, sub_frame
from flowpersist.errors import FlowError
from flowpersist.hub.telemetry import failed, span

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Block, Node, Retry

__all__ = ["Engine", "RetryPause", "backoff"]

#: Gives the seconds before the next attempt from the number of failed attempts.
RetryPause = Callable[[int], float]
_OF_FAILURE: Final = frozenset({"failures", "error", "began", "ended", "attempts"})
_KEPT_ON_RETRY: Final = frozenset({"approved", "failures", "error", "began", "tried"})


def backoff(failures: int) -> float:
    """The seconds before the next attempt: 0.1, 0.2, 0.4 and so on, at most 5."""
    return min(0.1 * 2.0 ** (failures - 1), 5.0)


@define
class Engine(Context):
    """One leg's passes over a flow; once all steps are done ``outputs`` has their results."""

    backoff: RetryPause = backoff
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    outputs: dict[str, object] = field(factory=dict, repr=False)
    #: What of the run's state is apart; None: nothing is.
    parts: Parts | None = field(default=None, repr=False)
    #: Whether an earlier leg has found that the input is within the limits.
    checked: bool = False
    #: How many steps have begun, in all passes.
    begun: int = 0

    async def run(self, frame: Frame) -> StepOutcome:
        """Run the flow as far as possible. ``outputs`` has the results of the steps once all of them are done."""
        task = asyncio.current_task()
        self.home = (task, 0 if task is None else task.cancelling())
        try:
            if not self.checked:
                await self.walked(now(self.input))
        except WALK_ERRORS as error:
            return Failed(FlowError(f"the run's input {walk_problem(error)}", self.flow.name, reference="$input"))
        while True:
            self.tally.put_off = self.tally.freed = False
            self._come.clear()
            self.paused.clear()
            scope = Scope()
            outcome = await self.outermost(StepPosition("", "", frame, scope, Done(self.input)))
            if isinstance(outcome, Done):
                self.outputs = await self._outputs(scope)
            self.forget_waits(lambda path: path not in self.waiting)
            # A wait that did not fit may fit now, and there may be no other answer that would trigger it.
            if outcome is not PENDING or not (self.news or (self.tally.put_off and self.tally.freed)):
                return outcome

    async def outermost(self, place: StepPosition) -> StepOutcome:
        """See ``Context``."""
        if self.flow.graph is None:
            return await self.block(self.flow.steps, place)
        return await run_graph(self, self.flow.graph, place)

    async def block(self, block: Block, place: StepPosition) -> StepOutcome:
        """Run steps one after another; gives the last one's result, or the block's input if it is empty."""
        previous = place.previous
        for index, name in enumerate(block, start=1):
            known = is_finished(sub_frame(place.frame, name))
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
        place: StepPosition,
        label: str,
        variables: Mapping[str, object],
        previous: Done,
        *,
        leaks: bool = False,
    ) -> StepOutcome:
        """See ``Context``."""
        frame = sub_frame(place.frame, label)
        if "result" in frame:
            return _kept(frame)
        scope = Scope(place.scope, dict(variables))
        within = StepPosition(place.path + label, place.trail + label, frame, scope, previous)
        outcome = await self.block(block, within)
        if isinstance(outcome, Done):
            kept = {name: value for name, value in scope.variables.items() if leaks and name not in variables}
            self._settle(frame, outcome, scope.steps, kept)
        return outcome

    async def step(self, node: Node, around: StepPosition, previous: Done) -> StepOutcome:
        """See ``Context``."""
        frame = sub_frame(around.frame, node.id)
        if not is_finished(frame):
            path, trail = path_to(around.path, node.id), path_to(around.trail, node.id)
            await self._read_ahead(node, around, previous)
            with span(f"step {node.id}", {"flowpersist.step": node.id, "flowpersist.step.path": path}) as current:
                outcome = await self._begin(node, StepPosition(path, trail, frame, around.scope, previous))
                if isinstance(outcome, Failed):
                    failed(current, outcome.error)
            if not isinstance(outcome, Done):
                return outcome
        return self._recall(node, frame, around.scope)

    async def _begin(self, node: Node, place: StepPosition) -> StepOutcome:
        await self.pace()
        if self.held_back is not None:
            await self.held_back()
        self.begun += 1
        if self.begun > MAX_BEGUN:
            return self.failed(node, f"more than {MAX_BEGUN} steps ran without a pause: loop inside a tool instead")
        if history.is_new(place.frame):
            history.began(place.frame, self.clock())
            self.emit("node-start", {"node": node.id, "path": place.path})
        outcome = await self._attempts(node, place)
        if isinstance(outcome, Failed) and node.on_error:
            outcome = await self._handle(node, place, outcome.error)
        if isinstance(outcome, Failed):
            self.emit("node-error", {"node": node.id, "path": place.path, "error": outcome.error.message})
        return outcome

    async def _attempts(self, node: Node, place: StepPosition) -> StepOutcome:
        """Attempt until it is finished, waits, or has used its attempts, which is stored so that no attempt is
        repeated.
        """
        if "error" in place.frame:
            return Failed(error_of(place.frame["error"]))
        while True:
            failures = place.frame.get("failures", 0)
            outcome = await self._attempt(node, place, place.frame.get("tried", 0) + failures + 1)
            if not isinstance(outcome, Failed):
                return outcome
            last = failures >= node.retry.attempts or outcome.final or not _repeats(node.retry, outcome.error)
            # Without a handler the frame stays as it is: what has finished within it is not done again by a retry.
            kept = last and not node.on_error
            self.give_up(place.path, answers=not kept)
            if not kept:
                _forget(place.frame)
            place.frame["failures"] = failures + 1
            if last:
                place.frame["error"] = failure_of(outcome.error)
                place.frame.update(history.ended(place.frame, self.clock()))
            broken = await self._logged(node, place, failed=True, kept=kept)
            if broken is not None or last:
                return broken or outcome
            try:
                pause = max(0.0, float(self._pause(node.retry, failures + 1)))
            except RAISED as error:  # The user's function may raise anything.
                return self.failed(node, f"the runner's backoff function failed ({type(error).__name__})", cause=error)
            await asyncio.sleep(pause)

    def _pause(self, retry: Retry, failures: int) -> float:
        if retry.delay is None:
            return self.backoff(failures)
        return min(retry.delay * retry.factor ** (failures - 1), retry.longest)

    async def _attempt(self, node: Node, place: StepPosition, attempt: int) -> StepOutcome:
        scope = Scope(place.scope)
        trail = place.trail if attempt == 1 else f"{place.trail}#{attempt}"
        inner = StepPosition(place.path, trail, place.frame, scope, place.previous)
        try:
            async with asyncio.timeout(node.timeout) as bound:
                outcome = await operators.operate(self, node, evolve(inner, bound=bound), attempt)
                if isinstance(outcome, Done):
                    outcome = await self.bounded(node, outcome.value, "its result") or outcome
        except TimeoutError as error:
            return self.failed(node, f"attempt {attempt} took longer than {node.timeout} s", cause=error)
        if isinstance(outcome, Done):
            self._settle(place.frame, outcome, scope.steps, scope.variables)
            self.settled(place.path)
            self.tally.finished += 1
            self._told(node, place, outcome)
            return await self._logged(node, place) or outcome
        return outcome

    async def _logged(
        self, node: Node, place: StepPosition, *, failed: bool = False, kept: bool = False
    ) -> Failed | None:
        """Have what became of a step stored, as the run's durability says; the failure if it can't be.

        ``kept``: the frames within a failed one stay, so only its own fields are stored.
        """
        if self.journal is None or not (failed or is_logged(node)):
            return None
        own = {name: value for name, value in place.frame.items() if not kept or name in _OF_FAILURE}
        self.journal.note(place.path, own, whole=not kept)
        error = await self.journal.finished()
        if error is None:
            return None
        found = self.failed(node, f"its result can't be stored: {error}; let tools return less", cause=error)
        return evolve(found, final=True)

    async def _handle(self, node: Node, place: StepPosition, error: FlowError) -> StepOutcome:
        """Run the ``onError`` steps of a failed step. They see the error as ``$error``."""
        scope = Scope(place.scope, {"error": failure_of(error)})
        outcome = await self.block(node.on_error, evolve(place, scope=scope))
        if isinstance(outcome, Done):
            del scope.variables["error"]
            self._settle(place.frame, outcome, scope.steps, scope.variables)
            self._told(node, place, outcome)
        return outcome

    def _told(self, node: Node, place: StepPosition, done: Done) -> None:
        # Before it is stored that the step is done: afterwards it is not run again, and so not told again.
        self.emit("node-complete", {"node": node.id, "path": place.path, "result": done.value})

    def _settle(self, frame: Frame, done: Done, steps: Mapping[str, object], variables: Mapping[str, object]) -> None:
        """Reduce a frame to that of a finished step, which needs no inner frames."""
        told = history.ended(frame, self.clock())
        frame.clear()
        frame["result"] = done.value
        frame.update(
            _given({"tool": done.tool, "given": done.given, "steps": dict(steps), "variables": dict(variables)}.items())
        )
        frame.update(told)

    async def _read_ahead(self, node: Node, around: StepPosition, previous: Done) -> None:
        """Decode what an outermost step refers to, in a thread: its lookups would do so in the event loop."""
        if self.parts is None or not self.parts.keys or around.path:
            return
        keys: set[str] = set()
        for one in within(node, self.flow.nodes):
            if takes_previous(one):
                keys.update(previous.keys)
            # What iterations need that are all dormant comes with them.
            begun = (
                isinstance(node.operation, Map) and one is node and self.dormant.is_whole(path_to(around.path, node.id))
            )
            for located in (*(() if begun else outer_of(one)), *inner_of(one)):
                reference = located.found
                if not isinstance(reference, Reference):
                    continue
                if reference.root == "input":
                    keys.update(needs(self.input, reference.path))
                elif reference.root == "previousOutput":
                    keys.update(previous.keys)
                    keys.update(around.scope.keys(str(reference.path[0])) if reference.short else ())
                else:
                    keys.update(around.scope.keys(reference.root))
        await self.parts.ready(sorted(keys))

    async def _outputs(self, scope: Scope) -> dict[str, object]:
        if self.parts is not None:
            await self.parts.ready(self.parts.keys)
        return {name: now(value) for name, value in unmarked(scope.steps).items()}

    def _recall(self, node: Node, frame: Frame, scope: Scope) -> Done:
        """Bind the names that a finished step exports."""
        apart = {} if self.parts is None or "apart" not in frame else held(self.parts, frame)
        for part, names in (("steps", scope.steps), ("variables", scope.variables)):
            bring(names, frame.get(part, {}))
            bring(names, {place[1]: value for place, value in apart.items() if place[0] == part})
        result, given = (apart.get((part,), frame.get(part)) for part in ("result", "given"))
        bring(scope.steps, named(node.id, result, given))
        # A variable with the step's own name is the step: `$name.output` still means its result.
        if node.output is not None and node.output != node.id:
            bring(scope.variables, named(node.output, result, given))
        return Done(result, frame.get("tool"), given)


def _repeats(retry: Retry, error: FlowError) -> bool:
    """Whether a failure is of a class that is tried again: that of the error, or of what it was caused by."""
    if not retry.on:
        return True
    cause: BaseException | None = error
    while cause is not None:
        for kind in type(cause).__mro__:
            if kind.__name__ in retry.on or f"{kind.__module__}.{kind.__qualname__}" in retry.on:
                return True
        cause = cause.__cause__
    return False


def _given(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in fields if value}


def _kept(frame: Frame) -> Done:
    """The result of a finished step or iteration."""
    return Done(frame["result"], frame.get("tool"), frame.get("given"))


def _forget(frame: Frame) -> None:
    for name in [name for name in frame if name not in _KEPT_ON_RETRY]:
        del frame[name]
