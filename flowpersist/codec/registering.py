"""The arguments of a registration: what they must be, and the plan that they make of a class."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flowpersist.codec.packing import Cell
from flowpersist.codec.planning import attributes_plan, plan_for
from flowpersist.codec.plans import PairPlan, Plan, Upgrades
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_callable, check_mapping, check_whole

__all__ = ["check_upgrades", "check_version", "names_before", "plan_as_said"]


def check_version(version: int) -> None:
    """``ConfigurationError`` for another object than a version."""
    if type(version) is not int or version < 1:
        raise ConfigurationError("Invalid version: expected a whole number from 1 on", "version")


def check_upgrades(upgrades: Upgrades) -> None:
    """``ConfigurationError`` for others than functions by version."""
    check_mapping(upgrades, "upgrades")
    for version, function in upgrades.items():
        check_whole(version, "upgrades, of which each key is a version,")
        check_callable(function, f"upgrades[{version}]")


def names_before(aliases: Iterable[str]) -> tuple[str, ...]:
    """The earlier names of a class; ``ConfigurationError`` for other objects."""
    try:
        found = () if isinstance(aliases, str) else tuple(aliases)
    except TypeError:
        found = ("",)
    if isinstance(aliases, str) or not all(type(alias) is str and alias for alias in found):
        raise ConfigurationError("Invalid aliases: expected names, in a tuple", "aliases")
    return found


def plan_as_said(
    cls: type,
    encode: Callable[[Cell], object] | None,
    decode: Callable[[Cell], object] | None,
    also: tuple[str, ...],
    *,
    attributes: bool,
) -> Plan:
    """The plan for a class by the functions, attributes and names of attributes besides its fields that it is given."""
    if not isinstance(cls, type):
        raise TypeError(f"Invalid cls: only classes can be registered, not an object of {type(cls).__qualname__}")
    if attributes and (encode is not None or decode is not None):
        raise ConfigurationError(
            f"{cls.__qualname__} is registered with attributes=True and functions; choose", "types"
        )
    if encode is None and decode is None:
        return attributes_plan(cls) if attributes else plan_for(cls, also)
    if encode is None or decode is None:
        raise ConfigurationError(
            f"{cls.__qualname__} is registered with one of encode= and decode=; give both", "types"
        )
    return PairPlan(cls, encode, decode)
