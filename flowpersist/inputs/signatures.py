"""A tool's data from its function's signature: its fields, their schemas, and the fields that need objects."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import reduce
from operator import or_
from pathlib import PurePath
from types import UnionType
from typing import Any, Final, TypeAlias, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, PersistenceError
from flowpersist.inputs import json_types
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.instances import is_instance

__all__ = ["Signature", "signature_of"]

#: The classes that have no JSON form except as a text or a value.
TEXT_CLASSES: Final = (datetime, date, time, UUID, Decimal, PurePath, Enum)

#: An annotation: a class, or a type from ``typing``.
_Kind: TypeAlias = Any
_Schema: TypeAlias = Mapping[str, object]


@frozen
class Signature:
    """``takes`` are the function's fields; None: further ones are allowed. ``context`` is the parameter for the
    context.
    """

    name: str
    kinds: Mapping[str, _Kind] = field(repr=False)
    required: tuple[str, ...]
    takes: tuple[str, ...] | None
    context: str | None
    result: _Kind = field(repr=False)

    def input_schema(self) -> _Schema:
        """The schema of the fields. ``ConfigurationError`` for an annotation without one."""
        parts = {name: schema_of(kind, f"{name!r} of the tool {self.name!r}") for name, kind in self.kinds.items()}
        definitions: dict[str, object] = {}
        for part in parts.values():
            _merge(definitions, part.get("$defs"), self.name)
        return {
            "type": "object",
            "properties": {name: {k: v for k, v in part.items() if k != "$defs"} for name, part in parts.items()},
            "required": list(self.required),
            "additionalProperties": self.takes is None,
            **({"$defs": definitions} if definitions else {}),
        }

    def output_schema(self) -> _Schema:
        """The schema of the result; empty if any result is allowed."""
        return schema_of(self.result, f"the result of the tool {self.name!r}")

    def takes_as_is(self, name: str, value: object) -> bool:
        """Whether a value is of the class that a field's annotation names, at all levels."""
        return is_instance(value, self.kinds.get(name, Any))

    def structured(
        self, shown: Mapping[str, object], arguments: Mapping[str, object] | None = None
    ) -> Result[dict[str, object], PersistenceError]:
        """Convert plain data to objects for the fields whose annotations require it.

        ``arguments`` are the values that ``shown`` was made of: one that is of the field's class already is passed as
        it is.
        """
        made = dict(shown)
        for name, value in shown.items():
            kind = self.kinds.get(name, Any)
            if arguments is not None and arguments[name] is not value and is_instance(arguments[name], kind):
                made[name] = arguments[name]
            elif _wants_objects(kind):
                result = json_types.structure(value, kind)
                if isinstance(result, Failure):
                    return Failure(result.failure())
                made[name] = result.unwrap()
        return Success(made)


def signature_of(function: Any, context_class: type) -> Signature:  # noqa: ANN401 - it is looked into, not called
    """Read a function's signature.

    ``TypeError`` for a parameter that can't be passed by name, ``ConfigurationError`` for an unreadable annotation.
    """
    name = getattr(function, "__name__", "tool")
    hints = _hints(function, name)
    kinds: dict[str, _Kind] = {}
    required: list[str] = []
    context: str | None = None
    opened = False
    for parameter in inspect.signature(function).parameters.values():
        kind = hints.get(parameter.name, Any)
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL}:
            msg = f"Tool {name!r} must take {parameter.name!r} by name: a tool's fields are passed by name"
            raise TypeError(msg)
        if kind is context_class:
            context = parameter.name
        elif parameter.kind is parameter.VAR_KEYWORD:
            opened = True
        else:
            kinds[parameter.name] = kind
            required += [parameter.name] if parameter.default is parameter.empty else []
    takes = None if opened else tuple(kinds)
    result = hints.get("return", Any)
    if inspect.isasyncgenfunction(function):
        result = _yielded(result)
    return Signature(name, kinds, tuple(required), takes, context, result)


def _yielded(kind: _Kind) -> _Kind:
    """What an async generator yields beside questions, by its annotation."""
    first = next(iter(get_args(kind)), Any)
    kinds = get_args(first) if get_origin(first) in {Union, UnionType} else (first,)
    results = tuple(one for one in kinds if (get_origin(one) or one) is not AwaitInput)
    return reduce(or_, results) if results else Any


def _hints(function: Any, name: str) -> dict[str, _Kind]:  # noqa: ANN401 - as above
    try:
        return get_type_hints(function)
    except NameError as error:
        message = f"an annotation of the tool {name!r} can't be read ({error}): import its names at run time"
        raise ConfigurationError(message, "tools") from error


def schema_of(kind: _Kind, what: str) -> _Schema:
    """The schema of an annotation; ``object`` and ``Any`` allow anything."""
    if kind is object or kind is Any:
        return {}
    try:
        return json_types.schema_of(kind)
    except ConfigurationError as error:
        raise ConfigurationError(f"no schema can be derived for {what}: {error}", "schema") from error


def _merge(definitions: dict[str, object], more: object, tool: str) -> None:
    for name, definition in (more if isinstance(more, Mapping) else {}).items():
        if definitions.setdefault(name, definition) != definition:
            message = f"two classes named {name!r} are fields of the tool {tool!r}: give it an input_schema"
            raise ConfigurationError(message, "input_schema")


def _wants_objects(kind: _Kind) -> bool:
    """Whether an annotation names a class that must be made from JSON data."""
    within = get_args(kind)
    if within:
        return any(_wants_objects(part) for part in within)
    if not isinstance(kind, type):
        return False
    made_of_fields = attrs.has(kind) or dataclasses.is_dataclass(kind) or hasattr(kind, "model_validate")
    return made_of_fields or issubclass(kind, TEXT_CLASSES)
