"""Opening a hub: settings from code and environment, keyring, backend, and all of it closed again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from enum import Enum
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, TypedDict

from attrs import frozen
from returns.result import Failure

from flowpersist.backends.base import Migrating, NamespaceSchema, StorageBackend, check_text
from flowpersist.backends.blobs import BlobStore, blob_store_from_url
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import (
    check_callable,
    check_choice,
    check_duration,
    check_flag,
    check_instance,
    check_items,
    check_mapping,
    check_pause,
    check_size,
    check_str,
    mistyped,
    out_of_range,
)
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.answer_checks import AnswerChecks, Check
from flowpersist.hub.audit_trail import AuditTrail
from flowpersist.hub.base import HubDefaults
from flowpersist.hub.event_log import EventLog
from flowpersist.hub.events import Event
from flowpersist.hub.large_answers import LargeAnswers
from flowpersist.hub.side_records import (
    SideRecords,
    answers_of,
    entries_of,
    events_of,
    receipts_of,
    side_schemas,
    steps_of,
)
from flowpersist.hub.step_log import StepLog
from flowpersist.hub.transactions import Authorizer, Suspensions
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.keys.keyring import KeyProvider, KeyRing
from flowpersist.lifecycle.indexing import schema
from flowpersist.lifecycle.model import Head, LargeAnswer, LoggedEvents, LoggedSteps, MovedEntries, MovedReceipt
from flowpersist.sealed.dictionaries import DictionaryStore, dictionary_schema
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.retrying import Runtime
from flowpersist.settings import PUBLIC_URL, PUBLIC_URL_TAKES, Settings
from flowpersist.stages.compress import COMPRESSIONS

__all__ = ["FROM_ENV", "HubOptions", "SchemaMigration", "check_options", "migrate", "open_hub"]

log = logging.getLogger("flowpersist")


class FromEnvironment(Enum):
    """The type of ``FROM_ENV``: the setting of that name in the environment, or its default."""

    FROM_ENV = "from the environment"


FROM_ENV: Final = FromEnvironment.FROM_ENV


class HubOptions(TypedDict, total=False):
    """What ``open_hub`` and ``RaisingHub.open`` take beside the URL; see ``open_hub``."""

    keyring: KeyRing | KeyProvider | FromEnvironment | None
    types: TypeRegistry | Iterable[type]
    limits: Limits | FromEnvironment
    compression: str | FromEnvironment
    dictionaries: bool | FromEnvironment
    namespace: str
    default_timeout: timedelta | FromEnvironment | None
    retention: timedelta | FromEnvironment
    authorizer: Authorizer | None
    on_event: Callable[[Event], object] | None
    public_url: str | FromEnvironment | None
    runtime: Runtime | FromEnvironment
    settings: Settings | FromEnvironment
    blobs: str | BlobStore | FromEnvironment | None
    blobs_from: int | FromEnvironment
    debug: bool | FromEnvironment
    create: bool
    verify: bool
    checks: Mapping[str, Check]
    audit: bool


@asynccontextmanager
async def open_hub(
    url: str | StorageBackend | None = None,
    *,
    keyring: KeyRing | KeyProvider | FromEnvironment | None = FROM_ENV,
    types: TypeRegistry | Iterable[type] = (),
    limits: Limits | FromEnvironment = FROM_ENV,
    compression: str | FromEnvironment = FROM_ENV,
    dictionaries: bool | FromEnvironment = FROM_ENV,
    namespace: str = "default",
    default_timeout: timedelta | FromEnvironment | None = FROM_ENV,
    retention: timedelta | FromEnvironment = FROM_ENV,
    authorizer: Authorizer | None = None,
    on_event: Callable[[Event], object] | None = None,
    public_url: str | FromEnvironment | None = FROM_ENV,
    runtime: Runtime | FromEnvironment = FROM_ENV,
    settings: Settings | FromEnvironment = FROM_ENV,
    blobs: str | BlobStore | FromEnvironment | None = FROM_ENV,
    blobs_from: int | FromEnvironment = FROM_ENV,
    debug: bool | FromEnvironment = FROM_ENV,
    create: bool = True,
    verify: bool = False,
    checks: Mapping[str, Check] = MappingProxyType({}),
    audit: bool = True,
) -> AsyncIterator[PersistenceHub]:
    """A hub for the length of an ``async with`` block. What is left out comes from the environment.

    - ``url``: a URL such as ``sqlite:///flows.db``, or a backend; None: ``FLOWPERSIST_URL``.
    - ``keyring``: a ``KeyRing`` or a ``KeyProvider``; None: plaintext.
    - ``types``: the classes that states may hold, or a ``TypeRegistry``.
    - ``limits``: the bounds on a state, a ``Limits``.
    - ``compression``: ``auto``, ``zstd``, ``gzip`` or ``none``.
    - ``dictionaries``: whether small states are compressed with the namespace's newest trained dictionary. Any hub
      reads them.
    - ``namespace``: what separates hubs in one store; each sees only its own.
    - ``default_timeout``: how long waits stay open that name no timeout; None: they never expire.
    - ``retention``: how long closed suspensions are kept, so that late callers learn how they ended.
    - ``authorizer``: asked before each verb whether it is allowed.
    - ``on_event``: called with an ``Event`` after each durable change, and to deliver reminders and escalations, which
      a hub that ticks or works can't do without it.
    - ``public_url``: where people answer; ``NewSuspension.link`` appends the key.
    - ``runtime``: the clock, randomness, retries, and how long a call takes before it is logged as slow.
    - ``settings``: a ``Settings``, in place of the environment.
    - ``blobs``: where large bodies are kept, as a URL or a ``BlobStore``; None: with their records.
    - ``blobs_from``: the size in bytes from which a body is a large one.
    - ``debug``: whether exceptions of handlers, tools and observers are logged with messages that may hold state.
    - ``create``: False refuses a store that does not exist or lacks a part of this release's schema, and makes nothing.
    - ``verify``: decode each value that is stored, and compare it, before it is stored.
    - ``checks``: functions that answers must pass, by the names that AwaitInputs give: each is given the answer, and
      returns None, a text, or Problems. They may be coroutine functions, and have 10 seconds together.
    - ``audit``: whether this hub's changes are entries of their suspensions' audit trails, for ``history``.

    Raises ``ConfigurationError`` where a setting is not valid and ``StorageError`` where the store can't be opened.
    What was opened is closed at the end of the block, a backend that was passed in too.
    """
    # At this point the locals are the arguments, each under its own name.
    check_options(dict(locals()))
    settings = Settings.from_environ() if isinstance(settings, FromEnvironment) else settings
    ring = await _ring(keyring, settings)
    sealer = Sealer(
        codec=Codec(
            types=types,
            limits=_chosen(limits, Limits(max_bytes=settings.max_state_bytes)),
            verify=verify,
        ),
        compression=_chosen(compression, settings.compression),
        keyring=ring,
    )
    backend = _backend(url, settings, blobs, blobs_from)
    chosen_runtime = _chosen(runtime, Runtime(slow=timedelta(milliseconds=settings.slow_ms)))
    records = SealedRecords(backend, sealer, namespace, Head, runtime=chosen_runtime)
    trained = DictionaryStore(records, used=_chosen(dictionaries, settings.dictionaries))
    suspensions = Suspensions(
        records,
        _side_records(backend, sealer, namespace, chosen_runtime, audit=audit),
        prefix=settings.key_prefix,
        authorizer=authorizer,
        on_event=on_event,
        tracebacks=_tracebacks(_chosen(debug, settings.debug)),
    )
    defaults = HubDefaults(
        namespace=namespace,
        timeout=_chosen(default_timeout, settings.default_timeout),
        retention=_chosen(retention, settings.retention),
        public_url=_chosen(public_url, settings.public_url),
    )
    try:
        if not create:
            await _check_there(backend, namespace)
        await backend.open(_schema(namespace))
        if trained.used:
            loaded = await trained.load()
            if isinstance(loaded, Failure):
                raise loaded.failure()
        hub = PersistenceHub(suspensions, defaults, trained, AnswerChecks(dict(checks), suspensions.tracebacks))
        with hub.exits:
            yield hub
    finally:
        await backend.close()


def _side_records(
    backend: StorageBackend, sealer: Sealer, namespace: str, runtime: Runtime, *, audit: bool
) -> SideRecords:
    """The records beside suspensions: moved receipts and audit entries, large answers, logs and events of runs."""
    receipts = SealedRecords(backend, sealer, receipts_of(namespace), MovedReceipt, purpose="receipt", runtime=runtime)
    answers = SealedRecords(backend, sealer, answers_of(namespace), LargeAnswer, purpose="answer", runtime=runtime)
    steps = SealedRecords(backend, sealer, steps_of(namespace), LoggedSteps, runtime=runtime)
    entries = SealedRecords(backend, sealer, entries_of(namespace), MovedEntries, purpose="audit", runtime=runtime)
    events = SealedRecords(backend, sealer, events_of(namespace), LoggedEvents, runtime=runtime)
    trail = AuditTrail(entries, kept=audit)
    return SideRecords(receipts, LargeAnswers(answers), StepLog(steps), trail, EventLog(events))


@frozen
class SchemaMigration:
    """The statements that a store needed for a hub to be opened on it, in their order, and whether they were run."""

    backend: str
    statements: tuple[str, ...]
    applied: bool


async def migrate(
    url: str | StorageBackend | None = None,
    *,
    plan: bool = False,
    namespace: str = "default",
    settings: Settings | FromEnvironment = FROM_ENV,
) -> SchemaMigration:
    """Bring a store's schema up to this release, as ``open_hub`` does by itself; with ``plan`` only say how.

    A store that knows no schema needs nothing. Raises what ``open_hub`` raises, ``UnsupportedVersion`` among it.
    """
    check_options({"url": url, "namespace": namespace, "settings": settings})
    check_flag(plan, "plan")
    backend = _backend(url, Settings.from_environ() if isinstance(settings, FromEnvironment) else settings)
    wanted = _schema(namespace)
    statements = await backend.plan(wanted) if isinstance(backend, Migrating) else ()
    if not plan:
        try:
            await backend.open(wanted)
        finally:
            await backend.close()
    return SchemaMigration(backend.name, statements, not plan)


async def _check_there(backend: StorageBackend, namespace: str) -> None:
    """Refuse a store that opening would have to make, or to migrate."""
    if isinstance(backend, Migrating) and await backend.plan(_schema(namespace)):
        message = (
            f"the {backend.name} store is not there, or lacks tables or indexes of this release: "
            "check the URL, or make and migrate it with flowpersist migrate"
        )
        raise ConfigurationError(message, "FLOWPERSIST_URL")


def _check_url(url: object, name: str) -> None:
    if isinstance(url, PurePath):
        mistyped(name, "a URL such as sqlite:///flows.db (a path is written file:… or sqlite:///…), or a backend", url)
    check_instance(url, name, (str, StorageBackend), "a URL such as sqlite:///flows.db, a backend, or None")


def _check_types(types: object, name: str) -> None:
    if not isinstance(types, TypeRegistry):
        check_items(types, name, "a TypeRegistry, or the classes for one")


def _check_namespace(namespace: object, name: str) -> None:
    # What stands beside it has a longer name.
    if not check_text(namespace, name):
        out_of_range(name, "a str that is not empty", "an empty one")
    _schema(str(namespace))


def _check_public_url(url: object, name: str) -> None:
    check_str(url, name)
    if not PUBLIC_URL.fullmatch(str(url)):
        out_of_range(name, PUBLIC_URL_TAKES, "another")


def _check_checks(checks: object, name: str) -> None:
    check_mapping(checks, name)
    given: Mapping[object, object] = checks  # type: ignore[assignment]
    for key, check in given.items():
        check_text(key, f"a name in {name}")
        check_callable(check, f"{name}[{key!r}]")


def _of(kinds: type | tuple[type, ...], takes: str) -> Callable[[object, str], None]:
    return lambda value, name: check_instance(value, name, kinds, takes)


#: None and ``FROM_ENV`` pass where the signature has them as a default or beside it.
_CHECKS: Final[Mapping[str, Callable[[object, str], None]]] = MappingProxyType(
    {
        "url": _check_url,
        "keyring": _of((KeyRing, KeyProvider), "a KeyRing, a KeyProvider or None"),
        "types": _check_types,
        "limits": _of(Limits, "a Limits"),
        "compression": lambda value, name: check_choice(value, name, COMPRESSIONS),
        "dictionaries": check_flag,
        "namespace": _check_namespace,
        "default_timeout": check_duration,
        "retention": check_pause,
        "authorizer": check_callable,
        "on_event": check_callable,
        "public_url": _check_public_url,
        "runtime": _of(Runtime, "a Runtime"),
        "settings": _of(Settings, "a Settings"),
        "blobs": _of((str, BlobStore), "a URL such as file:///dir or s3://bucket/prefix, a BlobStore, or None"),
        "blobs_from": check_size,
        "create": check_flag,
        "verify": check_flag,
        "checks": _check_checks,
        "audit": check_flag,
        "debug": check_flag,
    }
)
_MAY_BE_NONE: Final = frozenset({"url", "keyring", "default_timeout", "authorizer", "on_event", "public_url", "blobs"})


def check_options(given: Mapping[str, object]) -> None:
    """Refuse invalid options of ``open_hub``, by their names."""
    for name, value in given.items():
        if value is not FROM_ENV and not (value is None and name in _MAY_BE_NONE):
            _CHECKS[name](value, name)


def _chosen(given: Any, otherwise: Any) -> Any:  # noqa: ANN401 - the caller's annotation says which
    return otherwise if given is FROM_ENV else given


def _tracebacks(whole: bool) -> Tracebacks:  # noqa: FBT001
    if whole:
        log.warning("debug is on: tracebacks are logged whole, and may hold state, answers and keys")
    return Tracebacks(whole)


def _schema(namespace: str) -> list[NamespaceSchema]:
    """The namespaces that a hub keeps its records in, with what it asks for."""
    return [schema(namespace), *side_schemas(namespace), dictionary_schema(namespace)]


def _backend(
    url: str | StorageBackend | None,
    settings: Settings,
    blobs: str | BlobStore | FromEnvironment | None = FROM_ENV,
    blobs_from: int | FromEnvironment = FROM_ENV,
) -> StorageBackend:
    url = settings.url if url is None else url
    if url is None:
        message = "Missing url: pass one such as sqlite:///flows.db, or set FLOWPERSIST_URL"
        raise ConfigurationError(message, "FLOWPERSIST_URL")
    backend = backend_from_url(url) if isinstance(url, str) else url
    apart = _chosen(blobs, settings.blobs_url)
    if apart is None or isinstance(backend, ClaimCheckBackend):
        return backend
    store = blob_store_from_url(apart) if isinstance(apart, str) else apart
    return ClaimCheckBackend(backend, store, from_bytes=_chosen(blobs_from, settings.blobs_from))


async def _ring(keyring: KeyRing | KeyProvider | FromEnvironment | None, settings: Settings) -> KeyRing | None:
    if keyring is None or isinstance(keyring, KeyRing):
        return keyring
    if not isinstance(keyring, FromEnvironment):
        return await keyring.keyring()
    ring = ring_of(settings)
    if ring is None:
        log.warning(
            "states are stored in plain text: set FLOWPERSIST_KEYS (flowpersist keygen makes one), "
            "or pass keyring=None to say so"
        )
    return ring


def ring_of(settings: Settings) -> KeyRing | None:
    """The keyring that settings name, None where they name none. Raises ``ConfigurationError`` for an unusable one."""
    if settings.keys is not None:
        return KeyRing.parse(settings.keys)
    return None if settings.keys_file is None else KeyRing.from_file(settings.keys_file)
