"""Values to bytes: the objects found, put in order, numbered, and written block by block."""

from __future__ import annotations

from itertools import chain, count

from flowpersist.codec import kinds
from flowpersist.codec.columns import ColumnWriter, pack_numbers
from flowpersist.codec.discovery import Batch, Discovery
from flowpersist.codec.limits import Limits
from flowpersist.codec.ordering import Order, Row, in_building_order
from flowpersist.codec.packing import Cell, Writer
from flowpersist.codec.refusals import Halted
from flowpersist.codec.registry import NATIVE, Registration, TypeRegistry
from flowpersist.codec.vocabulary import Roles
from flowpersist.errors import SerializationError

__all__ = ["encode_graph"]

FILLED_LATE = frozenset({kinds.SET, kinds.DICT})


def encode_graph(root: Cell, types: TypeRegistry, limits: Limits) -> bytes:
    """The bytes of a value and of all that it reaches; ``Refused``, ``RefusedClass`` or ``Halted`` where that can't
    be.
    """
    roles = Roles(types)
    batches = Discovery(roles, limits).run(root)
    for batch in batches:
        _check_whole(batch)
    order = in_building_order(batches, roles)
    return _Encoder(roles, limits, _flat(batches, order), order).encode(root)


def _check_whole(batch: Batch) -> None:
    # Another thread may have changed a list between the look at its length and the look at its cells.
    cells = sum(batch.lengths) if batch.width is None else batch.width * len(batch.objects)
    if cells != len(batch.cells):
        message = "an object changed while it was encoded; encode a copy, or hold its lock meanwhile"
        raise Halted(SerializationError(message))


def _flat(batches: list[Batch], order: Order) -> list[Batch]:
    """The batches without what is built in order; late sets and dicts stay, empty."""
    moved = {id(row.one) for row in chain(order.early, order.late)}
    touched = {id(row.batch) for row in chain(order.early, order.late)}
    return [_without(batch, moved) if id(batch) in touched else batch for batch in batches]


def _without(batch: Batch, moved: set[int]) -> Batch:
    rest = Batch(batch.kind, batch.width, batch.flavour, batch.factory, batch.shape, batch.registration)
    keys = iter(batch.key_rows()) if batch.kind == kinds.DICT else None
    for one, cells in batch.rows():
        row_keys = next(keys)[1] if keys is not None else []
        if id(one) not in moved:
            rest.add([one], cells)
            rest.lengths.append(len(cells))
            rest.keys += row_keys
        elif batch.kind in FILLED_LATE:
            rest.objects.append(one)
            rest.lengths.append(0)
    return rest


def _registrations(roles: Roles, batches: list[Batch]) -> list[Registration]:
    """What is named in the bytes: every registered class that was met, and the factories, sorted by name."""
    met = {cls for cls in roles if cls not in NATIVE or issubclass(cls, BaseException)}
    met.update(batch.factory for batch in batches if batch.factory not in {None, *kinds.FACTORIES.values()})
    return sorted(map(roles.registration, met), key=lambda registration: registration.name)


class _Encoder:
    def __init__(self, roles: Roles, limits: Limits, batches: list[Batch], order: Order) -> None:
        self.batches = [batch for batch in batches if batch.objects]
        self.order = order
        self.writer = Writer(limits)
        self.registrations = _registrations(roles, batches)
        self.type_numbers = {one.cls: number for number, one in enumerate(self.registrations)}
        built = [row.one for row in chain(order.early, order.late) if row.batch.kind not in FILLED_LATE]
        everything = chain(chain.from_iterable([batch.objects for batch in self.batches]), built)
        self.number_of = dict(zip(map(id, everything), count()))
        self.columns = ColumnWriter(self.writer, roles, limits, self.number_of, self.type_numbers)

    def encode(self, root: Cell) -> bytes:
        self.writer.array(6)
        self.writer.scalar(kinds.FORMAT_VERSION)
        self._types()
        self.writer.array(len(self.batches))
        for batch in self.batches:
            self._block(batch)
        self._section(self.order.early)
        self._section(self.order.late)
        self.columns.write([root])
        return self.writer.finish()

    def _types(self) -> None:
        self.writer.array(len(self.registrations))
        for one in self.registrations:
            self.writer.array(2 + len(one.plan.names))
            self.writer.scalar(one.name)
            self.writer.scalar(one.version)
            for name in one.plan.names:
                self.writer.scalar(name)

    def _head(self, batch: Batch, parts: int) -> None:
        self.columns.charge(len(batch.objects))
        self.writer.array(2 + parts)
        self.writer.scalar(batch.kind)
        self.writer.scalar(len(batch.objects))

    def _block(self, batch: Batch) -> None:
        match batch.kind:
            case kinds.RECORD:
                self._record(batch)
            case kinds.INSTANCE:
                self._head(batch, 1 + max(len(batch.registration.plan.names), 1))  # type: ignore[union-attr]
                self._type(batch)
                self._by_columns(batch)
            case kinds.NAMED:
                self._head(batch, 2)
                self._type(batch)
                self.columns.write(batch.cells)
            case kinds.DICT:
                self._entries(batch)
            case kinds.BYTEARRAY | kinds.SLICE:
                self._head(batch, 1)
                self.columns.write(batch.cells)
            case _:
                self._sequence(batch)

    def _type(self, batch: Batch) -> None:
        self.writer.scalar(self.type_numbers[batch.registration.cls])  # type: ignore[union-attr]  # its kind has one

    def _sequence(self, batch: Batch) -> None:
        is_deque = batch.kind == kinds.DEQUE
        self._head(batch, 2 + is_deque)
        self.writer.binary(pack_numbers(batch.lengths))
        if is_deque:
            self.columns.write([one.maxlen for one in batch.objects])
        self.columns.write(batch.cells)

    def _entries(self, batch: Batch) -> None:
        self._head(batch, 5)
        self.writer.scalar(batch.flavour)
        self.writer.scalar(self._factory(batch.factory))
        self.writer.binary(pack_numbers(batch.lengths))
        self.columns.write(batch.keys)
        self.columns.write(batch.cells)

    def _factory(self, factory: type | None) -> str | int | None:
        return factory.__name__ if factory in kinds.FACTORIES.values() else self.type_numbers.get(factory)  # type: ignore[union-attr, arg-type]

    def _record(self, batch: Batch) -> None:
        self._head(batch, 1 + len(batch.shape))
        self.writer.array(len(batch.shape))
        for key in batch.shape:
            self.writer.scalar(key)
        self._by_columns(batch)

    def _by_columns(self, batch: Batch) -> None:
        width = batch.width or 0
        for place in range(width):
            self.columns.write(batch.cells[place::width], batch.classes)
        if not width:
            # Objects without fields take a byte each all the same, so that no count stands without bytes.
            self.columns.write([None] * len(batch.objects))

    def _section(self, rows: list[Row]) -> None:
        self.columns.charge(len(rows))
        self.writer.array(4)
        self.writer.binary(bytes([row.batch.kind for row in rows]))
        self.writer.binary(pack_numbers(map(self._subject, rows)))
        self.writer.binary(pack_numbers([len(row.cells) for row in rows]))
        self.columns.write(list(chain.from_iterable([row.cells for row in rows])))

    def _subject(self, row: Row) -> int:
        """What a row is about besides its cells: the object that it fills, or the class that it makes."""
        if row.batch.kind in FILLED_LATE:
            return self.number_of[id(row.one)]
        return 0 if row.batch.registration is None else self.type_numbers[row.batch.registration.cls]
