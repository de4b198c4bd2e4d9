"""How deep objects are nested whose freeing recurses.

CPython frees lists, dicts, tuples and instances of classes made by a class statement however deep they are nested.
Deques, defaultdicts, slices and some exceptions it frees by recursion in C: a hundred thousand of them within each
other end the process when the last reference goes. So too many are refused: before they are made, and before they are
written.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING

from flowpersist.codec import kinds
from flowpersist.codec.blocks import Block, Later
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import HEAP_TYPE, FieldsPlan
from flowpersist.codec.refusals import Halted
from flowpersist.codec.registry import TypeRegistry
from flowpersist.errors import StateTooDeep

if TYPE_CHECKING:
    from flowpersist.codec.building import Section
    from flowpersist.codec.columns import TypeEntry

__all__ = ["check_document", "check_objects", "frees_by_recursion", "is_recursing"]

#: Each level takes some hundred bytes of a stack. CPython itself nests the freeing of lists and the like up to 50 deep,
#: and a chain as long as this may lie between any two of these.
MOST_NESTED = 1000
RECURSING = frozenset({deque, defaultdict, slice})


def frees_by_recursion(cls: type) -> bool:
    """Whether what an object of this class holds is freed within its own freeing."""
    if not issubclass(cls, BaseException):
        return cls in RECURSING
    # Exceptions with members beyond those of all have a way of their own to be freed, and MemoryError has a pool.
    own = cls.__basicsize__ > BaseException.__basicsize__ or cls is MemoryError
    return own and not cls.__flags__ & HEAP_TYPE


def check_objects(objects: Sequence[Cell], types: TypeRegistry) -> None:
    """``Halted`` where too many of these objects, all of classes that ``frees_by_recursion``, are nested."""
    if len(objects) > MOST_NESTED:
        _check({id(one): list(map(id, _parts(one, types))) for one in objects})


def _parts(one: Cell, types: TypeRegistry) -> Iterable[Cell]:
    if type(one) is slice:
        return (one.start, one.stop, one.step)
    if type(one) is defaultdict:
        return chain.from_iterable(one.items())
    if type(one) is deque:
        return one
    registration = types.by_class(type(one))
    plan = None if registration is None else registration.plan
    return plan.read([one]) if isinstance(plan, FieldsPlan) else ()


def is_recursing(block: Block) -> bool:
    """Whether the objects of a block are such."""
    if block.kind == kinds.DICT:
        return kinds.FLAVOURS[block.flavour] is defaultdict
    return _recurses(block.kind, block.entry) or block.kind == kinds.DEQUE


def _recurses(kind: int, entry: TypeEntry | None) -> bool:
    return kind == kinds.SLICE or (entry is not None and frees_by_recursion(entry.registration.cls))


def check_document(count: int, blocks: Sequence[Block], sections: Sequence[Section]) -> None:
    """``Halted`` where a document of so many objects nests too many: ``blocks`` are those of such."""
    held: dict[int, list[int]] = {number: [] for block in blocks for number in block.numbers()}
    for section in sections:
        of_rows = zip(section.kinds, section.numbers, section.entries, strict=True)
        held.update((number, []) for kind, number, entry in of_rows if _recurses(kind, entry))
    if len(held) <= MOST_NESTED:
        return
    # Numbers in place of the objects, of which there are none yet.
    marks: list[Cell] = list(map(Later, range(count)))
    parts = [*(_of_block(block, marks) for block in blocks), *(_of_rows(section, marks) for section in sections)]
    for owner, cell in chain.from_iterable(parts):
        if type(cell) is Later and owner in held:
            held[owner].append(cell.number)
    _check(held)


def _of_block(block: Block, marks: list[Cell]) -> Iterator[tuple[int, Cell]]:
    """Each cell with the number of the object that holds it."""
    widths = block.lengths or repeat(3 if block.kind == kinds.SLICE else 1)
    owners = list(chain.from_iterable(map(repeat, block.numbers(), widths)))
    return chain.from_iterable(zip(owners, column.cells(marks), strict=True) for column in block.columns)


def _of_rows(section: Section, marks: list[Cell]) -> Iterator[tuple[int, Cell]]:
    return ((row.number, cell) for row in section.rows(section.column.cells(marks)) for cell in row.cells)


def _check(held: Mapping[int, Iterable[int]]) -> None:
    # The longest way is counted from its inner end and from its outer one; of what lies in cycles or between them, all
    # objects count.
    inward = {one: [other for other in others if other in held] for one, others in held.items()}
    inner, left = _peeled(inward)
    outer, core = _peeled(_reversed({one: [other for other in inward[one] if other in left] for one in left}))
    if inner + outer + len(core) > MOST_NESTED:
        raise Halted(
            StateTooDeep(
                f"over {MOST_NESTED} deques, defaultdicts, slices or exceptions are nested directly in each other, "
                "which Python could not free; put lists or dicts between them"
            )
        )


def _peeled(links: Mapping[int, list[int]]) -> tuple[int, set[int]]:
    """The length of the longest chain that ends, and what is in none that does."""
    missing = {one: len(others) for one, others in links.items()}
    back = _reversed(links)
    depth = dict.fromkeys(links, 1)
    ended = [one for one, count in missing.items() if not count]
    for one in ended:
        for other in back[one]:
            depth[other] = max(depth[other], depth[one] + 1)
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
