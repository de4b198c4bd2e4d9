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
from sys import byteorder
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgpack  # type: ignore[import-untyped]  # it ships no annotations
import msgspec

from flowpersist.codec.refusals import Halted, malformed
from flowpersist.errors import StateTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowpersist.codec.limits import Limits

__all__ = ["PLAIN_TYPES", "Cell", "Reader", "Writer", "pack_cells", "pack_floats", "pack_one", "unpack_cells"]

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
#: A float in MessagePack: this byte, and eight of an IEEE 754 double, big-endian.
FLOAT_MARK = 0xCB
PACKED_FLOAT = 1 + FLOAT
#: From this many characters or bytes on a str or bytes is written without a copy between.
LARGE = 2**16
#: Columns of more cells than this have none that is worth looking for.
FEW = 64

_fast = msgspec.msgpack.Encoder()
_fast_texts = msgspec.msgpack.Decoder(list[bool | int | float | str | None])
_fast_bytes = msgspec.msgpack.Decoder(list[bool | int | float | bytes | None])
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
    return cast("bytes", _packer().pack(_encodable(cell)))


def pack_floats(cells: list[Cell]) -> bytes | None:
    """Doubles, little-endian; None where not all cells are floats.

    That all are is seen by what msgspec makes of them, which costs a fifth of looking at the classes: the array is a
    header and nine bytes for each, of which the first says what it is.
    """
    try:
        packed = bytearray(_fast.encode(cells))
    except (OverflowError, TypeError, UnicodeEncodeError, RecursionError):
        return None
    start = len(packed) - PACKED_FLOAT * len(cells)
    if start < 1 or start != len(array_header(len(cells))):
        return None
    if packed[start::PACKED_FLOAT].count(FLOAT_MARK) != len(cells):
        return None
    del packed[:start]
    del packed[::PACKED_FLOAT]
    doubles = array("d", bytes(packed))
    if byteorder == "little":
        doubles.byteswap()
    return doubles.tobytes()


def array_header(length: int) -> bytes:
    """What an array of this length begins with."""
    if length < 1 << 4:
        return bytes((0x90 | length,))
    return struct.pack(">BH", 0xDC, length) if length < 1 << 16 else struct.pack(">BI", 0xDD, length)


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
        self._parts: list[bytes] = []
        self._size = 0

    def _add(self, *parts: bytes) -> None:
        self._size += sum(map(len, parts))
        if self._size > self._limits.max_bytes:
            raise Halted(too_many_bytes(self._limits))
        self._parts += parts

    def array(self, length: int) -> None:
        """Begin an array."""
        self._add(array_header(length))

    def header(self, *numbers: int) -> None:
        """Begin an array by whole numbers: its length, and its first elements."""
        self._add(array_header(numbers[0]), *map(_fast.encode, numbers[1:]))

    def scalar(self, value: Cell) -> None:
        """One plain value."""
        self._add(pack_one(value))

    def binary(self, data: bytes) -> None:
        """A block of bytes."""
        self._add(_binary_header(len(data)), data)

    def numbers(self, values: Numbers) -> None:
        """Unsigned numbers of 32 bits, little-endian."""
        self.binary(little_endian(values).tobytes())

    def cells(self, cells: list[Cell]) -> None:
        """Plain values as an array within a ``bin``."""
        parts = _large_parts(cells) if len(cells) <= FEW else None
        if parts is None:
            parts = [pack_cells(cells)]
        size = sum(map(len, parts))
        if size > self._limits.max_str:
            self._check_sizes(cells)
        self._add(_binary_header(size), *parts)

    def _check_sizes(self, cells: list[Cell]) -> None:
        if any(len(pack_one(cell)) > self._limits.max_str for cell in cells):
            message = f"a single value takes over {self._limits.max_str} bytes"
            raise Halted(StateTooLarge(f"{message}; make it smaller, or raise the limit max_str"))

    def finish(self, head: Writer) -> bytes:
        """All that was written, behind what ``head`` holds."""
        head._add(*self._parts)
        return b"".join(head._parts)


def _large_parts(cells: list[Cell]) -> list[bytes] | None:
    """An array of these cells, in parts of which the large ones are the cells themselves; None where none is large."""
    if not any(type(cell) in {str, bytes} and len(cell) >= LARGE for cell in cells):
        return None
    parts = [array_header(len(cells))]
    for cell in cells:
        if type(cell) is bytes and len(cell) >= LARGE:
            parts += (_binary_header(len(cell)), cell)
        elif type(cell) is str and len(cell) >= LARGE and cell.isascii():
            parts += (_text_header(len(cell)), cell.encode())
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


#: For the first byte of each form of one sort: the bytes of its length, in big-endian order.
_ARRAYS = {0xDC: 2, 0xDD: 4}
_BINS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_INTEGERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_NIL = 0xC0
_MOST_FIXED_INTEGER = 0x7F
_FIXED_TEXT, _FIXED_ARRAY = 0xA0, 0x90
#: Extension types of a length that their first byte tells, and of one that follows it.
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


class Reader:
    """Reads one MessagePack stream, header by header; each length is held against the bytes that are there."""

    def __init__(self, data: bytes, limits: Limits) -> None:
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

    def text(self) -> str:
        """A str."""
        first = self._byte()
        if first >> 5 == _FIXED_TEXT >> 5:
            return str(self._take(first & 0x1F), "utf-8")
        if first in _TEXTS:
            return str(self._take(self._number(_TEXTS[first])), "utf-8")
        return self._extended_text(first)

    def _extended_text(self, first: int) -> str:
        length = _FIXED_EXTENSIONS.get(first)
        if length is None and first in _EXTENSIONS:
            length = self._number(_EXTENSIONS[first])
        if length is None or self._byte() != SURROGATE_STR:
            raise malformed("a text is missing")
        return str(self._take(length), "utf-8", "surrogatepass")

    def text_or_number(self) -> str | int | None:
        """A str, a whole number, or nil."""
        if self._at < self.size and self._view[self._at] == _NIL:
            self._at += 1
            return None
        first = self._view[self._at] if self._at < self.size else 0
        return self.integer() if first <= _MOST_FIXED_INTEGER or first in _INTEGERS else self.text()

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
        return little_endian(array("I", bytes(data)))

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
