"""What is still to be entered into the index: lines at the end of a file, each added while the record's shard is held.

Entering costs far more than noting, and less for many than for each, so it is done when a query asks, or when there
are many. A line is a JSON array: ``[digest, revision, header]``, an entry, before its record is written; or ``[digest,
revision]``, below which a record's entries can go, some time after it was. In whatever order they are entered, and
however often, the same comes of them, since no revision is used twice.

Nothing is flushed: after a crash of the machine the index is rebuilt. What a writer that was killed has left of a line
is a line by itself and passed over: its record was not written. The file begins with an id, another one each time it
is emptied, by which whoever has read a part of it sees that this was done.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from flowpersist.backends._filesystem.files import acquire, held

__all__ = ["ENTRY", "REMOVAL", "IndexLog", "Line", "Place", "add"]

Line: TypeAlias = Sequence[Any]
ID_BYTES: Final = 32
#: How many values a line of either kind has.
REMOVAL: Final = 2
ENTRY: Final = 3


@frozen
class Place:
    """How far a log was read: which one, and up to which byte."""

    log: str
    offset: int


@define(eq=False)
class IndexLog:
    """The file. ``patience`` bounds the wait for one who empties it."""

    path: Path
    patience: timedelta
    _mutex: threading.Lock = field(factory=threading.Lock)
    _handle: int | None = None
    _users: int = 0

    def exists(self) -> bool:
        """Whether it is there: where it is not, nobody knows what was in it."""
        return self.path.exists()

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
                self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
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
    def emptying(self, patience: timedelta) -> Iterator[None]:
        """Empty it after what is done within, while nobody adds to it. It is made where it is missing."""
        with held(self.path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX, patience) as handle:
            yield
            # In this order: killed in between, what was entered already is entered again.
            os.pwrite(handle, os.urandom(ID_BYTES // 2).hex().encode(), 0)
            os.ftruncate(handle, ID_BYTES)

    def is_read(self, place: Place) -> bool:
        """Whether nothing was added since."""
        with self._reading() as handle:
            return place == Place(_id(handle), os.fstat(handle).st_size)

    def read(self, place: Place) -> tuple[list[Line], Place]:
        """The lines from a place on, and the place after them."""
        with self._reading() as handle:
            log = _id(handle)
            start = place.offset if place.log == log else ID_BYTES
            data = os.pread(handle, max(0, os.fstat(handle).st_size - start), start)
        # One without its end is still being written.
        whole = data[: data.rfind(b"\n") + 1]
        parsed = (_parsed(text) for text in whole.split(b"\n") if text)
        return [line for line in parsed if line is not None], Place(log, start + len(whole))

    @contextmanager
    def _reading(self) -> Iterator[int]:
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)


def add(handle: int, lines: Sequence[bytes]) -> None:
    """Add lines by one call, so that no other's come between."""
    text = b"\n%b\n" % b"\n".join(lines)
    # Where only a part has found room, the whole is tried again, which will say why.
    while os.write(handle, text) != len(text):
        pass


def _id(handle: int) -> str:
    return os.pread(handle, ID_BYTES, 0).decode(errors="replace")


def _parsed(text: bytes) -> Line | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, list) else None
