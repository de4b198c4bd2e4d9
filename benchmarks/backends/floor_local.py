"""The floors of what needs no server: a dict, SQLite in a thread, and files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from places import Place
from records import HEAD

__all__ = ["FileFloor", "MemoryFloor", "SqliteFloor"]

T = TypeVar("T")
#: As the backend's, so that only what is done with them differs.
PAGE_BYTES = 8192


class MemoryFloor:
    """A dict."""

    def __init__(self) -> None:
        self._records: dict[str, tuple[int, bytes]] = {}

    @classmethod
    async def opened(cls, _place: Place, _prefix: str, *, join: bool = False) -> MemoryFloor:
        """Ready for use."""
        del join
        return cls()

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""
        self._records[key] = (1, body)
        return 1

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""
        found, body = self._records[key]
        if found != revision:
            return False
        self._records[key] = (revision + 1, body)
        return True

    async def load(self, key: str) -> bytes:
        """See ``Store``."""
        return self._records[key][1]

    async def close(self) -> None:
        """See ``Store``."""
        self._records.clear()


class _Connection:
    """A connection in a thread of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        connection.execute(f"pragma page_size = {PAGE_BYTES}")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma secure_delete = off")
        while (job := self._inbox.get()) is not None:
            action, loop, future = job
            try:
                loop.call_soon_threadsafe(future.set_result, action(connection))
            except sqlite3.Error as error:
                loop.call_soon_threadsafe(future.set_exception, error)
        connection.close()

    async def run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in the thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._inbox.put((action, loop, future))
        return await future

    async def close(self) -> None:
        """Wait for the end of the thread."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)


class SqliteFloor:
    """A connection that writes, and one that reads without waiting for a flush; a transaction of two statements."""

    def __init__(self, path: str) -> None:
        self._writer = _Connection(path)
        self._reader = _Connection(path)

    @classmethod
    async def opened(cls, place: Place, prefix: str, *, join: bool = False) -> SqliteFloor:
        """Ready for use."""
        floor = cls(f"{place.directory}/floor-{prefix}.db")
        if not join:
            await floor._writer.run(_make_tables)
        return floor

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""

        def action(connection: sqlite3.Connection) -> None:
            connection.execute("begin immediate")
            made = connection.execute("insert into records (key, revision, head) values (?, 1, ?)", (key, HEAD))
            connection.execute("insert into bodies (id, data) values (?, ?)", (made.lastrowid, body))
            connection.execute("commit")

        await self._writer.run(action)
        return 1

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""

        def action(connection: sqlite3.Connection) -> bool:
            # By itself, and so a transaction that takes the lock before it reads.
            sql = "update records set revision = revision + 1, head = ? where key = ? and revision = ?"
            return connection.execute(sql, (HEAD, key, revision)).rowcount == 1

        return await self._writer.run(action)

    async def load(self, key: str) -> bytes:
        """See ``Store``."""

        def action(connection: sqlite3.Connection) -> bytes:
            sql = "select id, revision, head from records where key = ?"
            (identity, _, _) = connection.execute(sql, (key,)).fetchone()
            with connection.blobopen("bodies", "data", identity, readonly=True) as blob:
                return blob.read()

        return await self._reader.run(action)

    async def close(self) -> None:
        """See ``Store``."""
        await self._writer.close()
        await self._reader.close()


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("create table records (id integer primary key, key text unique, revision integer, head blob)")
    connection.execute("create table bodies (id integer primary key, data blob)")


class FileFloor:
    """One file a record, in a pool of threads: written beside its place, flushed, renamed, the directory flushed.

    A claim writes the record without its body, as it must where a body of 10 MB is not to be written again.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pool = ThreadPoolExecutor(8)

    @classmethod
    async def opened(cls, place: Place, prefix: str, *, join: bool = False) -> FileFloor:
        """Ready for use."""
        del join
        directory = place.directory / f"floor-{prefix}"
        directory.mkdir(exist_ok=True)
        return cls(directory)

    def _path(self, key: str) -> Path:
        return self._directory / hashlib.sha256(key.encode()).hexdigest()

    def _write(self, path: Path, *parts: bytes) -> None:
        temporary = path.with_suffix(f".{os.urandom(4).hex()}")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(handle, view) :]
        os.fdatasync(handle)
        os.close(handle)
        temporary.rename(path)
        directory = os.open(self._directory, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    async def _run(self, action: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, action, *values)

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""
        await self._run(self._write, self._path(key), b"1" + HEAD, body)
        return 1

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""

        def action() -> bool:
            path = self._path(key)
            try:
                # A name can be made once.
                (self._directory / f"{path.name}.{revision}").touch(exist_ok=False)
            except FileExistsError:
                return False
            self._write(path.with_suffix(".head"), b"2" + HEAD)
            return True

        return await self._run(action)

    async def load(self, key: str) -> bytes:
        """See ``Store``."""
        return (await self._run(self._path(key).read_bytes))[1 + len(HEAD) :]

    async def close(self) -> None:
        """See ``Store``."""
        self._pool.shutdown()
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
