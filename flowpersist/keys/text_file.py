"""Reading files that a path or a setting names: regular ones alone, and no more of one than such a file can have."""

from __future__ import annotations

import errno
import os
import stat
from typing import IO, Final

__all__ = ["NotRegular", "TooLarge", "bytes_of", "open_regular", "text_of"]

#: The most bytes of a file of keys: tens of thousands of them.
MOST: Final = 4 * 1024 * 1024


class TooLarge(ValueError):
    """The file holds more than what is looked for."""


class NotRegular(OSError):
    """A pipe, a device or a directory: reading it could wait for others, or never end."""


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file to read it; ``NotRegular`` for anything else, at once."""
    # Without the flag a pipe waits here for whoever writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(errno.EINVAL, "expected a regular file", os.fspath(path))
    return os.fdopen(descriptor, "rb")


def bytes_of(path: str | os.PathLike[str], *, most: int) -> bytes:
    """The bytes of a file; ``OSError`` where it can't be read, ``TooLarge`` where it is longer."""
    with open_regular(path) as file:
        # Memory for all that is asked for is taken before anything is read.
        large = os.fstat(file.fileno()).st_size > most
        data = b"" if large else file.read(most + 1)
    if large or len(data) > most:
        raise TooLarge(f"expected at most {most} bytes")
    return data


def text_of(path: str | os.PathLike[str], *, most: int = MOST, encoding: str = "ascii") -> str:
    """The text of a file; ``OSError`` or ``ValueError`` where it can't be read, is longer, or has other characters."""
    return bytes_of(path, most=most).decode(encoding).replace("\r\n", "\n")
