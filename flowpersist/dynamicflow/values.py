"""The values that steps use: resolve references, evaluate conditions, read collections."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from returns.result import Failure, Result

from flowpersist.dynamicflow import expressions, references
from flowpersist.dynamicflow.budgets import MAX_LIST_TEXT
from flowpersist.dynamicflow.json_texts import BRIEF, parsed
from flowpersist.dynamicflow.leaves import ordered
from flowpersist.dynamicflow.outcomes import Done, Failed
from flowpersist.dynamicflow.plain import plain
from flowpersist.dynamicflow.views import shown
from flowpersist.errors import PersistenceError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.expressions import Expression
    from flowpersist.dynamicflow.ir import Node

__all__ = ["collection", "evaluate", "givers_of_items", "holds", "resolve"]


def resolve(context: Context, node: Node, value: object, place: StepPosition) -> Done | Failed:
    """Replace every reference in a value of the document by its value."""
    return _outcome(context, node, references.resolve_all(value, context.resolver(node, place)))


def evaluate(context: Context, node: Node, expression: Expression, place: StepPosition) -> Done | Failed:
    """Evaluate an expression."""
    return _outcome(context, node, expressions.evaluate(expression, context.resolver(node, place)))


def holds(context: Context, node: Node, condition: Expression, place: StepPosition) -> bool | Failed:
    """Whether a condition is true."""
    found = evaluate(context, node, condition, place)
    return found if isinstance(found, Failed) else expressions.truth(shown(found.value))


async def collection(context: Context, node: Node, over: object, place: StepPosition) -> list[object] | Failed:
    """The items of ``over``, a value or reference: a list, or a string that holds a JSON array."""
    resolved = resolve(context, node, over, place)
    if isinstance(resolved, Failed):
        return resolved
    value = await _from_text(resolved.value)
    if isinstance(value, str) and len(value) > MAX_LIST_TEXT:
        return context.failed(node, f"its list is text of over {MAX_LIST_TEXT} characters: parse it in a tool")
    if isinstance(value, list | tuple | deque):
        return list(value)
    if isinstance(value, set | frozenset):
        return ordered(value, plain)
    return context.failed(node, f"expected a list to iterate over, not {type(value).__name__}")


def givers_of_items(context: Context, node: Node, over: object, place: StepPosition, count: int) -> list[object]:
    """The facts of the answers among the items of ``over``; None for each that is none."""
    if references.is_reference(over):
        found = references.parse_reference(str(over))
        given = None if isinstance(found, Failure) else context.resolver(node, place).given(found.unwrap())
        if isinstance(given, list) and len(given) == count:
            return given
    return [None] * count


async def _from_text(value: object) -> object:
    if not isinstance(value, str) or len(value) > MAX_LIST_TEXT or not value.lstrip().startswith("["):
        return value
    read = partial(parsed, value, len(value), unique=False)
    try:
        return read() if len(value) <= BRIEF else await asyncio.to_thread(read)
    except (ValueError, RecursionError):
        return value


def _outcome(context: Context, node: Node, result: Result[object, PersistenceError]) -> Done | Failed:
    return context.blamed(node, result.failure()) if isinstance(result, Failure) else Done(result.unwrap())
