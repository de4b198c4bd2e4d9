"""MessagePack, and the one place of the codec that imports its libraries: written in parts, read header by header.

A reader never hands a nested structure to a library: array headers are read one at a time, and what lies between them
are scalars. A column of scalars is a MessagePack array inside a ``bin``, which may hold no further array or map. So
nesting, and counts larger than the bytes behind them, cost nothing.

msgspec writes and reads plain columns two to four times as fast as msgpack, but knows no integer beyond 64 bits, no
lone surrogate, and in one typed column not both str and bytes: what it refuses goes to msgpack, which decides.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from sys import byteorder, getsizeof
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgpack  # type: ignore[import-untyped]  # it ships no annotations
import msgspec

from flowpersist.codec.refusals import Halted, malformed
from flowpersist.errors import StateTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowpersist.codec.limits import Limits

__all__ = [
    "PLAIN_TYPES",
    "Cell",
    "Reader",
    "Writer",
    "pack_cells",
    "pack_floats",
    "pack_one",
    "unpack_cells",
    "unpack_document",
]

#: A value of any class: what the codec carries without looking into it.
Cell: TypeAlias = Any

#: Numbers to be written. (Named here since a writer has a method of the array's name.)
Numbers: TypeAlias = "array[int]"

#: The classes whose values are MessagePack's own, besides the extension types for what its str and int can't hold.
PLAIN_TYPES: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
BIG_INT = 1
SURROGATE_STR = 2

NUMBER = 4
FLOAT = 8
#: From this many characters or bytes on a str or bytes is written without a copy between.
LARGE = 2**16
#: So many names of classes, fields and keys are read whatever the limit of nodes, among which they do not count.
MOST_NAMES = 2**16
#: Columns of more cells than this have none that is worth looking for.
FEW = 16

_fast = msgspec.msgpack.Encoder()
_fast_texts = msgspec.msgpack.Decoder(list[bool | int | float | str | None])
_fast_bytes = msgspec.msgpack.Decoder(list[bool | int | float | bytes | None])
_Column: TypeAlias = list[int | bytes | list[int | bytes | list[int | bytes]]]
_Section: TypeAlias = tuple[bytes, _Column]
_fast_documents = msgspec.msgpack.Decoder(tuple[int, bytes, int, list[None], _Section, _Section, _Section, _Column])
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


def array_header(length: int) -> bytes:
    """What an array of this length begins with."""
    if length < 1 << 4:
        return bytes((0x90 | length,))
    return struct.pack(">BH", 0xDC, length) if length < 1 << 16 else struct.pack(">BI", 0xDD, length)


@lru_cache(maxsize=1024)
def _header(length: int, numbers: tuple[int, ...]) -> bytes:
    return array_header(length) + b"".join(map(_fast.encode, numbers))


@lru_cache(maxsize=1024)
def _binary_header(length: int) -> bytes:
    if length < 1 << 8:
        return bytes((0xC4, length))
    return struct.pack(">BH", 0xC5, length) if length < 1 << 16 else struct.pack(">BI", 0xC6, length)


def _text_header(length: int) -> bytes:
    return struct.pack(">BI", 0xDB, length)


def _extension(code: int, data: bytes) -> Cell:
    if code == BIG_INT:
        return int.from_bytes(data, "big", signed=True)
    if code == SURROGATE_STR:
        return data.decode("utf-8", "surrogatepass")
    raise malformed(f"extension type {code} is unknown")


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


def unpack_document(data: bytes) -> Cell:
    """The parts of a document without blocks; any other is an error of msgspec's."""
    return _fast_documents.decode(data)


def unpack_numbers(data: bytes) -> array[int]:
    """Unsigned numbers of 32 bits."""
    return little_endian(array("I", data))


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


class Writer:
    """Parts of one MessagePack stream, joined once; it stops as soon as they are over ``max_bytes``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: A large text stands among them as it is, to be encoded where it goes.
        self._parts: list[bytes | str] = []
        self._size = 0

    def _add(self, part: bytes | str) -> None:
        self._size += len(part)
        if self._size > self._limits.max_bytes:
            raise Halted(too_many_bytes(self._limits))
        self._parts.append(part)

    def header(self, length: int, *numbers: int) -> None:
        """Begin an array by whole numbers: its length, and its first elements."""
        self._parts.append(_header(length, numbers))

    def scalar(self, value: Cell) -> None:
        """One plain value."""
        self._add(pack_one(value))

    def binary(self, data: bytes) -> None:
        """A block of bytes."""
        self._parts.append(_binary_header(len(data)))
        self._add(data)

    def raw(self, data: bytes) -> None:
        """What is MessagePack already."""
        self._add(data)

    def numbers(self, values: Numbers) -> None:
        """Unsigned numbers of 32 bits, little-endian."""
        self.binary(little_endian(values).tobytes())

    def cells(self, cells: list[Cell]) -> None:
        """Plain values as an array within a ``bin``."""
        parts: list[bytes | str] = []
        if len(cells) <= FEW and sum(map(getsizeof, cells)) >= LARGE:
            parts = _large_parts(cells)
        else:
            parts.append(pack_cells(cells))
        size = sum(map(len, parts))
        if size > self._limits.max_str:
            self._check_sizes(cells)
        self._parts.append(_binary_header(size))
        for part in parts:
            self._add(part)

    def _check_sizes(self, cells: list[Cell]) -> None:
        if any(len(pack_one(cell)) > self._limits.max_str for cell in cells):
            message = f"a single value takes over {self._limits.max_str} bytes"
            raise Halted(StateTooLarge(f"{message}; make it smaller, or raise the limit max_str"))

    def finish(self, head: Writer) -> bytes:
        """All that was written, behind what ``head`` holds."""
        parts = head._parts + self._parts
        if sum(map(len, parts)) > self._limits.max_bytes:
            raise Halted(too_many_bytes(self._limits))
        return b"".join([part.encode() if isinstance(part, str) else part for part in parts])


def _large_parts(cells: list[Cell]) -> list[bytes | str]:
    """An array of these cells, in parts of which the large ones are the cells themselves."""
    parts: list[bytes | str] = [array_header(len(cells))]
    for cell in cells:
        if type(cell) is bytes and len(cell) >= LARGE:
            parts += (_binary_header(len(cell)), cell)
        elif type(cell) is str and len(cell) >= LARGE and cell.isascii():
            parts += (_text_header(len(cell)), cell)
        else:
            parts.append(pack_one(cell))
    return parts


def little_endian(values: array[Cell]) -> array[Cell]:
    """The same numbers, in the order of bytes of the wire."""
    if byteorder == "big":  # pragma: no cover - no such machine runs the tests
        values = values[:]
        values.byteswap()
    return values


def numbers_of(values: Iterable[int]) -> array[int]:
    """Numbers to be written."""
    return array("I", values)


def too_many_bytes(limits: Limits) -> StateTooLarge:
    """The error for a value whose bytes are over the limit."""
    return StateTooLarge(
        f"the encoded value is over {limits.max_bytes} bytes; make it smaller, or raise the limit max_bytes"
    )


def unpack_all(data: memoryview, limits: Limits) -> list[Cell]:
    """Plain values, as many as there are."""
    count = Reader(data, limits).array()
    if count > max(limits.max_nodes, MOST_NAMES):
        raise Halted(too_many_nodes(limits))
    return unpack_cells(data, count, limits)


#: For the first byte of each form of one sort: the bytes of its length, in big-endian order.
_ARRAYS = {0xDC: 2, 0xDD: 4}
_BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_INTEGERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_MOST_FIXED_INTEGER = 0x7F
_FIXED_ARRAY = 0x90


class Reader:
    """Reads one MessagePack stream, header by header; each length is held against the bytes that are there."""

    def __init__(self, data: bytes | memoryview, limits: Limits) -> None:
        if len(data) > limits.max_bytes:
            raise Halted(too_many_bytes(limits))
        self.limits = limits
        self._view = memoryview(data)
        #: Bytes in all.
        self.size = len(data)
        self._at = 0
        self._charged = 0

    def _byte(self) -> int:
        if self._at >= self.size:
            raise malformed("it ends too early")
        byte = self._view[self._at]
        self._at += 1
        return byte

    def _take(self, length: int) -> memoryview:
        start = self._at
        self._at += length
        if self._at > self.size:
            raise malformed("it ends too early")
        return self._view[start : self._at]

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def array(self) -> int:
        """The length of the array that begins here; the bytes for so many elements are there."""
        first = self._byte()
        if first >> 4 == _FIXED_ARRAY >> 4:
            length = first & 0x0F
        elif first in _ARRAYS:
            length = self._number(_ARRAYS[first])
        else:
            raise malformed("an array is missing")
        if length > self.size - self._at:
            raise malformed("an array is longer than the bytes behind it")
        return length

    def fixed_array(self, length: int) -> None:
        """An array of exactly this length begins here."""
        if self.array() != length:
            raise malformed("an array has a wrong number of elements")

    def integer(self) -> int:
        """A whole number, not negative."""
        first = self._byte()
        if first <= _MOST_FIXED_INTEGER:
            return first
        if first not in _INTEGERS:
            raise malformed("a whole number is missing")
        return self._number(_INTEGERS[first])

    def skip(self, expected: bytes) -> bool:
        """Whether these bytes come next; then they are read."""
        end = self._at + len(expected)
        if self._view[self._at : end] != expected:
            return False
        self._at = end
        return True

    def cells(self) -> list[Cell]:
        """Plain values, as many as there are."""
        return unpack_all(self.binary(), self.limits)

    def binary(self) -> memoryview:
        """A block of bytes, which stays where it is."""
        first = self._byte()
        if first not in _BINS:
            raise malformed("a block of bytes is missing")
        return self._take(self._number(_BINS[first]))

    def numbers(self) -> Sequence[int]:
        """Unsigned numbers of 32 bits."""
        data = self.binary()
        if len(data) % NUMBER:
            raise malformed("a block of numbers has a broken length")
        return unpack_numbers(bytes(data))

    def charge(self, count: int) -> None:
        """Count objects or cells before any is made: no more than the limit, nor than the bytes can mean.

        A cell takes at least one byte, and an object but the root at least one reference, so an honest total stays
        under twice the size.
        """
        self._charged += count
        if self._charged > 2 * self.size:
            raise malformed("the counts are larger than the bytes behind them")
        if self._charged > self.limits.max_nodes:
            raise Halted(too_many_nodes(self.limits))

    @property
    def charged(self) -> int:
        """Objects and cells so far."""
        return self._charged

    def finish(self) -> None:
        """Nothing may follow."""
        if self._at != self.size:
            raise malformed("bytes follow its end")


def too_many_nodes(limits: Limits) -> StateTooLarge:
    """The error for a value with more objects and cells than the limit."""
    return StateTooLarge(
        f"the value has over {limits.max_nodes} objects and cells; make it smaller, or raise the limit max_nodes"
    )
