"""Bodies in chunks, in a collection of their own.

A body is immutable and has a name of its own, which its record holds: the moment of its upload by the store's clock,
and chance. It goes up before its record is written and goes away after its record has let go of it, so that a crash
leaves at worst a body that nobody names: an orphan, which the sweeper removes after a grace.

A writer that was stopped for longer than the grace could still commit a record whose body was swept. No server without
transactions can exclude both, so each leaves a mark before it looks at the other's:

- the sweeper writes a *tombstone* under the body's name, then looks whether a record holds that name, then removes it;
- the writer writes its record, then looks whether there is a tombstone of that name.

Whatever the order, one of them sees the other: the sweeper spares the body, or the writer, who still has the bytes,
puts them up under another name. Only a writer that is stopped for an hour before it writes its record, and dies between
that and its look, leaves a record without its body. Tombstones are kept for a month.

The look costs a round trip. A writer that was quick by both of its clocks (see ``PROMPT``) acknowledges first and looks
soon after (``watching``): there can be a tombstone only if the whole machine stood still and its clocks with it. A slow
writer looks first, so that no record without its body is acknowledged.

Chunks are of 4 MiB, and go up and come back one by one, each by its ``_id``. With 1 MiB a body of 10 MB took half as
long again to read. With 15 MiB, nearly as much as a document may hold, many of them took twice as long to write: a
server that copies a page to change it copies more.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import field, frozen
from pymongo.errors import BulkWriteError, DuplicateKeyError

from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.documents import moment_text
from flowpersist.backends._mongodb.errors import DUPLICATE, mapped

__all__ = [
    "CHUNK_BYTES",
    "INLINE_BYTES",
    "LARGEST_BODY",
    "MOST_CHUNKS",
    "Started",
    "Stored",
    "fetch",
    "name_body",
    "remove",
    "stored_body",
    "sweep",
    "tombstoned",
    "upload",
]

CHUNK_BYTES: Final = 4 * 1024 * 1024
#: Bodies up to this size lie inside their record, which saves a round trip each way. A change of the record does not
#: send them, a listing does not ask for them.
INLINE_BYTES: Final = 16 * 1024
LARGEST_BODY: Final = 1024 * 1024 * 1024
#: As many as a record may name: who made them may have cut them smaller.
MOST_CHUNKS: Final = range(1, 1024 + 1)
GRACE: Final = timedelta(hours=1)
TOMBSTONES_KEPT: Final = timedelta(days=30)
#: Seconds from a body's naming to its commit within which nobody can have taken it for an orphan. Far less than the
#: grace, since clocks may be set, and the sweeper's may be another primary's.
PROMPT: Final = 60.0
#: Between two sweeps, of whatever process, and as many chunks are looked at in each.
PAUSE: Final = timedelta(minutes=1)
BATCH: Final = 500
_CHUNK: Final = re.compile(r"(.+)\.\d{5}")


@frozen
class Stored:
    """A body that stands in chunks: its name and how many they are."""

    name: str
    count: int

    def ids(self) -> list[str]:
        """The ``_id`` of each chunk."""
        return [f"{self.name}.{number:05}" for number in range(self.count)]


def stored_body(document: Mapping[str, Any] | None) -> Stored | None:
    """The chunked body that a record's document names; none where what it holds is no such name."""
    name, count = (document or {}).get("x"), (document or {}).get("m")
    return (
        Stored(name, int(count)) if isinstance(name, str) and isinstance(count, int) and count in MOST_CHUNKS else None
    )


@frozen
class Started:
    """When something began, by a clock that is never set and by one that goes on while the machine sleeps."""

    steady: float = field(factory=time.monotonic)
    wall: float = field(factory=time.time)

    def is_prompt(self) -> bool:
        """Whether by both it was a moment ago."""
        return time.monotonic() - self.steady < PROMPT and 0 <= time.time() - self.wall < PROMPT


def name_body(now: datetime, body: bytes) -> Stored:
    """A name that nobody else has given. Its beginning is its age."""
    return Stored(moment_text(now) + os.urandom(8).hex(), -(-len(body) // CHUNK_BYTES))


async def upload(store: Collections, stored: Stored, record: str, body: bytes) -> None:
    """Write a body's chunks; ``record`` is the ``_id`` of who will hold it."""
    for number, name in enumerate(stored.ids()):
        part = body[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
        # What is lost here changes no record.
        with mapped():
            await store.bodies.insert_one({"_id": name, "r": record, "b": part})


async def fetch(store: Collections, stored: Stored, first: object = None) -> bytes | None:
    """A body's bytes; None where a chunk is missing. ``first``: what is known to be in its first chunk."""
    pieces: list[bytes] = []
    for name in stored.ids():
        piece = first if isinstance(first, bytes) and not pieces else await _chunk(store, name)
        if not isinstance(piece, bytes):
            return None
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _chunk(store: Collections, name: str) -> object:
    with mapped():
        chunk = await store.bodies.find_one({"_id": name})
    return None if chunk is None else chunk.get("b")


async def remove(store: Collections, bodies: Iterable[Stored]) -> None:
    """Remove bodies that nobody names any more."""
    ids = [name for stored in bodies for name in stored.ids()]
    if ids:
        with mapped():
            await store.bodies.delete_many({"_id": _either(ids)})


async def tombstoned(store: Collections, names: Sequence[str]) -> list[str]:
    """Those of some bodies that the sweeper has taken for orphans."""
    with mapped():
        found = await store.bodies.find({"_id": _either(names)}, {"_id": 1}).to_list(None)
    return [chunk["_id"] for chunk in found]


def _either(ids: Sequence[str]) -> object:
    # FerretDB looks at every document for what is no single id.
    return ids[0] if len(ids) == 1 else {"$in": list(ids)}


async def sweep(store: Collections, now: datetime) -> None:
    """Look at some of the bodies and remove the orphans among them, unless somebody has just done so.

    The place that was reached is kept in the store, so that all bodies have their turn.
    """
    with mapped():
        reached = await _turn(store, now)
        if reached is not None:
            after = await _sweep_from(store, reached, now)
            await store.meta.update_one({"_id": "sweep"}, {"$set": {"after": after}})


async def _turn(store: Collections, now: datetime) -> str | None:
    """Take the turn: the place where the last sweep ended. None where it is not time yet."""
    due = {"_id": "sweep", "at": {"$lt": moment_text(now - PAUSE)}}
    turn = await store.meta.find_one_and_update(due, {"$set": {"at": moment_text(now)}})
    if turn is not None:
        return str(turn.get("after", ""))
    try:
        await store.meta.insert_one({"_id": "sweep", "at": moment_text(now), "after": ""})
    except DuplicateKeyError:
        return None
    return ""


async def _sweep_from(store: Collections, after: str, now: datetime) -> str:
    """Sweep one batch from a place on; the place that was reached, empty at the end."""
    aged = {"_id": {"$gt": after, "$lt": moment_text(now - GRACE)}}
    found = await store.bodies.find(aged, {"r": 1}, sort=[("_id", 1)], limit=BATCH, batch_size=BATCH).to_list(None)
    held_by = {str(chunk["_id"]): chunk.get("r") for chunk in found}
    orphans = await _orphans(store, held_by)
    if orphans:
        await _write_tombstones(store, sorted({_body_of(chunk) for chunk in orphans}))
        # Looked up again, now that a writer who comes later finds the tombstone.
        orphans = await _orphans(store, {chunk: held_by[chunk] for chunk in orphans})
    spent = [name for name in held_by if _CHUNK.fullmatch(name) is None and name < moment_text(now - TOMBSTONES_KEPT)]
    if orphans or spent:
        await store.bodies.delete_many({"_id": {"$in": [*orphans, *spent]}})
    return str(found[-1]["_id"]) if len(found) == BATCH else ""


def _body_of(chunk: str) -> str:
    return chunk.rpartition(".")[0]


async def _orphans(store: Collections, held_by: Mapping[str, Any]) -> list[str]:
    """The chunks of bodies that their record does not hold."""
    holders = sorted({record for record in held_by.values() if isinstance(record, str)})
    records = await store.records.find({"_id": {"$in": holders}}, {"x": 1}).to_list(None) if holders else []
    held = {record["_id"]: record.get("x") for record in records}
    return [
        chunk
        for chunk, record in held_by.items()
        if _CHUNK.fullmatch(chunk) is not None and held.get(record) != _body_of(chunk)
    ]


async def _write_tombstones(store: Collections, names: Sequence[str]) -> None:
    try:
        await store.bodies.insert_many([{"_id": name} for name in names], ordered=False)
    except BulkWriteError as error:
        # There already, by a sweep that did not come to its end.
        if error.details.get("writeConcernErrors") or any(
            one.get("code") != DUPLICATE for one in error.details.get("writeErrors", ())
        ):
            raise
