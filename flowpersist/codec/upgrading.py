"""What upgrades return, held against what the registered class takes: what does not fit is the upgrade's fault, and the
bytes are whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flowpersist.codec.leaves import ABSENT
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import BuiltinPlan, FieldsPlan, NamedPlan
from flowpersist.codec.refusals import Halted
from flowpersist.codec.tolerance import brought_back, tolerated, tolerated_attributes, tolerated_row

if TYPE_CHECKING:
    from flowpersist.codec.columns import TypeEntry

__all__ = ["upgrade_attributes", "upgrade_instance", "upgraded_row"]

#: What setting a field raises that is not for the object that was made.
UNFIT = (Halted, TypeError, ValueError, AttributeError)


def upgrade_instance(one: Cell, entry: TypeEntry, plan: FieldsPlan, cells: Sequence[Cell]) -> None:
    """Set the fields of an instance from those of an older version."""
    stored = {name: cell for name, cell in zip(entry.names, cells, strict=False) if cell is not ABSENT}
    names = frozenset(entry.names)
    if entry.registration.is_tolerant:
        stored = brought_back(stored)
    own = {name: cell for name, cell in stored.items() if name not in plan.parts}
    fields = plan.completed(entry.registration.upgrade_fields(own, entry.version), stored)
    if entry.registration.is_tolerant:
        fields = tolerated(entry, plan, fields, names)
    _check_names(entry, plan.names, fields, plan.optional.union(names).difference(stored))
    try:
        for name, value in fields.items():
            plan.put(one, name, value)
        plan.check(one)
    except UNFIT as error:
        raise entry.registration.misfit("a field that its class does not take") from error


def upgrade_attributes(one: Cell, entry: TypeEntry, plan: BuiltinPlan, stored: dict[Cell, Cell]) -> None:
    """Set the attributes of an object of a subclass of a builtin class from those of an older version, or the fields of
    a struct from others.
    """
    is_tolerant = entry.registration.is_tolerant
    whole = brought_back(stored) if is_tolerant else stored
    upgraded: dict[Cell, Cell] = entry.registration.upgrade_fields(whole, entry.version)
    if is_tolerant:
        upgraded = tolerated_attributes(entry, plan, upgraded)
    try:
        plan.set(one, upgraded)
    except UNFIT as error:
        if not entry.is_older:
            raise
        raise entry.registration.misfit("an attribute that its class does not take") from error


def upgraded_row(entry: TypeEntry, plan: NamedPlan, row: Sequence[Cell]) -> tuple[Cell, ...]:
    """The elements of a namedtuple from those of an older version."""
    fields = entry.registration.upgrade_fields(dict(zip(entry.names, row, strict=True)), entry.version)
    if entry.registration.is_tolerant:
        fields = tolerated_row(entry, plan, fields)
    _check_names(entry, plan.names, fields, ())
    return tuple([fields[name] for name in plan.names])


def _check_names(entry: TypeEntry, names: Iterable[str], given: Iterable[Cell], absent: Iterable[str]) -> None:
    declared, found = set(names), set(given)
    missing, unknown = declared.difference(found, absent), found - declared
    wrong = [f"no {name!r}" for name in sorted(missing)] + [f"an unknown {name}" for name in sorted(map(repr, unknown))]
    if wrong:
        raise entry.registration.misfit(f"fields with {' and '.join(wrong)}")
