"""What is still to be entered into the index: lines at the end of a file, each added while the record's shard is held.

Entering costs far more than noting, and less for many than for each, so it is done when a query asks, or when there
are many. A line is the CRC-32 of a JSON array, in eight hexadecimal digits, and the array: ``[digest, revision,
header]``, an entry, before its record is written; or ``[digest, revision]``, below which a record's entries can go,
some time after it was. In whatever order they are entered, and however often, the same comes of them, since no revision
is used twice.

Nothing is flushed: after a crash of the machine the index is rebuilt. What a writer that was killed has left of a line
is a line by itself and passed over: its record was not written. Since a line that was damaged looks the same, whoever
passes one over sees to it that the index is rebuilt when the store is opened next. The file begins with an id, another
one each time it is emptied, by which whoever has read a part of it sees that this was done.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from flowpersist.backends._filesystem.files import acquire, open_regular

__all__ = ["ENTRY", "REMOVAL", "IndexLog", "Line", "LogPosition", "Read", "add", "begin_anew"]

Line: TypeAlias = Sequence[Any]
ID_BYTES: Final = 32
CHECKSUM_DIGITS: Final = 8
#: So much is read at a time. A line takes a tenth of it at most.
CHUNK_BYTES: Final = 16 * 1024 * 1024
#: How many values a line of either kind has.
REMOVAL: Final = 2
ENTRY: Final = 3
_REVISIONS: Final = 2**63


@frozen
class LogPosition:
    """How far a log was read: which one, and up to which byte."""

    log: str
    offset: int


@frozen
class Read:
    """Lines, the place after them, whether some had to be passed over, and whether more follow."""

    lines: Sequence[Line]
    place: LogPosition
    damaged: bool
    more: bool


@define(eq=False)
class IndexLog:
    """The file. ``patience`` bounds the wait for one who empties it."""

    path: Path
    patience: timedelta
    _mutex: threading.Lock = field(factory=threading.Lock)
    _handle: int | None = None
    _users: int = 0

    def exists(self) -> bool:
        """Whether it is there, and has an id: where it is not, nobody knows what was in it."""
        return self.path.exists() and self.path.stat().st_size >= ID_BYTES

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    @contextmanager
    def noting(self) -> Iterator[int]:
        """The file, to add lines to while nobody empties it."""
        with self._mutex:
            if self._handle is None:
                self._handle = open_regular(self.path, os.O_WRONLY | os.O_APPEND)
            # One lock for all threads, as they share the open file: the first takes it and the last frees it.
            if not self._users:
                acquire(self._handle, fcntl.LOCK_SH, time.monotonic() + self.patience.total_seconds())
            self._users += 1
            handle = self._handle
        try:
            yield handle
        finally:
            with self._mutex:
                self._users -= 1
                if not self._users:
                    fcntl.flock(handle, fcntl.LOCK_UN)

    @contextmanager
    def still(self, patience: timedelta) -> Iterator[int]:
        """The file, while nobody adds to it. It is made where it is missing."""
        handle = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        try:
            acquire(handle, fcntl.LOCK_EX, time.monotonic() + patience.total_seconds())
            try:
                yield handle
            finally:
                # As for a shard's lock: a child may have it open.
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    def is_read(self, place: LogPosition) -> bool:
        """Whether nothing was added since."""
        with self._reading() as handle:
            return place == LogPosition(_id(handle), os.fstat(handle).st_size)

    def read(self, place: LogPosition) -> Read:
        """Lines from a place on, of a long log some. Not while it is emptied."""
        with self._reading() as handle:
            log, size = _id(handle), os.fstat(handle).st_size
            start = place.offset if place.log == log else ID_BYTES
            cut = start > size
            start = ID_BYTES if cut else start
            data = os.pread(handle, min(max(0, size - start), CHUNK_BYTES), start)
        more = len(data) == CHUNK_BYTES
        # One without its end is still being written.
        whole = data[: data.rfind(b"\n") + 1]
        if more and not whole:
            # No line is so long: what follows is none of ours.
            return Read((), LogPosition(log, size), damaged=True, more=False)
        parsed = [_parsed(text) for text in whole.split(b"\n") if text]
        lines = [line for line in parsed if line is not None]
        return Read(lines, LogPosition(log, start + len(whole)), cut or None in parsed, more)

    @contextmanager
    def _reading(self) -> Iterator[int]:
        handle = open_regular(self.path, os.O_RDONLY)
        try:
            yield handle
        finally:
            os.close(handle)


def add(handle: int, lines: Sequence[bytes]) -> None:
    """Add lines by one call, so that no other's come between."""
    text = b"\n%b\n" % b"\n".join(_checksum(line) + line for line in lines)
    # Where only a part has found room, the whole is tried again, which will say why.
    while os.write(handle, text) != len(text):
        pass


def begin_anew(handle: int) -> None:
    """Empty the file: under a new id, so that killed half-way, what was entered already is entered again. Nobody may
    read it meanwhile, who would take the old lines for the new one's.
    """
    os.pwrite(handle, os.urandom(ID_BYTES // 2).hex().encode(), 0)
    os.ftruncate(handle, ID_BYTES)


def _id(handle: int) -> str:
    return os.pread(handle, ID_BYTES, 0).decode(errors="replace")


def _checksum(line: bytes) -> bytes:
    return b"%08x" % zlib.crc32(line)


def _parsed(text: bytes) -> Line | None:
    line = text[CHECKSUM_DIGITS:]
    if text[:CHECKSUM_DIGITS] != _checksum(line):
        return None
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parsed if _is_line(parsed) else None


def _is_line(parsed: object) -> bool:
    if not isinstance(parsed, list) or len(parsed) not in {REMOVAL, ENTRY}:
        return False
    digest, revision, *header = parsed
    known = type(digest) is str and type(revision) is int and 0 <= revision < _REVISIONS
    return known and all(isinstance(it, dict) for it in header)
