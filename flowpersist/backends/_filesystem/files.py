"""Files that a crash at any moment leaves old or new, locks that die with their process, and errors mapped."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from flowpersist.errors import BackendUnavailable, StorageFull

__all__ = ["NAME", "create", "file_errors", "flush_directory", "locked", "read_or_none", "remove", "replace"]

NAME: Final = "filesystem"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN})


@contextmanager
def file_errors() -> Iterator[None]:
    """The one place where the operating system's errors become ours."""
    try:
        yield
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> BackendUnavailable | StorageFull:
    if error.errno in _FULL:
        return StorageFull("no room is left for the filesystem store; the old record is intact", NAME)
    if error.errno in _FORBIDDEN:
        message = "the filesystem store may not be written or read; look at the directory's owner, mode and mount"
        return BackendUnavailable(message, NAME)
    if error.errno in _EXHAUSTED:
        message = "the process has no file descriptors left for the filesystem store; close some, or raise the limit"
        return BackendUnavailable(message, NAME, True)
    code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return BackendUnavailable(f"the filesystem store's directory can't be used ({code})", NAME)


def create(path: Path, parts: Sequence[bytes]) -> None:
    """Write a new file and flush it; where that fails nothing stays. Its directory is not flushed."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        try:
            for part in parts:
                _write(handle, part)
            # Never again after a failure: the kernel may have dropped the pages and then report success.
            os.fsync(handle)
        finally:
            os.close(handle)
    except BaseException:
        remove(path)
        raise


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def replace(temporary: Path, path: Path, parts: Sequence[bytes]) -> None:
    """Set a small file's content for good, by way of a temporary file in the same directory."""
    create(temporary, parts)
    temporary.rename(path)
    flush_directory(path.parent)


def remove(path: Path) -> None:
    """Unlink a file that nobody needs. Where that fails it stays as an orphan, which the next opening removes."""
    with contextlib.suppress(OSError):
        path.unlink()


def flush_directory(path: Path) -> None:
    """Make the names in a directory durable; without it the last renames are lost with the power."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_or_none(path: Path) -> bytes | None:
    """A file's content; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextmanager
def locked(path: Path, mutex: threading.Lock, patience: timedelta) -> Iterator[None]:
    """Hold a lock against the threads of this process and all others; the kernel frees it when the process dies."""
    deadline = time.monotonic() + patience.total_seconds()
    if not mutex.acquire(timeout=patience.total_seconds()):
        raise _busy()
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _acquire(handle, deadline)
            yield
        finally:
            os.close(handle)
    finally:
        mutex.release()


def _acquire(handle: int, deadline: float) -> None:
    pause = 0.0002
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _busy() from None
        else:
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.005)


def _busy() -> BackendUnavailable:
    return BackendUnavailable("the filesystem store is locked by another process; try again", NAME, True)
