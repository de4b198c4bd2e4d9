"""What each operation does, apart from calling tools. All can be repeated: finished parts are found in the frame."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from flowpersist.dynamicflow.answered import listed, named
from flowpersist.dynamicflow.asking import goes_on
from flowpersist.dynamicflow.budgets import MAX_OPTION, OverBudgetError
from flowpersist.dynamicflow.calls import call
from flowpersist.dynamicflow.delays import moment_of, problem_of
from flowpersist.dynamicflow.guarded import call_guarded
from flowpersist.dynamicflow.ir import (
    Block,
    Conditional,
    Delay,
    Filter,
    Loop,
    Map,
    Node,
    Parallel,
    Reduce,
    Sequence,
    Switch,
    ToolCall,
)
from flowpersist.dynamicflow.iterations import run_loop, run_map, run_parallel, run_reduce
from flowpersist.dynamicflow.naming import INDEX
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, StepOutcome
from flowpersist.dynamicflow.problems import shown
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.texts import text_of
from flowpersist.dynamicflow.tools import Tool
from flowpersist.dynamicflow.values import collection, evaluate, givers_of_items, holds, resolve
from flowpersist.inputs.await_input import AwaitInput

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition

__all__ = ["operate"]


async def operate(context: Context, node: Node, place: StepPosition, attempt: int) -> StepOutcome:  # noqa: C901, PLR0911
    """Run the node's operation. ``place.scope`` takes the names that it exports."""
    operation = node.operation
    match operation:
        case ToolCall():
            tool = context.toolbox.get(operation.tool)
            if isinstance(tool, Tool) and "asks" in place.frame:
                waits = goes_on(context, node, place)
                if waits is not None:
                    return waits
            if isinstance(tool, Tool) and tool.guard is not None:
                return await call_guarded(context, node, operation, tool, tool.guard, place, attempt)
            return await call(context, node, operation, place, attempt)
        case Sequence():
            return await context.block(operation.steps, place)
        case Conditional() | Switch():
            return await _branch(context, node, operation, place)
        case Filter():
            return await _filter(context, node, operation, place)
        case Map():
            return await run_map(context, node, operation, place)
        case Reduce():
            return await run_reduce(context, node, operation, place)
        case Loop():
            return await run_loop(context, node, operation, place)
        case Parallel():
            return await run_parallel(context, operation, place)
        case Delay():
            return _delay(context, node, operation, place)


async def _branch(context: Context, node: Node, operation: Conditional | Switch, place: StepPosition) -> StepOutcome:
    """Choose a branch and store the choice, since steps in it may change what the condition reads."""
    if "branch" not in place.frame:
        taken = _taken(context, node, operation, place)
        if isinstance(taken, Failed):
            return taken
        place.frame["branch"] = taken
    return await context.block(_block(operation, place.frame["branch"]), place)


def _taken(context: Context, node: Node, operation: Conditional | Switch, place: StepPosition) -> str | Failed:
    if isinstance(operation, Conditional):
        held = holds(context, node, operation.condition, place)
        return held if isinstance(held, Failed) else ("if_true" if held else "if_false")
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


async def _filter(context: Context, node: Node, operation: Filter, place: StepPosition) -> StepOutcome:
    items = collection(context, node, operation.over, place)
    if isinstance(items, Failed):
        return items
    givers = givers_of_items(context, node, operation.over, place, len(items))
    kept: list[object] = []
    given: list[object] = []
    for index, item in enumerate(items):
        await context.pace()
        within = evolve(place, scope=Scope(place.scope, {**named(operation.name, item, givers[index]), INDEX: index}))
        held = holds(context, node, operation.condition, within)
        if isinstance(held, Failed):
            return held
        if held:
            kept.append(item)
            given.append(givers[index])
    return Done(kept, given=listed(given))


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
