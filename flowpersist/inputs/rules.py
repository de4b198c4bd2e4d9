"""What a value has to fit that this program made: the rules of its class, a JSON Schema, or a function.

Unlike an answer, such a value is no JSON data, of any size, and stays as it is: rules only refuse it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final, TypeAlias, TypeVar

import attrs
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.errors.arguments import mistyped
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.json_schema import MAX_DEPTH, JsonSchema
from flowpersist.inputs.json_types import Kind, conforming, is_pydantic, json_form, schema_of, unless_refused
from flowpersist.inputs.schema_problems import MAX_PROBLEMS

__all__ = ["Rules", "rules_of"]

T = TypeVar("T")
#: Gives what it takes, or ``InputValidationError`` with the problems, at most a hundred.
Rules: TypeAlias = Callable[[object], Result[object, PersistenceError]]
#: Of the problems that a message shows.
SHOWN: Final = 5


def rules_of(kind: Kind, validate: object, *, what: str) -> Rules | None:
    """The rules that ``validate`` names: a JSON Schema as a mapping, a class whose rules hold, or a plain function that
    raises, or returns False, where a value is invalid. None: those of ``kind``, if it has any.

    ``what``: what errors call the value. ``ConfigurationError`` for an invalid schema.
    """
    if isinstance(validate, Mapping):
        return _schema_rules(JsonSchema.of(validate, what="validate"), what)
    if validate is None:
        return _class_rules(kind, what) if _has_rules(kind) else None
    if isinstance(validate, type):
        return _class_rules(validate, what)
    if not callable(validate) or inspect.iscoroutinefunction(validate):
        mistyped("validate", "a plain function, a class, a JSON Schema as a mapping, or None", validate)
    return _function_rules(validate, what)


def _has_rules(kind: Kind) -> bool:
    if kind is object or (isinstance(kind, type) and kind.__module__ == "builtins"):
        return False
    try:
        schema_of(kind)
    except ConfigurationError:
        return False
    return True


def _schema_rules(schema: JsonSchema, what: str) -> Rules:
    def rules(value: object) -> Result[object, PersistenceError]:
        form = json_form(value)
        try:
            plain = json.loads(json.dumps(form, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            # It says where, of what is small enough to be looked through.
            return schema.check(form, what=what).bind(
                lambda _: _refused(what, [Problem("", "can't be represented in JSON")])
            )
        return schema.validate(plain, what=what).map(lambda _: value)

    return rules


def _function_rules(function: Callable[[object], object], what: str) -> Rules:
    name = str(getattr(function, "__name__", type(function).__name__))[:100]

    def rules(value: object) -> Result[object, PersistenceError]:
        own: list[InputValidationError] = []

        def call() -> object:
            try:
                return function(value)
            except InputValidationError as error:
                own.append(error)
                raise

        result = unless_refused(call, value, name, what=what)
        if own:
            return Failure(own[0])
        if isinstance(result, Success) and result.unwrap() is False:
            return _refused(what, [Problem("", f"is refused by {name}")])
        return result.map(lambda _: value)

    return rules


def _class_rules(kind: Kind, what: str) -> Rules:
    def rules(value: object) -> Result[object, PersistenceError]:
        result = conforming(value, kind, what=what)
        match result:
            case Failure(InputValidationError() as error):
                return _refused(what, _all_problems(error, value, kind))
        return result

    return rules


def _all_problems(error: InputValidationError, value: object, kind: Kind) -> list[Problem]:
    """The problems of an error, and those that come after the first, with which msgspec stops."""
    if is_pydantic(kind):
        return list(error.problems)
    found = {problem.pointer: problem for problem in islice(_attrs_problems(value, "", 0), MAX_PROBLEMS)}
    with suppress(ConfigurationError):
        match JsonSchema.of(schema_of(kind)).check(json_form(value)):
            case Failure(InputValidationError() as more):
                found |= {problem.pointer: problem for problem in more.problems}
    # What the class as a whole says adds nothing where its parts are named.
    own = [problem for problem in error.problems if problem.pointer not in found and (problem.pointer or not found)]
    return [*own, *found.values()][:MAX_PROBLEMS]


def _attrs_problems(value: object, pointer: str, depth: int) -> Iterator[Problem]:
    if depth > MAX_DEPTH:
        return
    if attrs.has(type(value)):
        for part in attrs.fields(type(value)):  # type: ignore[arg-type]  # attrs.has has looked
            inner = getattr(value, part.name, None)
            where = f"{pointer}/{escaped(part.name)}"
            if part.validator is not None:
                try:
                    part.validator(value, part, inner)
                except Exception as error:  # noqa: BLE001 - whatever the user's validator raises refuses the value
                    name = type(value).__name__
                    yield Problem(where, f"is refused by {name} ({type(error).__name__})"[:300])
            yield from _attrs_problems(inner, where, depth + 1)
    elif isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in parts:
            yield from _attrs_problems(inner, f"{pointer}/{escaped(str(key))}", depth + 1)


def _refused(what: str, problems: list[Problem]) -> Failure[PersistenceError]:
    shown = "; ".join(f"{one.pointer[:200] or '(root)'}: {one.message}" for one in problems[:SHOWN])
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return Failure(InputValidationError(f"{what} is refused: {shown}{more}", problems))
