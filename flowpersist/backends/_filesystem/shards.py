"""Records in directories: each shard is a directory with a lock, under which its records are compared and set."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import define, evolve, field

from flowpersist.backends._damage import check_following, named
from flowpersist.backends._filesystem.files import (
    NAME,
    flush_directory,
    link,
    locked,
    made,
    read_at_most,
    remove,
    remove_abandoned,
    rename,
    replace,
    unlink,
)
from flowpersist.backends._filesystem.index import FileIndex
from flowpersist.backends._filesystem.reading import RecordFile, body_in, is_marked
from flowpersist.backends._filesystem.record_file import INLINE_BYTES, Stored, damaged, digest_of, encode, header_of
from flowpersist.backends._outcomes import (
    body_missing,
    check_deadline,
    check_revision,
    check_unwritten,
    revised,
    unreadable,
)
from flowpersist.backends.base import KEEP, Record, RecordChange, RecordRef, Written
from flowpersist.errors import IntegrityError, UnknownOutcome

__all__ = ["SHARDS", "Shards"]

log = logging.getLogger("flowpersist.backends.filesystem")
SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
DIGEST_LETTERS: Final = 64
#: Without the lock a large body can vanish between reading its record and reading it; after this many times the lock is
#: taken.
LOCK_FREE_READS: Final = 3
#: After a write was overtaken by others this many times, it takes the lock before it reads the record.
LOCK_FREE_WRITES: Final = 3
#: The file of a shard's counter.
_DIGITS: Final = 19
#: The temporary file of a shard's counter.
FLOOR_REST: Final = "floor.new"


class _Overtaken(Exception):
    """Another write happened between reading a record and locking it."""


@contextlib.contextmanager
def naming(ref: RecordRef) -> Iterator[None]:
    """Name the record instead of its file in an error."""
    try:
        yield
    except IntegrityError as error:
        if error.message == damaged().message:
            raise unreadable(NAME, named(ref)) from None
        raise


def _bereft(record: Record | None) -> bool:
    """Whether the body that a record names was not found."""
    return record is not None and record.body is None and record.body_size is not None


@define(eq=False)
class Shards:
    """All shards under a directory, and their index."""

    directory: Path
    index: FileIndex
    now: Callable[[], datetime]
    patience: timedelta
    entropy: Callable[[int], bytes] = os.urandom
    #: The directory, as text.
    _root: str = field(init=False)
    _mutexes: dict[str, threading.Lock] = field(factory=lambda: {shard: threading.Lock() for shard in SHARDS})

    def __attrs_post_init__(self) -> None:
        self._root = str(self.directory)

    def path(self, digest: str, kind: str) -> str:
        """The path of a record's file of one kind: ``record``, ``<nonce>.body`` or ``<nonce>.new``."""
        return f"{self._root}/{digest[:2]}/{digest}.{kind}"

    def _body_path(self, digest: str, stored: Stored) -> str:
        return self.path(digest, f"{stored.nonce}.body")

    def _temporary(self, digest: str) -> str:
        return self.path(digest, f"{self.entropy(8).hex()}.new")

    def locked(self, shard: str) -> AbstractContextManager[None]:
        """Hold a shard's lock."""
        return locked(f"{self._root}/{shard}/lock", self._mutexes[shard], self.patience)

    def _opened(self, digest: str) -> RecordFile | None:
        return RecordFile.opened(self.path(digest, "record"), digest)

    def stored(self, digest: str) -> Stored | None:
        """Read a record's file, of one revision."""
        file = self._opened(digest)
        if file is None:
            return None
        with file:
            return file.stored()

    def get(self, ref: RecordRef, *, body: bool) -> Record | None:
        """Read a record, and its body of the same revision."""
        with naming(ref):
            return self._get(ref, digest_of(ref), body=body)

    def _get(self, ref: RecordRef, digest: str, *, body: bool) -> Record | None:
        for _ in range(LOCK_FREE_READS):
            record = self._read(digest, body=body)
            if not body or not _bereft(record):
                return record
        with self.locked(digest[:2]):
            record = self._read(digest, body=True)
            if _bereft(record):
                raise body_missing(NAME, ref)
            return record

    def _read(self, digest: str, *, body: bool) -> Record | None:
        file = self._opened(digest)
        if file is None:
            return None
        with file:
            stored = file.stored()
            if not body:
                return stored.record
            if stored.nonce is None or stored.whole:
                return stored.with_body(file.body(stored))
        return stored.with_body(body_in(self._body_path(digest, stored), stored))

    def put(self, ref: RecordRef, change: RecordChange, if_revision: int | None, not_after: datetime | None) -> Written:
        """Compare, write beside the record, and rename if the record is unchanged: the rename is the commit."""
        digest = digest_of(ref)
        for _ in range(LOCK_FREE_WRITES):
            with contextlib.suppress(_Overtaken), naming(ref):
                return self._put(ref, digest, change, if_revision, not_after, lambda: self.locked(digest[:2]))
        while True:
            with contextlib.suppress(_Overtaken), naming(ref), self.locked(digest[:2]):
                return self._put(ref, digest, change, if_revision, not_after, contextlib.nullcontext)

    def _put(
        self,
        ref: RecordRef,
        digest: str,
        change: RecordChange,
        if_revision: int | None,
        not_after: datetime | None,
        locked_shard: Callable[[], AbstractContextManager[None]],
    ) -> Written:
        # A losing writer needs no lock, since no record returns to an earlier revision.
        old, mark = self._standing(ref, digest, change, if_revision)
        floor = self._floor(digest[:2]) if old is None else 0
        now = self.now()
        check_deadline(NAME, ref, now, not_after)
        new = self._revised(ref, old, change, floor, now)
        header = header_of(new)
        parts = encode(new, digest, header)
        if new.whole and isinstance(change.body, bytes):
            parts.append(change.body)
        path = self._body_path(digest, new) if new.whole else self._temporary(digest)
        record = self.path(digest, "record")
        with made(path, parts), locked_shard(), self.index.noting() as note:
            if not is_marked(record, mark) or (old is None and self._floor(digest[:2]) != floor):
                raise _Overtaken
            # Checked again because flushing takes time, and the rename is the moment that counts.
            check_deadline(NAME, ref, self.now(), not_after)
            note(digest, new.record.revision, header)
            self._commit(digest, path, old, new)
        self.index.remove_below(digest, new.record.revision)
        self._flush(digest[:2])
        if old is not None and old.nonce is not None and old.nonce != new.nonce:
            remove(self._body_path(digest, old))
        return Written(new.record.revision, now)

    def _standing(
        self, ref: RecordRef, digest: str, change: RecordChange, if_revision: int | None
    ) -> tuple[Stored | None, bytes]:
        file = self._opened(digest)
        if file is None:
            check_revision(NAME, ref, 0, if_revision)
            return None, b""
        with file:
            check_revision(NAME, ref, file.revision, if_revision)
            stored = file.stored()
            if if_revision is None:
                check_unwritten(NAME, ref, stored.record.write_id, change.write_id)
            return stored, file.mark

    def _revised(self, ref: RecordRef, old: Stored | None, change: RecordChange, floor: int, now: datetime) -> Stored:
        revision = check_following(NAME, ref, floor if old is None else old.record.revision)
        previous = None if old is None else old.record
        if change.body is KEEP:
            size = None if previous is None else previous.body_size
            record = revised(ref, previous, change, revision, now, size)
            return Stored(record) if old is None else evolve(old, record=record, whole=False)
        body = change.body if isinstance(change.body, bytes) else None
        record = revised(ref, previous, change, revision, now, None if body is None else len(body))
        if body is None or len(body) <= INLINE_BYTES:
            return Stored(record, body)
        return Stored(record, None, self.entropy(8).hex(), whole=True)

    def _commit(self, digest: str, path: str, old: Stored | None, new: Stored) -> None:
        try:
            if new.whole:
                self._commit_whole(digest, path)
                return
            if old is not None and old.whole and new.nonce == old.nonce:
                self._keep_body(digest, old)
            rename(path, self.path(digest, "record"))
        except FileNotFoundError:
            # A process that opened the store removed it before it was locked.
            raise _Overtaken from None

    def _commit_whole(self, digest: str, path: str) -> None:
        record = self.path(digest, "record")
        if link(path, record):
            return
        temporary = self._temporary(digest)
        link(path, temporary)
        try:
            rename(temporary, record)
        except BaseException:
            remove(temporary)
            raise

    def _keep_body(self, digest: str, old: Stored) -> None:
        if link(self.path(digest, "record"), self._body_path(digest, old)):
            # A power failure lost its name, or the record was copied alone; it must be durable first.
            self._flush(digest[:2])

    def _flush(self, shard: str) -> None:
        try:
            flush_directory(f"{self._root}/{shard}")
        except OSError as error:
            # The change can be read, but may not survive a crash of the machine.
            message = "the disk failed while it flushed a write; read the record and decide again"
            raise UnknownOutcome(message, NAME) from error

    def delete(self, ref: RecordRef, if_revision: int | None) -> bool:
        """Remove a record at one revision, or at any revision if it is None."""

        def at_revision(record: Record) -> bool:
            check_revision(NAME, ref, record.revision, if_revision)
            return True

        with naming(ref):
            return self._remove([digest_of(ref)], at_revision, self.stored) > 0

    def remove_if(self, digests: Sequence[str], wanted: Callable[[Record], bool]) -> tuple[int, list[str]]:
        """Remove the readable records of one shard that match; give their number, and the unreadable ones."""
        damaged_ones: list[str] = []

        def readable(digest: str) -> Stored | None:
            try:
                return self.stored(digest)
            except IntegrityError:
                damaged_ones.append(digest)
                return None

        return self._remove(digests, wanted, readable), damaged_ones

    def _remove(
        self, digests: Sequence[str], wanted: Callable[[Record], bool], stored_of: Callable[[str], Stored | None]
    ) -> int:
        shard = digests[0][:2]
        with self.locked(shard):
            read = {digest: stored_of(digest) for digest in digests}
            removed = {digest: it for digest, it in read.items() if it is not None and wanted(it.record)}
            if not removed:
                return 0
            # Before the records are removed: a new record of such a name begins above all former revisions.
            self._raise_floor(shard, max(stored.record.revision for stored in removed.values()))
            for digest in removed:
                unlink(self.path(digest, "record"))
            self._flush(shard)
            for digest, stored in removed.items():
                if stored.nonce is not None:
                    remove(self._body_path(digest, stored))
                self.index.remove_below(digest, stored.record.revision + 1)
            return len(removed)

    def _floor(self, shard: str) -> int:
        data = read_at_most(f"{self._root}/{shard}/floor", _DIGITS)
        if data is None:
            return 0
        if not data.isdigit() or len(data) > _DIGITS:
            raise unreadable(NAME, "a shard's counter")
        return int(data)

    def _raise_floor(self, shard: str, revision: int) -> None:
        if self._floor(shard) >= revision:
            return
        temporary = self.directory / shard / FLOOR_REST
        # A file that exists under the lock was left by a crash.
        remove(temporary)
        replace(temporary, self.directory / shard / "floor", [b"%d" % revision])

    def rebuild(self, shard: str) -> None:
        """Rebuild a shard's part of the index from its files, and remove files that no record names."""
        with self.locked(shard):
            names = _names(self.directory / shard)
            found = {digest: self.readable(digest) for digest in names}
            self.index.replace_shard(shard, [stored for stored in found.values() if stored is not None])
            for digest, stored in found.items():
                self._sweep(digest, names[digest], stored)

    def repair(self, digest: str) -> None:
        """Bring the index entry of one record up to its file, and remove files that the record does not name."""
        with self.locked(digest[:2]):
            stored = self.readable(digest)
            self.index.replace(digest, stored)
            self._sweep(digest, _names(self.directory / digest[:2]).get(digest, []), stored)

    def mend(self, digest: object) -> None:
        """Rebuild a damaged entry; one without a record is removed."""
        if isinstance(digest, str) and len(digest) == DIGEST_LETTERS and digest[:2] in SHARDS:
            self.repair(digest)
        else:
            self.index.replace(digest, None)

    def readable(self, digest: str) -> Stored | None:
        """Read one of many records; a damaged one is reported and left out, so that it does not block the others."""
        try:
            return self.stored(digest)
        except IntegrityError as error:
            path = self.path(digest, "record")
            log.error("the record of %s is left out of the index: %s", path, error)  # noqa: TRY400 - that is all there is
            return None

    def _sweep(self, digest: str, kinds: Iterable[str], stored: Stored | None) -> None:
        if stored is None and "record" in kinds:
            # Its body may be all that can be recovered.
            return
        named = {"record", None if stored is None else f"{stored.nonce}.body"}
        for kind in kinds:
            if kind not in named:
                remove_abandoned(self.path(digest, kind))

    def sweep_counters(self) -> None:
        """Remove the temporary files of counters that crashes have left; under the lock none is in use."""
        for shard in SHARDS:
            rest = self.directory / shard / FLOOR_REST
            if rest.exists():
                with self.locked(shard):
                    remove(rest)

    def suspects(self) -> set[str]:
        """The records on which files and index disagree, as after a crash; those being written are among them."""
        entries = self.index.bodies()
        files = {digest: kinds for shard in SHARDS for digest, kinds in _names(self.directory / shard).items()}
        return {digest for digest in files.keys() | entries.keys() if _disagree(files, entries, digest)}


def _disagree(files: dict[str, list[str]], entries: dict[str, list[str | None]], digest: str) -> bool:
    noted = entries.get(digest, [])
    expected = {"record", *(f"{body}.body" for body in noted if body is not None)}
    return len(noted) != 1 or set(files.get(digest, [])) != expected


def _names(directory: Path) -> dict[str, list[str]]:
    """The files of a shard: their kinds by record. Files with other names are ignored."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(directory):  # noqa: PTH208 - names, no paths
        digest, _, kind = name.partition(".")
        if kind and len(digest) == DIGEST_LETTERS:
            found.setdefault(digest, []).append(kind)
    return found
