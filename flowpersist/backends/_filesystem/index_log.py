"""What is still to be entered into the index: lines at the end of a file, each added while the record's shard is held.

Entering costs far more than noting, and less for many than for each, so it is done when a query asks, or when there
are many. A line is a JSON array: an entry, before its record is written; or a record's digest and the revision below
which its entries can go, after that. In whatever order they are entered, and however often, the same comes of them,
since no revision is used twice.

Nothing is flushed: after a crash of the machine the index is rebuilt. What a writer that was killed has left of a line
is a line by itself and passed over: its record was not written. The file begins with an id, another one each time it
is emptied, by which whoever has read a part of it sees that this was done.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import frozen

from flowpersist.backends._filesystem.files import held

__all__ = ["COLUMNS", "IndexLog", "Line", "Note", "Place"]

Line: TypeAlias = Sequence[Any]
ID_BYTES: Final = 32
#: Of an entry, and of either kind of line.
COLUMNS: Final = 9
_LENGTHS: Final = frozenset({2, COLUMNS})


@frozen
class Place:
    """How far a log was read: which one, and up to which byte."""

    log: str
    offset: int


@frozen
class Note:
    """The log, while it is not being emptied."""

    handle: int

    def add(self, lines: Iterable[Line]) -> None:
        """Add lines by one call, so that no other's come between."""
        text = "".join(f"\n{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n" for line in lines).encode()
        # Where only a part has found room, the rest is not tried: the whole again, which will say why.
        while os.write(self.handle, text) != len(text):
            pass


@frozen
class IndexLog:
    """The file. ``patience`` bounds the wait for one who empties it."""

    path: Path
    patience: timedelta

    def exists(self) -> bool:
        """Whether it is there: where it is not, nobody knows what was in it."""
        return self.path.exists()

    @contextmanager
    def noting(self) -> Iterator[Note]:
        """Add lines, while nobody empties it."""
        with held(self.path, os.O_WRONLY | os.O_APPEND, fcntl.LOCK_SH, self.patience) as handle:
            yield Note(handle)

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


def _id(handle: int) -> str:
    return os.pread(handle, ID_BYTES, 0).decode(errors="replace")


def _parsed(text: bytes) -> Line | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, list) and len(line) in _LENGTHS else None
