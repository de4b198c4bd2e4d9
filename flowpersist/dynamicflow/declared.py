"""The fields of objects that a flow may read: those that a class declares, and nothing that runs code of the class.

Dataclasses, attrs classes, pydantic models and ``msgspec.Struct`` declare fields. A field is read from the object's own
attributes: no property, method or ``__getattr__`` is called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any, Final, cast

import attrs

__all__ = ["MISSING", "declared", "field_of", "fields_of", "is_model"]

#: What a field that is absent gives.
MISSING: Final = object()


def _declared(kind: type[Any]) -> tuple[str, ...] | None:
    if attrs.has(kind):
        return tuple(item.name for item in attrs.fields(kind))
    if dataclasses.is_dataclass(kind):
        return tuple(item.name for item in dataclasses.fields(kind))
    if is_model(kind):
        # What a model leaves out of its data is not for others to read.
        return tuple(name for name, item in kind.model_fields.items() if not item.exclude)
    return cast("tuple[str, ...] | None", getattr(kind, "__struct_fields__", None))


#: The names of the fields that a class declares, private ones included; None for a class without fields.
declared = cast("Callable[[type[Any]], tuple[str, ...] | None]", lru_cache(maxsize=1024)(_declared))


def is_model(kind: type[Any]) -> bool:
    """Whether a class is a model of pydantic's."""
    return hasattr(kind, "__pydantic_validator__") and isinstance(getattr(kind, "model_fields", None), dict)


def field_of(value: object, name: str) -> object:
    """A declared field of an object; ``MISSING`` for any other attribute, and for one whose name begins with ``_``."""
    names = declared(type(value))
    return _read(value, name) if names is not None and name in names and name[:1] != "_" else MISSING


def fields_of(value: object, *, private: bool) -> dict[str, object] | None:
    """The declared fields that an object has; None for an object of a class without fields."""
    names = declared(type(value))
    if names is None:
        return None
    found = {name: _read(value, name) for name in names if private or name[:1] != "_"}
    return {name: one for name, one in found.items() if one is not MISSING}


def _read(value: object, name: str) -> object:
    try:
        attributes = cast("dict[str, object]", object.__getattribute__(value, "__dict__"))
    except AttributeError:
        attributes = {}
    if name in attributes:
        return attributes[name]
    slot = next((vars(base)[name] for base in type(value).__mro__ if name in vars(base)), MISSING)
    if not isinstance(slot, MemberDescriptorType):
        # The default of a field that was deleted from the object; a property is no field.
        return MISSING if hasattr(type(slot), "__get__") else slot
    try:
        return slot.__get__(value, type(value))
    except AttributeError:
        return MISSING
