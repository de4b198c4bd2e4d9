"""Which kind of row makes or fills an object of a subclass of each of Python's own classes."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque

from flowpersist.codec import kinds
from flowpersist.codec.plans import GROUPS, SHELL_BASES
from flowpersist.codec.scalars import SCALARS

__all__ = ["BASES_OF_ROW", "ROW_OF_BASE"]

#: The kind of row for a subclass of each class.
ROW_OF_BASE: dict[type, int] = {
    list: kinds.LIST,
    tuple: kinds.TUPLE,
    set: kinds.SET,
    frozenset: kinds.FROZENSET,
    dict: kinds.DICT,
    OrderedDict: kinds.DICT,
    defaultdict: kinds.DICT,
    deque: kinds.DEQUE,
    bytearray: kinds.BYTEARRAY,
    **dict.fromkeys((str, bytes, int, float, complex, *SCALARS), kinds.SCALAR),
    **dict.fromkeys(GROUPS, kinds.TUPLE),
    **dict.fromkeys(SHELL_BASES, kinds.SHELL),
}
#: The classes for each kind of row.
BASES_OF_ROW: dict[int, frozenset[type]] = {
    kind: frozenset(base for base, own in ROW_OF_BASE.items() if own == kind) for kind in set(ROW_OF_BASE.values())
}
