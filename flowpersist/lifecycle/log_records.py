"""The log of heads: its leaves, and the records that keep it. specs/persistence/audit.md is the format's specification.

The leaves that came last stand in the log's head; each 256 of them, and each 256 hashes of subtrees above them, leave
it for a tile, which never changes. What becomes of a head is pure, so that any number of writers do the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from attrs import evolve, field, frozen

from flowpersist.sealed.merkle import HASH_BYTES, Frontier, leaf_hash

__all__ = [
    "TILE",
    "TILE_HEIGHT",
    "Leaf",
    "LogHead",
    "LogPlace",
    "LogTile",
    "Tile",
    "frontier_of",
    "lacks",
    "places_in",
    "read_leaf",
    "rolled",
    "tile_root",
]

TILE_HEIGHT: Final = 8
#: Leaves, or hashes, of a tile.
TILE: Final = 1 << TILE_HEIGHT
_VERSION: Final = 1
_HEAD: Final = 0
_PURGE: Final = 1
_KINDS: Final = (_HEAD, _PURGE)
_ID_BYTES: Final = 16
#: Version, kind, id, three numbers, MAC and digest.
_LEAF_BYTES: Final = 2 + _ID_BYTES + 3 * 8 + 2 * HASH_BYTES


@frozen
class Leaf:
    """The trail of a suspension as it stood when the leaf was made, ``at`` by the store's clock: how many entries it
    had, the MAC of the last and the digest of all. ``id`` and ``made`` (microseconds) say of which suspension.
    ``purged``: its retention was over, and its records were about to be deleted.
    """

    id: bytes
    made: int
    count: int
    at: int
    mac: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    purged: bool = False

    def encoded(self) -> bytes:
        """The 106 bytes that the tree hashes."""
        kind = _PURGE if self.purged else _HEAD
        numbers = b"".join(one.to_bytes(8, "big", signed=True) for one in (self.made, self.count, self.at))
        return bytes((_VERSION, kind)) + self.id + numbers + self.mac + self.digest


def read_leaf(data: bytes) -> Leaf | None:
    """The leaf of these bytes; None where they are none of this version."""
    if len(data) != _LEAF_BYTES or data[0] != _VERSION or data[1] not in _KINDS:
        return None
    at = 2 + _ID_BYTES
    made, count, when = (int.from_bytes(data[place : place + 8], "big", signed=True) for place in range(at, at + 24, 8))
    mac, digest = data[at + 24 : at + 24 + HASH_BYTES], data[at + 24 + HASH_BYTES :]
    return Leaf(data[2:at], made, count, when, mac, digest, data[1] == _PURGE)


@frozen
class LogHead:
    """The log of a namespace: its ``size``, the newest ``leaves``, and of each level above them the hashes of the
    subtrees that no tile of that level holds yet. ``seen`` and ``walked`` are how far suspensions were looked at, by
    the time of their change and by their key.
    """

    size: int = 0
    leaves: tuple[bytes, ...] = field(default=(), repr=False)
    levels: tuple[tuple[bytes, ...], ...] = field(default=(), repr=False)
    seen: datetime | None = None
    walked: str | None = None


@frozen
class LogTile:
    """256 leaves, or 256 hashes of subtrees, in their order."""

    parts: tuple[bytes, ...] = field(repr=False)


@frozen
class LogPlace:
    """Where the last leaf of a suspension stands that has left the log's head, and what it says."""

    index: int
    made: int
    count: int
    purged: bool


@frozen
class Tile:
    """A tile that is to be stored: of leaves at level 0, of hashes above it."""

    level: int
    number: int
    parts: tuple[bytes, ...] = field(repr=False)


def tile_root(level: int, parts: tuple[bytes, ...]) -> bytes:
    """The hash of the subtree over a tile."""
    frontier = Frontier()
    for part in parts:
        frontier.add(leaf_hash(part) if level == 0 else part)
    return frontier.root()


def rolled(head: LogHead) -> tuple[LogHead, tuple[Tile, ...]]:
    """The head without what fills tiles, and those tiles. They depend on the head alone."""
    tiles: list[Tile] = []
    levels = [list(level) for level in head.levels]
    leaves = head.leaves
    first = head.size - len(leaves)
    while len(leaves) >= TILE:
        tile = Tile(0, first >> TILE_HEIGHT, leaves[:TILE])
        leaves, first = leaves[TILE:], first + TILE
        while True:
            tiles.append(tile)
            if len(levels) == tile.level:
                levels.append([])
            above = levels[tile.level]
            above.append(tile_root(tile.level, tile.parts))
            if len(above) < TILE:
                break
            number = (first >> TILE_HEIGHT * (tile.level + 2)) - 1
            tile = Tile(tile.level + 1, number, tuple(above))
            above.clear()
    if not tiles:
        return head, ()
    return evolve(head, leaves=leaves, levels=tuple(map(tuple, levels))), tuple(tiles)


def frontier_of(head: LogHead) -> Frontier:
    """The right edge of the tree."""
    frontier = Frontier()
    for place in reversed(range(len(head.levels))):
        for subtree in head.levels[place]:
            frontier.add(subtree, (place + 1) * TILE_HEIGHT)
    for leaf in head.leaves:
        frontier.add(leaf_hash(leaf))
    return frontier


def lacks(place: LogPlace | None, leaf: Leaf) -> bool:
    """Whether the log lacks this leaf. An id can be used by a later suspension; one that is purged has no leaf again
    until it changes.
    """
    if place is None or place.made != leaf.made:
        return not leaf.purged and (place is None or place.made < leaf.made)
    return place.count < leaf.count or (leaf.purged and not place.purged)


def places_in(leaves: Iterable[bytes], first: int) -> dict[bytes, LogPlace]:
    """Where the last leaf of each suspension stands among these, the first of which has that index."""
    places: dict[bytes, LogPlace] = {}
    for index, data in enumerate(leaves, start=first):
        leaf = read_leaf(data)
        if leaf is not None:
            places[leaf.id] = LogPlace(index, leaf.made, leaf.count, leaf.purged)
    return places
