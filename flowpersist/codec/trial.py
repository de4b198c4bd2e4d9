"""The trial of what was encoded: it is decoded at once, and compared with the value that it was made of.

By class alone most values are sure to come back. What is not: objects that users' functions restore, or that users'
code hashes, in a cycle, where one of them must be made before what it holds is whole; keys that keep a hash of what
may have changed since; and fields whose places run code of the class's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowpersist.codec.decoder import decode_table
from flowpersist.codec.encoder import encode_graph, encode_table
from flowpersist.codec.forms import decode_any, encode_short, is_short
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import FieldsPlan, PairPlan
from flowpersist.codec.refusals import Halted, Refused, RefusedClass
from flowpersist.codec.sameness import Difference, difference

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits
    from flowpersist.codec.registry import TypeRegistry

__all__ = ["refuse_loss"]


def refuse_loss(value: Cell, data: bytes, suspects: Sequence[Cell], types: TypeRegistry, limits: Limits) -> None:
    """``Refused`` unless the bytes of a value give the same graph again.

    ``suspects``: the objects of which that is unsure, of which the first is named where nothing can be decoded.
    """
    table: list[Cell] = []
    try:
        if is_short(data):
            copy = decode_any(data, types, limits)
        else:
            copy, table = decode_table(data, types, limits)
    except Halted as halted:
        raise _unmade(value, suspects, types, str(halted.error).partition(";")[0]) from halted.error
    except Exception as error:
        raise _unmade(value, suspects, types, f"{type(error).__name__} was raised") from error
    if _bytes(copy, types, limits) == data:
        return
    found = difference(value, copy, types, _copies(value, data, table, types, limits))
    if found is not None:
        raise _lost(found, types)


def _copies(
    value: Cell, data: bytes, table: Sequence[Cell], types: TypeRegistry, limits: Limits
) -> list[tuple[Cell, Cell]]:
    """Each object of the value with its copy, by their numbers in the bytes."""
    if not table:
        return []
    again, objects = encode_table(value, types, limits)
    return list(zip(objects, table, strict=True)) if again == data else []


def _bytes(copy: Cell, types: TypeRegistry, limits: Limits) -> bytes | None:
    """The same graph gives the same bytes, but for the order of sets that hash by identity."""
    try:
        return encode_short(copy, types, limits) or encode_graph(copy, types, limits)
    except (Halted, Refused, RefusedClass):
        return None


def _unmade(value: Cell, suspects: Sequence[Cell], types: TypeRegistry, cause: str) -> Refused:
    one = suspects[0] if suspects else value
    names = ", ".join(sorted({type(suspect).__qualname__ for suspect in suspects} - {type(one).__qualname__}))
    cycle = f"; it is in a cycle with {names}" if names else ""
    return Refused(one, f"can't be made again from what is kept of it: {cause}{cycle}; {_advice(one, types)}")


def _lost(found: Difference, types: TypeRegistry) -> Refused:
    return Refused(found.one, f"would not come back as it is: {found.how}; {_advice(found.one, types)}")


def _advice(one: Cell, types: TypeRegistry) -> str:
    registration = types.by_class(type(one))
    match None if registration is None else registration.plan:
        case PairPlan():
            return (
                "where it reaches itself, register its class without encode= and decode= and give it __getstate__ and "
                "__setstate__, which take a part that is not whole yet"
            )
        case FieldsPlan(is_doubtful=True):
            return "its fields are kept by code of its class's own: register the class with encode= and decode="
    return "break the cycle, or keep what its hash and its __setstate__ read apart from what reaches it again"
