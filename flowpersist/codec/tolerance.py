"""Fields that come and go in classes that are not the user's: an absent one takes its default, an unknown one is
dropped.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from flowpersist.codec.fields import FIELDS_SET, FieldsPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Halted
from flowpersist.codec.structs import StructPlan, is_struct
from flowpersist.errors import SerializationError, UnknownType

if TYPE_CHECKING:
    from flowpersist.codec.columns import TypeEntry

__all__ = ["tolerated", "tolerated_struct"]


def tolerated(entry: TypeEntry, plan: FieldsPlan, fields: dict[str, Cell], stored: frozenset[str]) -> dict[str, Cell]:
    """The fields that the class declares; ``UnknownType`` where one is absent that has no default.

    ``stored``: the names of those in the bytes, of which some may have been unset.
    """
    kept = {name: value for name, value in fields.items() if name in plan.names}
    if FIELDS_SET in kept:
        kept[FIELDS_SET] = {name for name in kept[FIELDS_SET] if name in kept}
    for name in plan.names:
        if name not in kept and name not in stored and name not in plan.optional:
            kept[name] = _default(entry, plan.cls, name)
    return {name: kept[name] for name in plan.names if name in kept}


def tolerated_struct(entry: TypeEntry, plan: StructPlan, attributes: dict[Cell, Cell]) -> dict[Cell, Cell]:
    """The same of a struct, where one with a ``__dict__`` may have any others in it."""
    kept = {name: value for name, value in attributes.items() if name in plan.places or plan.cls.__dictoffset__}
    absent = (name for name in plan.places if name not in kept)
    return kept | {name: _default(entry, plan.cls, name) for name in absent}


def _default(entry: TypeEntry, cls: type, name: str) -> Cell:
    for default_of in (_of_pydantic, _of_dataclass, _of_attrs, _of_struct):
        made = default_of(cls, name)
        if made is None:
            continue
        try:
            return made()
        except Exception as error:
            message = f"the default of the field {name!r} of {entry.registration.name} raised {type(error).__name__}"
            remedy = "register the class with upgrades= that give the field: what is stored is whole"
            raise Halted(SerializationError(f"{message}; {remedy}")) from error
    message = (
        f"the stored version {entry.version} of {entry.registration.name} has no field {name!r}, which has no default; "
        "raise version= when fields change, and register upgrades="
    )
    raise Halted(UnknownType(message))


def _of_pydantic(cls: Cell, name: str) -> Callable[[], Cell] | None:
    found: Cell = getattr(cls, "__pydantic_fields__", {}).get(name)
    if found is None or found.is_required():
        return None
    return lambda: found.get_default(call_default_factory=True, validated_data={})


def _of_dataclass(cls: Cell, name: str) -> Callable[[], Cell] | None:
    for one in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if one.name == name and one.default is not dataclasses.MISSING:
            return partial(_given, one.default)
        if one.name == name and one.default_factory is not dataclasses.MISSING:
            return one.default_factory
    return None


def _of_attrs(cls: Cell, name: str) -> Callable[[], Cell] | None:
    found: Cell = attrs.fields_dict(cls).get(name) if attrs.has(cls) else None
    default: Cell = attrs.NOTHING if found is None else found.default
    if default is attrs.NOTHING or getattr(default, "takes_self", False):
        return None
    factory: Cell = getattr(default, "factory", None)
    return factory if isinstance(default, _FACTORY) else partial(_given, default)


def _of_struct(cls: Cell, name: str) -> Callable[[], Cell] | None:
    msgspec: Cell = sys.modules.get("msgspec")
    for one in msgspec.structs.fields(cls) if is_struct(cls) else ():
        if one.name == name and one.default is not msgspec.NODEFAULT:
            return partial(_given, one.default)
        if one.name == name and one.default_factory is not msgspec.NODEFAULT:
            factory: Callable[[], Cell] = one.default_factory
            return factory
    return None


def _given(value: Cell) -> Cell:
    return value


_FACTORY: type = type(attrs.Factory(list))
