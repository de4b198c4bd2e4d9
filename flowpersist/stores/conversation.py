"""Turns of a conversation: load a subject's state, let a handler make the next one, save it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Self, TypeVar, Unpack
from weakref import WeakValueDictionary

from flowpersist.backends.store_config import store_url
from flowpersist.errors import RevisionConflict
from flowpersist.errors.arguments import check_callable, check_instance, check_mapping, check_pause
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.opening import HubOptions
from flowpersist.sealed.retrying import Runtime
from flowpersist.stores.run_state import RunStateStore, SealedRunStateStore, VersionedRunStateStore, run_state_store

__all__ = ["ConversationManager", "run_state_store_from_env"]

T = TypeVar("T")
log = logging.getLogger("flowpersist.stores")
MAX_CONFLICTS: Final = 64
_METHODS: Final = "a store with init, save_state, load_state, delete_state and cleanup_old_states"
ADAPTER: Final = "PERSISTENCE_ADAPTER"
URL: Final = "PERSISTENCE_URL"
#: The variable of its own that may say where an adapter's store is.
OWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "file": "PERSISTENCE_DIR",
        "mongodb": "MONGODB_URL",
        "neo4j": "NEO4J_URL",
        "postgres": "DATABASE_URL",
        "redis": "REDIS_URL",
        "sqlite": "DATABASE_URL",
    }
)


def run_state_store_from_env(
    environ: Mapping[str, str] = os.environ, **options: Unpack[HubOptions]
) -> SealedRunStateStore:
    """The store that the environment names, not yet open; without any setting files below ``.flowpersist``.

    - ``environ``: the variables: ``PERSISTENCE_ADAPTER`` (file, memory, mongodb, neo4j, postgres, redis or sqlite), and
      ``PERSISTENCE_URL`` or the adapter's own.
    - ``options``: those of ``open_hub``.

    Raises ``ConfigurationError`` for an unknown adapter, a URL of another one, and a server without a URL.
    """
    check_mapping(environ, "environ")
    adapter, url = environ.get(ADAPTER, "").strip().lower(), environ.get(URL, "").strip()
    if url and not adapter:
        return run_state_store(url, **options)
    adapter = adapter or "file"
    variables = [URL, *([OWN[adapter]] if adapter in OWN else [])]
    given = [(name, text) for name in variables if (text := environ.get(name, "").strip())]
    named, text = given[0] if given else (" or ".join(variables), "")
    return run_state_store(store_url(adapter, text, names=(ADAPTER, named)), **options)


class ConversationManager:
    """Turns on the states of a store.

    Two turns of one subject in this process wait for each other. Of two in different processes the loser's runs again
    on the winner's state, where the store is a ``VersionedRunStateStore``; elsewhere the last one wins.

    - ``store``: a ``RunStateStore``; None: the one that the environment names, which ``close`` closes.
    - ``slow``: a load or save that takes longer is logged, with the backend, the verb and the milliseconds.
    - ``runtime``: the clock, and the waits before a turn runs again.
    """

    def __init__(
        self,
        store: RunStateStore | None = None,
        *,
        slow: timedelta = timedelta(milliseconds=200),
        runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    ) -> None:
        check_instance(store, "store", (RunStateStore, type(None)), _METHODS)
        check_pause(slow, "slow")
        check_instance(runtime, "runtime", Runtime, "a Runtime")
        self._own = run_state_store_from_env() if store is None else None
        self.store: RunStateStore = store or self._own  # type: ignore[assignment]
        self._name = str(getattr(self.store, "name", type(self.store).__name__))
        self._slow = slow
        self._runtime = runtime
        self._begun: asyncio.Lock = asyncio.Lock()
        self._ready = False
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @discreet
    async def turn(self, subject_id: str, handler: Callable[[str | None], str | Awaitable[str]]) -> str:
        """Load the subject's state, call the handler with it, save what it returned, and give that.

        - ``subject_id``: whose turn it is.
        - ``handler``: a function, plain or async, that takes the state, None at first, and gives the next one. Where
          another process saved meanwhile, it runs again.

        What the handler raises passes, and nothing is saved. Raises ``RevisionConflict`` after 64 attempts, and what
        the store raises.
        """
        check_instance(subject_id, "subject_id", str, "a str")
        check_callable(handler, "handler")
        await self._init()
        turns = self._turns.setdefault(subject_id, asyncio.Lock())
        async with turns:
            return await self._turn(subject_id, handler)

    async def _turn(self, subject_id: str, handler: Callable[[str | None], str | Awaitable[str]]) -> str:
        store = self.store
        if not isinstance(store, VersionedRunStateStore):
            state = await self._timed("load", store.load_state(subject_id))
            made = await _handled(handler, state)
            await self._timed("save", store.save_state(subject_id, made))
            return made
        for attempt in range(1, MAX_CONFLICTS + 1):
            state, revision = await self._timed("load", store.load_versioned(subject_id))
            made = await _handled(handler, state)
            try:
                await self._timed("save", store.save_versioned(subject_id, made, revision))
            except RevisionConflict:
                await self._runtime.sleep(self._runtime.jitter(attempt) if attempt > 1 else 0)
            else:
                return made
        message = f"the state of a subject changed {MAX_CONFLICTS} times during one turn; try again later"
        raise RevisionConflict(message, self._name, True)

    async def _init(self) -> None:
        if self._ready:
            return
        async with self._begun:
            if not self._ready:
                await self.store.init()
                self._ready = True

    async def _timed(self, verb: str, call: Awaitable[T]) -> T:
        started = self._runtime.monotonic()
        try:
            return await call
        finally:
            took = timedelta(seconds=self._runtime.monotonic() - started)
            if took > self._slow:
                milliseconds = took / timedelta(milliseconds=1)
                log.warning("slow %s on %s: %.0f ms", verb, self._name, milliseconds)

    async def close(self) -> None:
        """Close the store that the environment named; one that was passed in stays open."""
        if self._own is not None:
            await self._own.close()
            self._ready = False

    async def __aenter__(self) -> Self:
        """Open the store."""
        await self._init()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Call ``close``."""
        await self.close()


async def _handled(handler: Callable[[str | None], str | Awaitable[str]], state: str | None) -> str:
    made = handler(state)
    value = await made if inspect.isawaitable(made) else made
    check_instance(value, "result of the handler", str, "a str")
    return value
