"""MessagePack, and the one place where it is imported: written as a flat stream, read header by header.

A reader never hands a nested structure to the library: array headers are read one at a time, and what lies between
them are scalars. A column of scalars is a MessagePack array inside a ``bin``, which may hold no further array or map.
So nesting, and counts larger than the bytes behind them, cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgpack  # type: ignore[import-untyped]  # it ships no annotations

from flowpersist.codec.refusals import Halted, malformed
from flowpersist.errors import StateTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowpersist.codec.limits import Limits

__all__ = ["PLAIN_TYPES", "Cell", "Reader", "Writer", "pack_cells", "pack_one", "unpack_cells"]

#: A value of any class: what the codec carries without looking into it.
Cell: TypeAlias = Any

#: The classes whose values are MessagePack's own, besides the extension types for what its str and int can't hold.
PLAIN_TYPES: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes})
BIG_INT = 1
SURROGATE_STR = 2


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
        return cast("bytes", _packer().pack(cells))
    except UnicodeEncodeError:
        return cast("bytes", _packer().pack([_encodable(cell) for cell in cells]))


def pack_one(cell: Cell) -> bytes:
    """One plain value."""
    return cast("bytes", _packer().pack(_encodable(cell)))


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


def _no_list(_: list[Cell]) -> Cell:
    raise malformed("an array lies where a plain value is due")


def unpack_cells(data: bytes, count: int, limits: Limits) -> list[Cell]:
    """Exactly ``count`` plain values, in memory proportional to ``data``."""
    if count > len(data):
        raise malformed("a count is larger than the bytes behind it")
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
    """Appends to one MessagePack stream, and stops once that is over ``max_bytes``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._packer = msgpack.Packer(default=_extended, use_bin_type=True, strict_types=True, autoreset=False)

    def array(self, length: int) -> None:
        """Begin an array."""
        self._packer.pack_array_header(length)

    def scalar(self, value: Cell) -> None:
        """One plain value."""
        self._packer.pack(_encodable(value))

    def binary(self, data: bytes) -> None:
        """A block of bytes."""
        if len(self._packer.getbuffer()) + len(data) > self._limits.max_bytes:
            raise Halted(too_many_bytes(self._limits))
        self._packer.pack(data)

    def finish(self) -> bytes:
        """All that was written."""
        if len(self._packer.getbuffer()) > self._limits.max_bytes:
            raise Halted(too_many_bytes(self._limits))
        return cast("bytes", self._packer.bytes())


def too_many_bytes(limits: Limits) -> StateTooLarge:
    """The error for a value whose bytes are over the limit."""
    return StateTooLarge(
        f"the encoded value is over {limits.max_bytes} bytes; make it smaller, or raise the limit max_bytes"
    )


class Reader:
    """Reads one MessagePack stream, header by header and scalar by scalar."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        if len(data) > limits.max_bytes:
            raise Halted(too_many_bytes(limits))
        self.limits = limits
        self._size = len(data)
        self._charged = 0
        self._unpacker = msgpack.Unpacker(
            raw=False,
            ext_hook=_extension,
            max_buffer_size=max(self._size, 1),
            # Headers of arrays are read one by one; what unpack() reads is a scalar, and a list is refused at its end.
            list_hook=_no_list,
            max_array_len=max(self._size, 1),
            max_map_len=0,
            max_str_len=limits.max_str,
            max_bin_len=self._size,
            max_ext_len=limits.max_str,
        )
        self._unpacker.feed(data)

    def array(self) -> int:
        """The length of the array that begins here; the bytes for so many elements are there."""
        length = cast("int", self._unpacker.read_array_header())
        if length > self._size - self._unpacker.tell():
            raise malformed("an array is longer than the bytes behind it")
        return length

    def fixed_array(self, length: int) -> None:
        """An array of exactly this length begins here."""
        if self.array() != length:
            raise malformed("an array has a wrong number of elements")

    def integer(self) -> int:
        """A whole number, not negative."""
        value = self._unpacker.unpack()
        if type(value) is not int or value < 0:
            raise malformed("a whole number is missing")
        return value

    def text(self) -> str:
        """A str."""
        value = self._unpacker.unpack()
        if type(value) is not str:
            raise malformed("a text is missing")
        return value

    def scalar(self) -> Cell:
        """Any plain value."""
        return self._unpacker.unpack()

    def binary(self) -> bytes:
        """A block of bytes."""
        value = self._unpacker.unpack()
        if type(value) is not bytes:
            raise malformed("a block of bytes is missing")
        return value

    def charge(self, count: int) -> None:
        """Count objects or cells before any is made: no more than the limit, nor than the bytes can mean.

        A cell takes at least one byte, and an object but the root at least one reference, so an honest total stays
        under twice the size.
        """
        self._charged += count
        if self._charged > 2 * self._size:
            raise malformed("the counts are larger than the bytes behind them")
        if self._charged > self.limits.max_nodes:
            raise Halted(too_many_nodes(self.limits))

    @property
    def charged(self) -> int:
        """Objects and cells so far."""
        return self._charged

    def finish(self) -> None:
        """Nothing may follow."""
        if self._unpacker.tell() != self._size:
            raise malformed("bytes follow its end")


def too_many_nodes(limits: Limits) -> StateTooLarge:
    """The error for a value with more objects and cells than the limit."""
    return StateTooLarge(
        f"the value has over {limits.max_nodes} objects and cells; make it smaller, or raise the limit max_nodes"
    )
