"""What can be known of expressions before a run: patterns that can't be read, and values that never change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from returns.result import Failure, Result

from flowpersist.dynamicflow import expressions
from flowpersist.dynamicflow.budgets import MAX_OPTION, OverBudgetError
from flowpersist.dynamicflow.expressions import Call, Chain, Expression, Literal, Term
from flowpersist.dynamicflow.ir import Conditional, Filter, Flow, Loop, Node, Switch
from flowpersist.dynamicflow.problems import Problems, shown
from flowpersist.dynamicflow.references import Reference
from flowpersist.dynamicflow.texts import text_of
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.json_schema import matches_pattern

__all__ = ["check_expressions"]

#: The most patterns of one document that are tried before it runs.
MAX_PATTERNS: Final = 200


def check_expressions(flow: Flow, problems: Problems) -> None:
    """Note what is wrong with the expressions of steps and edges, and the branches that no run takes."""
    tried: dict[str, str | None] = {}
    for node in flow.nodes.values():
        operation = node.operation
        if isinstance(operation, Switch) and isinstance(operation.selector, Expression):
            _check(operation.selector, node.place.at("switch"), node.id, tried, problems)
            _check_cases(node, operation, operation.selector, problems)
        elif isinstance(operation, Conditional | Filter | Loop) and isinstance(operation.condition, Expression):
            _check(operation.condition, node.place.at("condition"), node.id, tried, problems)
            _check_branches(node, operation, operation.condition, problems)
    for link in () if flow.graph is None else flow.graph.links:
        if isinstance(link.condition, Expression):
            _check(link.condition, link.pointer, link.target, tried, problems)


def _check(expression: Expression, at: str, step: str, tried: dict[str, str | None], problems: Problems) -> None:
    for pattern in _patterns(expression.root):
        if pattern not in tried and len(tried) < MAX_PATTERNS:
            found = matches_pattern(pattern, "")
            tried[pattern] = found.failure().message if isinstance(found, Failure) else None
        why = tried.get(pattern)
        if why is not None:
            message = f"step {step!r}: the expression {_cut(expression)} has the pattern {shown(pattern)}: {why}"
            expected = "a regular expression without look-around and back-references"
            problems.add(at, "invalid-expression", message, expected=expected, step=step)
            return
    value = _constant(expression)
    if isinstance(value, Failure):
        message = f"step {step!r}: the expression {_cut(expression)} always fails: {value.failure().message}"
        problems.add(at, "invalid-expression", message, expected="an expression", step=step)


def _cut(expression: Expression) -> str:
    return shown(expression.text)


def _patterns(root: Term) -> Iterator[str]:
    pending = [root]
    while pending:
        term = pending.pop()
        if isinstance(term, Call):
            last = term.arguments[-1]
            if term.name == "matches" and isinstance(last, Literal) and isinstance(last.value, str):
                yield last.value
            pending.extend(term.arguments)
        elif isinstance(term, Chain):
            pending.extend((term.first, *(operand for _, operand in term.rest)))


def _constant(expression: Expression) -> Result[object, PersistenceError] | None:
    """The value of an expression without references; None if it has some."""
    if expression.references:
        return None
    return expressions.evaluate(expression, _missing)


def _missing(reference: Reference) -> Result[object, PersistenceError]:
    return Failure(FlowError(f"{reference} does not exist"))


def _check_branches(
    node: Node, operation: Conditional | Filter | Loop, condition: Expression, problems: Problems
) -> None:
    value = _constant(condition)
    if value is None or isinstance(value, Failure):
        return
    held = expressions.truth(value.unwrap())
    if isinstance(operation, Loop) and not held:
        _unreachable(node, "body", "its condition never holds", problems)
    if isinstance(operation, Conditional):
        name = "if_false" if held else "if_true"
        if operation.if_false if held else operation.if_true:
            _unreachable(node, name, f"its condition {'always' if held else 'never'} holds", problems)


def _check_cases(node: Node, operation: Switch, selector: Expression, problems: Problems) -> None:
    value = _constant(selector)
    if value is None or isinstance(value, Failure):
        return
    try:
        option = text_of(value.unwrap(), MAX_OPTION)
    except OverBudgetError:
        return
    if option not in operation.cases and operation.default is None:
        message = f"step {node.id!r}: 'switch' is always {shown(option)}, and there is no branch for it and no default"
        problems.add(node.place.at("switch"), "invalid-value", message, expected="an expression", step=node.id)
    why = f"'switch' is always {shown(option)}"
    for name in operation.cases:
        if name != option:
            _unreachable(node, "branches", why, problems, f"/{escaped(name)}")
    if option in operation.cases and operation.default:
        _unreachable(node, "default", why, problems)


def _unreachable(node: Node, field: str, why: str, problems: Problems, within: str = "") -> None:
    message = f"step {node.id!r}: this branch never runs, since {why}: remove it, or use a reference"
    at = f"{node.place.at(field)}{within}"
    problems.add(at, "unreachable", message, step=node.id, severity="warning")
