"""Bytes to values: the document read block by block, each count held against the bytes behind it, then built."""

from __future__ import annotations

from collections.abc import Sequence

from flowpersist.codec import kinds
from flowpersist.codec.building import Building
from flowpersist.codec.columns import Column, ColumnReader, TypeEntry
from flowpersist.codec.entries import are_different_texts, read_entries
from flowpersist.codec.factories import factory_of
from flowpersist.codec.limits import Limits
from flowpersist.codec.packing import Cell
from flowpersist.codec.parts import Block, Section
from flowpersist.codec.reading import Reader
from flowpersist.codec.refusals import Halted, malformed, too_many_nodes
from flowpersist.codec.registry import TypeRegistry
from flowpersist.errors import UnsupportedVersion

__all__ = ["decode_graph", "decode_table"]

SEQUENCES = frozenset({kinds.LIST, kinds.TUPLE, kinds.SET, kinds.FROZENSET})
DEFAULT_FLAVOUR = len(kinds.FLAVOURS) - 1


def decode_graph(data: bytes, types: TypeRegistry, limits: Limits) -> tuple[Cell, int]:
    """The value of these bytes, and how many objects and cells it has. Whatever is wrong with the bytes raises."""
    return _Decoder(data, types, limits).decode()


def decode_table(data: bytes, types: TypeRegistry, limits: Limits) -> tuple[Cell, list[Cell]]:
    """The same value, and its objects in the order of their numbers."""
    decoder = _Decoder(data, types, limits)
    return decoder.decode()[0], decoder.table


class _Decoder:
    def __init__(self, data: bytes, registry: TypeRegistry, limits: Limits) -> None:
        self._registry = registry
        self._limits = limits
        self._reader = Reader(data, limits)
        self._columns = ColumnReader(self._reader, registry)
        self.table: list[Cell] = []

    def decode(self) -> tuple[Cell, int]:
        parts = self._reader.array()
        self._version()
        if parts != PARTS:
            raise malformed("a document has a wrong number of parts")
        self._columns.types = read_entries(self._reader.cells(), self._registry)
        count = self._reader.integer()
        if count > self._reader.size:
            raise malformed("the counts are larger than the bytes behind them")
        if count > self._limits.max_nodes:
            raise Halted(too_many_nodes(self._limits))
        building = Building(count, self._columns.types, self._registry, self._limits)
        self.table = building.table
        for _ in range(self._reader.array()):
            building.add(self._block())
        rows, early, late = self._section(ROWS), self._section(EARLY), self._section(LATE)
        root = self._columns.read(1)
        self._reader.finish()
        return building.build(rows, early, late, root), self._reader.charged

    def _version(self) -> None:
        version = self._reader.integer()
        if version != kinds.FORMAT_VERSION:
            message = f"the value is in version {version} of the codec's format, not version {kinds.FORMAT_VERSION}"
            raise Halted(
                UnsupportedVersion(
                    f"{message}, which this release reads; use the release that wrote it, or a later one"
                )
            )

    def _entry(self) -> TypeEntry:
        number = self._reader.integer()
        if number >= len(self._columns.types):
            raise malformed("a class has a number beyond the table of classes")
        return self._columns.types[number]

    def _lengths(self, count: int) -> Sequence[int]:
        lengths = self._reader.numbers()
        if len(lengths) != count:
            raise malformed("a block holds another number of lengths than its count")
        return lengths

    def _block(self) -> Block:
        length = self._reader.array()
        kind, runs = self._reader.integer(), self._reader.numbers()
        if len(runs) % 2:
            raise malformed("a block has half a run of numbers")
        count = sum(runs[1::2])
        self._reader.charge(count)
        block, parts = self._contents(kind, count)
        if length != 2 + parts:
            raise malformed("a block has a wrong number of parts")
        block.runs = list(zip(runs[::2], runs[1::2], strict=True))
        return block

    def _contents(self, kind: int, count: int) -> tuple[Block, int]:
        if kind in SEQUENCES:
            lengths = self._lengths(count)
            return Block(kind, count, lengths, (self._columns.read(sum(lengths)),)), 2
        read = {
            kinds.DEQUE: self._deques,
            kinds.DICT: self._entries,
            kinds.RECORD: self._records,
            kinds.INSTANCE: self._instances,
            kinds.NAMED: self._named,
            kinds.BYTEARRAY: self._bytearrays,
            kinds.SLICE: self._slices,
        }.get(kind)
        if read is None:
            raise malformed("a block is of an unknown kind")
        return read(count)

    def _deques(self, count: int) -> tuple[Block, int]:
        lengths = self._lengths(count)
        limits = self._columns.read(count).ready
        return Block(kinds.DEQUE, count, lengths, (self._columns.read(sum(lengths)),), limits=limits), 3

    def _entries(self, count: int) -> tuple[Block, int]:
        flavour = self._reader.integer()
        if flavour > DEFAULT_FLAVOUR:
            raise malformed("a dict is of an unknown flavour")
        factory = self._factory()
        lengths = self._lengths(count)
        total = sum(lengths)
        columns = (self._columns.read(total), self._columns.read(total))
        return Block(kinds.DICT, count, lengths, columns, flavour, factory), 5

    def _factory(self) -> Cell:
        cells = self._reader.cells()
        if len(cells) == 1 and (cells[0] is None or type(cells[0]) is str):
            return factory_of(cells[0])
        number = cells[0] if len(cells) == 2 else None  # noqa: PLR2004 - the class of what is named, and its name
        if type(number) is not int or not 0 <= number < len(self._columns.types):
            raise malformed("a defaultdict has an unknown factory")
        return factory_of(self._columns.types[number].member(cells[1]))

    def _records(self, count: int) -> tuple[Block, int]:
        shape = tuple(self._reader.cells())
        if not are_different_texts(shape):
            raise malformed("a dict holds a key twice, or one that is not a string")
        columns = self._several(len(shape), count)
        return Block(kinds.RECORD, count, columns=columns, shape=shape), 1 + len(shape)

    def _several(self, width: int, count: int) -> tuple[Column, ...]:
        return tuple([self._columns.read(count) for _ in range(max(width, 1))])

    def _instances(self, count: int) -> tuple[Block, int]:
        entry = self._entry()
        columns = self._several(len(entry.names), count)
        return Block(kinds.INSTANCE, count, columns=columns, entry=entry), 1 + len(columns)

    def _named(self, count: int) -> tuple[Block, int]:
        entry = self._entry()
        column = self._columns.read(count * len(entry.names))
        return Block(kinds.NAMED, count, columns=(column,), entry=entry), 2

    def _bytearrays(self, count: int) -> tuple[Block, int]:
        return Block(kinds.BYTEARRAY, count, columns=(self._columns.read(count),)), 1

    def _slices(self, count: int) -> tuple[Block, int]:
        return Block(kinds.SLICE, count, columns=(self._columns.read(3 * count),)), 1

    def _section(self, allowed: frozenset[int]) -> Section:
        if self._reader.skip(kinds.EMPTY_SECTION):
            return Section((), (), [], (), Column())
        self._reader.fixed_array(2)
        parts = self._reader.numbers()
        if len(parts) % PARTS_OF_ROW:
            raise malformed("a row lacks a part")
        codes, numbers, classes, lengths = (parts[part::PARTS_OF_ROW] for part in range(PARTS_OF_ROW))
        if not allowed.issuperset(codes):
            raise malformed("a row is of an unknown kind, or of one that is not allowed there")
        self._reader.charge(len(codes))
        entries = [None, *self._columns.types]
        if classes and max(classes) >= len(entries):
            raise malformed("a class has a number beyond the table of classes")
        found = [entries[number] for number in classes]
        return Section(codes, numbers, found, lengths, self._columns.read(sum(lengths)))


PARTS = 8
PARTS_OF_ROW = 4
EARLY = frozenset({kinds.TUPLE, kinds.NAMED, kinds.FROZENSET, kinds.SLICE})
LATE = EARLY | {kinds.SET, kinds.DICT, kinds.PAIR, kinds.STATE}
ROWS = EARLY | {
    kinds.LIST,
    kinds.SET,
    kinds.DICT,
    kinds.DEQUE,
    kinds.BYTEARRAY,
    kinds.INSTANCE,
    kinds.SCALAR,
    kinds.ATTRIBUTES,
    kinds.SHELL,
}
