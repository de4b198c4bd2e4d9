"""Bodies in chunks, in a collection of their own.

A body is immutable and has a unique name, which its record holds: the time of its upload by the store's clock, and
random characters. It is uploaded before its record is written and removed after its record has stopped naming it, so a
crash leaves at worst a body that no record names: an orphan, which the sweeper removes after a grace period.

A writer that was stopped for longer than the grace period could still commit a record whose body was swept. Without
transactions, each side leaves a mark before it checks for the other's:

- the sweeper writes a *tombstone* under the body's name, then looks whether a record holds that name, then removes it;
- the writer writes its record, then looks whether there is a tombstone of that name.

In any order, one of them sees the other's mark: the sweeper keeps the body, or the writer, which still has the bytes,
uploads them under another name. Only a writer that is stopped for an hour before it writes its record, and dies between
that write and its check, leaves a record without its body. Tombstones are kept for a month.

The check costs a round trip. A writer that was quick by both of its clocks (see ``PROMPT``) acknowledges first and
checks soon after (``watching``): a tombstone can exist then only if the whole machine was suspended together with its
clocks. A slow writer checks first, so that no record without its body is acknowledged.

Chunks have 4 MiB and are written and read one by one, each by its ``_id``. With 1 MiB, reading a body of 10 MB took 1.5
times as long. With 15 MiB, near the limit of a document, writing many of them took twice as long, because a server that
copies a page to change it copies more.
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
#: Bodies up to this size are stored inside their record, which saves a round trip each way. Changing the record does
#: not send them, and listing it does not fetch them.
INLINE_BYTES: Final = 16 * 1024
LARGEST_BODY: Final = 1024 * 1024 * 1024
#: The most chunks that a record may name; another release may have cut them smaller.
MOST_CHUNKS: Final = range(1, 1024 + 1)
GRACE: Final = timedelta(hours=1)
TOMBSTONES_KEPT: Final = timedelta(days=30)
#: Seconds from naming a body to committing it within which the sweeper cannot have taken it for an orphan. Far shorter
#: than the grace period, since clocks may be set, and the sweeper may follow another primary's clock.
PROMPT: Final = 60.0
#: The time between two sweeps by any process, and the number of chunks that each sweep examines.
PAUSE: Final = timedelta(minutes=1)
BATCH: Final = 500
_CHUNK: Final = re.compile(r"(.+)\.\d{5}")


@frozen
class Stored:
    """A body stored in chunks: its name and their number."""

    name: str
    count: int

    def ids(self) -> list[str]:
        """The ``_id`` of each chunk."""
        return [f"{self.name}.{number:05}" for number in range(self.count)]


def stored_body(document: Mapping[str, Any] | None) -> Stored | None:
    """The chunked body that a record's document names; none if the field holds no valid name."""
    name, count = (document or {}).get("x"), (document or {}).get("m")
    return (
        Stored(name, int(count)) if isinstance(name, str) and isinstance(count, int) and count in MOST_CHUNKS else None
    )


@frozen
class Started:
    """When an operation began, by a clock that is never set and by one that also runs while the machine sleeps."""

    steady: float = field(factory=time.monotonic)
    wall: float = field(factory=time.time)

    def is_prompt(self) -> bool:
        """Whether by both clocks it began a moment ago."""
        return time.monotonic() - self.steady < PROMPT and 0 <= time.time() - self.wall < PROMPT


def name_body(now: datetime, body: bytes) -> Stored:
    """Make a unique name for a body. It begins with the time."""
    return Stored(moment_text(now) + os.urandom(8).hex(), -(-len(body) // CHUNK_BYTES))


async def upload(store: Collections, stored: Stored, record: str, body: bytes) -> None:
    """Write a body's chunks; ``record`` is the ``_id`` of the record that will name it."""
    for number, name in enumerate(stored.ids()):
        part = body[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
        # A failure here changes no record.
        with mapped():
            await store.bodies.insert_one({"_id": name, "r": record, "b": part})


async def fetch(store: Collections, stored: Stored, first: object = None) -> bytes | None:
    """Read a body's bytes; None if a chunk is missing. ``first``: the part of the first chunk that is known already."""
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
    """Remove bodies that no record names any more."""
    ids = [name for stored in bodies for name in stored.ids()]
    if ids:
        with mapped():
            await store.bodies.delete_many({"_id": _either(ids)})


async def tombstoned(store: Collections, names: Sequence[str]) -> list[str]:
    """Those of some bodies that the sweeper has marked as orphans."""
    with mapped():
        found = await store.bodies.find({"_id": _either(names)}, {"_id": 1}).to_list(None)
    return [chunk["_id"] for chunk in found]


def _either(ids: Sequence[str]) -> object:
    # FerretDB scans every document for a filter by several ids.
    return ids[0] if len(ids) == 1 else {"$in": list(ids)}


async def sweep(store: Collections, now: datetime) -> None:
    """Examine some of the bodies and remove the orphans among them, unless another process has just done so.

    The store keeps the position that was reached, so that every body is examined in turn.
    """
    with mapped():
        reached = await _turn(store, now)
        if reached is not None:
            after = await _sweep_from(store, reached, now)
            await store.meta.update_one({"_id": "sweep"}, {"$set": {"after": after}})


async def _turn(store: Collections, now: datetime) -> str | None:
    """Take the turn and give the position where the last sweep ended. None if no sweep is due yet."""
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
    """Sweep one batch from a position; give the position that was reached, empty at the end."""
    aged = {"_id": {"$gt": after, "$lt": moment_text(now - GRACE)}}
    found = await store.bodies.find(aged, {"r": 1}, sort=[("_id", 1)], limit=BATCH, batch_size=BATCH).to_list(None)
    held_by = {str(chunk["_id"]): chunk.get("r") for chunk in found}
    orphans = await _orphans(store, held_by)
    if orphans:
        await _write_tombstones(store, sorted({_body_of(chunk) for chunk in orphans}))
        # Checked again: from now on a late writer finds the tombstone.
        orphans = await _orphans(store, {chunk: held_by[chunk] for chunk in orphans})
    spent = [name for name in held_by if _CHUNK.fullmatch(name) is None and name < moment_text(now - TOMBSTONES_KEPT)]
    if orphans or spent:
        await store.bodies.delete_many({"_id": {"$in": [*orphans, *spent]}})
    return str(found[-1]["_id"]) if len(found) == BATCH else ""


def _body_of(chunk: str) -> str:
    return chunk.rpartition(".")[0]


async def _orphans(store: Collections, held_by: Mapping[str, Any]) -> list[str]:
    """The chunks of bodies that their record does not name."""
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
        # Already there, from a sweep that did not finish.
        if error.details.get("writeConcernErrors") or any(
            one.get("code") != DUPLICATE for one in error.details.get("writeErrors", ())
        ):
            raise
