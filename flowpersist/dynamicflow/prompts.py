"""The tool ``await_input``: its arguments, of which prompt and title are texts with references."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from returns.result import Failure, Result, Success

from flowpersist.dynamicflow import references
from flowpersist.dynamicflow.budgets import MAX_FILLED, MAX_FILLED_VALUES, OverBudgetError, Size
from flowpersist.dynamicflow.plain import PLAIN, WALK_ERRORS, finished, walk, walk_problem
from flowpersist.dynamicflow.tools import AWAIT_INPUT
from flowpersist.errors import ConfigurationError, FlowError, PersistenceError
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.schedule import schedule_fields

if TYPE_CHECKING:
    from flowpersist.dynamicflow.scope import Resolver

__all__ = ["FIELDS", "TEXTS", "made", "spell_out"]

#: The fields that are texts, in which ``$name`` is replaced by a value's text.
TEXTS: Final = ("prompt", "title")
_ASKED: Final = ("id", "prompt", "schema", "title", "parameters", "default", "timeout", "deadline", "shown")
_LABELS: Final = ("risk", "priority", "metadata", "ui", "redact", "checks")
_PEOPLE: Final = ("assignees", "groups", "quorum", "answerable_by")
FIELDS: Final = (*_ASKED, "on_expiry", "reminders", "escalation", *_LABELS, *_PEOPLE)


def spell_out(arguments: object, step: str, resolver: Resolver) -> Result[AwaitInput[Any], PersistenceError]:
    """Make the AwaitInput that the arguments describe. Its id is the step's if they give none."""
    if not isinstance(arguments, Mapping):
        arguments = {} if arguments is None else arguments
        resolved = references.resolve_all(arguments, resolver)
        return resolved.bind(lambda fields: _sized(fields, step))
    texts = {name: arguments[name] for name in TEXTS if isinstance(arguments.get(name), str)}
    filled = _filled(texts, resolver)
    rest = references.resolve_all({name: value for name, value in arguments.items() if name not in texts}, resolver)
    return filled.bind(lambda given: rest.bind(lambda fields: _sized({**_mapping(fields), **given}, step)))


def _filled(texts: Mapping[str, str], resolver: Resolver) -> Result[dict[str, str], PersistenceError]:
    filled: dict[str, str] = {}
    for name, text in texts.items():
        result = references.fill_text(text, resolver)
        if isinstance(result, Failure):
            return Failure(result.failure())
        filled[name] = result.unwrap()
    return Success(filled)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sized(fields: object, step: str) -> Result[AwaitInput[Any], PersistenceError]:
    """Checked first, because a reference may insert a value that is much larger than the arguments look."""
    try:
        shown = finished(walk(fields, form=PLAIN, most=Size(MAX_FILLED_VALUES, MAX_FILLED))).value
    except WALK_ERRORS as error:
        problem = str(error) if isinstance(error, OverBudgetError) else walk_problem(error)
        return _refused(step, f"show a value that {problem}: show less data")
    return made(shown, step)


def made(fields: object, step: str) -> Result[AwaitInput[Any], PersistenceError]:
    """The AwaitInput of a step's arguments, whose references are resolved."""
    if not isinstance(fields, Mapping):
        return _refused(step, "must be an object")
    unknown = sorted(name for name in fields if name not in FIELDS)
    if unknown or not isinstance(fields.get("prompt"), str):
        why = f"have the unknown field {unknown[0]!r}" if unknown else "need a 'prompt' string"
        return _refused(step, f"{why}: they are {', '.join(FIELDS)}")
    if not isinstance(fields.get("schema"), Mapping | None):
        return _refused(step, "have an invalid 'schema': expected a JSON Schema object")
    try:
        given: dict[str, Any] = {"id": step, **fields, **_times(fields)}
        return Success(AwaitInput(**given))
    except (ConfigurationError, TypeError, ValueError, OverflowError) as error:
        return _refused(step, f"are not usable: {error}")


def _times(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the times of a document: durations in milliseconds, as everywhere in it, and a deadline in ISO 8601."""
    times = schedule_fields(fields, timedelta(milliseconds=1))
    if fields.get("timeout") is not None:
        times["timeout"] = timedelta(milliseconds=fields["timeout"])
    if fields.get("deadline") is not None:
        times["deadline"] = datetime.fromisoformat(fields["deadline"])
    return times


def _refused(step: str, why: str) -> Failure[PersistenceError]:
    return Failure(FlowError(f"step {step!r}: the arguments of {AWAIT_INPUT!r} {why}", None, step, None, AWAIT_INPUT))
