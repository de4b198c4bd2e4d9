"""What expressions see of values: of an object its fields, of a time or a number of decimals its text."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum

from flowpersist.dynamicflow.budgets import Budget
from flowpersist.dynamicflow.declared import fields_of
from flowpersist.dynamicflow.leaves import ATOMS, ordered, text_form
from flowpersist.dynamicflow.plain import plain

__all__ = ["listed", "shown"]

_PLAIN = ATOMS | {dict, list, tuple}


def shown(value: object) -> object:
    """A value as JSON writes it, at its first level: what is within it is as it was."""
    if type(value) in _PLAIN or isinstance(value, Mapping | list | tuple | set | frozenset):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, deque):
        return list(value)
    fields = fields_of(value, private=False)
    return text_form(value) if fields is None else fields


def listed(value: object, budget: Budget) -> object:
    """A set as a list in an order of its own; any other value as it is."""
    if not isinstance(value, set | frozenset):
        return value
    budget.spend(len(value))
    return ordered(value, plain)
