"""Files that are old or new after a crash at any moment, locks that end with their process, and mapped errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from flowpersist.errors import BackendUnavailable, IntegrityError, StorageFull

__all__ = [
    "NAME",
    "acquire",
    "create",
    "file_errors",
    "flush_directory",
    "link",
    "locked",
    "made",
    "open_regular",
    "read_at_most",
    "refuse_link",
    "remove",
    "remove_abandoned",
    "rename",
    "replace",
    "unlink",
]

NAME: Final = "filesystem"
#: Flushes the content and the metadata needed to find it, but not the times, if the system distinguishes them.
flush: Final = getattr(os, "fdatasync", os.fsync)
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
#: Follow no link and wait for no end of a pipe; on a regular file neither has an effect.
_GUARDED: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: The errors of opening a link, a socket, a device without a driver, or a directory for writing.
_IRREGULAR: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV, errno.EISDIR})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN})


@contextmanager
def file_errors() -> Iterator[None]:
    """Convert the operating system's errors to flowpersist's, in one place."""
    try:
        yield
    except OSError as error:
        raise _translated(error) from error


def _translated(error: OSError) -> BackendUnavailable | StorageFull:
    if error.errno in _FULL:
        return StorageFull("the filesystem store has no space left; the old record is unchanged", NAME)
    if error.errno in _FORBIDDEN:
        message = (
            "this process has no permission to read or write the filesystem store; check the directory's "
            "owner, mode and mount"
        )
        return BackendUnavailable(message, NAME)
    if error.errno in _EXHAUSTED:
        message = "the process has no file descriptors left for the filesystem store; close some, or raise the limit"
        return BackendUnavailable(message, NAME, True)
    code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return BackendUnavailable(f"the filesystem store's directory can't be used ({code})", NAME)


def open_regular(path: str | Path, flags: int) -> int:
    """Open a regular file of the store, or create it. ``IntegrityError`` if its name belongs to something else: a pipe
    would block, a device may be endless, and a link may lead out of the directory.
    """
    try:
        handle = os.open(path, flags | _GUARDED, 0o600)
    except OSError as error:
        if error.errno in _IRREGULAR:
            raise _irregular(path, "file") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _irregular(path, "file")
    return handle


def refuse_link(directory: Path) -> None:
    """Refuse links below the root, since they could lead out of the store. The root itself may be a link."""
    if directory.is_symlink():
        raise _irregular(directory, "directory")


def _irregular(path: str | Path, kind: str) -> IntegrityError:
    name = os.path.basename(path)  # noqa: PTH119 - a text, not a Path
    return IntegrityError(f"in the filesystem store's directory {name!r} is not a regular {kind}; remove it")


def create(path: str | Path, parts: Sequence[bytes]) -> None:
    """Write a new file and flush it; after a failure nothing is left. Its directory is not flushed."""
    handle = os.open(path, _NEW, 0o600)
    with _removed_on_error(handle, path):
        _write(handle, parts)


@contextmanager
def made(path: str, parts: Sequence[bytes]) -> Iterator[None]:
    """Write a new file, flush it, and hold a lock on it, by which a sweeper knows that it is in use; a sweeper that
    came before the lock may have removed it. After a failure here or later it is removed. Its directory is not flushed.
    """
    handle = os.open(path, _NEW, 0o600)
    with _removed_on_error(handle, path):
        fcntl.flock(handle, fcntl.LOCK_EX)
        _write(handle, parts)
        yield


@contextmanager
def _removed_on_error(handle: int, path: str | Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        remove(path)
        raise
    finally:
        os.close(handle)


def _write(handle: int, parts: Sequence[bytes]) -> None:
    rest = sum(map(len, parts)) - os.writev(handle, parts)
    if rest:
        view = memoryview(b"".join(parts))[-rest:]
        while view:
            view = view[os.write(handle, view) :]
    # Never repeated after a failure: the kernel may have dropped the pages and report success the next time.
    flush(handle)


def replace(temporary: Path, path: Path, parts: Sequence[bytes]) -> None:
    """Replace a small file's content durably, through a temporary file in the same directory."""
    create(temporary, parts)
    temporary.rename(path)
    flush_directory(path.parent)


def rename(path: str, new: str) -> None:
    """Rename a file, replacing any file of that name."""
    # Names are text here and below, since making a Path takes longer than the call.
    os.rename(path, new)  # noqa: PTH104


def link(path: str, new: str) -> bool:
    """Give a file a second name. False if the name is taken."""
    try:
        os.link(path, new)
    except FileExistsError:
        return False
    return True


def unlink(path: str | Path) -> None:
    """Remove a file's name."""
    os.unlink(path)  # noqa: PTH108


def remove(path: str | Path) -> None:
    """Remove a file that is no longer needed. If that fails, it stays as an orphan that the next opening removes."""
    with contextlib.suppress(OSError):
        unlink(path)


def remove_abandoned(path: str) -> None:
    """Remove a file that no record names, unless its writer is still at work. Anything but a regular file is left."""
    with contextlib.suppress(OSError, IntegrityError):
        handle = open_regular(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        finally:
            os.close(handle)


def flush_directory(path: str | Path) -> None:
    """Make the names in a directory durable; otherwise a power failure loses the last renames."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_at_most(path: str | Path, size: int) -> bytes | None:
    """Read a file, or give None if it does not exist: at most ``size`` bytes, and one more of a longer file."""
    try:
        handle = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with open(handle, "rb", buffering=0) as file:  # noqa: PTH123 - it is open already
        # Takes no more memory than the file has bytes.
        wanted = min(size + 1, os.fstat(handle).st_size)
        data = file.read(wanted)
        # One call reads at most 2 GiB.
        while len(data) < wanted and (more := file.read(wanted - len(data))):
            data += more
        return data


@contextmanager
def locked(path: str | Path, mutex: threading.Lock, patience: timedelta) -> Iterator[None]:
    """Hold a lock against other threads and processes; the kernel releases it when the process dies."""
    deadline = time.monotonic() + patience.total_seconds()
    if not mutex.acquire(timeout=patience.total_seconds()):
        raise _busy()
    try:
        handle = open_regular(path, os.O_CREAT | os.O_RDWR)
        try:
            acquire(handle, fcntl.LOCK_EX, deadline)
            try:
                yield
            finally:
                # A child that was forked meanwhile shares the open file, so closing it here alone would not release the
                # lock.
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)
    finally:
        mutex.release()


def acquire(handle: int, kind: int, deadline: float) -> None:
    """Lock an open file, exclusively or shared."""
    pause = 0.00005
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _busy() from None
        else:
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.005)


def _busy() -> BackendUnavailable:
    return BackendUnavailable("the filesystem store is locked by another process; try again", NAME, True)
