"""Which classes' own rules an answer has to pass: a type's name in a stored wait, and the type of that name here.

Nothing is looked up but what this process has registered or was given; a name that is not known leaves the schema alone
to decide, as with a type that has no name.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from flowpersist.codec import TypeRegistry
from flowpersist.codec.registration import default_name
from flowpersist.inputs.json_types import Kind

__all__ = ["AnswerTypes", "type_name", "type_of"]

#: Forms of ``typing`` that a name may be made of, and the builtin types that stand in them.
_FORMS: Final[Mapping[str, Any]] = {
    "dict": dict,
    "frozenset": frozenset,
    "list": list,
    "set": set,
    "tuple": tuple,
    "union": Union,
}
_BUILTIN: Final[Mapping[str, Any]] = {"None": NoneType, "bool": bool, "float": float, "int": int, "str": str}
_LITERAL: Final = "literal"
#: How deep a name's forms may stand in one another.
MAX_DEPTH: Final = 16
#: Types that a hub remembers beside its registry.
MAX_REMEMBERED: Final = 1_000


def type_name(kind: Kind, types: TypeRegistry) -> object:
    """The name of a type as JSON data: a class's own, or a list of a form and the names in it.

    None where it holds no class of a user's, so that its schema says all, or a form that has no name.
    """
    try:
        name, own = _named(kind, types, 0)
    except ValueError:
        return None
    return name if own else None


def _named(kind: Kind, types: TypeRegistry, depth: int) -> tuple[object, bool]:
    if depth > MAX_DEPTH:
        msg = "too deep"
        raise ValueError(msg)
    origin: Kind = get_origin(kind)
    if origin is None:
        return _class_name(kind, types)
    if origin is Literal:
        values = list(get_args(kind))
        if not all(type(value) in {str, int, bool, NoneType} for value in values):
            msg = "a literal of another class"
            raise ValueError(msg)
        return [_LITERAL, *values], False
    form = "union" if origin is UnionType else next((name for name, one in _FORMS.items() if one is origin), None)
    if form is None:
        msg = "a form without a name"
        raise ValueError(msg)
    parts = [("...", False) if part is ... else _named(part, types, depth + 1) for part in get_args(kind)]
    return [form, *(name for name, _ in parts)], any(own for _, own in parts)


def _class_name(kind: Kind, types: TypeRegistry) -> tuple[object, bool]:
    builtin = next((name for name, one in _BUILTIN.items() if one is kind), None)
    if builtin is not None:
        return builtin, False
    if not isinstance(kind, type):
        msg = "no class"
        raise ValueError(msg)  # noqa: TRY004 - a form that has no name is no mistake of the caller's
    registered = types.by_class(kind)
    return default_name(kind) if registered is None else registered.name, True


def type_of(name: object, types: TypeRegistry) -> Kind | None:
    """The type of a stored name; None where a class in it is not registered, or the name is invalid."""
    try:
        return _typed(name, types, 0)
    except (LookupError, TypeError, ValueError):
        return None


def _typed(name: object, types: TypeRegistry, depth: int) -> Kind:
    if isinstance(name, str):
        return _BUILTIN[name] if name in _BUILTIN else _registered(name, types)
    if not isinstance(name, list) or depth > MAX_DEPTH or not name:
        raise LookupError
    form, *parts = name
    if form == _LITERAL:
        return Literal[tuple(parts)]
    made = [... if part == "..." else _typed(part, types, depth + 1) for part in parts]
    return _FORMS[form][tuple(made)]


def _registered(name: str, types: TypeRegistry) -> type:
    found = types.by_name(name)
    if found is not None:
        return found.cls
    # Where the waiting process had not registered the class, it wrote down its own name.
    by_default = next((one.cls for one in types if default_name(one.cls) == name), None)
    if by_default is None:
        raise LookupError
    return by_default


class AnswerTypes:
    """The types that this process has: those of registered classes, and of AwaitInputs that it made suspensions with
    or was told to remember.
    """

    def __init__(self, types: TypeRegistry) -> None:
        self.registry = types
        self._by_digest: OrderedDict[bytes, Kind] = OrderedDict()
        self._seen: dict[tuple[str, int], Kind] = {}

    def remember(self, awaited: str, kind: Kind, schema: Mapping[str, object]) -> None:
        """That an AwaitInput of this id and schema was made with the type."""
        if kind is None or isinstance(kind, Mapping) or (awaited, id(kind)) in self._seen:
            return
        if any(one is kind for one in _BUILTIN.values()):
            return
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.clear()
        self._seen[awaited, id(kind)] = kind
        digest = _digest(awaited, schema)
        self._by_digest[digest] = kind
        self._by_digest.move_to_end(digest)
        if len(self._by_digest) > MAX_REMEMBERED:
            self._by_digest.popitem(last=False)

    def of(self, data: Mapping[str, object]) -> Kind | None:
        """The type that a stored wait was made with, where this process has it."""
        schema, awaited = data.get("schema"), data.get("id")
        if isinstance(schema, Mapping) and isinstance(awaited, str) and self._by_digest:
            kind = self._by_digest.get(_digest(awaited, schema))
            if kind is not None:
                return kind
        return type_of(data.get("class"), self.registry)


def _digest(awaited: str, schema: Mapping[str, object]) -> bytes:
    text = json.dumps([awaited, schema], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
