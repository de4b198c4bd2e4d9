"""The stores for synchronous code. Each method is forwarded by one line, as in ``blocking.hubs``."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from flowpersist.backends.base import StorageBackend
from flowpersist.blocking.forwarding import Blocking, Owner, as_if, entered, iterated, verb
from flowpersist.blocking.hubs import Hub, open_hub, parts
from flowpersist.blocking.portal import Portal
from flowpersist.hub import HubOptions
from flowpersist.sealed.retrying import Runtime
from flowpersist.stores import Artifacts as AsyncArtifacts
from flowpersist.stores import ConversationManager as AsyncConversationManager
from flowpersist.stores import Features as AsyncFeatures
from flowpersist.stores import Locks as AsyncLocks
from flowpersist.stores import Observations as AsyncObservations
from flowpersist.stores import RunStateStore, StateInfo, StoreConfig
from flowpersist.stores import Sessions as AsyncSessions
from flowpersist.stores import Signals as AsyncSignals
from flowpersist.stores import StateManager as AsyncStateManager
from flowpersist.stores import Stores as AsyncStores
from flowpersist.stores import ValueStore as AsyncValueStore
from flowpersist.stores.run_state import RunStates as AsyncRunStates

__all__ = [
    "Artifacts",
    "ConversationManager",
    "Features",
    "Locks",
    "Observations",
    "RunStates",
    "Sessions",
    "Signals",
    "StateManager",
    "Stores",
    "ValueStore",
    "open_stores",
]

P = ParamSpec("P")
T = TypeVar("T")


class ValueStore(Blocking[AsyncValueStore[T]], Generic[T]):
    """``flowpersist.stores.ValueStore`` of a blocking hub."""

    save = verb(AsyncValueStore[T].save)
    load = verb(AsyncValueStore[T].load)
    update = verb(AsyncValueStore[T].update, threaded="change")
    delete = verb(AsyncValueStore[T].delete)
    copy = verb(AsyncValueStore[T].copy)
    load_many = verb(AsyncValueStore[T].load_many)
    save_many = verb(AsyncValueStore[T].save_many)
    keys = verb(AsyncValueStore[T].keys)
    items = verb(AsyncValueStore[T].items)
    iterate = iterated(AsyncValueStore[T].iterate)
    delete_many = verb(AsyncValueStore[T].delete_many)
    watch = iterated(AsyncValueStore[T].watch)
    cleanup = verb(AsyncValueStore[T].cleanup)


class RunStates(Blocking[AsyncRunStates]):
    """The run states of a blocking hub: ``Stores.run_state``."""

    @property
    def name(self) -> str:
        """The backend's."""
        return self._wrapped.name

    init = verb(AsyncRunStates.init)
    save_state = verb(AsyncRunStates.save_state)
    load_state = verb(AsyncRunStates.load_state)
    delete_state = verb(AsyncRunStates.delete_state)
    cleanup_old_states = verb(AsyncRunStates.cleanup_old_states)
    load_versioned = verb(AsyncRunStates.load_versioned)
    save_versioned = verb(AsyncRunStates.save_versioned)


class Locks(Blocking[AsyncLocks]):
    """``flowpersist.stores.Locks`` of a blocking hub. A block in ``held`` is not interrupted when its lease is lost:
    ``LeaseLost`` is raised at its end.
    """

    acquire = verb(AsyncLocks.acquire)
    renew = verb(AsyncLocks.renew)
    release = verb(AsyncLocks.release)
    holders = verb(AsyncLocks.holders)
    held = entered(AsyncLocks.held)


class Signals(Blocking[AsyncSignals]):
    """``flowpersist.stores.Signals`` of a blocking hub."""

    set = verb(AsyncSignals.set)
    clear = verb(AsyncSignals.clear)
    apply = verb(AsyncSignals.apply)
    get = verb(AsyncSignals.get)
    all = verb(AsyncSignals.all)
    watch = iterated(AsyncSignals.watch)
    wait_for = verb(AsyncSignals.wait_for)


class Observations(Blocking[AsyncObservations]):
    """The observations of a blocking hub: ``Stores.observations``."""

    add = verb(AsyncObservations.add)
    recent = verb(AsyncObservations.recent)
    between = verb(AsyncObservations.between)
    count = verb(AsyncObservations.count)

    def keeping(self, *, days: int = 7, max_entries: int = 10_000) -> Observations:
        """The same observations, for whoever adds with another retention. It holds for what is added by it.

        - ``days``: how long each is kept.
        - ``max_entries``: how many of each agent are kept, as the newest of them says.
        """
        return Observations(self._portal, lambda: self._wrapped.keeping(days=days, max_entries=max_entries))


class Artifacts(Blocking[AsyncArtifacts]):
    """The artifacts of a blocking hub: ``Stores.artifacts``. ``write`` takes bytes, or an async iterator of them."""

    write = verb(AsyncArtifacts.write)
    open = iterated(AsyncArtifacts.open)
    list = verb(AsyncArtifacts.list)
    delete = verb(AsyncArtifacts.delete)


class Features(Blocking[AsyncFeatures]):
    """The features of a blocking hub: ``Stores.features``."""

    @property
    def namespace(self) -> str:
        """Where the records stand, for a query of one's own."""
        return self._wrapped.namespace

    save = verb(AsyncFeatures.save)
    load = verb(AsyncFeatures.load)
    history = verb(AsyncFeatures.history)


class ConversationManager(Owner[AsyncConversationManager]):
    """``flowpersist.stores.ConversationManager`` for synchronous code. A plain handler runs in a thread.

    - ``store``: the ``run_state`` of a blocking ``Stores``, on whose hub the turns run then; or a ``RunStateStore``, as
      the async one takes it, that no event loop uses yet: the manager has a loop of its own, and its ``close`` closes
      the store where that has an async ``close``; None: the one that the environment names.
    - ``slow``: a load or save that takes longer is logged, with the backend, the verb and the milliseconds.
    - ``runtime``: the clock, and the waits before a turn runs again.
    """

    def __init__(
        self,
        store: RunStates | RunStateStore | None = None,
        *,
        slow: timedelta = timedelta(milliseconds=200),
        runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    ) -> None:
        if isinstance(store, RunStates):
            portal, inner = store._portal, store._wrapped  # noqa: SLF001 - of this package
            super().__init__(portal, lambda: AsyncConversationManager(inner, slow=slow, runtime=runtime))
            self._unclosed.detach()
        else:
            own = Portal(lambda: _conversation(AsyncConversationManager(store, slow=slow, runtime=runtime)), "manager")
            super().__init__(own, lambda: own.value)
        self._shared = isinstance(store, RunStates)

    def __enter__(self) -> Self:
        """Open the store. Raises ``StorageError``."""
        try:
            self._portal.call(self._wrapped.__aenter__)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close the store, unless it is of a ``Stores``. Twice: a no-op."""
        if not self._shared:
            super().close()

    turn = verb(AsyncConversationManager.turn, threaded="handler")


@asynccontextmanager
async def _conversation(manager: AsyncConversationManager) -> AsyncIterator[AsyncConversationManager]:
    async with AsyncExitStack() as stack:
        close = getattr(manager.store, "close", None)
        if inspect.iscoroutinefunction(close):
            stack.push_async_callback(close)
        yield manager


def _collection(
    method: Callable[Concatenate[AsyncStores, P], AsyncValueStore[T]],
) -> Callable[Concatenate[Blocking[AsyncStores], P], ValueStore[T]]:
    def forwarded(self: Blocking[AsyncStores], /, *args: P.args, **kwargs: P.kwargs) -> ValueStore[T]:
        return ValueStore(self._portal, lambda: method(self._wrapped, *args, **kwargs))

    return as_if(forwarded, method)


class StateManager(Blocking[AsyncStateManager[T]], Generic[T]):
    """``flowpersist.stores.StateManager`` of a blocking hub: ``Stores.state``. Its ``merge``, ``default`` and
    ``validate`` run on the hub's event loop, where they can't use the hub.
    """

    @property
    def degraded(self) -> bool:
        """Whether the store can't be reached, and work goes on in memory."""
        return self._wrapped.degraded

    @property
    def info(self) -> StateInfo | None:
        """Of the state that was last loaded from the store or saved there; None before that."""
        return self._wrapped.info

    load = verb(AsyncStateManager[T].load)
    save = verb(AsyncStateManager[T].save)
    edit = entered(AsyncStateManager[T].edit)
    close = verb(AsyncStateManager[T].close)


def _managed(
    method: Callable[Concatenate[AsyncStores, P], AsyncStateManager[T]],
) -> Callable[Concatenate[Blocking[AsyncStores], P], StateManager[T]]:
    def forwarded(self: Blocking[AsyncStores], /, *args: P.args, **kwargs: P.kwargs) -> StateManager[T]:
        return StateManager(self._portal, lambda: method(self._wrapped, *args, **kwargs))

    return as_if(forwarded, method)


def _project(
    method: Callable[Concatenate[AsyncStores, P], AsyncStores],
) -> Callable[Concatenate[Blocking[AsyncStores], P], Stores]:
    def forwarded(self: Blocking[AsyncStores], /, *args: P.args, **kwargs: P.kwargs) -> Stores:
        made = Stores.__new__(Stores)
        Blocking.__init__(made, self._portal, lambda: method(self._wrapped, *args, **kwargs))
        return made

    return as_if(forwarded, method)


class Sessions(Blocking[AsyncSessions]):
    """The sessions, identities and profiles of people on a blocking hub: ``Stores.sessions``."""

    get_state = verb(AsyncSessions.get_state)
    save_state = verb(AsyncSessions.save_state)
    list_states = verb(AsyncSessions.list_states)
    delete_state = verb(AsyncSessions.delete_state)
    get_context = verb(AsyncSessions.get_context)
    save_context = verb(AsyncSessions.save_context)
    list_contexts = verb(AsyncSessions.list_contexts)
    delete_context = verb(AsyncSessions.delete_context)
    get_identity = verb(AsyncSessions.get_identity)
    get_identities = verb(AsyncSessions.get_identities)
    save_identity = verb(AsyncSessions.save_identity)
    list_identities = verb(AsyncSessions.list_identities)
    delete_identity = verb(AsyncSessions.delete_identity)
    get_user = verb(AsyncSessions.get_user)
    save_user = verb(AsyncSessions.save_user)
    list_users = verb(AsyncSessions.list_users)
    delete_user = verb(AsyncSessions.delete_user)
    get_session = verb(AsyncSessions.get_session)
    save_session = verb(AsyncSessions.save_session)
    list_sessions = verb(AsyncSessions.list_sessions)
    delete_session = verb(AsyncSessions.delete_session)
    resume_session = verb(AsyncSessions.resume_session)
    export = iterated(AsyncSessions.export)
    import_ = verb(AsyncSessions.import_)
    forget = verb(AsyncSessions.forget)
    cleanup = verb(AsyncSessions.cleanup)


class Stores(Blocking[AsyncStores]):
    """``flowpersist.stores.Stores`` on a blocking hub.

    - ``hub``: a ``Hub`` of ``flowpersist.blocking``.
    - ``tenant``: whose values these are; the stores of one tenant see nothing of another's.
    """

    def __init__(self, hub: Hub, *, tenant: str | None = None) -> None:
        portal, inner = parts(hub)
        super().__init__(portal, lambda: AsyncStores(inner, tenant=tenant))

    values = _collection(AsyncStores.values)
    project = _project(AsyncStores.project)
    delete_project = verb(AsyncStores.delete_project)
    cleanup = verb(AsyncStores.cleanup)
    state = _managed(AsyncStores.state)

    @property
    def run_state(self) -> RunStates:
        """The run states: a text for each subject."""
        return RunStates(self._portal, lambda: self._wrapped.run_state)

    @property
    def sessions(self) -> Sessions:
        """The sessions, identities and profiles of people."""
        return Sessions(self._portal, lambda: self._wrapped.sessions)

    @property
    def locks(self) -> Locks:
        """The locks of agents."""
        return Locks(self._portal, lambda: self._wrapped.locks)

    @property
    def signals(self) -> Signals:
        """The signals of agents."""
        return Signals(self._portal, lambda: self._wrapped.signals)

    @property
    def observations(self) -> Observations:
        """What agents have noted, in order."""
        return Observations(self._portal, lambda: self._wrapped.observations)

    @property
    def artifacts(self) -> Artifacts:
        """Files of any size that agents hand on."""
        return Artifacts(self._portal, lambda: self._wrapped.artifacts)

    @property
    def features(self) -> Features:
        """What is to be built, and its earlier versions."""
        return Features(self._portal, lambda: self._wrapped.features)


@contextmanager
def open_stores(
    url: str | StorageBackend | StoreConfig | None = None, *, tenant: str | None = None, **options: Unpack[HubOptions]
) -> Iterator[Stores]:
    """The stores on a hub of their own for the length of a ``with`` block, with the arguments of ``open_hub``.

    - ``url``: a URL, a backend, or a ``StoreConfig``; None: ``FLOWPERSIST_URL``.
    - ``tenant``: as ``Stores`` takes it.
    - ``options``: the others of ``open_hub``.

    Raises what ``open_hub`` raises.
    """
    with open_hub(url.url if isinstance(url, StoreConfig) else url, **options) as hub:
        yield Stores(hub, tenant=tenant)
