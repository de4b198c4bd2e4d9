"""Fields that come and go in classes that are not the user's: an absent one takes its default, an unknown one is
dropped, or kept aside until a release that declares it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from flowpersist.codec.fields import ASIDE, FIELDS_SET, FieldsPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import GROUP_ATTRIBUTES, BuiltinPlan, NamedPlan, obstacle
from flowpersist.codec.refusals import Halted, malformed
from flowpersist.codec.structs import StructPlan, is_struct
from flowpersist.errors import SerializationError, UnknownType

if TYPE_CHECKING:
    from flowpersist.codec.columns import TypeEntry

__all__ = ["brought_back", "tolerated", "tolerated_attributes", "tolerated_row"]


def brought_back(stored: dict[Cell, Cell]) -> dict[Cell, Cell]:
    """Stored fields, with those among them that an earlier release has kept aside."""
    if ASIDE not in stored:
        return stored
    aside = stored[ASIDE]
    if type(aside) is not dict or not {str}.issuperset(map(type, aside)):
        raise malformed("expected a dict of the fields that were kept aside")
    whole = {**aside, **stored}
    del whole[ASIDE]
    if FIELDS_SET in stored and FIELDS_SET in aside:
        whole[FIELDS_SET] = {*stored[FIELDS_SET], *aside[FIELDS_SET]}
    elif FIELDS_SET in aside:
        del whole[FIELDS_SET]
    return whole


def tolerated(entry: TypeEntry, plan: FieldsPlan, fields: dict[str, Cell], stored: frozenset[str]) -> dict[str, Cell]:
    """The fields that the class declares, and what is kept aside; ``UnknownType`` where one is absent that has no
    default.

    ``stored``: the names of those in the bytes, of which some may have been unset.
    """
    kept = {name: value for name, value in fields.items() if name in plan.names}
    unknown = {name: value for name, value in fields.items() if name not in plan.names}
    if FIELDS_SET in kept:
        given = kept[FIELDS_SET]
        kept[FIELDS_SET] = {name for name in given if name in kept}
        if unknown and entry.registration.keeps_unknown:
            unknown[FIELDS_SET] = {name for name in given if name in unknown}
    kept |= _aside(entry, unknown, has_place=ASIDE in plan.names)
    for name in plan.names:
        if name not in kept and name not in stored and name not in plan.optional:
            kept[name] = _default(entry, plan.cls, name)
    return {name: kept[name] for name in plan.names if name in kept}


def tolerated_row(entry: TypeEntry, plan: NamedPlan, fields: dict[str, Cell]) -> dict[str, Cell]:
    """The same of a namedtuple."""
    kept = {name: value for name, value in fields.items() if name in plan.names}
    _aside(entry, {name: value for name, value in fields.items() if name not in plan.names}, has_place=False)
    absent = (name for name in plan.names if name not in kept)
    return kept | {name: _default(entry, plan.cls, name) for name in absent}


def tolerated_attributes(entry: TypeEntry, plan: BuiltinPlan, attributes: dict[Cell, Cell]) -> dict[Cell, Cell]:
    """The same of attributes, and of a struct, where one with a ``__dict__`` may have any others in it."""
    declared = plan.places if isinstance(plan, StructPlan) else {}
    unknown = {name: value for name, value in attributes.items() if name not in declared and _is_unknown(plan, name)}
    kept = {name: value for name, value in attributes.items() if name not in unknown}
    kept |= _aside(entry, unknown, has_place=bool(plan.cls.__dictoffset__))
    absent = (name for name in declared if name not in kept)
    return kept | {name: _default(entry, plan.cls, name) for name in absent}


def _is_unknown(plan: BuiltinPlan, name: Cell) -> bool:
    """Whether an attribute has no place in objects of the class, or would hide what the class defines by now."""
    if type(name) is not str or name.startswith("__") or name in GROUP_ATTRIBUTES:
        return False
    if isinstance(plan, StructPlan) and not plan.cls.__dictoffset__:
        return True
    return obstacle(plan.cls, name, in_dict=isinstance(plan, StructPlan)) is not None


def _aside(entry: TypeEntry, unknown: dict[Cell, Cell], *, has_place: bool) -> dict[Cell, Cell]:
    if not unknown or not entry.registration.keeps_unknown:
        return {}
    if has_place:
        return {ASIDE: unknown}
    message = (
        f"the stored version {entry.version} of {entry.registration.name} has the field {min(unknown)!r}, which its "
        "class does not declare, and an object without a __dict__ has no place to keep it"
    )
    remedy = "give the class one, or register it with unknown_fields='drop'"
    raise Halted(UnknownType(f"{message}; {remedy}", None, entry.registration.name))


def _default(entry: TypeEntry, cls: type, name: str) -> Cell:
    for default_of in (_of_pydantic, _of_dataclass, _of_attrs, _of_struct, _of_namedtuple):
        made = default_of(cls, name)
        if made is None:
            continue
        try:
            return made()
        except Exception as error:
            message = f"the default of the field {name!r} of {entry.registration.name} raised {type(error).__name__}"
            remedy = "register the class with upgrades= that give the field: what is stored is whole"
            raise Halted(SerializationError(f"{message}; {remedy}", None, entry.registration.name)) from error
    message = (
        f"the stored version {entry.version} of {entry.registration.name} has no field {name!r}, which has no default; "
        "raise version= when fields change, and register upgrades="
    )
    raise Halted(UnknownType(message, None, entry.registration.name))


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


def _of_namedtuple(cls: Cell, name: str) -> Callable[[], Cell] | None:
    defaults: dict[str, Cell] = getattr(cls, "_field_defaults", {}) if issubclass(cls, tuple) else {}
    return partial(_given, defaults[name]) if name in defaults else None


def _given(value: Cell) -> Cell:
    return value


_FACTORY: type = type(attrs.Factory(list))
