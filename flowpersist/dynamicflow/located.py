"""The references of a document, each with the JSON pointer of the text that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow import references
from flowpersist.dynamicflow.ir import (
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
    blocks_of,
    decisions_of,
)
from flowpersist.dynamicflow.prompts import TEXTS
from flowpersist.dynamicflow.references import Reference
from flowpersist.dynamicflow.tools import AWAIT_INPUT
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.inputs.json_pointers import escaped

if TYPE_CHECKING:
    from flowpersist.dynamicflow.expressions import Expression

__all__ = ["Located", "inner_of", "of_condition", "outer_of"]

#: The way to a value from where the walk began, backwards.
_Trail: TypeAlias = tuple["_Trail", str] | None
_NOTHING: Final[Result[object, PersistenceError]] = Success("")


@frozen
class Located:
    """A reference, or the error of a text that is none, at its pointer."""

    pointer: str
    found: Reference | FlowError


def outer_of(node: Node) -> Iterator[Located]:  # noqa: C901 - one case for each operation
    """The references that a step resolves in the enclosing scope."""
    operation, place = node.operation, node.place
    match operation:
        case ToolCall(prompt=str(text)):
            yield from _in_text(text, place.at("prompt"))
            yield from _within(operation.arguments, place.at("input"))
        case ToolCall():
            yield from _of_call(operation, place.at("args"))
        case Conditional():
            yield from of_condition(operation.condition, place.at("condition"))
        case Switch():
            yield from of_condition(operation.selector, place.at("switch"))
        case Reduce():
            yield from _within(operation.over, place.at("over"))
            yield from _within(operation.initial, place.at("initial"))
        case Evaluate():
            yield from of_condition(operation.expression, place.at("expression"))
        case Filter() | Map() | Loop():
            yield from _within(operation.over, place.at("over"))
        case Delay():
            yield from _within(operation.seconds, f"{place.at('delay')}/seconds")
            yield from _within(operation.until, f"{place.at('delay')}/until")
        case SubFlow():
            yield from _within(operation.input, place.at("input"))
        case Parallel() | Sequence():
            pass


def inner_of(node: Node) -> Iterator[Located]:
    """The references that a step resolves for each iteration."""
    operation = node.operation
    if isinstance(operation, Filter | Loop) and operation.condition is not None:
        yield from of_condition(operation.condition, node.place.at("condition"))


def within(node: Node, nodes: Mapping[str, Node]) -> Iterator[Node]:
    """A step, and all steps within it."""
    pending = [node]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(nodes[name] for _, block in blocks_of(one) for name in block)


def takes_previous(node: Node) -> bool:
    """Whether a step uses the result of the one before without a reference to it."""
    called = [node.operation, *decisions_of(node)]
    return any(isinstance(call, ToolCall | Decision) and call.arguments is None for call in called)


def of_condition(condition: Expression | Decision, pointer: str) -> Iterator[Located]:
    """The references of a condition that stands at a pointer."""
    if not isinstance(condition, Decision):
        yield from (Located(pointer, reference) for reference in condition.references)
        return
    at = f"{pointer}/{condition.written}" if condition.written else pointer
    if condition.prompt is not None:
        yield from _in_text(condition.prompt, at)
    else:
        yield from _of_call(ToolCall(condition.tool, condition.arguments), at)


def _of_call(operation: ToolCall, pointer: str) -> Iterator[Located]:
    arguments = operation.arguments
    if operation.tool == AWAIT_INPUT and isinstance(arguments, Mapping):
        texts = {name: text for name in TEXTS if isinstance(text := arguments.get(name), str)}
        for name, text in texts.items():
            yield from _in_text(text, f"{pointer}/{name}")
        arguments = {name: value for name, value in arguments.items() if name not in texts}
    yield from _within(arguments, pointer)


def _in_text(text: str, pointer: str) -> Iterator[Located]:
    found: list[Reference] = []

    def note(reference: Reference) -> Result[object, PersistenceError]:
        found.append(reference)
        return _NOTHING

    filled = references.fill_text(text, note)
    if isinstance(filled, Failure):
        yield Located(pointer, _as_flow_error(filled.failure()))
    yield from (Located(pointer, reference) for reference in found)


def _within(value: object, pointer: str) -> Iterator[Located]:
    """The references in nested lists and objects, in the order of the document, within the limits of arguments."""
    pending: list[tuple[object, _Trail, int]] = [(value, None, 0)]
    seen = 0
    while pending:
        item, trail, depth = pending.pop()
        seen += 1
        if depth > references.MAX_DEPTH or seen > references.MAX_VALUES:
            yield Located(pointer, references.over_limits())
            return
        if isinstance(item, str):
            yield from _in_string(item, pointer, trail)
        elif isinstance(item, Mapping):
            pending.extend((inner, (trail, key), depth + 1) for key, inner in reversed(list(item.items())))
        elif isinstance(item, list | tuple):
            pending.extend((item[at], (trail, str(at)), depth + 1) for at in reversed(range(len(item))))


def _in_string(text: str, pointer: str, trail: _Trail) -> Iterator[Located]:
    if not references.is_reference(text):
        return
    parsed = references.parse_reference(text)
    found = _as_flow_error(parsed.failure()) if isinstance(parsed, Failure) else parsed.unwrap()
    yield Located(pointer + _path(trail), found)


def _path(trail: _Trail) -> str:
    tokens: list[str] = []
    while trail is not None:
        trail, token = trail
        tokens.append("/" + escaped(token))
    return "".join(reversed(tokens))


def _as_flow_error(error: PersistenceError) -> FlowError:
    return error if isinstance(error, FlowError) else FlowError(str(error))
