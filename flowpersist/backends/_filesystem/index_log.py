"""The entries that the index lacks: lines at the end of a file, each added while the record's shard is locked.

Adding to the index costs far more than logging, and less in batches, so it happens when a query needs it or when there
are many lines. A line is the CRC-32 of a JSON array, in eight hexadecimal digits, and the array: ``[digest, revision,
header]``for an entry, before its record is written; or ``[digest, revision]``, after a write, to remove the record's
entries of earlier revisions. Applying lines in any order, any number of times, gives the same result, since no revision
is used twice.

Nothing is flushed: after a crash of the machine the index is rebuilt. A partial line that a killed writer leaves is
ended as a line of its own and skipped, since its record was not written. A damaged line looks the same, so skipping a
line also has the index rebuilt when the store is opened next. The file begins with an id that changes each time the
file is emptied, which tells a reader that this has happened.
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
#: The bytes that are read at a time. A line takes at most a tenth of them.
CHUNK_BYTES: Final = 16 * 1024 * 1024
#: The numbers of values that the two kinds of lines have.
REMOVAL: Final = 2
ENTRY: Final = 3
_REVISIONS: Final = 2**63


@frozen
class LogPosition:
    """How far a log was read: its id, and the offset."""

    log: str
    offset: int


@frozen
class Read:
    """Lines, the position after them, whether some were skipped, and whether more follow."""

    lines: Sequence[Line]
    place: LogPosition
    damaged: bool
    more: bool


@define(eq=False)
class IndexLog:
    """The file. ``patience`` bounds the wait while another process empties it."""

    path: Path
    patience: timedelta
    _mutex: threading.Lock = field(factory=threading.Lock)
    _handle: int | None = None
    _users: int = 0

    def exists(self) -> bool:
        """Whether the file exists and has an id; otherwise its content is unknown."""
        return self.path.exists() and self.path.stat().st_size >= ID_BYTES

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    @contextmanager
    def noting(self) -> Iterator[int]:
        """Give the file for adding lines, while no process empties it."""
        with self._mutex:
            if self._handle is None:
                self._handle = open_regular(self.path, os.O_WRONLY | os.O_APPEND)
            # All threads share one lock, as they share the open file: the first takes it and the last releases it.
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
        """Give the file while no process adds to it. It is created if it is missing."""
        handle = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        try:
            acquire(handle, fcntl.LOCK_EX, time.monotonic() + patience.total_seconds())
            try:
                yield handle
            finally:
                # As with a shard's lock, a child may have it open.
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    def is_read(self, place: LogPosition) -> bool:
        """Whether no line was added since."""
        with self._reading() as handle:
            return place == LogPosition(_id(handle), os.fstat(handle).st_size)

    def read(self, place: LogPosition) -> Read:
        """Read lines from a position on, of a long log only some. Not while it is emptied."""
        with self._reading() as handle:
            log, size = _id(handle), os.fstat(handle).st_size
            start = place.offset if place.log == log else ID_BYTES
            cut = start > size
            start = ID_BYTES if cut else start
            data = os.pread(handle, min(max(0, size - start), CHUNK_BYTES), start)
        more = len(data) == CHUNK_BYTES
        # A line without its end is still being written.
        whole = data[: data.rfind(b"\n") + 1]
        if more and not whole:
            # No valid line is this long, so the data is damaged.
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
    """Add lines by one call, so that no other process's lines come between."""
    text = b"\n%b\n" % b"\n".join(_checksum(line) + line for line in lines)
    # If only a part has fit, repeating the whole call gives the error.
    while os.write(handle, text) != len(text):
        pass


def begin_anew(handle: int) -> None:
    """Empty the file and give it a new id; if that is interrupted, lines that were added already are added again. No
    process may read it meanwhile, since it would take the old lines for new ones.
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
