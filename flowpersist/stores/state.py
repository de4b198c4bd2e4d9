"""``StateManager``: one state that is checked before it is saved, and is kept in memory while its store is down.

A state is encoded as soon as it is handed in, so that what is in memory is as it was then.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType, UnionType
from typing import Any, Final, Generic, Protocol, Self, TypeAlias, Unpack, get_origin, runtime_checkable

from returns.result import Failure, Result, Success
from typing_extensions import TypeVar, is_typeddict

from flowpersist.backends.base import StorageBackend
from flowpersist.backends.store_config import StoreConfig
from flowpersist.codec import Codec
from flowpersist.codec.versions import VersionedCodec
from flowpersist.errors import ConfigurationError, PersistenceError, RevisionConflict
from flowpersist.errors.arguments import (
    check_callable,
    check_class,
    check_flag,
    check_instance,
    check_optional,
    check_whole,
)
from flowpersist.errors.secrecy import discreet, forgetting
from flowpersist.hub.late import LateCollection
from flowpersist.hub.opening import HubOptions
from flowpersist.hub.outcome import attempt, or_raise
from flowpersist.inputs.rules import rules_of
from flowpersist.sealed.encoding import encoded, in_thread_if_large
from flowpersist.sealed.keeping import KeptValue
from flowpersist.sealed.marked import Held, MarkedValue, StateInfo
from flowpersist.sealed.naming import Key, parts_of
from flowpersist.stores.values import ValueStore

__all__ = ["StateManager", "StateOptions", "StateSource", "late"]

S = TypeVar("S", default=Any)
log = logging.getLogger("flowpersist.stores")
COLLECTION: Final = "state"
_ANY: Final[Any] = object


@runtime_checkable
class _Stores(Protocol):
    """``Stores``, which knows this module."""

    hub: Any

    def values(self, name: str, cls: type[Any] = ..., *, listed: bool = False) -> ValueStore[Any]: ...


StateSource: TypeAlias = _Stores | ValueStore[Any] | str | StorageBackend | StoreConfig


def late(store: StateSource | LateCollection, options: HubOptions) -> LateCollection:
    """The collection that a manager's ``store`` names."""
    if isinstance(store, LateCollection):
        return store
    takes = "a Stores, a ValueStore, a URL, a backend, or a StoreConfig"
    check_instance(store, "store", (_Stores, ValueStore, str, StorageBackend, StoreConfig), takes)
    if isinstance(store, str | StorageBackend | StoreConfig):
        return LateCollection(store.url if isinstance(store, StoreConfig) else store, COLLECTION, options)
    if options:
        raise ConfigurationError(f"Invalid {min(options)}: pass it where the store is opened", min(options))
    values = store if isinstance(store, ValueStore) else store.values(COLLECTION)
    return LateCollection(values.collection, COLLECTION, options)


class StateOptions(HubOptions, total=False):
    """What ``StateManager`` takes beside ``store``, ``key`` and ``cls``; see there."""

    schema_version: int
    upgrades: Mapping[int, Callable[[Any], Any]]
    validate: Mapping[str, object] | type | Callable[[Any], object] | None
    merge: Callable[[Any, Any, Any], Any] | None
    strict: bool
    default: Callable[[], Any] | None
    by: str | None


class StateManager(Generic[S]):
    """One state in a store. What it opens is closed by ``async with``, by ``close``, or with the event loop.

    - ``store``: a ``Stores``, a ``ValueStore``, a URL, a backend, or a ``StoreConfig``.
    - ``key``: a text, or a tuple of texts and integers. Managers of one key share the state.
    - ``cls``: the state's class, a TypedDict, or a form such as ``dict[str, int]``.
    - ``schema_version``: of the state, from 1 on.
    - ``upgrades``: for each older version a function to the next: of the fields by name where the state is an object of
      ``cls``, and of the whole state else.
    - ``validate``: a JSON Schema, a class, or a function that raises or returns False; None: the rules of ``cls``.
    - ``merge``: ``merge(base, ours, theirs)``, plain or async, where another came first; None: ``RevisionConflict``.
    - ``strict``: raise where the store can't be reached, instead of going on in memory.
    - ``default``: makes the state that ``edit`` begins with; None: ``cls()``.
    - ``by``: who saves.
    - ``options``: those of ``open_hub``, where the store is not open yet.

    ``load`` and ``save`` of a manager are for one task at a time. Raises ``ConfigurationError``.
    """

    def __init__(
        self,
        store: StateSource | LateCollection,
        key: Key,
        *,
        cls: type[S] = _ANY,
        schema_version: int = 1,
        upgrades: Mapping[int, Callable[[Any], Any]] = MappingProxyType({}),
        validate: Mapping[str, object] | type | Callable[[S], object] | None = None,
        merge: Callable[[S | None, S, S], S | Awaitable[S]] | None = None,
        strict: bool = False,
        default: Callable[[], S] | None = None,
        by: str | None = None,
        **options: Unpack[HubOptions],
    ) -> None:
        self._late = late(store, options)
        self._cls: Any = dict if is_typeddict(cls) else get_origin(cls) or cls
        check_class(cls if self._cls is UnionType else self._cls, "cls")
        check_whole(schema_version, "schema_version")
        check_flag(strict, "strict")
        check_optional(merge, "merge", check_callable)
        check_optional(default, "default", check_callable)
        check_instance(by, "by", (str, type(None)), "a str or None")
        self._schema, self._upgrades, self._merge, self._default = schema_version, upgrades, merge, default
        self._rules = rules_of(cls, validate, what="the state")
        self._coding = self._coded_by(self._late.codec)
        marked = MarkedValue(self._late.collection, parts_of(key), schema_version, by, self._merged)
        self._kept = KeptValue(marked, strict=strict, runtime=lambda: self._late.runtime)
        self._edits, self._editing = asyncio.Lock(), False
        #: What the next save replaces.
        self._base = self._kept.held

    @property
    def degraded(self) -> bool:
        """Whether the store can't be reached, and work goes on in memory."""
        return self._kept.degraded

    @property
    def info(self) -> StateInfo | None:
        """Of the state that was last loaded from the store or saved there; None before that."""
        return self._kept.held.info

    @discreet
    async def load(self) -> S | None:
        """The state, None where none is stored; while the store is down, what is in memory.

        Raises ``UnsupportedVersion`` for a later schema version, ``UnexpectedType``, and what ``ValueStore.load``
        raises.
        """
        held = or_raise(await self._kept.current())
        state = await self._state(held)
        # What could not be read must not be replaced.
        self._base = self._base if self._editing else held
        return state

    @discreet
    async def save(self, state: S) -> None:
        """Save a state in the place of the one that was last loaded or saved. In the block of ``edit`` it is a
        checkpoint.

        - ``state``: of the manager's class.

        Raises ``InputValidationError``, ``SerializationError``, ``StorageError``, and ``RevisionConflict`` where
        another came first. Then nothing was saved.
        """
        data = or_raise(await self._encoded(state))
        self._base = or_raise(await self._kept.save(data, self._base))

    @asynccontextmanager
    async def edit(self, *, save_on_error: bool = False, current: Callable[[], S] | None = None) -> AsyncIterator[S]:
        """Load the state, hand it out to be changed, and save it at the end of the block. Edits of one manager wait for
        each other.

        - ``save_on_error``: save also where the block raises; else that saves nothing.
        - ``current``: gives the state, where that may become another object than the one that was handed out.

        Raises what ``load`` and ``save`` raise.
        """
        check_flag(save_on_error, "save_on_error")
        check_optional(current, "current", check_callable)
        with forgetting():
            async with self._edits:
                held = or_raise(await self._kept.current())
                loaded = await self._state(held)
                state = self._first(current) if loaded is None else loaded
                self._base, self._editing = held, True
                try:
                    yield state
                except BaseException:
                    if save_on_error:
                        saved = await attempt(self.save(state if current is None else current()))
                        saved.alt(lambda error: log.warning("a state was not saved after a failure (%s)", error.code))
                    raise
                else:
                    await self.save(state if current is None else current())
                finally:
                    self._editing = False

    @discreet
    async def close(self) -> None:
        """Save what is in memory, and close what was opened. Twice: a no-op. Raises what ``save`` raises."""
        try:
            self._base = or_raise(await self._kept.close())
        finally:
            await self._late.close()

    async def __aenter__(self) -> Self:
        """Nothing: the first call opens the store."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Call ``close``."""
        await self.close()

    def _coded_by(self, codec: Codec) -> VersionedCodec:
        return VersionedCodec.of(codec, self._cls, f"flowpersist:{COLLECTION}", self._schema, self._upgrades)

    async def _encoded(self, state: S) -> Result[bytes, PersistenceError]:
        check_instance(state, "state", self._cls, self._cls.__qualname__)
        if self._coding.base is not self._late.codec:
            # The store was opened, or has another keyring.
            self._coding = self._coded_by(self._late.codec)
        codec, rules = self._coding.codec, self._rules

        def checked(data: bytes) -> Result[bytes, PersistenceError]:
            # What was encoded, since the state may change meanwhile.
            return Success(data) if rules is None else codec.decode(data).bind(rules).map(lambda _: data)

        return await encoded(codec, state, checked)

    async def _state(self, held: Held) -> S | None:
        if held.data is None:
            return None
        coding = self._coding
        state: S = or_raise(await in_thread_if_large(lambda data: coding.decode(data, held.schema), held.data))
        return state

    def _first(self, current: Callable[[], S] | None) -> S:
        if current is not None and (given := current()) is not None:
            return given
        if self._default is not None:
            return self._default()
        try:
            made: Any = (dict if self._cls is object else self._cls)()
        except TypeError:
            message = f"Missing default: there is no state yet, and {self._cls.__qualname__} takes arguments"
            raise ConfigurationError(f"{message}; pass a function that makes the first state", "default") from None
        first: S = made
        return first

    async def _merged(self, base: Held, data: bytes, theirs: Held) -> Result[bytes, PersistenceError]:
        if self._merge is None:
            message = "another has saved the state since it was loaded; load it and decide again, or pass merge"
            return Failure(RevisionConflict(message))
        states: Any = [await self._state(one) for one in (base, Held(data, self._schema), theirs)]
        merged: Any = self._merge(*states)
        return await self._encoded(await merged if inspect.isawaitable(merged) else merged)
