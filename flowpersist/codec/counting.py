"""How many values a nested document holds, told from its headers before a library makes any of them."""

from __future__ import annotations

from typing import Final

from flowpersist.codec.refusals import malformed

__all__ = ["counted"]

#: For the first byte of each list, dict and other value: its length, or less than zero how many bytes tell that.
_LISTS: Final = {**{0x90 + length: length for length in range(16)}, 0xDC: -2, 0xDD: -4}
_DICTS: Final = {**{0x80 + length: length for length in range(16)}, 0xDE: -2, 0xDF: -4}
_OTHERS: Final = {
    **{0xA0 + length: length for length in range(32)},
    **dict(zip(range(0xC4, 0xC7), (-1, -2, -4), strict=True)),
    **dict(zip(range(0xCA, 0xD4), (4, 8, 1, 2, 4, 8, 1, 2, 4, 8), strict=True)),
    **dict(zip(range(0xD9, 0xDC), (-1, -2, -4), strict=True)),
}
#: The same of extensions, whose type lies between the length and the data.
_EXTENSIONS: Final = {
    **dict(zip(range(0xC7, 0xCA), (-1, -2, -4), strict=True)),
    **dict(zip(range(0xD4, 0xD9), (1, 2, 4, 8, 16), strict=True)),
}
_HEADS: Final = {**_OTHERS, **_EXTENSIONS, **_LISTS, **_DICTS}
#: The type of a timestamp.
_TIMESTAMP: Final = 0xFF


def counted(data: memoryview, most: int) -> int:
    """How many values there are, but for keys; some more than ``most`` where there are so many.

    A timestamp raises, since a library makes one of it without asking. What else is broken is for the library to find.
    """
    at = found = 0
    #: For each list and dict that is open, how many values are left, and whether it is a dict.
    open_ones = [(1, False)]
    while open_ones and at < len(data) and found <= most:
        left, is_dict = open_ones.pop()
        if not left:
            continue
        open_ones.append((left - 1, is_dict))
        found += not (is_dict and left % 2 == 0)
        first = data[at]
        length = _HEADS.get(first, 0)
        at += 1
        if length < 0:
            width = -length
            length = int.from_bytes(data[at : at + width], "big")
            at += width
        if first in _LISTS:
            open_ones.append((length, False))
        elif first in _DICTS:
            open_ones.append((2 * length, True))
        else:
            at += length + _type_of(data, at, first)
    return found


def _type_of(data: memoryview, at: int, first: int) -> int:
    """The byte of an extension's type; none of other values."""
    if first not in _EXTENSIONS:
        return 0
    if data[at : at + 1] == bytes((_TIMESTAMP,)):
        raise malformed("it holds a timestamp")
    return 1
