"""A backend of one's own, as small as one can be: a journal, one line of JSON for each write, in one file.

Every operation locks the file, reads the lines that others have added, decides, and adds its own. So it works with
several processes, a revision is the number of its line and never comes again, and a write is there when its line is,
with its end. It keeps all records in memory and never shrinks its file: that makes it a toy.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve

from flowpersist.backends.base import (
    KEEP,
    BackendHealth,
    Capability,
    NamespaceSchema,
    Order,
    Page,
    Put,
    Read,
    Reads,
    Record,
    RecordChange,
    RecordRef,
    Where,
    Written,
    applied,
)
from flowpersist.backends.kit import (
    Home,
    Reach,
    Selection,
    check_deadline,
    check_put,
    check_puts,
    check_refs,
    check_revision,
    check_unwritten,
    fitting,
    from_micros,
    host_clock,
    position_of,
    put_each,
    revised,
    selection,
    to_micros,
    uninterrupted,
    unreadable,
)
from flowpersist.errors import BackendUnavailable, ConfigurationError, PersistenceError

T = TypeVar("T")
NAME = "journal"


class Journal:
    """The file and what it says, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.records: dict[RecordRef, Record] = {}
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end = 0
        self._lines = 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes meanwhile, and what they wrote is known. A lock dies with its process."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            self._catch_up()
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def write(self, *entries: Mapping[str, object]) -> None:
        """Add lines and flush them, at the end of the last whole one: what follows that was never acknowledged."""
        data = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        os.ftruncate(self._fd, self._end)
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, memoryview(data)[written:], self._end + written)
        os.fsync(self._fd)
        self._catch_up()

    @property
    def next_revision(self) -> int:
        """The number of the line that comes next."""
        return self._lines + 1

    def _catch_up(self) -> None:
        missing = os.fstat(self._fd).st_size - self._end
        data = bytearray()
        while len(data) < missing and (more := os.pread(self._fd, missing - len(data), self._end + len(data))):
            data += more
        whole = data[: data.rfind(b"\n") + 1]
        for line in bytes(whole).splitlines():
            self._lines += 1
            self._apply(line)
        self._end += len(whole)

    def _apply(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            ref = RecordRef(entry["namespace"], entry["key"])
            if "at" not in entry:
                del self.records[ref]
                return
            change, old = change_of(entry), self.records.get(ref)
            body = applied(change.body, None if old is None else old.body, None)
            size = None if body is None else len(body)
            record = revised(ref, old, change, self._lines, from_micros(entry["at"]), size)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise unreadable(NAME, f"line {self._lines}") from error
        self.records[ref] = evolve(record, body=body)


def entry_of(ref: RecordRef, change: RecordChange, now: datetime) -> dict[str, object]:
    """A write as a line says it: a part that is kept is left out."""
    parts: dict[str, object] = {
        "attributes": change.attributes,
        "head": base64.b64encode(change.head).decode() if isinstance(change.head, bytes) else change.head,
        "body": base64.b64encode(change.body).decode() if isinstance(change.body, bytes) else change.body,
        "due": to_micros(change.due_at) if isinstance(change.due_at, datetime) else change.due_at,
    }
    said = {name: part for name, part in parts.items() if part is not KEEP}
    return {"namespace": ref.namespace, "key": ref.key, "at": to_micros(now), "write_id": change.write_id, **said}


def change_of(entry: dict[str, Any]) -> RecordChange:
    """The write that a line tells of."""

    def part(name: str, decode: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - of JSON
        value = entry.get(name, KEEP)
        return value if value is None or value is KEEP else decode(value)

    return RecordChange(
        entry["write_id"],
        attributes=part("attributes", dict),
        head=part("head", base64.b64decode),
        body=part("body", base64.b64decode),
        due_at=part("due", from_micros),
    )


def chosen(journal: Journal, asked: Selection) -> list[Record]:
    """The records that are asked for from the page's beginning on, one more than fit it at most."""
    places = [(position_of(record, asked.order), record) for record in journal.records.values() if meant(record, asked)]
    wanted = [(place, record) for place, record in places if place is not None and asked.beyond(place)]
    wanted.sort(key=lambda item: item[0], reverse=asked.descending)
    return [record for _, record in wanted[: asked.limit + 1]]


def meant(record: Record, asked: Selection) -> bool:
    """Whether a record is in the selection, wherever the page begins."""
    return record.ref.namespace == asked.namespace and asked.holds(record)


class JournalBackend:
    """Records in the journal at ``path``, which is made where it is missing."""

    name: str = NAME
    capabilities: frozenset[Capability] = frozenset({Capability.DURABLE, Capability.MULTI_PROCESS})

    def __init__(self, path: str | Path, *, clock_offset: timedelta = timedelta(0)) -> None:
        self.clock_offset = clock_offset
        self._path = Path(path)
        self._home = Home(NAME)
        self._opened: tuple[ThreadPoolExecutor, Journal] | None = None

    async def open(self, schema: Sequence[NamespaceSchema]) -> None:  # noqa: ARG002 - there are no indexes to make
        """See ``StorageBackend``."""
        await uninterrupted(self._open())

    async def _open(self) -> None:
        async with self._home.opening() as first:
            if first:
                with errors():
                    # One thread: the journal is used by one at a time.
                    self._opened = ThreadPoolExecutor(1), await asyncio.to_thread(Journal, self._path)

    async def close(self) -> None:
        """See ``StorageBackend``. Waits for what is under way."""
        await uninterrupted(self._close())

    async def _close(self) -> None:
        async with self._home.closing() as reach:
            opened, self._opened = self._opened, None
            if opened is not None and reach is not Reach.NOTHING:
                await asyncio.to_thread(opened[0].shutdown)
                opened[1].close()

    async def get(self, ref: RecordRef, *, body: bool = True) -> Read:
        """See ``StorageBackend``."""

        def read(journal: Journal) -> Read:
            record = journal.records.get(ref)
            return Read(record if record is None or body else evolve(record, body=None), self._now())

        return await self._run(read)

    async def get_many(self, refs: Sequence[RecordRef], *, body: bool = True) -> Reads:
        """See ``StorageBackend``."""
        check_refs(refs)

        def read(journal: Journal) -> Reads:
            found = (journal.records.get(ref) for ref in refs)
            return Reads(tuple(one if one is None or body else evolve(one, body=None) for one in found), self._now())

        return await self._run(read)

    async def put(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None = None,
        not_after: datetime | None = None,
    ) -> Written:
        """See ``StorageBackend``. If cancelled, the write may still happen."""
        check_put(if_revision, not_after)

        def write(journal: Journal) -> Written:
            old, now = journal.records.get(ref), self._now()
            check_revision(NAME, ref, 0 if old is None else old.revision, if_revision)
            if if_revision is None and old is not None:
                check_unwritten(NAME, ref, old.write_id, change.write_id)
            check_deadline(NAME, ref, now, not_after)
            made = Written(journal.next_revision, now)
            journal.write(entry_of(ref, change, now))
            return made

        return await self._run(write)

    async def put_many(self, puts: Sequence[Put]) -> tuple[Written | PersistenceError, ...]:
        """See ``StorageBackend``."""
        check_puts(puts)
        self._home.check()
        return await put_each(self.put, puts)

    async def delete(self, ref: RecordRef, *, if_revision: int | None = None) -> bool:
        """See ``StorageBackend``."""
        check_put(if_revision)

        def remove(journal: Journal) -> bool:
            record = journal.records.get(ref)
            if record is None:
                return False
            check_revision(NAME, ref, record.revision, if_revision)
            journal.write({"namespace": ref.namespace, "key": ref.key})
            return True

        return await self._run(remove)

    async def query(
        self,
        namespace: str,
        where: Where,
        *,
        order: Order = "key",
        limit: int,
        after: str | None = None,
        descending: bool = False,
        bodies: bool = False,
    ) -> Page[Record]:
        """See ``StorageBackend``."""
        asked = selection(namespace, where, order, limit, after, descending, bodies=bodies)

        def page(journal: Journal) -> Page[Record]:
            found = chosen(journal, asked)
            items = tuple(record if bodies else evolve(record, body=None) for record in found[:limit])
            last = position_of(items[-1], asked.order) if len(found) > limit else None
            return fitting(asked, Page(items, None if last is None else asked.cursor(last), self._now()))

        return await self._run(page)

    async def purge(self, namespace: str, where: Where, *, limit: int) -> int:
        """See ``StorageBackend``."""
        asked = selection(namespace, where, "key", limit, None, False)

        def remove(journal: Journal) -> int:
            found = chosen(journal, asked)[:limit]
            if found:
                journal.write(*({"namespace": namespace, "key": record.ref.key} for record in found))
            return len(found)

        return await self._run(remove)

    async def ping(self) -> BackendHealth:
        """See ``StorageBackend``."""
        began = time.monotonic()
        now = await self._run(lambda _: self._now())
        return BackendHealth(NAME, now, timedelta(seconds=time.monotonic() - began), ("a toy: its file never shrinks",))

    async def _run(self, action: Callable[[Journal], T]) -> T:
        self._home.check()
        if self._opened is None:
            raise BackendUnavailable(f"the {NAME} store is not open", NAME)
        thread, journal = self._opened

        def work() -> T:
            with errors(), journal.locked():
                return action(journal)

        return await asyncio.get_running_loop().run_in_executor(thread, work)

    def _now(self) -> datetime:
        return host_clock() + self.clock_offset


@contextmanager
def errors() -> Iterator[None]:
    """The one place where the system's errors become the library's."""
    try:
        yield
    except OSError as error:
        raise BackendUnavailable(f"the {NAME} can't be read or written: {error.strerror}", NAME) from error


def from_url(url: str) -> JournalBackend:
    """``journal:///relative/path`` or ``journal:////absolute/path``: what the entry point names."""
    _, separator, path = url.partition("journal:///")
    if not separator or not path:
        raise ConfigurationError("the journal's URL is journal:///relative/path or journal:////absolute/path", "url")
    return JournalBackend(path)
