"""The classes that a document names, each looked up in the reader's registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from flowpersist.codec.columns import TypeEntry
from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Halted, malformed
from flowpersist.codec.registry import Registration, TypeRegistry
from flowpersist.codec.remedies import packages_of, register_named, shown
from flowpersist.errors import UnknownType

__all__ = ["are_different_texts", "read_entries"]


def read_entries(cells: Iterable[Cell], registry: TypeRegistry) -> list[TypeEntry]:
    """The classes of these cells: of each its name, its version, its number of fields, and the fields.

    ``Halted`` for one that the registry lacks, or lacks in this version.
    """
    return list(_entries(iter(cells), registry))


def _entries(cells: Iterator[Cell], registry: TypeRegistry) -> Iterator[TypeEntry]:
    for name in cells:
        version, fields = next(cells, None), next(cells, None)
        if type(name) is not str or type(version) is not int or type(fields) is not int or fields < 0:
            raise malformed("a class lacks its name, version or number of fields")
        names = tuple(islice(cells, fields))
        if len(names) != fields or not are_different_texts(names):
            raise malformed("a class lacks a field, or has one twice")
        yield TypeEntry(_registered(name, version, registry), version, names)


def _registered(name: str, version: int, registry: TypeRegistry) -> Registration:
    found = registry.by_name(name)
    if found is None:
        message = f"the bytes hold an object of class {shown(name)}, which is not registered"
        registered = packages_of(one.cls for one in registry)
        raise Halted(UnknownType(f"{message}; {register_named(name, registered)}", None, name[:200]))
    step = found.missing_upgrade(version)
    if version > found.version or version < 1 or step is not None:
        lacking = (
            "is later than that" if step is None else f"nothing upgrades from version {step}; register it in upgrades="
        )
        message = (
            f"the bytes hold version {version} of {name}, of which version {found.version} is registered: {lacking}"
        )
        raise Halted(UnknownType(message, None, name[:200]))
    return found


def are_different_texts(names: tuple[Cell, ...]) -> bool:
    """Whether all are texts, and none is there twice."""
    return {str}.issuperset(map(type, names)) and len(set(names)) == len(names)
