"""What writer and reader of typed trees share: the bytes that mark an object, the extension types, and the bounds.

A typed tree is a tree of a small value that holds what JSON does not: leaves, objects of registered classes, and
several references to one object. A library writes and reads it in one call, as it does a tree; Python code runs once
for each object that is not plain.
"""

from __future__ import annotations

from typing import Final

from flowpersist.codec import kinds

__all__ = ["is_typed"]

#: What the document of a typed tree begins with: an array of three parts, of which the first is the version.
HEAD: Final = bytes((0x93, kinds.FORMAT_VERSION))
#: Bytes of the largest document, and cells of all its objects together: above it the table of objects is as fast.
MOST_BYTES: Final = 2**18
MOST_CELLS: Final = 2**11
#: Levels that the writer's recursion takes. A level is a map and an array at most, and the reader's library has 1,024
#: places for those that are open.
MOST_LEVELS: Final = 32

#: The key of a map that stands for one object: one byte, from ``FIRST_CLASS`` on the class's number.
TUPLE: Final = b"\0"
TEXTS: Final = b"\1"
FIRST_CLASS: Final = 2
MARKS: Final = tuple([bytes((number,)) for number in range(256)])
MOST_CLASSES: Final = len(MARKS) - FIRST_CLASS

#: Extension types.
REFERENCE: Final = 3
MEMBER: Final = 4
FIRST_LEAF: Final = 32

#: Codes of leaves of which an extension holds a ``bin``'s bytes, and those of which it holds a plain array; the others
#: are texts.
BINARY_LEAVES: Final = frozenset({10, 25, 26})
PLAIN_LEAVES: Final = frozenset({2, 3, 7, 12, 13})
#: Codes of leaves that a typed tree does not hold: what is no value, and what takes more than linear time to make.
OTHER_LEAVES: Final = frozenset({1, 14})


def is_typed(data: bytes) -> bool:
    """Whether these bytes begin as the document of a typed tree does."""
    return data[:2] == HEAD
