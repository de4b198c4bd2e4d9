"""Dry runs: a document runs with stand-ins for its tools, so that its planner sees what would be called with what.

It runs on a store in memory whose clock jumps over delays. Outputs and answers come from a recording, else from the
schemas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from attrs import define, evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.checking import misfit
from flowpersist.dynamicflow.compile import compile_document, compile_soon
from flowpersist.dynamicflow.compiled import CompiledFlows
from flowpersist.dynamicflow.deciding import option_of
from flowpersist.dynamicflow.document import Source, check_source
from flowpersist.dynamicflow.ir import Flow, SubFlow
from flowpersist.dynamicflow.nested import Library
from flowpersist.dynamicflow.recording import Recording, nodes_by_id, step_in, unnumbered
from flowpersist.dynamicflow.results import Completed, FlowOutcome, Suspended, Wait
from flowpersist.dynamicflow.runner import FlowRunner
from flowpersist.dynamicflow.stand_ins import Book, DryCall, Origin, stand_ins, unknown_tool
from flowpersist.dynamicflow.starting import Terms
from flowpersist.dynamicflow.tools import CHOOSER, Join, Tool, Toolbox
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.errors.arguments import check_duration, check_mapping, check_optional
from flowpersist.hub.answer_checks import Check
from flowpersist.hub.opening import open_hub
from flowpersist.inputs.await_input import NO_DEFAULT, AwaitInput
from flowpersist.inputs.people import By, Principal, quorum_of, subject_of
from flowpersist.inputs.sampling import sample
from flowpersist.settings import Settings

if TYPE_CHECKING:
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["DryQuestion", "DryRun", "dry_run"]

#: How long a dry run may take.
LONGEST: Final = timedelta(minutes=1)
#: Leases and deadlines end later than now, and no time is later than the year 9999.
LAST_YEAR: Final = 9000


@frozen
class DryQuestion:
    """One question that the run would have asked at ``path``: its ``prompt``, the ``answer`` that it was given, and the
    ``origin`` of that. ``tool``: the tool that may ask it by itself; None: the flow does.
    """

    path: str
    prompt: str
    answer: object = field(repr=False)
    origin: Origin
    tool: str | None = None


@frozen
class DryRun:
    """What a document would do: its ``calls`` and ``questions`` in their order, and how it ended.

    ``result`` and ``outputs`` are those of a run that is done; ``error`` is why it failed; None: it did not.
    ``delayed`` is how long its delays would have taken together, to the second. ``unused`` are the entries of the
    recording that nothing asked for, by their JSON pointers.
    """

    calls: tuple[DryCall, ...]
    questions: tuple[DryQuestion, ...]
    result: object = field(default=None, repr=False)
    outputs: Mapping[str, object] = field(factory=dict, repr=False)
    error: FlowError | None = None
    delayed: timedelta = timedelta(0)
    unused: tuple[str, ...] = ()


async def dry_run(
    document: Source,
    *,
    input: object = None,
    tools: Iterable[Tool | AwaitInput[Any]] | None = None,
    joins: Iterable[Join] = (),
    chooser: Tool | AwaitInput[Any] | str | None = None,
    flows: Mapping[str, Source] | None = None,
    recording: Mapping[str, object] | None = None,
    by: By | None = None,
    tenant: str | None = None,
    longest: timedelta = LONGEST,
) -> Outcome[DryRun]:
    """Run a document without doing anything: no tool is called, nothing is stored, and delays pass at once.

    ``tools``, ``joins``, ``chooser`` and ``flows`` are those of the runner; without tools each may take and give
    anything. Joins are called. ``input``, ``by`` and ``tenant`` are those of ``FlowRunner.start``. The ``recording``
    has outputs and answers: ``{"steps": …, "tools": …, "answers": …}``, by the paths or ids of steps, and outputs by
    the ids of tools too. An output that it lacks is the smallest value of the tool's output schema; an answer is the
    question's default, else the smallest value of its schema. A guarded tool always asks, and a tool asks what it says
    it may (``@tool(asks=…)``), all of it. ``longest`` bounds the time that it takes.

    A flow that fails is a success with an ``error``. Failure: ``FlowError`` where the document can't be compiled, does
    not fit the tools, takes longer or records more than is allowed, or needs an output of which no value is found;
    ``InputValidationError`` where the recording does not fit the flow or its schemas.
    """
    check_source(document, "document")
    check_optional(recording, "recording", check_mapping)
    check_duration(longest, "longest")
    Terms(by=by, tenant=tenant)
    named = Toolbox.of(() if tools is None else tools, joins, None, chooser)
    library = Library() if flows is None else Library.of(flows, compile_document)
    compiled = await compile_soon(document, library)
    if isinstance(compiled, Failure):
        return Failure(compiled.failure())
    flow = compiled.unwrap()
    toolbox = named if tools is not None else named.extended(map(unknown_tool, sorted(named.lacking(flow.tools))))
    unfit = toolbox.missing(flow) or misfit(flow, toolbox)
    if unfit is not None:
        return Failure(unfit)
    nodes = nodes_by_id(flow)
    recorded = Recording.of({} if recording is None else recording, nodes, toolbox)
    if isinstance(recorded, Failure):
        return Failure(recorded.failure())
    book = Book(recorded.unwrap(), nodes)
    all_tools = {item.id: item for item in toolbox.tools.values()}
    chosen = None if chooser is None else toolbox.name_of(CHOOSER)
    async with open_hub("memory://", keyring=None, settings=Settings.from_environ({})) as hub:
        hub.checks = evolve(hub.checks, registered=_Passing())
        runner = _DryRunner(hub, stand_ins(all_tools.values(), book), joins, chooser=chosen, flows=flows)
        try:
            async with asyncio.timeout(longest.total_seconds()) as book.bound:
                outcome = await runner.start(document, input=input, by=by, tenant=tenant)
                return await _Rehearsal(hub, runner, book, by).ended(outcome)
        except TimeoutError:
            late = FlowError(f"the dry run took longer than {longest}: use a smaller input or recording", flow.name)
            return Failure(book.refused or late)


class _Passing(dict[str, Check]):
    """Checks of any name, which let each answer pass: those of the application are not called."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Check:
        return _passes


async def _passes(_answer: object) -> None:
    """Let an answer pass."""


class _DryRunner(FlowRunner):
    """Runs flows without pauses between the attempts of a step, and parks none."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the runner's own
        super().__init__(*args, backoff=lambda _: 0.0, **options)
        self._legs.flows = _Undelayed()


@define
class _Undelayed(CompiledFlows):
    _last: tuple[Flow, Flow] | None = field(default=None, init=False, repr=False)

    async def of(
        self, document: Mapping[str, Any], hash: str, registered: Mapping[str, Any] = MappingProxyType({})
    ) -> Result[Flow, PersistenceError]:
        """See ``CompiledFlows``."""
        found = await super().of(document, hash, registered)
        if isinstance(found, Failure):
            return found
        flow = found.unwrap()
        if self._last is None or self._last[0] is not flow:
            self._last = (flow, _undelayed(flow))
        return Success(self._last[1])


def _undelayed(flow: Flow) -> Flow:
    """The same flow whose retries follow at once."""
    nodes = {}
    for name, node in flow.nodes.items():
        operation = node.operation
        if isinstance(operation, SubFlow) and operation.flow is not None:
            operation = evolve(operation, flow=_undelayed(operation.flow))
        nodes[name] = evolve(node, operation=operation, retry=evolve(node.retry, delay=None))
    return evolve(flow, nodes=nodes, failed="end")


@define
class _Rehearsal:
    """Answers what a dry run asks, and lets its delays pass, until it ends."""

    hub: PersistenceHub
    runner: FlowRunner
    book: Book
    by: By | None
    questions: list[DryQuestion] = field(factory=list)
    delayed: timedelta = timedelta(0)

    async def ended(self, outcome: Outcome[FlowOutcome]) -> Outcome[DryRun]:
        """What became of the run."""
        while isinstance(outcome, Success):
            found = outcome.unwrap()
            if not isinstance(found, Suspended):
                break
            error = await self._go_on(found)
            if error is not None:
                return Failure(self.book.refused or error)
            outcome = await self.runner.resume(found.suspension_id)
        if self.book.refused is not None:
            return Failure(self.book.refused)
        told = DryRun(
            tuple(self.book.calls),
            tuple(self.questions),
            # To the second: what the dry run itself takes counts as well.
            delayed=timedelta(seconds=round(self.delayed.total_seconds())),
            unused=self.book.recording.unused(),
        )
        if isinstance(outcome, Failure):
            failed = outcome.failure()
            return Success(evolve(told, error=failed)) if isinstance(failed, FlowError) else Failure(failed)
        done = outcome.unwrap()
        return Success(evolve(told, result=done.result, outputs=done.outputs) if isinstance(done, Completed) else told)

    async def _go_on(self, paused: Suspended) -> PersistenceError | None:
        """Answer the open questions, or let the next delay pass where there are none."""
        for wait in paused.waits:
            error = await self._answered(wait)
            if error is not None:
                return error
        if not paused.waits and paused.due is not None:
            if paused.due.year > LAST_YEAR:
                message = f"a delay ends at {paused.due.isoformat()}, after the last year of a dry run, {LAST_YEAR}"
                return FlowError(f"{message}: use shorter delays")
            health = await self.hub.backend.ping()
            by = max(paused.due - health.now, timedelta(0)) + timedelta(milliseconds=1)
            self.hub.backend.clock_offset += by
            self.delayed += by
        return None

    async def _answered(self, wait: Wait) -> PersistenceError | None:
        tool, step = self._asker(wait.step)
        made = self._answer(wait, step)
        if isinstance(made, Failure):
            return FlowError(f"step {wait.step!r}: {made.failure()}, in the recording's 'answers'", step=wait.step)
        answer, origin = made.unwrap()
        self.questions.append(
            DryQuestion(wait.step, self.book.noted(wait.awaiting.prompt), self.book.noted(answer), origin, tool)
        )
        for voter in _voters(wait.awaiting, self.by):
            receipt = await self.hub.answer(wait.key, answer, by=voter)
            if isinstance(receipt, Failure):
                refused: PersistenceError = receipt.failure()
                return self.book.recording.misfit(wait.step, step, refused) if origin in {"path", "step"} else refused
            if receipt.unwrap().outcome != "pending":
                # A rejection may decide before everybody has voted.
                break
        return None

    def _asker(self, path: str) -> tuple[str | None, str]:
        """The tool that asks by itself, if one does, and the question's name: the step's id, of a tool's own question
        with that of the question.
        """
        outer = path
        while "." in outer:
            outer = outer.rpartition(".")[0]
            if outer in self.book.asking:
                return self.book.asking[outer], step_in(outer) + unnumbered(path[len(outer) :])
        return None, step_in(path)

    def _answer(self, wait: Wait, step: str) -> Result[tuple[Any, Origin], PersistenceError]:
        recorded = self.book.recording.answer(wait.step, step)
        if recorded is not None:
            return Success(recorded)
        asked = wait.awaiting
        if asked.default is not NO_DEFAULT:
            return Success((asked.to_data()["default"], "default"))
        made = sample(asked.json_schema, what=f"the answer to {asked.id!r}")
        options = self.book.options(step, asked.id)
        if options and (isinstance(made, Failure) or option_of(made.unwrap()) not in options):
            for choice in (options[0] == "true", options[0], {"choice": options[0]}):
                if option_of(choice) in options and isinstance(asked.check(choice), Success):
                    return Success((choice, "options"))
        return made.map(lambda value: (value, "schema"))


def _voters(asked: AwaitInput[Any], requester: By | None) -> list[Principal]:
    """As many as must answer, each entitled to."""
    quorum = quorum_of(asked.quorum)
    votes = quorum.votes if quorum is not None else 1
    kind = next(iter(asked.answerable_by))
    roles = [*list(asked.groups)[:1], *(list(quorum.of)[:1] if quorum is not None else [])]
    names = [name for name in asked.assignees if name != subject_of(requester)] or list(asked.assignees)
    if asked.groups or not names:
        names = [f"dry-run-{number + 1}" for number in range(votes)]
    return [Principal(name, kind=kind, roles=tuple(dict.fromkeys(roles))) for name in names[:votes]]
