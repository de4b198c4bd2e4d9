"""Records in directories: each shard is a directory with a lock, under which its records are compared and set."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import define, evolve, field

from flowpersist.backends._filesystem.files import NAME, create, flush_directory, locked, read_or_none, remove, replace
from flowpersist.backends._filesystem.index import FileIndex
from flowpersist.backends._filesystem.record_file import INLINE_BYTES, Stored, decode, digest_of, encode
from flowpersist.backends._outcomes import body_missing, check_deadline, check_revision, revised, unreadable
from flowpersist.backends.base import KEEP, Record, RecordChange, RecordRef, Written
from flowpersist.errors import IntegrityError, PersistenceError, UnknownOutcome

__all__ = ["SHARDS", "Shards"]

log = logging.getLogger("flowpersist.backends.filesystem")
SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
DIGEST_LETTERS: Final = 64
#: Without the lock a large body can vanish between reading its record and reading it; then the lock is taken.
LOCK_FREE_READS: Final = 3
#: A shard's counter while it is written.
FLOOR_REST: Final = "floor.new"


@define(eq=False)
class Shards:
    """All shards under a directory, and their index."""

    directory: Path
    index: FileIndex
    now: Callable[[], datetime]
    patience: timedelta
    entropy: Callable[[int], bytes] = os.urandom
    _mutexes: dict[str, threading.Lock] = field(factory=lambda: {shard: threading.Lock() for shard in SHARDS})

    def path(self, digest: str, kind: str) -> Path:
        """A record's file of one kind: ``record``, ``<nonce>.body`` or ``<nonce>.new``."""
        return self.directory / digest[:2] / f"{digest}.{kind}"

    @contextmanager
    def locked(self, shard: str) -> Iterator[None]:
        """Hold a shard."""
        with locked(self.directory / shard / "lock", self._mutexes[shard], self.patience):
            yield

    def stored(self, digest: str) -> Stored | None:
        """A record's file, as of one revision."""
        data = read_or_none(self.path(digest, "record"))
        if data is None:
            return None
        stored = decode(data)
        if digest_of(stored.record.ref) != digest:
            raise unreadable(NAME, "a record's file under another's name")
        return stored

    def get(self, ref: RecordRef, *, body: bool) -> Record | None:
        """A record, and its body as of the same revision."""
        digest = digest_of(ref)
        for _ in range(LOCK_FREE_READS):
            stored = self.stored(digest)
            if stored is None or not body:
                return None if stored is None else stored.record
            data = self._body(digest, stored)
            if data is not None or stored.nonce is None:
                return stored.with_body(data)
        with self.locked(digest[:2]):
            stored = self.stored(digest)
            return None if stored is None else stored.with_body(self._certain_body(digest, stored))

    def _body(self, digest: str, stored: Stored) -> bytes | None:
        if stored.nonce is None:
            return stored.inline
        data = read_or_none(self.path(digest, f"{stored.nonce}.body"))
        if data is not None and len(data) != stored.record.body_size:
            raise body_missing(NAME, stored.record.ref)
        return data

    def _certain_body(self, digest: str, stored: Stored) -> bytes | None:
        data = self._body(digest, stored)
        if data is None and stored.record.body_size is not None:
            raise body_missing(NAME, stored.record.ref)
        return data

    def put(self, ref: RecordRef, change: RecordChange, if_revision: int, not_after: datetime | None) -> Written:
        """Compare, write, rename: the rename is the commit."""
        digest = digest_of(ref)
        with self.locked(digest[:2]):
            old = self.stored(digest)
            check_revision(NAME, ref, 0 if old is None else old.record.revision, if_revision)
            now = self.now()
            check_deadline(NAME, ref, now, not_after)
            new = self._revised(ref, old, change, now)
            self._write(digest, old, new, change, not_after)
        return Written(new.record.revision, now)

    def _revised(self, ref: RecordRef, old: Stored | None, change: RecordChange, now: datetime) -> Stored:
        revision = self._floor(digest_of(ref)[:2]) + 1 if old is None else old.record.revision + 1
        previous = None if old is None else old.record
        if change.body is KEEP:
            size = None if previous is None else previous.body_size
            record = revised(ref, previous, change, revision, now, size)
            return Stored(record) if old is None else evolve(old, record=record)
        body = change.body if isinstance(change.body, bytes) else None
        record = revised(ref, previous, change, revision, now, None if body is None else len(body))
        if body is None or len(body) <= INLINE_BYTES:
            return Stored(record, body)
        return Stored(record, None, self.entropy(8).hex())

    def _write(
        self, digest: str, old: Stored | None, new: Stored, change: RecordChange, not_after: datetime | None
    ) -> None:
        fresh = [self.path(digest, f"{new.nonce}.body")] if new.nonce and isinstance(change.body, bytes) else []
        temporary = self.path(digest, f"{self.entropy(8).hex()}.new")
        try:
            for path in fresh:
                create(path, [change.body] if isinstance(change.body, bytes) else [])
            create(temporary, [encode(new)])
            self.index.add(new)
            # Again, since flushing takes its time: the rename is the moment that counts.
            check_deadline(NAME, new.record.ref, self.now(), not_after)
            temporary.rename(self.path(digest, "record"))
        except BaseException:
            for path in (temporary, *fresh):
                remove(path)
            raise
        self._flush(digest[:2])
        if old is not None and old.nonce is not None and old.nonce != new.nonce:
            remove(self.path(digest, f"{old.nonce}.body"))
        self._tidy(digest, new.record.revision)

    def _flush(self, shard: str) -> None:
        try:
            flush_directory(self.directory / shard)
        except OSError as error:
            # What was done can be read, but may not outlive the machine.
            message = "the disk failed while a write was being made durable; read the record and decide again"
            raise UnknownOutcome(message, NAME) from error

    def _tidy(self, digest: str, revision: int) -> None:
        try:
            self.index.keep_only(digest, revision)
        except PersistenceError as error:
            # The write is done; an entry too many is passed over by every query, and goes with the next write.
            log.warning("an index entry could not be removed: %s", error)

    def delete(self, ref: RecordRef, if_revision: int) -> bool:
        """Remove a record at one revision."""

        def at_revision(record: Record) -> bool:
            check_revision(NAME, ref, record.revision, if_revision)
            return True

        return self.remove_if([digest_of(ref)], at_revision) > 0

    def remove_if(self, digests: Sequence[str], wanted: Callable[[Record], bool]) -> int:
        """Remove those records of one shard that are there and wanted; gives how many."""
        shard = digests[0][:2]
        with self.locked(shard):
            read = {digest: self.stored(digest) for digest in digests}
            doomed = {digest: it for digest, it in read.items() if it is not None and wanted(it.record)}
            if not doomed:
                return 0
            # Before the records go: a new one under such a name begins above all revisions that were there.
            self._raise_floor(shard, max(stored.record.revision for stored in doomed.values()))
            for digest in doomed:
                self.path(digest, "record").unlink()
            self._flush(shard)
            for digest, stored in doomed.items():
                if stored.nonce is not None:
                    remove(self.path(digest, f"{stored.nonce}.body"))
                self._tidy(digest, 0)
            return len(doomed)

    def _floor(self, shard: str) -> int:
        data = read_or_none(self.directory / shard / "floor")
        if data is None:
            return 0
        if not data.isdigit():
            raise unreadable(NAME, "a shard's counter")
        return int(data)

    def _raise_floor(self, shard: str, revision: int) -> None:
        if self._floor(shard) >= revision:
            return
        temporary = self.directory / shard / FLOOR_REST
        # One that is there under the lock is the rest of a crash.
        remove(temporary)
        replace(temporary, self.directory / shard / "floor", [b"%d" % revision])

    def rebuild(self, shard: str) -> None:
        """Make a shard's part of the index from its files, and remove what no record names."""
        with self.locked(shard):
            names = _names(self.directory / shard)
            found = {digest: self.readable(digest) for digest in names}
            self.index.replace_shard(shard, [stored for stored in found.values() if stored is not None])
            for digest, stored in found.items():
                self._sweep(digest, names[digest], stored)

    def repair(self, digest: str) -> None:
        """Make the index of one record agree with its file, and remove what the record does not name."""
        with self.locked(digest[:2]):
            stored = self.readable(digest)
            if stored is not None:
                self.index.add(stored)
            self.index.keep_only(digest, 0 if stored is None else stored.record.revision)
            self._sweep(digest, _names(self.directory / digest[:2]).get(digest, []), stored)

    def readable(self, digest: str) -> Stored | None:
        """A record for a query: one that is damaged is reported and left out, so that it does not block the others."""
        try:
            return self.stored(digest)
        except IntegrityError as error:
            log.error("a record is left out of queries: %s", error)  # noqa: TRY400 - the message is all there is
            return None

    def _sweep(self, digest: str, kinds: Iterable[str], stored: Stored | None) -> None:
        if stored is None and "record" in kinds:
            # Its body may be all that can be saved of it.
            return
        named = {"record", None if stored is None else f"{stored.nonce}.body"}
        for kind in kinds:
            if kind not in named:
                remove(self.path(digest, kind))

    def sweep_counters(self) -> None:
        """Remove what crashes have left of shards' counters; one that is under way is there no more under the lock."""
        for shard in SHARDS:
            rest = self.directory / shard / FLOOR_REST
            if rest.exists():
                with self.locked(shard):
                    remove(rest)

    def suspects(self) -> set[str]:
        """The records of which files and index disagree, as after a crash; those under way are among them."""
        entries = self.index.bodies()
        files = {digest: kinds for shard in SHARDS for digest, kinds in _names(self.directory / shard).items()}
        return {digest for digest in files.keys() | entries.keys() if _disagree(files, entries, digest)}


def _disagree(files: dict[str, list[str]], entries: dict[str, list[str | None]], digest: str) -> bool:
    noted = entries.get(digest, [])
    expected = {"record", *(f"{body}.body" for body in noted if body is not None)}
    return len(noted) != 1 or set(files.get(digest, [])) != expected


def _names(directory: Path) -> dict[str, list[str]]:
    """The files of a shard: their kinds by their records. A name that is none of ours is left alone."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(directory):  # noqa: PTH208 - names, no paths
        digest, _, kind = name.partition(".")
        if kind and len(digest) == DIGEST_LETTERS:
            found.setdefault(digest, []).append(kind)
    return found
