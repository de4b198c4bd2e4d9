"""The door to the stores: ``open_stores``, or ``Stores`` on a hub that is open already."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Unpack

from typing_extensions import TypeVar

from flowpersist.backends.base import StorageBackend, check_text
from flowpersist.backends.store_config import StoreConfig
from flowpersist.errors.arguments import (
    check_class,
    check_flag,
    check_instance,
    check_optional,
    check_str,
    out_of_range,
)
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.opening import HubOptions, open_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.sealed.catalogue import CollectionCatalog, collection_key, name_in, project_scope
from flowpersist.sealed.collection import SealedCollection
from flowpersist.sealed.naming import Key
from flowpersist.sealed.upkeep import keep_up
from flowpersist.stores.artifacts import ARTIFACTS, CLAIMS, PIECES, Artifacts
from flowpersist.stores.features import FEATURES, Features
from flowpersist.stores.locks import LOCKS, Locks
from flowpersist.stores.observations import OBSERVATIONS, Observations
from flowpersist.stores.run_state import COLLECTION, RunStates
from flowpersist.stores.sessions import SESSIONS, Sessions
from flowpersist.stores.signals import SIGNALS, Signals
from flowpersist.stores.single import SingleValues
from flowpersist.stores.state import StateManager, StateOptions
from flowpersist.stores.values import ValueStore

__all__ = ["Stores", "open_stores"]

T = TypeVar("T", default=Any)
V = TypeVar("V")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: The default of ``cls``: every value is an object, and is typed as Any.
_ANY: Final[Any] = object


class Stores:
    """The stores on an open hub: its backend, namespace, keyring, types and clock, and what becomes of them.

    - ``hub``: a ``PersistenceHub`` or a ``RaisingHub``.
    - ``tenant``: whose values these are; the stores of one tenant see nothing of another's.
    """

    def __init__(self, hub: PersistenceHub | RaisingHub, *, tenant: str | None = None) -> None:
        check_instance(hub, "hub", (PersistenceHub, RaisingHub), "a PersistenceHub or a RaisingHub")
        check_optional(tenant, "tenant", check_text)
        self.hub = hub.hub if isinstance(hub, RaisingHub) else hub
        self.tenant = tenant
        self._scope: str | None = None
        #: What was made, so that each collection is looked up once.
        self._made: dict[tuple[str, type, bool], ValueStore[Any]] = {}
        self._views: dict[str, Any] = {}

    def values(self, name: str, cls: type[T] = _ANY, *, listed: bool = False) -> ValueStore[T]:
        """The collection of that name, which is made at the first save.

        - ``name``: 1 to 64 characters of A-Z a-z 0-9 . _ -, the first of them a letter or a digit; it stands in clear.
        - ``cls``: the class that its values have. The hub's ``types`` must know it where it is not Python's own.
        - ``listed``: keep the keys in clear and in order, so that pages can be asked for by what texts begin with.
        """
        check_str(name, "name")
        if not _NAME.fullmatch(name):
            out_of_range(name="name", takes="1 to 64 characters of A-Z a-z 0-9 . _ -", value=repr(name))
        check_class(cls, "cls")
        check_flag(listed, "listed")
        made = self._made.get((name, cls, listed))
        if made is None:
            of, tenant, scope = self.hub.suspensions.records, self.tenant, self._scope
            collection = SealedCollection(of, name, listed=listed, tenant=tenant, scope=scope)
            made = self._made[name, cls, listed] = ValueStore(SingleValues(collection, cls))
        return made

    def project(self, name: str) -> Stores:
        """The stores of one project, which see nothing of another's and nothing of what is in no project.

        - ``name``: any text but an empty one. What a database sees of it is a digest.
        """
        _check_project(name)
        stores = Stores(self.hub, tenant=self.tenant)
        stores._scope = project_scope(self.tenant, name)
        return stores

    @discreet
    async def delete_project(self, name: str) -> int:
        """Delete all that the stores of a project hold; gives how many records went. Nothing of another project goes.

        - ``name``: of the project. One that nobody has saved anything to: 0.

        What others save meanwhile may stay: call it once the project's agents have ended. Raises ``StorageError``;
        then repeat it.
        """
        _check_project(name)
        return or_raise(await CollectionCatalog(self.hub.suspensions.records).remove(project_scope(self.tenant, name)))

    @discreet
    async def cleanup(self) -> dict[str, int]:
        """Delete what these stores need no more: values that have expired, observations beyond those that are kept,
        and what writes that were cut have left. Gives by the name of the collection how many records went.

        ``Maintenance.cleanup_stores`` does so for every tenant and project.
        """
        tenant, scope = self.tenant, self._scope
        meant = lambda key: key == collection_key(name_in(key), tenant, scope)  # noqa: E731
        return dict(or_raise(await keep_up(self.hub.suspensions.records, meant)))

    @property
    def run_state(self) -> RunStates:
        """The run states: a text for each subject."""
        return RunStates(self.values(COLLECTION, str))

    def state(self, key: Key, cls: type[T] = _ANY, **options: Unpack[StateOptions]) -> StateManager[T]:
        """The manager of one state, of the collection ``state``.

        - ``key``: a text, or a tuple of texts and integers. Managers of one key share the state.
        - ``cls``: the class of the state.
        - ``options``: those of ``StateManager``.
        """
        return StateManager(self, key, cls=cls, **options)

    @property
    def sessions(self) -> Sessions:
        """The sessions, identities and profiles of people."""
        return Sessions(self.values(SESSIONS, dict))

    @property
    def locks(self) -> Locks:
        """The locks of agents."""
        return self._once(LOCKS, lambda: Locks(self.values(LOCKS, list)))

    @property
    def signals(self) -> Signals:
        """The signals of agents."""
        return self._once(SIGNALS, lambda: Signals(self.values(SIGNALS, list)))

    @property
    def observations(self) -> Observations:
        """What agents have noted, in order."""
        return self._once(OBSERVATIONS, lambda: Observations(self.values(OBSERVATIONS)))

    @property
    def features(self) -> Features:
        """What is to be built, and its earlier versions."""
        return self._once(FEATURES, lambda: Features(self.values(FEATURES)))

    @property
    def artifacts(self) -> Artifacts:
        """Files of any size that agents hand on."""
        return self._once(ARTIFACTS, lambda: Artifacts(*map(self.values, (ARTIFACTS, PIECES, CLAIMS))))

    def _once(self, name: str, make: Callable[[], V]) -> V:
        # One for all calls: those who wait listen together, and those who append take turns.
        if name not in self._views:
            self._views[name] = make()
        view: V = self._views[name]
        return view


def _check_project(name: object) -> None:
    check_instance(name, "name", str, "a str")
    if not name:
        out_of_range("name", "a text that is not empty", "an empty one")


@asynccontextmanager
async def open_stores(
    url: str | StorageBackend | StoreConfig | None = None, *, tenant: str | None = None, **options: Unpack[HubOptions]
) -> AsyncIterator[Stores]:
    """The stores on a hub of their own for the length of an ``async with`` block, with the arguments of ``open_hub``.

    - ``url``: a URL, a backend, or a ``StoreConfig``; None: ``FLOWPERSIST_URL``.
    - ``tenant``: as ``Stores`` takes it.
    - ``options``: the others of ``open_hub``.

    Raises what ``open_hub`` raises.
    """
    async with open_hub(url.url if isinstance(url, StoreConfig) else url, **options) as hub:
        yield Stores(hub, tenant=tenant)
