"""The codes of the wire format, which specs/codec/format.md lists. None is ever used anew with another meaning."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque

__all__ = ["FACTORIES", "FLAVOURS"]

FORMAT_VERSION = 2

# Blocks of the object table, and rows of its sections.
LIST = 1
TUPLE = 2
NAMED = 3
SET = 4
FROZENSET = 5
DICT = 6
RECORD = 7
DEQUE = 8
BYTEARRAY = 9
SLICE = 10
INSTANCE = 11
PAIR = 12
SCALAR = 13
ATTRIBUTES = 14
STATE = 15
SHELL = 16

# Columns.
PLAIN = 0
FLOATS = 1
REFERENCES = 2
LEAF = 3
MEMBERS = 4
MIXED = 5

#: A section without rows: no numbers, and a column of no cells.
EMPTY_SECTION = b"\x92\xc4\x00\x92\x00\xc4\x01\x90"

#: The kinds of dict, by their code.
FLAVOURS: tuple[type, ...] = (dict, OrderedDict, Counter, defaultdict)

#: What a defaultdict may make its values with, besides registered classes: pure functions without arguments.
FACTORIES: dict[str, type] = {
    one.__name__: one
    for one in (
        bool,
        bytearray,
        bytes,
        complex,
        Counter,
        deque,
        dict,
        float,
        frozenset,
        int,
        list,
        OrderedDict,
        set,
        str,
        tuple,
    )
}
