"""What can be known of the arguments of ``await_input`` before a run: all that does not depend on references."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from returns.result import Failure, Result, Success

from flowpersist.dynamicflow import references
from flowpersist.dynamicflow.ir import Node, ToolCall
from flowpersist.dynamicflow.problems import Problems
from flowpersist.dynamicflow.prompts import FIELDS, TEXTS, made
from flowpersist.dynamicflow.references import Reference
from flowpersist.dynamicflow.tools import AWAIT_INPUT
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.schedule import lacks_deadline

__all__ = ["check_questions", "question_of"]

#: The most questions of one document that are tried before it runs, and characters of their arguments as JSON: some
#: 300 ms of work.
MAX_QUESTIONS: Final = 400
MAX_TEXT: Final = 64 * 1024
#: A field that is not known makes others unknown, which are only valid together with it.
_NEEDED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "schema": ("ui",),
    "shown": ("redact",),
    "default": ("on_expiry",),
    "timeout": ("reminders", "escalation"),
    "deadline": ("reminders", "escalation"),
    "reminders": ("escalation",),
    "escalation": ("on_expiry",),
    "assignees": ("quorum",),
    "groups": ("quorum",),
}
#: The order in which the fields are tried: each after those that it needs.
_ORDER: Final = ("prompt", *(name for name in FIELDS if name not in {"prompt", "on_expiry"}), "on_expiry")


def check_questions(nodes: Iterable[Node], problems: Problems) -> None:
    """Note what is wrong with the questions of steps that call ``await_input``, as far as the bounds allow."""
    asked = text = 0
    for node in nodes:
        operation = node.operation
        if not isinstance(operation, ToolCall) or operation.tool != AWAIT_INPUT or problems.full:
            continue
        if isinstance(operation.arguments, str):
            continue
        asked += 1
        text += len(json.dumps(operation.arguments))
        if asked > MAX_QUESTIONS or text > MAX_TEXT:
            return
        _check(node, operation.arguments, problems)


def _check(node: Node, arguments: object, problems: Problems) -> None:
    place = node.place
    given = arguments if isinstance(arguments, Mapping) else {}
    at = place.at("args") if isinstance(arguments, Mapping) else place.pointer
    known = ", ".join(FIELDS)
    for strange in sorted(name for name in given if name not in FIELDS):
        near = problems.hint([strange], FIELDS)
        message = f"step {node.id!r}: {AWAIT_INPUT!r} has no field {strange[:100]!r}{near}: it takes {known}"
        problems.add(f"{at}/{escaped(strange)}", "unknown-field", message, expected=f"one of {known}", step=node.id)
    if "prompt" not in given:
        message = f"step {node.id!r}: the arguments of {AWAIT_INPUT!r} need a 'prompt': a text, which people are asked"
        problems.add(at, "missing-field", message, expected="the field 'prompt'", step=node.id)
    fields = _literal({name: value for name, value in given.items() if name in FIELDS})
    asked = made({"prompt": "?", **fields}, node.id)
    if isinstance(asked, Failure):
        _find(fields, node, at, problems)
    elif "timeout" not in given and "deadline" not in given and node.timeout is None:
        _check_deadline(asked.unwrap(), node, at, problems)


def _check_deadline(asked: AwaitInput[Any], node: Node, at: str, problems: Problems) -> None:
    counted = lacks_deadline(asked)
    if counted is not None:
        message = (
            f"step {node.id!r}: {counted!r} of {AWAIT_INPUT!r} count from a deadline: give it a timeout or a deadline"
        )
        problems.add(f"{at}/{counted}", "invalid-question", message, expected="a 'timeout' or 'deadline'", step=node.id)


def _find(fields: Mapping[str, object], node: Node, at: str, problems: Problems) -> None:
    """Add the fields one by one: each that can't be added is a problem, and left out."""
    kept: dict[str, object] = {"prompt": "?"}
    for name in (name for name in _ORDER if name in fields):
        asked = made({**kept, name: fields[name]}, node.id)
        if isinstance(asked, Failure):
            message = asked.failure().message
            problems.add(f"{at}/{name}", "invalid-question", message, step=node.id, tool=AWAIT_INPUT)
        else:
            kept[name] = fields[name]


def question_of(node: Node) -> AwaitInput[Any] | None:
    """The question of a step, as far as it is known; None if it is not."""
    operation = node.operation
    if not isinstance(operation, ToolCall) or not isinstance(operation.arguments, Mapping):
        return None
    asked = made({"prompt": "?", **_literal(operation.arguments)}, node.id)
    return None if isinstance(asked, Failure) else asked.unwrap()


def _literal(arguments: Mapping[str, object]) -> dict[str, object]:
    """The fields that hold no references, apart from those that are only valid together with one that does."""
    found: dict[str, object] = {}
    unknown: set[str] = set()
    for name, value in arguments.items():
        read = _text(value) if name in TEXTS and isinstance(value, str) else references.resolve_all(value, _unknown)
        if isinstance(read, Failure):
            unknown |= {name, *_NEEDED_BY.get(name, ())}
        else:
            found[name] = read.unwrap()
    for name in tuple(unknown):
        unknown |= set(_NEEDED_BY.get(name, ()))
    return {name: value for name, value in found.items() if name not in unknown}


def _text(value: str) -> Result[object, PersistenceError]:
    return references.fill_text(value, lambda _: Success("?")).map(lambda text: text)


def _unknown(reference: Reference) -> Result[object, PersistenceError]:
    return Failure(FlowError(f"{reference} is not known yet"))
