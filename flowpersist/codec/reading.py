"""A MessagePack stream, read header by header: lengths are checked before anything of that length is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowpersist.codec.packing import Cell, unpack_cells, unpack_numbers
from flowpersist.codec.refusals import Halted, malformed, too_many_bytes, too_many_nodes

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits

__all__ = ["Reader", "unpack_all"]

NUMBER = 4
#: So many names of classes, fields and keys are read whatever the limit of nodes, among which they do not count.
MOST_NAMES = 2**16


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
_SIGNED_INTEGERS = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
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
        """A whole number, not negative, in any of MessagePack's forms."""
        first = self._byte()
        if first <= _MOST_FIXED_INTEGER:
            return first
        if first in _INTEGERS:
            return self._number(_INTEGERS[first])
        width = _SIGNED_INTEGERS.get(first)
        if width is None:
            raise malformed("a whole number is missing")
        number = self._number(width)
        if number >> (8 * width - 1):
            raise malformed("a number is negative")
        return number

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
