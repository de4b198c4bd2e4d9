"""Trees of JSON's values as one nested MessagePack value, written and read by one call of a library.

Most agents keep their messages as dicts and lists of texts. Where such a value holds nothing else, and reaches no list
or dict twice, there is nothing to number: to look at all of it once, by iterators written in C, is all that is left to
do in Python. What is no tree goes the general way.
"""

from __future__ import annotations

from collections.abc import Collection
from gc import get_referents
from itertools import chain
from operator import length_hint
from sys import getrefcount
from typing import TYPE_CHECKING, Final

from flowpersist.codec import kinds
from flowpersist.codec.counting import counted
from flowpersist.codec.encoder import encode_graph
from flowpersist.codec.numbering import ALONE, COUNTS_OWNERS
from flowpersist.codec.packing import MOST_LEVELS, Cell, pack_tree, unpack_tree
from flowpersist.codec.refusals import Halted, malformed, too_many_bytes, too_many_nodes

if TYPE_CHECKING:
    from flowpersist.codec.limits import Limits
    from flowpersist.codec.registry import TypeRegistry
    from flowpersist.codec.watching import Watch

__all__ = ["decode_tree", "encode_tree", "is_tree"]

#: What the document of a tree begins with: an array of two parts, of which the first is the version.
HEAD: Final = bytes((0x92, kinds.FORMAT_VERSION))
#: Bytes of the largest document: so much of it is empty lists at worst that it takes no more memory than a graph of
#: ``max_nodes``.
MOST_BYTES: Final = 2**24
#: Values of the largest tree: no other thread runs while the library makes them, some ten milliseconds.
MOST_VALUES: Final = 2**18
#: Cells and characters of a value that is looked at in the event loop.
MOST_BRIEF_CELLS: Final = 2**11
MOST_BRIEF_TEXT: Final = 2**16
#: So many lists and dicts are looked at together with all that they hold, so that they stay in the processor's cache.
AT_ONCE: Final = 512
#: More cells than this in dicts are written as columns where they have fewer characters than their keys, each of which
#: would be written anew. So many cells of each portion are looked at for it, and so many dicts of many at once.
MANY: Final = 2**12
SAMPLE: Final = 256
SAMPLED: Final = 32
CHARACTERS_OF_KEY: Final = 8
_HOLDERS: Final[frozenset[type]] = frozenset({list, dict})
_LEAVES: Final[frozenset[type]] = frozenset({type(None), bool, int, float, str})
#: Whether a value of each class holds others.
_HOLDS: Final[dict[type, bool]] = {
    **dict.fromkeys(_LEAVES, False),
    **dict.fromkeys(_HOLDERS, True),
}


def encode_tree(root: Cell, limits: Limits, watch: Watch | None = None, *, brief: bool = False) -> bytes | None:
    """The document of a tree; None for any other value, and for what is over a limit.

    ``brief``: None too where a look of some tenths of a millisecond does not tell. ``watch`` is told what was read.
    """
    most = min(MOST_BRIEF_CELLS if brief else MOST_VALUES, limits.max_nodes)
    if not _is_plain(root, min(MOST_LEVELS, limits.max_depth), most, watch, MOST_BRIEF_TEXT if brief else None):
        return None
    data = pack_tree(kinds.FORMAT_VERSION, root)
    size = MOST_BYTES + 1 if data is None else len(data)
    return None if size > MOST_BYTES or size > limits.max_bytes or size > limits.max_str else data


def _is_plain(  # noqa: C901, PLR0911, PLR0912 - one loop, see below
    root: Cell, levels: int, most: int, watch: Watch | None, text: int | None
) -> bool:
    """Whether the value is a tree of so many levels and values, and characters if these are limited.

    It is one long loop: a small value takes a few passes of it, in each of which a call would cost as much as a look at
    ten cells.
    """
    if type(root) not in _HOLDS or (text is not None and length_hint(root) > text):
        return False
    holds = _HOLDS
    seen = {id(root)}
    owned = {ALONE + 2}
    keys = _Keys()
    pending: list[tuple[int, list[Cell]]] = []
    level, objects, nodes = 1, [root] if type(root) in _HOLDERS else [], 1
    try:
        while objects:
            count = sum(map(len, objects))
            nodes += count
            if nodes > most or level > levels:
                return False
            cells = get_referents(*objects)
            # Twice as fast where there are many.
            is_last = count > MANY and _LEAVES.issuperset(map(type, cells))
            inner = [] if is_last else [cell for cell in cells if holds[type(cell)]]
            if len(cells) != count and not _keys_are_texts(objects):
                return False
            if text is not None:
                text -= sum(map(length_hint, cells))
                if text < 0:
                    return False
            elif count > SAMPLE and type(objects[0]) is dict and keys.outweigh(count, cells[:SAMPLE]):
                return False
            if inner:
                if len(inner) > AT_ONCE and keys.outweigh(len(inner), _values(inner[:SAMPLED])):
                    return False
                # Nothing but one place in the value holds each, so that none is met again; and the two lists here.
                if not (COUNTS_OWNERS and owned.issuperset(map(getrefcount, inner))):
                    known = len(seen) + len(inner)
                    seen.update(map(id, inner))
                    if len(seen) != known:
                        return False
                level += 1
                if len(inner) > AT_ONCE:
                    pending += [(level, inner[start : start + AT_ONCE]) for start in range(0, len(inner), AT_ONCE)]
                    inner = []
            if watch is not None:
                watch.tree(objects, cells)
            objects = inner
            if not objects and pending:
                level, objects = pending.pop()
    except KeyError:
        # Of a class that a tree does not hold.
        return False
    return True


class _Keys:
    """Whether the keys of many dicts outweigh what these hold, as far as samples tell."""

    __slots__ = ("_cells", "_characters")

    def __init__(self) -> None:
        self._cells = 0
        self._characters = 0

    def outweigh(self, count: int, sample: Collection[Cell]) -> bool:
        """Whether they do, with so many values more, of which some are given."""
        if not sample:
            return False
        self._cells += count
        self._characters += sum(map(length_hint, sample)) * count // len(sample)
        return self._cells > MANY and self._characters < CHARACTERS_OF_KEY * self._cells


def _values(objects: list[Cell]) -> list[Cell]:
    return [value for one in objects if type(one) is dict for value in one.values()]


def _keys_are_texts(objects: list[Cell]) -> bool:
    """Whether all keys of the dicts are; where they are not, CPython visits the keys besides the values."""
    keys = chain.from_iterable(one for one in objects if type(one) is dict)
    return {str}.issuperset(map(type, keys))


def is_tree(data: bytes) -> bool:
    """Whether these bytes begin as the document of a tree does."""
    return data[:2] == HEAD


def decode_tree(data: bytes, types: TypeRegistry, limits: Limits) -> Cell:
    """The value of the document of a tree. Whatever is wrong with the bytes raises."""
    size = len(data)
    if size > limits.max_bytes:
        raise Halted(too_many_bytes(limits))
    if size > MOST_BYTES:
        raise malformed("a tree is longer than one may be")
    view = memoryview(data)[len(HEAD) :]
    if size > limits.max_nodes and counted(view, limits.max_nodes) > limits.max_nodes:
        raise Halted(too_many_nodes(limits))
    value = unpack_tree(view)
    if size > min(limits.max_depth, limits.max_str):
        # Nothing but another walk tells how deep the value is and how long its texts are; few lower these limits.
        encode_graph(value, types, limits)
    return value
