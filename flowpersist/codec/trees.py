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
from flowpersist.codec.collector import collector_paused
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
#: Cells of a small value, which is looked at in the fewest steps; others are not looked at in the event loop.
MOST_SMALL: Final = 2**11
#: How many of its levels, and the others with more lists and dicts than this, are measured before they are read.
FIRST_LEVELS: Final = 2
MOST_UNCOUNTED: Final = 2**6
#: Characters of a value that is looked at in the event loop.
MOST_BRIEF_TEXT: Final = 2**17
#: So many lists and dicts are looked at together with all that they hold, so that they stay in the processor's cache.
AT_ONCE: Final = 512
#: More cells than this in dicts are written as columns where they have fewer characters than their keys, each of which
#: would be written anew. So many cells of each portion are looked at for it, and so many dicts of many at once.
MANY: Final = 2**12
SAMPLE: Final = 256
SAMPLED: Final = 32
CHARACTERS_OF_KEY: Final = 8
#: Bytes of a document that are looked at before it is decoded.
SAMPLED_BYTES: Final = 128
_OWNED_ONCE: Final = frozenset({ALONE + 1})
#: Bytes that are not the first of a short list or dict.
_NO_HEADERS: Final = bytes(set(range(256)).difference(range(0x80, 0xA0)))
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
    levels, most = min(MOST_LEVELS, limits.max_depth), min(MOST_VALUES, limits.max_nodes)
    try:
        found = _is_small(root, levels, most, MOST_BRIEF_TEXT if brief else None) if watch is None else None
        if not (found or (found is None and not brief and _is_plain(root, levels, most, watch))):
            return None
    except KeyError:
        # Of a class that a tree does not hold.
        return None
    data = pack_tree(kinds.FORMAT_VERSION, root)
    size = MOST_BYTES + 1 if data is None else len(data)
    return None if size > MOST_BYTES or size > limits.max_bytes or size > limits.max_str else data


def _is_small(  # noqa: C901, PLR0911 - one loop, in which a call would cost as much as a look at ten cells
    root: Cell, levels: int, most: int, text: int | None
) -> bool | None:
    """Whether the value is a tree of so many levels and values, and characters if these are limited; None if it is not
    small.

    As ``_is_plain``, but what holds values is asked for its owners once, after all levels.
    """
    holds = _HOLDS
    objects: list[Cell] = [root] if holds[type(root)] else []
    if text is not None and length_hint(root) > text:
        return False
    inner: list[Cell] = []
    visited = 0
    for level in range(levels):
        # Not at every level: there it would cost as much as a look at ten cells.
        if (level < FIRST_LEVELS or len(objects) > MOST_UNCOUNTED) and sum(map(len, objects)) > MOST_SMALL:
            return None
        cells = get_referents(*objects)
        visited += len(cells)
        if visited > MOST_SMALL:
            return None
        if text is not None:
            text -= sum(map(length_hint, cells))
            if text < 0:
                return False
        # Most are texts, which need no look at the table.
        objects = [cell for cell in cells if type(cell) is not str and holds[type(cell)]]
        if not objects:
            break
        inner += objects
    if objects:
        return False
    count = sum(map(len, inner), len(root) if holds[type(root)] else 0)
    if count >= most or (visited != count and not _keys_are_texts([root, *inner])):
        return False
    # Nothing but one place in the value holds each, so that none is met again; and the list here.
    is_owned = COUNTS_OWNERS and _OWNED_ONCE.issuperset(map(getrefcount, inner))
    return is_owned or len({id(root), *map(id, inner)}) == len(inner) + 1


def _is_plain(  # noqa: C901 - as above
    root: Cell, levels: int, most: int, watch: Watch | None
) -> bool:
    """Whether the value is a tree of so many levels and values."""
    holds = _HOLDS
    seen = {id(root)}
    owned = {ALONE + 2}
    keys = _Keys()
    pending: list[tuple[int, list[Cell]]] = []
    level, objects, nodes = 1, [root] if holds[type(root)] else [], 1
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
        if count > SAMPLE and type(objects[0]) is dict and keys.outweigh(count, cells[:SAMPLE]):
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
    if _is_dense(data):
        with collector_paused():
            value = unpack_tree(view)
    else:
        value = unpack_tree(view)
    if size > min(limits.max_depth, limits.max_str):
        # Nothing but another walk tells how deep the value is and how long its texts are; few lower these limits.
        encode_graph(value, types, limits)
    return value


def _is_dense(data: bytes) -> bool:
    """Whether a sample of the bytes is mostly the beginnings of lists and dicts.

    The collector costs most where many are made that hold little. Else it costs less to let it look at some hundred new
    ones at a time, while they are in the processor's cache, than to have it look at all of them afterwards.
    """
    sample = bytes(data[:: 1 + len(data) // SAMPLED_BYTES])
    return 2 * len(sample.translate(None, _NO_HEADERS)) > len(sample)
