"""How a run stands: each step's status, attempts, times, output and error, of a run in any status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from attrs import define, evolve, field, frozen
from returns.result import Failure, Success

from flowpersist.dynamicflow.facts import no_flow, run_id_of
from flowpersist.dynamicflow.history import attempts_of, moment_of
from flowpersist.dynamicflow.ir import blocks_of
from flowpersist.dynamicflow.nested import flow_within
from flowpersist.dynamicflow.retrying import found_run
from flowpersist.dynamicflow.state import Frame, is_within, path_to
from flowpersist.dynamicflow.stored_runs import stored_run
from flowpersist.errors import SuspensionClosed
from flowpersist.lifecycle import Status, Suspension

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Block, Flow, Node
    from flowpersist.dynamicflow.retrying import RunLike
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["RunInspection", "StepInspection", "StepStatus", "history_of", "inspected"]

StepStatus: TypeAlias = Literal["pending", "running", "waiting", "done", "failed"]
#: The most steps of a failed run of which a history is kept.
MAX_HISTORY: Final = 1000


@frozen
class StepInspection:
    """One step of a run.

    ``path`` names it in the run, such as ``each[2].charge``; ``id`` in the document. ``attempts`` counts those that
    were made, ``started`` is when the first one began, ``ended`` when it had its result or failed (the store's clock).
    ``output`` is the result of a done one, ``error`` the message of a failed one.
    """

    path: str
    id: str
    status: StepStatus
    attempts: int
    started: datetime | None
    ended: datetime | None
    output: object = field(default=None, repr=False)
    error: str | None = field(default=None, repr=False)


@frozen
class RunInspection:
    """A run as it is stored.

    ``steps`` has the steps by path in the order of the document: those that have begun, and those that are to run after
    them in the same blocks. A done step has none within it. ``waits`` are the paths of the open questions. ``result``
    and ``outputs`` are those of a completed run, ``error`` is the message of a failed or parked one.
    """

    run_id: str
    suspension: Suspension
    steps: Mapping[str, StepInspection] = field(repr=False)
    waits: tuple[str, ...] = ()
    result: object = field(default=None, repr=False)
    outputs: Mapping[str, object] = field(factory=dict, repr=False)
    error: str | None = field(default=None, repr=False)

    @property
    def status(self) -> Status:
        """The run's status."""
        return self.suspension.status

    @property
    def position(self) -> tuple[str, ...]:
        """The paths of the innermost steps that run, wait or have failed."""
        there = [path for path, step in self.steps.items() if step.status in {"running", "waiting", "failed"}]
        return tuple(path for path in there if not any(other != path and is_within(other, path) for other in there))


async def inspected(hub: PersistenceHub, run: RunLike) -> Outcome[RunInspection]:
    """Look at a run. Three round trips; nothing is written."""
    found = await found_run(hub, run)
    if isinstance(found, Failure):
        return found
    stored = await stored_run(hub, found.unwrap())
    if isinstance(stored, Failure):
        return await _ended(hub, found.unwrap()) if isinstance(stored.failure(), SuspensionClosed) else stored
    seen = stored.unwrap()
    failed: Mapping[str, Any] = seen.state.get("failed") or {}
    named = frozenset(wait.name for wait in seen.suspension.open_waits)
    steps = _Steps(seen.flow, seen.suspension.status).all(seen.state["frame"])
    return Success(
        RunInspection(
            run_id=run_id_of(seen.suspension),
            suspension=seen.suspension,
            steps={step.path: step for step in steps},
            waits=_ordered(steps, named),
            error=failed.get("message", seen.suspension.error),
        )
    )


def _ordered(steps: Iterable[StepInspection], named: frozenset[str]) -> tuple[str, ...]:
    """The open questions: those of steps in their order, then those that tools ask while they run."""
    of_tools = sorted(name for name in named if not name.startswith("$"))
    return tuple(dict.fromkeys([*(step.path for step in steps if step.path in named), *of_tools]))


async def _ended(hub: PersistenceHub, id: Any) -> Outcome[RunInspection]:  # noqa: ANN401 - a SuspensionId
    looked = await hub.inspect(id)
    if isinstance(looked, Failure):
        return looked
    suspension = looked.unwrap()
    stranger = no_flow(suspension)
    if stranger is not None:
        return Failure(stranger)
    kept = await (hub.outcome(id) if suspension.status is Status.COMPLETED else hub.failure(id))
    if isinstance(kept, Failure):
        return kept
    left: Mapping[str, Any] = cast("Any", kept.unwrap()) or {}
    outputs: Mapping[str, object] = left.get("outputs", {})
    steps = {step["path"]: _remembered(step, outputs) for step in left.get("steps", ())}
    error = None if suspension.status is Status.COMPLETED else left.get("message", suspension.error)
    return Success(RunInspection(run_id_of(suspension), suspension, steps, (), left.get("result"), outputs, error))


def history_of(flow: Flow, frame: Frame) -> list[dict[str, object]]:
    """What is kept of the steps of a run that ends, without their outputs."""
    kept: list[dict[str, object]] = []
    for step in _Steps(flow, Status.FAILED).walk(frame, "", flow.steps):
        if len(kept) == MAX_HISTORY:
            break
        times = {name: at for name, at in (("started", step.started), ("ended", step.ended)) if at is not None}
        error = {} if step.error is None else {"error": step.error}
        kept.append(
            {"path": step.path, "id": step.id, "status": step.status, "attempts": step.attempts, **times, **error}
        )
    return kept


def _remembered(kept: Mapping[str, Any], outputs: Mapping[str, object]) -> StepInspection:
    return StepInspection(
        path=kept["path"],
        id=kept["id"],
        status=kept["status"],
        attempts=kept["attempts"],
        started=kept.get("started"),
        ended=kept.get("ended"),
        output=outputs.get(kept["path"]),
        error=kept.get("error"),
    )


@define
class _Steps:
    """The steps of one run, by its frames."""

    flow: Flow
    status: Status

    def all(self, frame: Frame) -> list[StepInspection]:
        """All of them, each before those within it."""
        return list(self.walk(frame, "", self.flow.steps))

    def walk(self, frame: Frame, around: str, block: Block) -> Iterator[StepInspection]:
        """Those of a block."""
        within: Mapping[str, Frame] = frame.get("sub", {})
        for name in block:
            inner = within.get(name, {})
            path = path_to(around, name)
            below = [] if "result" in inner else list(self._below(self.flow.nodes[name], inner, path))
            yield self._step(name, path, inner, below)
            yield from below

    def _below(self, node: Node, frame: Frame, path: str) -> Iterator[StepInspection]:
        within: Mapping[str, Frame] = frame.get("sub", {})
        flow = flow_within(self.flow, node)
        if flow is not self.flow and within:
            yield from evolve(self, flow=flow).walk(frame, path, flow.steps)
        blocks = dict(blocks_of(node))
        for label, block in blocks.items():
            if any(name in within for name in block):
                yield from self.walk(frame, path, block)
            elif label in within:
                yield from self.walk(within[label], path_to(path, label), block)
        for label in within:
            if label.startswith("[") and label not in blocks:
                yield from self.walk(within[label], path_to(path, label), blocks.get("body", ()))

    def _step(self, name: str, path: str, frame: Frame, below: list[StepInspection]) -> StepInspection:
        status = self._status(frame, [step.status for step in below])
        return StepInspection(
            path=path,
            id=name,
            status=status,
            attempts=attempts_of(frame),
            started=moment_of(frame, "began"),
            ended=moment_of(frame, "ended") if status in {"done", "failed"} else None,
            output=frame.get("result"),
            error=frame["error"]["message"] if status == "failed" else None,
        )

    def _status(self, frame: Frame, below: list[StepStatus]) -> StepStatus:
        if "result" in frame:
            return "done"
        over = self.status.closed
        if "error" in frame and (over or not below):
            return "failed"
        if "began" not in frame or over:
            # What was interrupted is done again by a retry.
            return "pending"
        waits = frame.get("waiting") or ("waiting" in below and "running" not in below)
        return "waiting" if waits else "running"
