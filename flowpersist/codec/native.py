"""The classes that need no registration, and how objects of those among them are kept that have a plan."""

from __future__ import annotations

import builtins
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import timezone

from flowpersist.codec.leaves import LEAVES, Absent
from flowpersist.codec.packing import PLAIN_TYPES, Cell
from flowpersist.codec.planning import plan_for
from flowpersist.codec.plans import CONTENTS, PairPlan
from flowpersist.codec.refusals import Refused
from flowpersist.codec.registration import Registration, default_name
from flowpersist.codec.standard import STANDARD_NAMES, STANDARD_PLANS
from flowpersist.codec.zones import EQUAL_TIMEZONE, as_timezone, equal_timezone

__all__ = [
    "BUILTIN_BY_NAME",
    "BUILTIN_CLASSES",
    "BUILTIN_CONTAINERS",
    "BUILTIN_NAMES",
    "BUILTIN_REGISTRATIONS",
    "NATIVE",
    "fixed_offset",
    "refuse_attributes",
]

#: The containers that need no registration.
BUILTIN_CONTAINERS: frozenset[type] = frozenset(
    {list, tuple, set, frozenset, dict, OrderedDict, Counter, defaultdict, deque, bytearray, slice}
)


def _builtin_exceptions() -> Mapping[type, Registration]:
    classes = {one for one in vars(builtins).values() if isinstance(one, type) and issubclass(one, BaseException)}
    return {cls: Registration(cls, default_name(cls), 1, plan_for(cls), {}) for cls in classes}


def fixed_offset(cls: type) -> Registration:
    """How a class of fixed offsets of another package is kept: as the ``datetime.timezone`` that is equal."""
    return Registration(cls, EQUAL_TIMEZONE, 1, PairPlan(cls, equal_timezone, as_timezone), {})


#: Those that have a plan, as registered classes have.
BUILTIN_REGISTRATIONS: Mapping[type, Registration] = {
    **_builtin_exceptions(),
    **{cls: Registration(cls, STANDARD_NAMES[cls], 1, plan, {}) for cls, plan in STANDARD_PLANS.items()},
}
BUILTIN_BY_NAME = {one.name: one for one in (*BUILTIN_REGISTRATIONS.values(), fixed_offset(timezone))}
#: All of them.
NATIVE: frozenset[type] = frozenset({*LEAVES, *PLAIN_TYPES, *BUILTIN_CONTAINERS, *BUILTIN_REGISTRATIONS})
#: What a value that refers to the class itself calls it.
BUILTIN_NAMES = {cls: STANDARD_NAMES.get(cls, default_name(cls)) for cls in {object, type, *NATIVE} - {Absent}}
BUILTIN_CLASSES = {name: cls for cls, name in BUILTIN_NAMES.items()}


def refuse_attributes(objects: Iterable[Cell]) -> None:
    """``Refused`` for a native object that has attributes, as an OrderedDict may, or that has lost a key."""
    for one in objects:
        if type(one) is OrderedDict:
            CONTENTS[OrderedDict](one)
        for name in vars(one):
            reason = f"has the attribute {name!r}, and only subclasses are kept with theirs"
            raise Refused(one, f"{reason}; use a subclass and register it")
