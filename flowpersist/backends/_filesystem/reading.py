"""Reading records' files: the beginning first, and no more than is needed."""

from __future__ import annotations

import os
from typing import Final, Self

from attrs import frozen

from flowpersist.backends._filesystem.files import NAME, open_regular
from flowpersist.backends._filesystem.record_file import (
    START,
    Beginning,
    Stored,
    beginning,
    damaged,
    reach,
    stored_in,
    with_inline,
)
from flowpersist.backends._outcomes import body_missing
from flowpersist.errors import IntegrityError

__all__ = ["RecordFile", "body_in", "is_marked"]

#: The bytes of the first read: all of most files, and only a little of a large body.
FIRST_BYTES: Final = 16 * 1024
_CHECKSUM_BYTES: Final = 4


@frozen(eq=False)
class RecordFile:
    """An open file of a record, so that all reads are of one revision."""

    handle: int
    data: bytes
    known: Beginning

    @classmethod
    def opened(cls, path: str, digest: str) -> Self | None:
        """Open the file of that name and check its beginning; None if there is none."""
        try:
            handle = open_regular(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except IntegrityError as error:
            raise damaged() from error
        try:
            data = os.pread(handle, FIRST_BYTES, 0)
            end = reach(data)
            if end > len(data):
                data += _read(handle, end - len(data), len(data))
            return cls(handle, data, beginning(data, digest))
        except BaseException:
            os.close(handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    @property
    def revision(self) -> int:
        """The record's revision."""
        return self.known.revision

    @property
    def mark(self) -> bytes:
        """The first bytes of the file, which no other file of the record shares, since they hold the revision and a
        checksum.
        """
        return self.data[:START]

    def stored(self) -> Stored:
        """Read the record with a small body."""
        stored = stored_in(self.known)
        if stored.whole:
            return stored
        data = self.data
        if len(data) >= FIRST_BYTES:
            # One byte more than expected, so that appended data is found.
            missing = self.known.end + stored.inside + _CHECKSUM_BYTES - len(data)
            data += _read(self.handle, max(0, missing) + 1, len(data))
        return with_inline(stored, data[self.known.end :])

    def body(self, stored: Stored) -> bytes | None:
        """Read the body in this file; None if it has none."""
        return _sized(self.handle, stored) if stored.whole else stored.inline


def is_marked(path: str, mark: bytes) -> bool:
    """Whether the file of that name begins with this mark; for an empty mark, whether there is no file."""
    try:
        handle = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return not mark
    try:
        return os.pread(handle, len(mark), 0) == mark != b""
    finally:
        os.close(handle)


def body_in(path: str, stored: Stored) -> bytes | None:
    """Read a large body from its own file; None if that is gone."""
    try:
        handle = open_regular(path, os.O_RDONLY)
    except (FileNotFoundError, IntegrityError):
        # Anything else of this name is not a body.
        return None
    try:
        return _sized(handle, stored)
    finally:
        os.close(handle)


def _sized(handle: int, stored: Stored) -> bytes:
    size = stored.record.body_size or 0
    # Checked before the memory is allocated.
    if os.fstat(handle).st_size != stored.offset + size:
        raise body_missing(NAME, stored.record.ref)
    data = _read(handle, size, stored.offset)
    if len(data) != size:
        raise body_missing(NAME, stored.record.ref)
    return data


def _read(handle: int, size: int, offset: int) -> bytes:
    data = os.pread(handle, size, offset)
    # One call reads at most 2 GiB, and an empty result is the end of the file.
    while len(data) < size and (more := os.pread(handle, size - len(data), offset + len(data))):
        data += more
    return data
