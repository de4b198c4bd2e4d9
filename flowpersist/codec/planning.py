"""The plan for a class, chosen once when it is registered: by what the class is, and what it declares."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from itertools import filterfalse
from types import MemberDescriptorType
from typing import Generic, cast

import attrs

from flowpersist.codec.fields import CACHED_HASH, GENERATORS, HEAP_TYPE, FieldsPlan, static_member
from flowpersist.codec.leaves import Absent
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import (
    CONTENTS,
    ORIGINAL,
    SHELL_BASES,
    BuiltinPlan,
    EnumPlan,
    NamedPlan,
    Plan,
    StatePlan,
    obstacle,
)
from flowpersist.codec.scalars import SCALARS
from flowpersist.codec.structs import is_struct, struct_plan
from flowpersist.errors import ConfigurationError

__all__ = ["HEAP_TYPE", "attributes_plan", "plan_for"]

ATTRIBUTES = "__dict__"
#: ``__suppress_context__`` has its place beside the cause; ``obj`` of an AttributeError is the place where it was
#: raised, not a part of the error, and pickle leaves it out too.
INCIDENTAL_MEMBERS = frozenset({"__suppress_context__", "obj"})
PYDANTIC_CLASSES: dict[str, tuple[type, ...]] = {
    "__pydantic_extra__": (dict, type(None)),
    # model_construct takes whatever it is given for it.
    "__pydantic_fields_set__": (set, frozenset),
    "__pydantic_private__": (dict, type(None)),
}


def plan_for(cls: type, also: Iterable[str] = ()) -> Plan:
    """The plan for a class that is registered without functions; ``ConfigurationError`` where it has no declared
    fields. ``also``: attributes besides these, which objects may have.
    """
    if type(cls).__hash__ is not type.__hash__ or type(cls).__eq__ is not type.__eq__:
        message = f"the metaclass of {cls.__qualname__} says itself which classes are equal"
        raise ConfigurationError(f"{message}, so that no table of classes is sure of it; leave it out", "types")
    for applies, make in _PLANS:
        if applies(cls):
            return _makes(_with(make(cls), also))
    message = (
        f"{cls.__module__}.{cls.__qualname__} can't be registered alone: it is not a dataclass, attrs class, "
        "pydantic model, namedtuple, enumeration, exception or subclass of a builtin class of which the fields are "
        "known, and has no __getstate__ of its own; register it with attributes=True, or with encode= and decode="
    )
    raise ConfigurationError(message, "types")


def _with(plan: Plan, also: Iterable[str]) -> Plan:
    if not isinstance(plan, FieldsPlan) or plan.keeps_dict or not plan.cls.__dictoffset__:
        return plan
    names = tuple(name for name in dict.fromkeys(also) if name not in plan.names)
    return attrs.evolve(plan, names=(*plan.names, *names), optional=plan.optional.union(names)) if names else plan


def _makes(plan: Plan) -> Plan:
    """The plan, where it can make an empty object: some classes of extensions allow it to their own code only."""
    if not inspect.isabstract(plan.cls):
        try:
            if isinstance(plan, FieldsPlan | StatePlan):
                plan.shells(1)
            elif isinstance(plan, BuiltinPlan) and plan.base in SHELL_BASES:
                plan.shell()
        except TypeError as error:
            message = f"no object of {plan.cls.__module__}.{plan.cls.__qualname__} can be made without its own code"
            raise ConfigurationError(f"{message}; register it with encode= and decode=", "types") from error
    return plan


def _extends_builtin(cls: type) -> bool:
    # Such an object has a value besides its fields, which no plan for fields would keep.
    return _own_base(cls) is not object


def _own_base(cls: type) -> type:
    return next(base for base in cls.__mro__ if base is object or not _is_users(base))


def _is_users(cls: type) -> bool:
    # From CPython 3.12 on deque and others of the interpreter's own are no static classes, but immutable ones.
    return bool(cls.__flags__ & HEAP_TYPE) and not cls.__flags__ & IMMUTABLE_TYPE and cls not in CONTENTS


#: Py_TPFLAGS_IMMUTABLETYPE: no class statement makes a class that has it.
IMMUTABLE_TYPE = 1 << 8


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def _is_exception(cls: type) -> bool:
    return issubclass(cls, BaseException) and not issubclass(cls, BaseExceptionGroup)


def _is_pydantic(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def _is_attrs(cls: type) -> bool:
    return attrs.has(cls) and not _extends_builtin(cls)


def _is_dataclass(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) and not _extends_builtin(cls)


def _has_own_state(cls: type) -> bool:
    methods = (getattr(cls, name, None) for name in ("__getstate__", "__setstate__"))
    own = [method for method in methods if method is not None and method is not object.__getstate__]
    return _own_base(cls) is object and any(getattr(method, "__module__", None) not in GENERATORS for method in own)


def _is_builtin_subclass(cls: type) -> bool:
    return _own_base(cls) is not object and _own_base(cls) in CONTENTS and cls not in SCALARS


def _enum_plan(cls: type) -> Plan:
    return EnumPlan(cls)


def _named_plan(cls: type) -> Plan:
    if _own_base(cls) is not tuple:
        message = f"{cls.__qualname__} is a namedtuple that extends another class besides"
        raise ConfigurationError(f"{message}; register it with encode= and decode=", "types")
    return NamedPlan(cls, tuple(cls._fields))  # type: ignore[attr-defined]  # _is_namedtuple has looked


def _builtin_plan(cls: type) -> Plan:
    slots = [(name, member, static_member(cls, name) is member) for name, member in _slots(cls)]
    seen = tuple(dict.fromkeys(name for name, _, is_seen in slots if is_seen))
    return BuiltinPlan(cls, _own_base(cls), seen, hidden=tuple(member for _, member, is_seen in slots if not is_seen))


def _slots(cls: type) -> Iterator[tuple[str, MemberDescriptorType]]:
    """The places that the class and its bases give to attributes, but for what is computed from others."""
    own = _own_base(cls)
    for base in filterfalse(own.__mro__.__contains__, cls.__mro__):
        # Where attrs makes slots for cached properties, it makes a __getattr__ that computes them.
        computes = "__attrs_attrs__" in vars(base) and "__getattr__" in vars(base)
        declared = {one.name for one in attrs.fields(base)} if computes else set()
        for name, member in vars(base).items():
            if type(member) is MemberDescriptorType and _is_users(base) and (not computes or name in declared):
                yield name, member


def _fields_plan(cls: type, declared: Iterable[str], **parts: Cell) -> FieldsPlan:
    """The plan for these fields and for slots that are no fields."""
    names = tuple(declared)
    slots = [(name, member, static_member(cls, name) is member) for name, member in _slots(cls)]
    hidden = tuple(member for _, member, is_seen in slots if not is_seen)
    there = tuple(name for name, _, is_seen in slots if is_seen and name not in {*names, CACHED_HASH})
    is_generic = issubclass(cls, cast("type", Generic))
    if is_generic and cls.__dictoffset__ and "parts" not in parts:
        # What Box[int](1) has besides its fields; a model's parametrization is a class of its own.
        there = (*there, ORIGINAL)
    return FieldsPlan(cls, (*names, *there), hidden=hidden, optional=frozenset(there), **parts)


def _state_plan(cls: type) -> Plan:
    return StatePlan(cls)


def _attrs_plan(cls: type) -> Plan:
    names = [attribute.name for attribute in attrs.fields(cls)]
    code = getattr(cls.__hash__, "__code__", None)
    return _fields_plan(cls, names, resets_hash=code is not None and CACHED_HASH in code.co_names)


def _dataclass_plan(cls: type) -> Plan:
    return _fields_plan(cls, [one.name for one in dataclasses.fields(cls)])


def _pydantic_plan(cls: type) -> Plan:
    names = (*cls.model_fields, *PYDANTIC_CLASSES)  # type: ignore[attr-defined]  # _is_pydantic has looked
    # A RootModel has None in its class for some, and in its objects what they are only where it is something else.
    parts = {
        name: classes if type(getattr(cls, name, None)) is MemberDescriptorType else (*classes, Absent)
        for name, classes in PYDANTIC_CLASSES.items()
    }
    return _fields_plan(cls, names, parts=parts, covered=frozenset(filter(partial(_is_covered, cls), names)))


def _is_covered(cls: type, name: str) -> bool:
    """Whether pydantic put a descriptor over a field, because it is deprecated."""
    member = static_member(cls, name)
    return type(member).__name__ == "_DeprecatedFieldDescriptor" and type(member).__module__.startswith("pydantic.")


def _exception_plan(cls: type) -> Plan:
    own = _own_base(cls)
    members = [
        (name, member, static_member(cls, name) is member)
        for base in reversed(cls.__mro__)
        for name, member in vars(base).items()
        if type(member) is MemberDescriptorType and name not in INCIDENTAL_MEMBERS
    ]
    seen = dict.fromkeys(name for name, _, is_seen in members if is_seen)
    written = ("characters_written",) if issubclass(cls, OSError) else ()
    names = ("args", "__cause__", "__suppress_context__", *seen, *written, ATTRIBUTES)
    return FieldsPlan(
        cls,
        names,
        maker=_maker(own),
        keeps_dict=True,
        unset_is_none=frozenset(name for name in seen if hasattr(own, name)),
        fault=_fault_of_exception,
        optional=frozenset(names),
        hidden=tuple(member for _, member, is_seen in members if not is_seen),
    )


def _maker(own: type) -> Callable[[type], Cell]:
    make: Cell = own.__new__
    return cast("Callable[[type], Cell]", make)


def _fault_of_exception(error: Cell) -> str | None:
    if isinstance(error, UnicodeError) and min(getattr(error, "start", 0), getattr(error, "end", 0)) < 0:
        # str() of one in CPython 3.11 reads memory before the object's own.
        return "has a negative position; set its start and end to places in its object"
    for name in error.__dict__:
        reason = obstacle(type(error), name, in_dict=True)
        if reason is not None:
            return f"has the attribute {name!r}, {reason}; rename it"
    return None


def attributes_plan(cls: type) -> Plan:
    """The plan for a class by the attributes of its objects, whatever else it declares; ``ConfigurationError`` for one
    that holds more than attributes.
    """
    if _own_base(cls) not in SHELL_BASES:
        message = f"{cls.__qualname__} extends {_own_base(cls).__qualname__}, and so holds more than attributes"
        raise ConfigurationError(f"{message}; register it without attributes=True", "types")
    plan = struct_plan(cls) if is_struct(cls) else _builtin_plan(cls)
    return _makes(plan)


_PLANS: tuple[tuple[Callable[[type], bool], Callable[[type], Plan]], ...] = (
    (lambda cls: issubclass(cls, Enum), _enum_plan),
    (_is_namedtuple, _named_plan),
    (_is_exception, _exception_plan),
    (_is_pydantic, _pydantic_plan),
    (is_struct, struct_plan),
    (_has_own_state, _state_plan),
    (_is_attrs, _attrs_plan),
    (_is_dataclass, _dataclass_plan),
    (_is_builtin_subclass, _builtin_plan),
)
