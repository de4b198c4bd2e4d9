"""Plain values to MessagePack and back; the one module of the codec that imports its libraries.

Of a table of objects a reader never hands a nested structure to a library: array headers are read one at a time, and
what lies between them are scalars. A column of scalars is a MessagePack array inside a ``bin``, which may hold no
further array or map. So nesting, and counts larger than the bytes behind them, cost nothing.

A tree is handed to msgspec as a whole, with its type: so many levels of lists and of dicts with str keys. msgspec makes
nothing for a count before it has read what is counted, and stops at the first value that the type does not have.

msgspec writes and reads plain columns two to four times as fast as msgpack, but knows no integer beyond 64 bits, no
lone surrogate, and in one typed column not both str and bytes: what it refuses goes to msgpack, which decides.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from sys import byteorder
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgpack  # type: ignore[import-untyped]  # it ships no annotations
import msgspec

from flowpersist.codec.refusals import malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowpersist.codec.limits import Limits

__all__ = [
    "MOST_LEVELS",
    "PLAIN_TYPES",
    "Cell",
    "extension",
    "pack_cells",
    "pack_document",
    "pack_floats",
    "pack_one",
    "pack_tree",
    "unpack_cells",
    "unpack_tree",
    "unpack_typed",
]

#: A value of any class: what the codec carries without looking into it.
Cell: TypeAlias = Any

#: The classes whose values are MessagePack's own, besides the extension types for what its str and int can't hold.
PLAIN_TYPES: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
BIG_INT = 1
SURROGATE_STR = 2

FLOAT = 8

#: A value of an extension type, to be packed in a document: its code and its bytes.
extension: Final = msgspec.msgpack.Ext
_fast = msgspec.msgpack.Encoder()
_fast_texts = msgspec.msgpack.Decoder(list[bool | int | float | str | None])
_fast_bytes = msgspec.msgpack.Decoder(list[bool | int | float | bytes | None])
#: How deep lists and dicts are nested in a tree. Each level more doubles the time that it takes to make the decoder.
MOST_LEVELS: Final = 10


def _tree_type() -> Cell:
    found: Cell = bool | int | float | str | None
    for _ in range(MOST_LEVELS):
        found = bool | int | float | str | list[found] | dict[str, found] | None
    return found


_fast_trees = msgspec.msgpack.Decoder(_tree_type())
#: The first bytes of a ``bin`` in MessagePack.
BIN_MARKS = frozenset({0xC4, 0xC5, 0xC6})


def _extended(value: int) -> Cell:
    # The packer asks for a substitute for an int beyond 64 bits, and for nothing else: columns hold plain cells only.
    return msgpack.ExtType(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _encodable(value: Cell) -> Cell:
    if type(value) is not str:
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return msgpack.ExtType(SURROGATE_STR, value.encode("utf-8", "surrogatepass"))
    return value


def _packer() -> msgpack.Packer:
    return msgpack.Packer(default=_extended, use_bin_type=True, strict_types=True)


def pack_cells(cells: list[Cell]) -> bytes:
    """Plain values as one MessagePack array."""
    try:
        return _fast.encode(cells)
    except (OverflowError, UnicodeEncodeError):
        return cast("bytes", _packer().pack([_encodable(cell) for cell in cells]))


def pack_one(cell: Cell) -> bytes:
    """One plain value."""
    try:
        return _fast.encode(cell)
    except (OverflowError, UnicodeEncodeError):
        return cast("bytes", _packer().pack(_encodable(cell)))


def pack_floats(cells: list[Cell]) -> bytes:
    """Doubles, little-endian, of cells that are floats all."""
    return struct.pack(f"<{len(cells)}d", *cells)


def pack_tree(version: int, root: Cell) -> bytes | None:
    """The document of a tree; None where it holds an integer beyond 64 bits or a lone surrogate."""
    try:
        return _fast.encode((version, root))
    except (OverflowError, UnicodeEncodeError):
        return None


def unpack_tree(data: memoryview) -> Cell:
    """A tree of plain values but bytes, lists, and dicts with str keys."""
    try:
        return _fast_trees.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed("expected a tree of texts, numbers, lists and dicts with text keys") from error


def pack_document(version: int, types: bytes, tree: Cell) -> bytes | None:
    """The document of a typed tree; None where it holds an integer beyond 64 bits or a lone surrogate."""
    try:
        return _fast.encode((version, types, tree))
    except (OverflowError, UnicodeEncodeError):
        return None


def unpack_typed(
    data: memoryview,
    most: int,
    listed: Callable[[list[Cell]], Cell],
    mapped: Callable[[dict[Cell, Cell]], Cell],
    extended: Callable[[int, bytes], Cell],
) -> Cell:
    """One nested value, of which each array, map and extension passes through its hook once it is whole.

    No array or map has more than ``most`` elements: room for them is made before they are read. The keys of maps are
    str and bytes. What the library takes for a timestamp passes no hook.
    """
    return msgpack.unpackb(
        data,
        raw=False,
        list_hook=listed,
        object_hook=mapped,
        ext_hook=extended,
        max_array_len=most,
        max_map_len=most,
    )


def array_header(length: int) -> bytes:
    """What an array of this length begins with."""
    if length < 1 << 4:
        return bytes((0x90 | length,))
    return struct.pack(">BH", 0xDC, length) if length < 1 << 16 else struct.pack(">BI", 0xDD, length)


def _extension(code: int, data: bytes) -> Cell:
    if code == BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    if code == SURROGATE_STR:
        return data.decode("utf-8", "surrogatepass")
    raise malformed(f"extension type {code} is unknown")


def unpack_numbers(data: bytes) -> array[int]:
    """Unsigned numbers of 32 bits."""
    return little_endian(array("I", data))


def _only_once() -> Callable[[list[Cell]], list[Cell]]:
    finished: list[bool] = []

    def accept(cells: list[Cell]) -> list[Cell]:
        # The hook sees each array when it is complete, inner ones first: a second one means that the first was nested.
        if finished:
            raise malformed("an array lies where a plain value is due")
        finished.append(True)
        return cells

    return accept


def unpack_cells(data: memoryview, count: int, limits: Limits) -> list[Cell]:
    """Exactly ``count`` plain values, in memory proportional to ``data``."""
    header = array_header(count)
    start = len(header)
    if data[:start] != header:
        raise malformed("a column of plain values does not hold what its count says")
    if count > len(data):
        raise malformed("a count is larger than the bytes behind it")
    if len(data) <= limits.max_str:
        decoder = _fast_bytes if len(data) > start and data[start] in BIN_MARKS else _fast_texts
        try:
            return cast("list[Cell]", decoder.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return _unpack_slowly(data, count, limits)


def _unpack_slowly(data: memoryview, count: int, limits: Limits) -> list[Cell]:
    cells = msgpack.unpackb(
        data,
        raw=False,
        ext_hook=_extension,
        list_hook=_only_once(),
        max_array_len=count,
        max_map_len=0,
        max_str_len=limits.max_str,
        max_bin_len=limits.max_str,
        max_ext_len=limits.max_str,
    )
    if type(cells) is not list or len(cells) != count or not PLAIN_TYPES.issuperset(map(type, cells)):
        raise malformed("a column of plain values does not hold what its count says")
    return cells


def little_endian(values: array[Cell]) -> array[Cell]:
    """The same numbers, in the order of bytes of the wire."""
    if byteorder == "big":  # pragma: no cover - no such machine runs the tests
        values = values[:]
        values.byteswap()
    return values


def numbers_of(values: Iterable[int]) -> array[int]:
    """Numbers to be written."""
    return array("I", values)
