"""A keyring in a file: read again when it changes, and changed in one step.

Whoever replaces the file by renaming another one over it, as the command does and as Kubernetes does with a mounted
secret, changes it for a reader in one step. A file that is written over in place can be met half-written. So a changed
file is read once it has stood still from one look to the next, and one that holds no keyring, or that others may write,
leaves the keyring as it is.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_callable, check_duration, check_instance
from flowpersist.errors.secrecy import discreet
from flowpersist.keys.crypto import KEY_BYTES
from flowpersist.keys.keyring import KeyRing

__all__ = ["KeyFile", "alone", "replace_file"]

log = logging.getLogger("flowpersist.keys")
_SETTING: Final = "FLOWPERSIST_KEYS_FILE"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
#: What tells one content of a file from another without reading it.
Stamp: TypeAlias = tuple[int, int, int, int, int]


class KeyFile:
    """The keyring that a file holds, in the form of ``KeyRing.from_file``; a ``KeyProvider`` that a hub follows.

    - ``path``: the file.
    - ``interval``: how often it is looked at. A change is taken over after one to two of them.
    - ``sleep``: how to wait.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        interval: timedelta = timedelta(seconds=5),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        check_instance(path, "path", (str, os.PathLike), "a path")
        check_duration(interval, "interval")
        check_callable(sleep, "sleep")
        self.path = Path(path)
        self._interval = interval.total_seconds()
        self._sleep = sleep
        self._read: tuple[Stamp | None, KeyRing] | None = None

    async def keyring(self) -> KeyRing:
        """The ring that the file holds; ``ConfigurationError`` where it can't be read, or holds none."""
        stamp, ring = await asyncio.to_thread(self._load)
        self._read = (stamp, ring)
        return ring

    async def updates(self) -> AsyncIterator[KeyRing]:
        """Each other ring that the file holds from now on, after what ``keyring`` has read last. Never ends."""
        seen, ring = (None, None) if self._read is None else self._read
        refused: Stamp | None = None
        standing = seen
        while True:
            await self._sleep(self._interval)
            stamp = await asyncio.to_thread(self._stamp)
            still, standing = stamp == standing, stamp
            if stamp is None or not still or stamp in {seen, refused}:
                continue
            try:
                seen, found = await asyncio.to_thread(self._load, trusted=True)
            except ConfigurationError as error:
                # Once for each content.
                log.warning("the keyring stays as it was: %s", error.message)
                refused = stamp
                continue
            if found != ring:
                ring = found
                self._read = (seen, found)
                yield found

    @discreet
    def add(self, kid: str | None = None, *, entropy: Callable[[int], bytes] = os.urandom) -> KeyRing:
        """Add a fresh key behind those that the file has: it opens, and does not seal yet. Gives the new ring."""
        named = KeyRing.generate(kid, entropy=entropy).primary
        return self._changed(lambda ring: ring.add(named, entropy(KEY_BYTES)))

    def promote(self, kid: str) -> KeyRing:
        """Put a key first, so that it seals. Gives the new ring."""
        return self._changed(lambda ring: ring.promote(kid))

    def retire(self, kid: str) -> KeyRing:
        """Remove a key that nothing needs, as ``Maintenance.retire`` finds out. Gives the new ring."""
        return self._changed(lambda ring: ring.retire(kid))

    def _changed(self, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
        """Replace the file, so that a concurrent reader gets one ring or the other, also after a crash.

        Links to it keep working, and it keeps its owner and mode. Concurrent changes take turns, so none is lost.
        """
        path = Path(os.path.realpath(self.path))
        try:
            is_file = path.is_file()
        except OSError:
            # Some errors are no answer to it, as of a name that is too long.
            is_file = False
        if not is_file:
            message = f"the keys file {os.fspath(self.path)!r} must be a regular file"
            raise ConfigurationError(f"{message}: flowpersist keygen --output makes one", _SETTING)
        with alone(path.parent):
            ring = change(KeyRing.from_file(path))
            replace_file(path, ring.export().replace(",", "\n") + "\n")
        return ring

    def _load(self, *, trusted: bool = False) -> tuple[Stamp | None, KeyRing]:
        stamp = self._stamp()
        if trusted and stamp is not None:
            self._check(self.path.stat())
        # An error of the file is the reader's own. What changes while it is read has another stamp at the next look.
        ring = KeyRing.from_file(self.path)
        return stamp, ring

    def _stamp(self) -> Stamp | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _check(self, found: os.stat_result) -> None:
        """Refuse keys that somebody else may have put there."""
        if found.st_mode & _OTHERS_WRITE or found.st_uid not in {os.geteuid(), 0}:
            message = f"the keys file {os.fspath(self.path)!r} can be written by other users; chmod 600 it"
            raise ConfigurationError(message, _SETTING)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Alone among those who change a file in this directory."""
    turn = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield
    finally:
        os.close(turn)


def replace_file(path: Path, text: str) -> None:
    """Replace a file in one step, durably; one that is new can be read by its owner alone."""
    owner = path.stat() if path.exists() else None
    new = path.with_name(f".{path.name}.new")
    # One that a crash has left.
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            if owner is not None:
                # Users that could read the file must be able to read the new one.
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(owner.st_mode))
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        message = f"the file {os.fspath(path)!r} can't be replaced ({type(error).__name__}); it is as it was"
        raise ConfigurationError(message, _SETTING) from error
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
