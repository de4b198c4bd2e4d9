"""A MessagePack stream, written in parts that are joined once."""

from __future__ import annotations

import struct
from array import array
from functools import lru_cache
from operator import length_hint
from typing import TYPE_CHECKING, TypeAlias

from flowpersist.codec.packing import Cell, array_header, little_endian, pack_cells, pack_one
from flowpersist.codec.refusals import Halted, too_many_bytes
from flowpersist.errors import StateTooLarge

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits

__all__ = ["Writer", "binary_header"]

#: NumberArray to be written. (Named here since a writer has a method of the array's name.)
NumberArray: TypeAlias = "array[int]"

#: From this many characters or bytes on a str or bytes is written without a copy between.
LARGE = 2**16
#: Columns of more cells than this have none that is worth looking for.
FEW = 16


@lru_cache(maxsize=1024)
def _header(length: int, numbers: tuple[int, ...]) -> bytes:
    return array_header(length) + b"".join(map(pack_one, numbers))


@lru_cache(maxsize=1024)
def binary_header(length: int) -> bytes:
    """What a block of so many bytes begins with."""
    if length < 1 << 8:
        return bytes((0xC4, length))
    return struct.pack(">BH", 0xC5, length) if length < 1 << 16 else struct.pack(">BI", 0xC6, length)


def _text_header(length: int) -> bytes:
    return struct.pack(">BI", 0xDB, length)


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
        self._parts.append(binary_header(len(data)))
        self._add(data)

    def raw(self, data: bytes) -> None:
        """What is MessagePack already."""
        self._add(data)

    def numbers(self, values: NumberArray) -> None:
        """Unsigned numbers of 32 bits, little-endian."""
        self.binary(little_endian(values).tobytes())

    def cells(self, cells: list[Cell]) -> None:
        """Plain values as an array within a ``bin``."""
        parts: list[bytes | str] = []
        if len(cells) <= FEW and sum(map(length_hint, cells)) >= LARGE:
            parts = _large_parts(cells)
        else:
            parts.append(pack_cells(cells))
        size = sum(map(len, parts))
        if size > self._limits.max_str:
            self._check_sizes(cells)
        self._parts.append(binary_header(size))
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
            parts += (binary_header(len(cell)), cell)
        elif type(cell) is str and len(cell) >= LARGE and cell.isascii():
            parts += (_text_header(len(cell)), cell)
        else:
            parts.append(pack_one(cell))
    return parts
