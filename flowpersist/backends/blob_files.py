"""Blobs in a directory: a file for each, for its owner alone, flushed before it counts.

A blob is written under another name and renamed, so that nobody finds a part of one. No locks are needed, so a network
file system will do where it flushes what it says it has flushed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from flowpersist.backends._filesystem.files import (
    create,
    file_errors,
    flush_directory,
    read_at_most,
    refuse_link,
    remove,
)
from flowpersist.backends._home import Home
from flowpersist.backends._options import check_options
from flowpersist.backends._url import BackendUrl
from flowpersist.backends.blobs import Blob, check_name

__all__ = ["FileBlobStore", "from_url"]

T = TypeVar("T")
#: What a file is called while it is written.
UNFINISHED = ".new"


class FileBlobStore:
    """Blobs in a directory that is made where it is missing."""

    name: str = "file"

    def __init__(self, directory: str | Path, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        check_options(directory=directory, entropy=entropy)
        self._root = Path(directory)
        self._entropy = entropy
        self._lasting: set[Path] = set()
        self._home = Home(self.name)

    async def open(self) -> None:
        """See ``BlobStore``."""
        async with self._home.opening():
            await _threaded(lambda: self._make(self._root.absolute()))

    async def plan(self) -> tuple[str, ...]:
        """See ``BlobStore``."""
        root = self._root.absolute()
        there = await _threaded(root.is_dir)
        return () if there else (f"mkdir --parents {shlex.quote(str(root))}",)

    async def close(self) -> None:
        """See ``BlobStore``. Nothing stays open between two operations."""
        async with self._home.closing():
            pass

    async def put(self, name: str, data: bytes) -> None:
        """See ``BlobStore``."""
        path = self._root / check_name(name)
        self._home.check_free()
        await _threaded(lambda: self._write(path.absolute(), data))

    def _write(self, path: Path, data: bytes) -> None:
        self._make(path.parent)
        temporary = path.with_name(path.name + UNFINISHED)
        create(temporary, [data])
        try:
            temporary.rename(path)
        except OSError:
            remove(temporary)
            raise
        flush_directory(path.parent)

    def _make(self, directory: Path) -> None:
        """Make a directory and those above it, each durable in the one above."""
        below = self._root.absolute() in directory.parents
        if below:
            refuse_link(directory)
        if directory in self._lasting and directory.is_dir():
            return
        # Below the root also where it is there: whoever has made it may not have flushed it yet.
        if below or not directory.is_dir():
            self._make(directory.parent)
            directory.mkdir(mode=0o700, exist_ok=True)
            flush_directory(directory.parent)
        self._lasting.add(directory)

    async def get(self, name: str, size: int) -> bytes | None:
        """See ``BlobStore``."""
        path = self._root / check_name(name)
        self._home.check_free()
        data = await _threaded(lambda: read_at_most(path, size))
        return data if data is None or len(data) == size else None

    async def delete(self, name: str) -> None:
        """See ``BlobStore``."""
        check_name(name.removesuffix(UNFINISHED))
        self._home.check_free()
        await _threaded(lambda: (self._root / name).unlink(missing_ok=True))

    async def walk(self, prefix: str) -> AsyncIterator[Blob]:
        """See ``BlobStore``."""
        directory = self._root / check_name(prefix)
        self._home.check_free()
        for name, modified in await _threaded(lambda: _listed(directory)):
            yield Blob(f"{prefix}/{name}", modified)

    async def now(self) -> datetime:
        """See ``BlobStore``: the clock of the file system, which may be another machine's."""
        self._home.check_free()
        path = self._root / f"{self._entropy(16).hex()}{UNFINISHED}"
        return await _threaded(lambda: _clock(path))

    async def ping(self) -> None:
        """See ``BlobStore``."""
        self._home.check_free()
        await _threaded(lambda: os.stat(self._root))  # noqa: PTH116


async def _threaded(action: Callable[[], T]) -> T:
    def mapped() -> T:
        with file_errors():
            return action()

    return await asyncio.to_thread(mapped)


def _listed(directory: Path) -> list[tuple[str, datetime]]:
    found: list[tuple[str, datetime]] = []
    refuse_link(directory)
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return found
    with entries:
        for entry in entries:
            try:
                check_name(entry.name.removesuffix(UNFINISHED))
                found.append((entry.name, _modified(entry.stat())))
            except (ValueError, FileNotFoundError):
                # None of ours, or gone since.
                continue
    return found


def _clock(path: Path) -> datetime:
    create(path, [])
    try:
        return _modified(path.stat())
    finally:
        remove(path)


def _modified(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def from_url(url: BackendUrl) -> FileBlobStore:
    """The blob store that a URL names."""
    url.check_options(())
    if url.authority or not url.path.strip("/"):
        raise url.expected("file:flows (relative)", "file:///var/lib/flows (absolute)")
    return FileBlobStore(url.file_path(url.path))
