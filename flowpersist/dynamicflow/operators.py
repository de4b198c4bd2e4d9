"""What each operation does, apart from calling tools. All can be repeated: finished parts are found in the frame."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from flowpersist.dynamicflow.budgets import MAX_OPTION, OverBudgetError
from flowpersist.dynamicflow.deciding import chosen, is_held, prompted
from flowpersist.dynamicflow.delays import moment_of, problem_of
from flowpersist.dynamicflow.filters import run_filter
from flowpersist.dynamicflow.guarded import call_tool
from flowpersist.dynamicflow.ir import (
    Block,
    Conditional,
    Decision,
    Delay,
    Evaluate,
    Filter,
    Loop,
    Map,
    Node,
    Parallel,
    Reduce,
    Sequence,
    SubFlow,
    Switch,
    ToolCall,
)
from flowpersist.dynamicflow.iterations import run_loop, run_map, run_parallel, run_reduce
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.problems import shown
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.texts import text_of
from flowpersist.dynamicflow.values import evaluate, resolve
from flowpersist.inputs.await_input import AwaitInput

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition

__all__ = ["operate"]


async def operate(context: Context, node: Node, place: StepPosition, attempt: int) -> StepOutcome:  # noqa: C901, PLR0911
    """Run the node's operation. ``place.scope`` takes the names that it exports."""
    operation = node.operation
    match operation:
        case ToolCall():
            call = prompted(context, node, operation, place)
            return call if isinstance(call, Failed) else await call_tool(context, node, call, place, attempt)
        case Sequence():
            return await context.block(operation.steps, place)
        case Conditional() | Switch():
            return await _branch(context, node, operation, place, attempt)
        case Evaluate():
            return evaluate(context, node, operation.expression, place)
        case Filter():
            return await run_filter(context, node, operation, place, attempt)
        case Map():
            return await run_map(context, node, operation, place)
        case Reduce():
            return await run_reduce(context, node, operation, place)
        case Loop():
            return await run_loop(context, node, operation, place, attempt)
        case Parallel():
            return await run_parallel(context, operation, place)
        case SubFlow():
            return await _sub_flow(context, node, operation, place)
        case Delay():
            return _delay(context, node, operation, place)


async def _branch(
    context: Context, node: Node, operation: Conditional | Switch, place: StepPosition, attempt: int
) -> StepOutcome:
    """Choose a branch and store the choice, since steps in it may change what the condition reads."""
    if "branch" not in place.frame:
        taken = await _taken(context, node, operation, place, attempt)
        if not isinstance(taken, str):
            return taken
        place.frame["branch"] = taken
        context.settled(place.path)
        if context.journal is not None:
            context.journal.note(place.path, {"branch": taken}, whole=False)
            by_tool = isinstance(
                operation.condition if isinstance(operation, Conditional) else operation.selector, Decision
            )
            error = await context.journal.finished() if by_tool else None
            if error is not None:
                return context.blamed(node, error)
    return await context.block(_block(operation, place.frame["branch"]), place)


async def _taken(
    context: Context, node: Node, operation: Conditional | Switch, place: StepPosition, attempt: int
) -> str | Failed | Pending:
    if isinstance(operation, Conditional):
        held = await is_held(context, node, operation.condition, place, attempt)
        return ("if_true" if held else "if_false") if isinstance(held, bool) else held
    if isinstance(operation.selector, Decision):
        option = await chosen(context, node, operation.selector, place, attempt)
        return _case(context, node, operation, option) if isinstance(option, str) else option
    selected = evaluate(context, node, operation.selector, place)
    return selected if isinstance(selected, Failed) else _case(context, node, operation, selected.value)


def _case(context: Context, node: Node, operation: Switch, value: object) -> str | Failed:
    try:
        option = text_of(value, MAX_OPTION)
    except OverBudgetError as error:
        return context.failed(node, f"the value that selects its branch {error}: select by a part of it")
    if option in operation.cases:
        return f"case {option}"
    if operation.default is None:
        return context.failed(node, f"has no branch for {option[:100]!r} and no default: add one of them")
    return "default"


def _block(operation: Conditional | Switch, branch: str) -> Block:
    if isinstance(operation, Conditional):
        return operation.if_true if branch == "if_true" else operation.if_false
    return operation.cases.get(branch.removeprefix("case "), operation.default or ())


def _delay(context: Context, node: Node, operation: Delay, place: StepPosition) -> StepOutcome:
    """Pass the step's input on when the time has come."""
    if place.path in context.expired:
        context.lapse(place.path)
        return place.previous
    if place.path in context.open:
        context.wait(place)
        return PENDING
    name, written = ("until", operation.until) if operation.seconds is None else ("seconds", operation.seconds)
    given = resolve(context, node, written, place)
    if isinstance(given, Failed):
        return given
    wrong = problem_of(name, given.value)
    if wrong is not None:
        return context.failed(node, f"its 'delay.{name}' is not usable: expected {wrong}, got {shown(given.value)}")
    return _begun(context, node, place, name, given.value)


def _begun(context: Context, node: Node, place: StepPosition, name: str, value: object) -> StepOutcome:
    seconds = cast("float", value) if name == "seconds" else None
    until = moment_of(value) if seconds is None else None
    if seconds == 0 or (until is not None and context.now is not None and until <= context.now):
        return place.previous
    timeout = None if seconds is None else timedelta(seconds=seconds)
    prompt = "The run goes on at this time."
    return context.register(
        node, place, AwaitInput[Any](id=node.id, prompt=prompt, timeout=timeout, deadline=until, answerable_by=())
    )


async def _sub_flow(context: Context, node: Node, operation: SubFlow, place: StepPosition) -> StepOutcome:
    """Run the flow with its input, in a scope of its own."""
    flow = operation.flow
    if flow is None:
        msg = "a sub-flow that was not compiled"
        raise ValueError(msg)
    given = resolve(context, node, operation.input, place)
    if isinstance(given, Failed):
        return given
    unfit = await context.bounded(node, given.value, "its input")
    if unfit is not None:
        return unfit
    around = evolve(place, scope=Scope(), previous=Done(given.value))
    return await context.inside(flow, given.value).outermost(around)
