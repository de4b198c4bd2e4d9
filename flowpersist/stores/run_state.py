"""Run state: one text for each subject, behind five methods that any store can have.

``RunStateStore`` is the interface. The stores here keep their texts in a collection of sealed values, by a URL or an
existing client or pool; whoever writes one by hand need know nothing of them. ``VersionedRunStateStore`` is for stores
that can tell whether somebody else has saved in between: ``ConversationManager`` makes use of it.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol, Self, Unpack, runtime_checkable

from flowpersist.backends.base import StorageBackend
from flowpersist.backends.registry import backend_from_url, backend_of
from flowpersist.errors.arguments import check_instance, check_optional, check_pause, check_size, check_str
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.opening import HubOptions, check_options, open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.sealed.retrying import Runtime
from flowpersist.stores.values import ValueStore, value_store

__all__ = [
    "FileStateStore",
    "MemoryStateStore",
    "PostgresStateStore",
    "RedisStateStore",
    "RunStateStore",
    "RunStates",
    "SealedRunStateStore",
    "SqliteStateStore",
    "VersionedRunStateStore",
    "run_state_store",
]

COLLECTION: Final = "run_state"


@runtime_checkable
class RunStateStore(Protocol):
    """Where run states are kept. ``init`` is called before the others, more than once too."""

    async def init(self) -> None:
        """Connect, and make what is needed."""
        ...

    async def save_state(self, subject_id: str, run_state: str) -> None:
        """Keep the state of a subject, in the place of an earlier one."""
        ...

    async def load_state(self, subject_id: str) -> str | None:
        """The state of a subject; None if it has none."""
        ...

    async def delete_state(self, subject_id: str) -> None:
        """Forget the state of a subject. Missing: a no-op."""
        ...

    async def cleanup_old_states(self, max_age: timedelta | None = None) -> int:
        """Delete what was not saved for ``max_age``; gives how many. None: what the store itself calls old."""
        ...


@runtime_checkable
class VersionedRunStateStore(RunStateStore, Protocol):
    """A store that can save only in the place of what was loaded."""

    async def load_versioned(self, subject_id: str) -> tuple[str | None, int]:
        """The state of a subject and its revision, None and 0 if it has none."""
        ...

    async def save_versioned(self, subject_id: str, run_state: str, revision: int) -> None:
        """Keep a state in the place of that revision. Raises ``RevisionConflict`` where another stands there."""
        ...


class RunStates:
    """Run states in a collection of an open hub: ``Stores.run_state``. What a database sees of a subject is a keyed
    digest.
    """

    def __init__(self, values: ValueStore[str]) -> None:
        check_instance(values, "values", ValueStore, "a ValueStore of str")
        self._values: ValueStore[str] | None = values
        self._name = values.collection.records.backend.name

    @property
    def name(self) -> str:
        """The backend's."""
        return self._name

    async def init(self) -> None:
        """Nothing: the hub is open."""

    @discreet
    async def save_state(self, subject_id: str, run_state: str) -> None:
        """See ``RunStateStore``. One round trip."""
        values = await self._ready(subject_id, run_state)
        await values.save(subject_id, run_state)

    @discreet
    async def load_state(self, subject_id: str) -> str | None:
        """See ``RunStateStore``. One round trip."""
        state, _ = await self.load_versioned(subject_id)
        return state

    @discreet
    async def delete_state(self, subject_id: str) -> None:
        """See ``RunStateStore``."""
        values = await self._ready(subject_id)
        await values.delete(subject_id)

    @discreet
    async def cleanup_old_states(self, max_age: timedelta | None = None) -> int:
        """See ``RunStateStore``. By itself the store calls no state old: None deletes nothing."""
        check_optional(max_age, "max_age", check_pause)
        values = await self._ready()
        return await values.cleanup(older_than=max_age)

    @discreet
    async def load_versioned(self, subject_id: str) -> tuple[str | None, int]:
        """See ``VersionedRunStateStore``. One round trip."""
        values = await self._ready(subject_id)
        loaded = await values.load(subject_id)
        return (None, 0) if loaded is None else (loaded.value, loaded.revision)

    @discreet
    async def save_versioned(self, subject_id: str, run_state: str, revision: int) -> None:
        """See ``VersionedRunStateStore``. One round trip."""
        check_size(revision, "revision")
        values = await self._ready(subject_id, run_state)
        or_raise(await values.collection.replace((subject_id,), run_state, revision))

    async def _ready(self, subject_id: str = "", run_state: str = "") -> ValueStore[str]:
        check_instance(subject_id, "subject_id", str, "a str")
        check_instance(run_state, "run_state", str, "a str")
        if self._values is None:
            await self.init()
        assert self._values is not None  # noqa: S101 - init has opened it
        return self._values


class SealedRunStateStore(RunStates):
    """The same on a backend of its own.

    - ``source``: a URL, or a backend.
    - ``options``: those of ``open_hub``.

    ``async with`` calls ``init`` and ``close``; the first call of another method calls ``init`` where nobody did.
    Raises ``ConfigurationError`` for an unknown or malformed URL.
    """

    def __init__(self, source: str | StorageBackend, **options: Unpack[HubOptions]) -> None:
        check_instance(source, "source", (str, StorageBackend), "a URL, or a backend")
        check_options(options)
        self._backend: StorageBackend = backend_from_url(source) if isinstance(source, str) else source
        # Whoever holds conversations logs what is slow, with the subject's verb; so it is not logged twice.
        self._options: HubOptions = {"runtime": Runtime(slow=timedelta.max), **options}
        self._values = None
        self._name = self._backend.name
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def init(self) -> None:
        """Open the backend. Twice: a no-op. Raises ``StorageError``."""
        if self._values is not None:
            return
        async with self._opening:
            if self._values is None:
                hub = await self._stack.enter_async_context(open_hub(self._backend, **self._options))
                self._values = value_store(hub.suspensions.records, COLLECTION, str)

    async def close(self) -> None:
        """Close what was opened. Twice: a no-op."""
        async with self._opening:
            self._values = None
            await self._stack.aclose()

    async def __aenter__(self) -> Self:
        """Call ``init``."""
        await self.init()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Call ``close``."""
        await self.close()


class MemoryStateStore(SealedRunStateStore):
    """Run states in this process's memory. ``store``: the same for all who name it; empty: one of its own."""

    def __init__(self, store: str = "", **options: Unpack[HubOptions]) -> None:
        super().__init__(backend_of("memory", store), **options)


class FileStateStore(SealedRunStateStore):
    """Run states in files below a directory, which is made where it is not there."""

    def __init__(self, directory: str | Path, **options: Unpack[HubOptions]) -> None:
        super().__init__(backend_of("filesystem", directory), **options)


class SqliteStateStore(SealedRunStateStore):
    """Run states in a SQLite database, by its path."""

    def __init__(self, path: str | Path, **options: Unpack[HubOptions]) -> None:
        super().__init__(backend_of("sqlite", path), **options)


class PostgresStateStore(SealedRunStateStore):
    """Run states in PostgreSQL, by a URL or a pool of asyncpg, which stays open."""

    def __init__(self, source: str | Any, **options: Unpack[HubOptions]) -> None:  # noqa: ANN401 - the driver's
        super().__init__(backend_of("postgres", source), **options)


class RedisStateStore(SealedRunStateStore):
    """Run states in Redis, by a URL or a client of redis.asyncio, which stays open."""

    def __init__(self, source: str | Any, **options: Unpack[HubOptions]) -> None:  # noqa: ANN401 - the driver's
        super().__init__(backend_of("redis", source), **options)


def run_state_store(url: str, **options: Unpack[HubOptions]) -> SealedRunStateStore:
    """The store that a URL of any backend names, not yet open.

    - ``url``: such as ``sqlite:///agents.db``.
    - ``options``: those of ``open_hub``.

    Raises ``ConfigurationError`` for an unknown or malformed URL.
    """
    check_str(url, "url")
    return SealedRunStateStore(url, **options)
