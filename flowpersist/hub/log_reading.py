"""The audit log, read: its leaves in order, and the hashes that proofs are made of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.hub.audit_log import AuditLog
from flowpersist.lifecycle import log_records
from flowpersist.lifecycle.log_records import LogHead
from flowpersist.sealed.merkle import Frontier, Span, leaf_hash, whole_spans

__all__ = ["LogReader"]

#: The tiles that a reader remembers: a proof takes one or two of each level.
MOST_TILES = 64


class LogReader:
    """The log as one head has it, whatever is appended meanwhile."""

    def __init__(self, log: AuditLog, head: LogHead) -> None:
        self.head = head
        self._log = log
        self._tiles: dict[tuple[int, int], tuple[bytes, ...]] = {}
        #: For each level how many hashes (at level 0: leaves) stand in tiles, and how many there are.
        self._stored = [head.size - len(head.leaves)]
        self._known = [head.size]
        for level in head.levels:
            known = self._stored[-1] // log_records.TILE
            self._known.append(known)
            self._stored.append(known - len(level))

    async def leaf(self, index: int) -> Result[bytes, PersistenceError]:
        """The leaf of that index, below the size."""
        return (await self._parts(0, index, 1)).map(lambda parts: parts[0])

    async def leaves(self, first: int = 0) -> AsyncGenerator[Result[tuple[int, bytes], PersistenceError], None]:
        """All leaves from that index on, with their indexes; ends at the first failure."""
        while first < self.head.size:
            count = min(log_records.TILE - first % log_records.TILE, self.head.size - first)
            parts = await self._parts(0, first, count)
            if not isinstance(parts, Success):
                yield Failure(parts.failure())
                return
            for index, data in enumerate(parts.unwrap(), start=first):
                yield Success((index, data))
            first += count
            self._tiles.clear()

    async def hashes(self, spans: Sequence[Span]) -> Result[list[bytes], PersistenceError]:
        """The hash of each of these ranges."""
        hashes: list[bytes] = []
        for span in spans:
            made = await self._hash(span)
            if not isinstance(made, Success):
                return Failure(made.failure())
            hashes.append(made.unwrap())
        return Success(hashes)

    async def _hash(self, span: Span) -> Result[bytes, PersistenceError]:
        frontier = Frontier()
        for first, end in whole_spans(span):
            made = await self._subtree(first, end)
            if not isinstance(made, Success):
                return made
            frontier.add(made.unwrap(), (end - first).bit_length() - 1)
        return Success(frontier.root())

    async def _subtree(self, first: int, end: int) -> Result[bytes, PersistenceError]:
        """The hash of a whole subtree, out of the highest level that has it."""
        height = log_records.TILE_HEIGHT
        level = min(((end - first).bit_length() - 1) // height, len(self._known) - 1)
        while level and end >> level * height > self._known[level]:
            level -= 1
        start, count = first >> level * height, (end - first) >> level * height
        parts = await self._parts(level, start, count)
        if not isinstance(parts, Success):
            return Failure(parts.failure())
        frontier = Frontier()
        for part in parts.unwrap():
            frontier.add(part if level else leaf_hash(part))
        return Success(frontier.root())

    async def _parts(self, level: int, first: int, count: int) -> Result[tuple[bytes, ...], PersistenceError]:
        """Hashes of a level, or leaves: those of one tile, or of the head."""
        stored = self._stored[level]
        if first >= stored:
            parts = self.head.levels[level - 1] if level else self.head.leaves
            return Success(parts[first - stored : first - stored + count])
        number, start = divmod(first, log_records.TILE)
        tile = self._tiles.get((level, number))
        if tile is None:
            read = await self._log.tile(level, number)
            if not isinstance(read, Success):
                return Failure(read.failure())
            tile = read.unwrap()
            if len(self._tiles) < MOST_TILES:
                self._tiles[level, number] = tile
        return Success(tile[start : start + count])
