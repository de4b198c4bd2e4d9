"""Values to bytes: objects found in waves from the root, and written block by block as they are found.

A wave is handled by iterators written in C, a class at a time, without recursion. The cells of a block are read once,
so that a value which changes meanwhile can't give bytes that contradict themselves, and written while they are in the
processor's cache. What is too little for a block waits for more of its kind, or becomes rows at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from attrs import frozen

from flowpersist.codec import kinds
from flowpersist.codec.batches import Batch, Cells, Row, Rows
from flowpersist.codec.columns import ColumnWriter
from flowpersist.codec.gathering import Gathering
from flowpersist.codec.limits import Limits
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.nesting import check_objects
from flowpersist.codec.numbering import COUNTS_OWNERS, Numbering, ReachedIndirectly, runs_of
from flowpersist.codec.ordering import Order, in_building_order
from flowpersist.codec.packing import Cell, numbers_of, pack_cells
from flowpersist.codec.refusals import Halted, state_changed
from flowpersist.codec.registry import Registration, TypeRegistry
from flowpersist.codec.vocabulary import Roles
from flowpersist.codec.watching import Watch
from flowpersist.codec.writing import Writer, binary_header
from flowpersist.errors import StateTooDeep

__all__ = ["Encoded", "encode_document", "encode_graph", "encode_table", "whole_document"]

#: So many objects of one class are written at once; fewer wait.
FEWEST_AT_ONCE = 64
#: So many cells are written at once, however few objects they are of.
MOST_WAITING = 2**12
#: A block holds no more objects than this, so that its cells stay in the processor's cache from one column to the next.
MOST_IN_BLOCK = 2048
#: Fewer than this are rows: a block's columns would cost more than they save.
FEWEST_IN_BLOCK = 16
#: Kinds of batches whose objects may be rows.
ROW_KINDS = frozenset(
    {kinds.LIST, kinds.TUPLE, kinds.NAMED, kinds.SET, kinds.FROZENSET, kinds.RECORD, kinds.SLICE, kinds.INSTANCE}
)
PARTS_OF_DOCUMENT = 8


def encode_graph(root: Cell, types: TypeRegistry, limits: Limits) -> bytes:
    """The bytes of a value and of all that it reaches; ``Refused``, ``RefusedClass`` or ``Halted`` where that can't
    be.
    """
    return encode_document(root, types, limits).data


@frozen(eq=False)
class Encoded:
    """The bytes of a value; what tells whether anything of it has changed since, if that is watched; and the objects of
    which only a trial tells whether they come back as they are.
    """

    data: bytes
    watch: Watch
    suspects: Sequence[Cell]


def encode_document(root: Cell, types: TypeRegistry, limits: Limits, *, watched: bool = False) -> Encoded:
    """The bytes of a value, and what is to be looked at besides."""
    roles = Roles(types)
    try:
        return _encoded(root, roles, limits, Numbering(by_owners=COUNTS_OWNERS), watched=watched)
    except ReachedIndirectly:
        return _encoded(root, roles, limits, Numbering(by_owners=False), watched=watched)


def _encoded(root: Cell, roles: Roles, limits: Limits, numbering: Numbering, *, watched: bool) -> Encoded:
    watch = Watch()
    encoder = _Encoder(roles, limits, numbering, watch if watched else None)
    return Encoded(encoder.encode(root), watch, encoder.suspects)


def encode_table(root: Cell, types: TypeRegistry, limits: Limits) -> tuple[bytes, list[Cell]]:
    """The bytes of a value, and its objects in the order of their numbers."""
    numbering = Numbering(by_owners=False)
    return _encoded(root, Roles(types), limits, numbering, watched=False).data, numbering.objects()


class _Encoder:
    def __init__(self, roles: Roles, limits: Limits, numbering: Numbering, watch: Watch | None) -> None:
        self._roles = roles
        self._limits = limits
        self._writer = Writer(limits)
        self._numbering = numbering
        self._type_numbers: dict[tuple[type, tuple[str, ...]], int] = {}
        self._types: list[tuple[Registration, Sequence[str]]] = []
        self._columns = ColumnWriter(self._writer, roles, limits, self._numbering, self._type_number)
        self._gathering = Gathering(
            roles, limits, self._add, self._row, self._columns.note, numbering.needs_identity, watch
        )
        self._waiting: dict[object, Batch] = {}
        self._blocks = 0
        self._rows: list[Rows] = []
        self.suspects: list[Cell] = []

    def encode(self, root: Cell) -> bytes:
        self._columns.note([root])
        self._find_all()
        self._gathering.settle_weak(self._is_found)
        order = in_building_order(self._gathering.candidates, self._roles, root)
        self.suspects = [*self._gathering.doubtful, *self._gathering.guard.unsure, *order.cyclic]
        for candidate in order.flat:
            self._gathering.settle(candidate, is_late=False)
        for candidate in order.late:
            self._gathering.settle(candidate, is_late=True)
        self._find_all()
        check_objects(self._gathering.recursing, self._gathering.encoded, self._roles.types)
        return self._document(root, order)

    def _is_found(self, one: Cell) -> bool:
        # A member or a reference is held by the registry; another leaf has no identity that a copy would have too.
        if not self._roles[type(one)]:
            registration = self._roles.types.by_class(type(one))
            return registration is not None and isinstance(registration.plan, MemberPlan)
        return self._numbering.knows(one)

    def _find_all(self) -> None:
        depth = 0
        first = len(self._numbering) - sum(map(len, self._columns.found))
        while self._columns.found or self._waiting:
            wave, self._columns.found = self._columns.found, []
            if wave:
                depth += 1
                if depth > self._limits.max_depth:
                    raise Halted(_too_deep(self._limits))
                first = self._wave(wave, first)
            else:
                # Written last, so that their objects are in as few blocks as can be; all that they reach is known.
                self._flush()

    def _wave(self, wave: list[list[Cell]], first: int) -> int:
        for objects in _merged(wave):
            classes = set(map(type, objects))
            numbers = range(first, first + len(objects))
            first += len(objects)
            if len(classes) == 1:
                self._gather(objects, numbers)
                continue
            by_class: dict[type, tuple[list[Cell], list[int]]] = {}
            for number, one in zip(numbers, objects, strict=True):
                some = by_class.setdefault(type(one), ([], []))
                some[0].append(one)
                some[1].append(number)
            for members, own_numbers in by_class.values():
                self._gather(members, own_numbers)
        return first

    def _gather(self, objects: list[Cell], numbers: Sequence[int]) -> None:
        if len(objects) <= MOST_IN_BLOCK:
            self._gathering.gather(objects, numbers)
            return
        for start in range(0, len(objects), MOST_IN_BLOCK):
            end = start + MOST_IN_BLOCK
            self._gathering.gather(objects[start:end], numbers[start:end])

    def _add(self, batch: Batch, some: Cells) -> None:
        expected = sum(some.lengths) if batch.width is None else batch.width * len(some.numbers)
        if expected != len(some.cells):
            # Another thread may have changed a list between the look at its length and the look at its cells.
            raise Halted(state_changed())
        if len(some.numbers) >= FEWEST_AT_ONCE or len(some.cells) >= MOST_WAITING:
            self._block(batch, some)
            return
        self._columns.note(some.cells)
        if some.keys:
            self._columns.note(some.keys)
        batch.add(some)
        self._waiting[batch.identity] = batch
        if len(batch.numbers) >= MOST_IN_BLOCK or len(batch.cells) >= MOST_WAITING:
            self._block(batch, batch.take())

    def _row(self, row: Row) -> None:
        self._columns.note(row.cells)
        self._rows.append(row.alone())

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for batch in waiting.values():
            if not batch.numbers:
                continue
            if len(batch.numbers) < FEWEST_IN_BLOCK and self._may_be_rows(batch):
                self._rows.append(batch.rows())
                batch.take()
            else:
                self._block(batch, batch.take())

    @staticmethod
    def _may_be_rows(batch: Batch) -> bool:
        return batch.kind in ROW_KINDS or (batch.kind == kinds.DICT and not batch.flavour)

    def _type_number(self, cls: type, shape: tuple[str, ...] = ()) -> int:
        number = self._type_numbers.get((cls, shape))
        if number is None:
            number = self._type_numbers[cls, shape] = len(self._types)
            registration = self._roles.registration(cls)
            self._types.append((registration, shape or registration.plan.names))
        return number

    def _document(self, root: Cell, order: Order) -> bytes:
        self._section(self._rows)
        self._section([row.alone() for row in order.early])
        self._section([row.alone() for row in order.late])
        self._columns.write([root])
        return whole_document(self._writer, self._limits, self._types, len(self._numbering), self._blocks)

    def _block(self, batch: Batch, some: Cells) -> None:
        self._blocks += 1
        self._columns.charge(len(some.numbers))
        write = {
            kinds.RECORD: self._record,
            kinds.INSTANCE: self._instances,
            kinds.NAMED: self._named,
            kinds.DICT: self._entries,
            kinds.DEQUE: self._deques,
            kinds.BYTEARRAY: self._cells,
            kinds.SLICE: self._cells,
        }.get(batch.kind, self._sequences)
        write(batch, some)

    def _head(self, batch: Batch, some: Cells, parts: int) -> None:
        self._writer.header(2 + parts, batch.kind)
        self._writer.numbers(runs_of(some.numbers))

    def _sequences(self, batch: Batch, some: Cells) -> None:
        self._head(batch, some, 2)
        self._writer.numbers(numbers_of(some.lengths))
        self._columns.write(some.cells)

    def _deques(self, batch: Batch, some: Cells) -> None:
        self._head(batch, some, 3)
        self._writer.numbers(numbers_of(some.lengths))
        self._columns.write(some.keys)
        self._columns.write(some.cells)

    def _cells(self, batch: Batch, some: Cells) -> None:
        self._head(batch, some, 1)
        self._columns.write(some.cells)

    def _named(self, batch: Batch, some: Cells) -> None:
        self._head(batch, some, 2)
        self._type(batch)
        self._columns.write(some.cells)

    def _entries(self, batch: Batch, some: Cells) -> None:
        self._head(batch, some, 5)
        self._writer.scalar(batch.flavour)
        self._writer.cells(self._factory(batch.factory))
        self._writer.numbers(numbers_of(some.lengths))
        self._columns.write(some.keys)
        self._columns.write(some.cells)

    def _factory(self, factory: Cell) -> list[Cell]:
        if factory is None or kinds.FACTORIES.get(factory.__name__) is factory:
            return [None if factory is None else factory.__name__]
        plan: Cell = self._roles.registration(type(factory)).plan
        return [self._type_number(type(factory)), plan.dump(factory)]

    def _record(self, batch: Batch, some: Cells) -> None:
        self._head(batch, some, 1 + len(batch.shape))
        self._writer.cells(list(batch.shape))
        self._by_columns(len(batch.shape), some)

    def _instances(self, batch: Batch, some: Cells) -> None:
        self._head(batch, some, 1 + max(batch.width or 0, 1))
        self._type(batch)
        self._by_columns(batch.width or 0, some)

    def _type(self, batch: Batch) -> None:
        self._writer.scalar(self._type_number(batch.registration.cls, batch.shape))  # type: ignore[union-attr]  # its kind has one

    def _by_columns(self, width: int, some: Cells) -> None:
        for place in range(width):
            self._columns.write(some.cells[place::width], lists=2)
        if not width:
            # Objects without fields take a byte each all the same, so that no count stands without bytes.
            self._columns.write([None] * len(some.numbers))

    def _section(self, groups: Sequence[Rows]) -> None:
        if not groups:
            self._writer.raw(kinds.EMPTY_SECTION)
            return
        rows: list[int] = []
        for group in groups:
            own = self._class_of(group)
            for number, length in zip(group.numbers, group.lengths, strict=True):
                rows += (group.kind, number, own, length)
        self._columns.charge(len(rows) // 4)
        self._writer.header(2)
        self._writer.numbers(numbers_of(rows))
        self._columns.write(list(chain.from_iterable([group.cells for group in groups])))

    def _class_of(self, row: Rows) -> int:
        return 0 if row.registration is None else 1 + self._type_number(row.registration.cls, row.shape)


def whole_document(
    contents: Writer,
    limits: Limits,
    types: Sequence[tuple[Registration, Sequence[str]]],
    count: int,
    blocks: int,
) -> bytes:
    """The document of these contents: so many blocks of an object table with so many objects, and what follows it.

    ``types``: the classes, each with its fields in the order in which objects of it have them.
    """
    head = Writer(limits)
    head.header(PARTS_OF_DOCUMENT, kinds.FORMAT_VERSION)
    head.raw(_described(tuple([(one.name, one.version, *names) for one, names in types])))
    head.scalar(count)
    head.header(blocks)
    return contents.finish(head)


@lru_cache(maxsize=256)
def _described(types: tuple[tuple[str | int, ...], ...]) -> bytes:
    """The table of these classes, each its name, version and fields: small values of one kind all have the same."""
    cells: list[Cell] = []
    for name, version, *names in types:
        cells += (name, version, len(names), *names)
    packed = pack_cells(cells)
    return binary_header(len(packed)) + packed


def _merged(wave: list[list[Cell]]) -> Iterator[list[Cell]]:
    """The objects of a wave in their order; small finds together, since each look at a class costs the same."""
    small: list[Cell] = []
    for objects in wave:
        if len(objects) < FEWEST_AT_ONCE:
            small += objects
            continue
        if small:
            yield small
            small = []
        yield objects
    if small:
        yield small


def _too_deep(limits: Limits) -> StateTooDeep:
    return StateTooDeep(
        f"the value is more than {limits.max_depth} steps deep; flatten it, or raise the limit max_depth"
    )
