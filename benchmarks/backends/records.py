"""The work that a backend and its floor both do: insert a record with its body, claim it, load it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef, StorageBackend, Where
from flowpersist.errors import RevisionConflict

__all__ = ["HEAD", "NAMESPACE", "SCHEMA", "Ours", "Store", "attributes", "change", "keys", "number_of", "purged"]

NAMESPACE = "bench"
#: The namespace as the hub declares its own.
SCHEMA = [NamespaceSchema(NAMESPACE, {"status": str, "live": bool, "tool": str, "run": str, "tenant": str})]
#: As large as the sealed head of a suspension with one wait.
HEAD = os.urandom(500)
DUE = datetime(2100, 1, 1, tzinfo=UTC)


class Store(Protocol):
    """What is timed."""

    async def insert(self, key: str, body: bytes) -> int:
        """A new record, its head, its body; gives its revision."""
        ...

    async def claim(self, key: str, revision: int) -> bool:
        """From that revision to the next, with another head and status; the body stays. Whether this one did it."""
        ...

    async def load(self, key: str) -> bytes:
        """The record with its body."""
        ...

    async def close(self) -> None:
        """Remove what was written, and disconnect."""
        ...


def attributes(number: int) -> dict[str, str | bool]:
    """Of the record of that number: ten tools, twenty tenants, ten records a run."""
    return {
        "status": "waiting",
        "live": True,
        "tool": f"tool-{number % 10}",
        "run": f"run-{number // 10:08}",
        "tenant": f"tenant-{number % 20:03}",
    }


def change(number: int, body: bytes) -> RecordChange:
    """A new record, due a second after the one before it."""
    due = DUE + timedelta(seconds=number)
    return RecordChange(os.urandom(16).hex(), attributes=attributes(number), head=HEAD, body=body, due_at=due)


def keys() -> Iterator[str]:
    """In the order of time, as the ids of suspensions are."""
    return (f"0199a000-{number:08x}-7000-8000" for number in count())


def number_of(key: str) -> int:
    """Its place among the keys."""
    return int(key.split("-")[1], 16)


class Ours:
    """A backend, used as the hub does."""

    def __init__(self, backend: StorageBackend) -> None:
        self.backend = backend

    @classmethod
    async def opened(cls, backend: StorageBackend) -> Ours:
        """Ready for use."""
        await backend.open(SCHEMA)
        return cls(backend)

    async def insert(self, key: str, body: bytes) -> int:
        """See ``Store``."""
        made = change(number_of(key), body)
        return (await self.backend.put(RecordRef(NAMESPACE, key), made, if_revision=0)).revision

    async def claim(self, key: str, revision: int) -> bool:
        """See ``Store``."""
        found = attributes(number_of(key)) | {"status": "running"}
        claimed = RecordChange(os.urandom(16).hex(), attributes=found, head=HEAD)
        try:
            await self.backend.put(RecordRef(NAMESPACE, key), claimed, if_revision=revision)
        except RevisionConflict:
            return False
        return True

    async def load(self, key: str) -> bytes:
        """See ``Store``."""
        record = (await self.backend.get(RecordRef(NAMESPACE, key))).record
        if record is None or record.body is None:
            raise LookupError(key)
        return record.body

    async def close(self) -> None:
        """See ``Store``."""
        await purged(self.backend, NAMESPACE)
        await self.backend.close()


async def purged(backend: StorageBackend, namespace: str) -> None:
    """Remove all records of a namespace."""
    while await backend.purge(namespace, Where(), limit=1000):
        pass
