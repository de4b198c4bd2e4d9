"""How deep objects are nested whose freeing recurses.

CPython frees lists, dicts, tuples and instances of classes made by a class statement however deep they are nested.
Deques, defaultdicts, slices, some exceptions, and objects of extensions as numpy's arrays are, it frees by recursion in
C: a hundred thousand of them within each other end the process when the last reference goes. So too many are refused:
before they are made, and before they are written.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING
from weakref import ReferenceType

from flowpersist.codec import kinds
from flowpersist.codec.packing import Cell
from flowpersist.codec.parts import Block, Later, ReadRow, Section
from flowpersist.codec.planning import HEAP_TYPE
from flowpersist.codec.plans import BuiltinPlan, FieldsPlan
from flowpersist.codec.refusals import Halted
from flowpersist.codec.registry import TypeRegistry
from flowpersist.errors import StateTooDeep

if TYPE_CHECKING:
    from flowpersist.codec.columns import Column, TypeEntry

__all__ = ["check_document", "check_objects", "steps_of_block", "steps_to_free"]

#: Each step takes some hundred bytes of a stack. CPython itself nests the freeing of lists and the like up to 50 deep,
#: and a chain as long as this may lie between any two of these.
MOST_STEPS = 1000
#: What an object of an extension counts for: numpy's arrays take over a kilobyte.
HEAVY = 16
#: Levels of which all objects are looked at in each; even of heavy ones they are no more than may be.
FEW_LEVELS = 8
RECURSING = frozenset({deque, defaultdict, slice})
#: Static classes whose objects hold others by a dict only, the freeing of which CPython puts off; or weakly.
SHALLOW = frozenset({SimpleNamespace, ReferenceType})


def steps_to_free(cls: type) -> int:
    """How many steps freeing an object takes within the freeing of what holds it, if it is not put off until then.

    ``cls`` is a registered class, or one of the recursing ones of Python's own.
    """
    if cls in RECURSING:
        return 1
    if cls.__flags__ & HEAP_TYPE or cls in SHALLOW:
        return 0
    if not issubclass(cls, BaseException):
        return HEAVY
    # Exceptions with members beyond those of all have a way of their own to be freed, and MemoryError has a pool.
    return int(cls.__basicsize__ > BaseException.__basicsize__ or cls is MemoryError)


# Values, before they are written.


def check_objects(objects: Sequence[Cell], encoded: Sequence[tuple[Cell, Cell]], types: TypeRegistry) -> None:
    """``Halted`` where these are nested too deep: objects, and those of extensions with what they were encoded as."""
    if len(objects) + HEAVY * len(encoded) <= MOST_STEPS:
        return
    parts = [list(_parts(one, types)) for one in objects]
    if not encoded and set(map(id, objects)).isdisjoint(map(id, chain.from_iterable(parts))):
        return
    steps = {id(one): 1 for one in objects}
    held = {id(one): list(map(id, own)) for one, own in zip(objects, parts, strict=True)}
    for one, cell in encoded:
        # The object holds what the list or tuple holds that it was encoded as, which itself takes no step.
        steps[id(one)] = HEAVY
        held[id(one)] = [id(cell)]
        steps.setdefault(id(cell), 0)
        held.setdefault(id(cell), list(map(id, _parts(cell, types))))
    _check(steps, held)


def _parts(one: Cell, types: TypeRegistry) -> Iterable[Cell]:
    if isinstance(one, dict):
        return chain.from_iterable(one.items())
    if isinstance(one, (deque, list, tuple)):
        return one
    if type(one) is slice:
        return (one.start, one.stop, one.step)
    registration = types.by_class(type(one))
    plan = None if registration is None else registration.plan
    if isinstance(plan, BuiltinPlan):
        return chain(plan.attributes(one), plan.content(one))
    return plan.read_one(one) if isinstance(plan, FieldsPlan) else ()


# Documents, before anything is made of them.


def steps_of_block(block: Block) -> int:
    """How many steps freeing each object of a block takes."""
    if block.kind == kinds.DICT:
        return int(kinds.FLAVOURS[block.flavour] is defaultdict)
    return int(block.kind == kinds.DEQUE) or _steps(block.kind, block.entry)


def _steps(kind: int, entry: TypeEntry | None) -> int:
    return int(kind == kinds.SLICE) if entry is None else steps_to_free(entry.registration.cls)


def check_document(count: int, blocks: Sequence[Block], sections: Sequence[Section]) -> None:
    """``Halted`` where a document of so many objects nests them too deep.

    ``blocks``: those that refer to objects, and those of which each object takes steps.
    """
    steps = {number: each for block in blocks if (each := steps_of_block(block)) for number in block.numbers()}
    for section in sections:
        of_rows = zip(section.kinds, section.numbers, section.entries, strict=True)
        steps.update((number, each) for kind, number, entry in of_rows if (each := _steps(kind, entry)))
    if sum(steps.values()) > MOST_STEPS and _refer_to(steps, blocks, sections):
        # Numbers in place of the objects, of which there are none yet.
        marks: list[Cell] = list(map(Later, range(count)))
        _check_all(steps, blocks, [row for one in sections for row in one.rows(one.column.cells(marks))], marks)


def _refer_to(steps: Mapping[int, int], blocks: Sequence[Block], sections: Sequence[Section]) -> bool:
    """Whether anything that may hold such an object refers to one."""
    columns = [section.column for section in sections]
    columns += [column for block in blocks if steps_of_block(block) for column in block.columns]
    return HEAVY in steps.values() or not all(steps.keys().isdisjoint(_references(column)) for column in columns)


def _references(column: Column) -> Iterator[int]:
    return chain(column.references or (), chain.from_iterable(map(_references, column.parts)))


def _check_all(steps: dict[int, int], blocks: Sequence[Block], rows: Sequence[ReadRow], marks: list[Cell]) -> None:
    # An object that is made of a list or tuple holds what that holds, which itself takes no step.
    restored = [row for row in rows if row.kind == kinds.PAIR and row.number in steps]
    for cell in chain.from_iterable([row.cells for row in restored]):
        if type(cell) is Later:
            steps.setdefault(cell.number, 0)
    held: dict[int, list[int]] = {number: [] for number in steps}
    of_blocks = [_owned(block, marks) for block in blocks if not steps.keys().isdisjoint(block.numbers())]
    of_rows = [zip(repeat(row.number), row.cells, strict=False) for row in rows]
    for owner, cell in chain.from_iterable([*of_blocks, *of_rows]):
        if type(cell) is Later and owner in held:
            held[owner].append(cell.number)
    _check(steps, held)


def _owned(block: Block, marks: list[Cell]) -> Iterator[tuple[int, Cell]]:
    """Each cell with the number of the object that holds it."""
    widths = block.lengths or repeat(_width(block))
    owners = list(chain.from_iterable(map(repeat, block.numbers(), widths)))
    return chain.from_iterable(zip(owners, column.cells(marks), strict=True) for column in block.columns)


def _width(block: Block) -> int:
    if block.kind == kinds.NAMED and block.entry is not None:
        return len(block.entry.names)
    return 3 if block.kind == kinds.SLICE else 1


# The longest way.


def _check(steps: Mapping[int, int], held: Mapping[int, Iterable[int]]) -> None:
    # It is counted from its inner end and from its outer one; of what lies in cycles or between them, all counts.
    inward = {one: own for one, others in held.items() if (own := [other for other in others if other in held])}
    if _is_shallow(inward):
        return
    inward = {other: [] for own in inward.values() for other in own} | inward
    inner, left = _peeled(inward, steps)
    outer, core = _peeled(_reversed({one: [other for other in inward[one] if other in left] for one in left}), steps)
    if inner + outer + sum(steps[one] for one in core) > MOST_STEPS:
        raise Halted(
            StateTooDeep(
                "too many deques, defaultdicts, slices, exceptions or objects of extensions are nested directly in "
                "each other for Python to free them; put lists or dicts between them"
            )
        )


def _is_shallow(inward: Mapping[int, list[int]]) -> bool:
    """Whether no chain has more than a few objects, as is usual; to see that costs little."""
    holding = set(inward)
    for _ in range(FEW_LEVELS):
        holding = {other for one in holding for other in inward[one] if other in inward}
        if not holding:
            return True
    return False


def _peeled(links: Mapping[int, list[int]], steps: Mapping[int, int]) -> tuple[int, set[int]]:
    """The steps of the longest chain that ends, and what is in none that does."""
    missing = {one: len(others) for one, others in links.items()}
    back = _reversed(links)
    depth = {one: steps[one] for one in links}
    ended = [one for one, count in missing.items() if not count]
    for one in ended:
        for other in back[one]:
            depth[other] = max(depth[other], depth[one] + steps[other])
            missing[other] -= 1
            if not missing[other]:
                ended.append(other)
    return max((depth[one] for one in ended), default=0), missing.keys() - set(ended)


def _reversed(links: Mapping[int, list[int]]) -> dict[int, list[int]]:
    back: dict[int, list[int]] = {one: [] for one in links}
    for one, others in links.items():
        for other in others:
            back[other].append(one)
    return back
