"""Opening a hub: settings from code and environment, keyring, backend, and all of it closed again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from types import MappingProxyType

from attrs import frozen
from returns.result import Failure

from flowpersist.backends.base import Migrating, StorageBackend
from flowpersist.backends.blobs import BlobStore, blob_store_from_url
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import (
    check_flag,
)
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.answer_checks import AnswerChecks, Check
from flowpersist.hub.audit_log import AuditLog
from flowpersist.hub.audit_trail import AuditTrail
from flowpersist.hub.base import HubDefaults
from flowpersist.hub.event_log import EventLog
from flowpersist.hub.events import Event
from flowpersist.hub.heads import Heads
from flowpersist.hub.keyrings import following, keys_of, ring_from
from flowpersist.hub.large_answers import LargeAnswers
from flowpersist.hub.ledger import ledger_of
from flowpersist.hub.namespaces import hub_schema
from flowpersist.hub.options import FROM_ENV, FromEnvironment, HubOptions, check_options, chosen
from flowpersist.hub.side_records import (
    SideRecords,
    answers_of,
    entries_of,
    events_of,
    receipts_of,
    steps_of,
)
from flowpersist.hub.step_log import StepLog
from flowpersist.hub.transactions import AnyAuthorizer, Suspensions
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.keys.key_file import KeyFile
from flowpersist.keys.keyring import KeyProvider, KeyRing
from flowpersist.lifecycle.model import LargeAnswer, LoggedEvents, LoggedSteps, MovedEntries, MovedReceipt
from flowpersist.sealed.dictionaries import DictionaryStore
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.retrying import Runtime
from flowpersist.settings import Settings

__all__ = ["FROM_ENV", "HubOptions", "SchemaMigration", "check_options", "hub_schema", "migrate", "open_hub"]

log = logging.getLogger("flowpersist")


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
    authorizer: AnyAuthorizer | None = None,
    on_event: Callable[[Event], object] | None = None,
    public_url: str | FromEnvironment | None = FROM_ENV,
    runtime: Runtime | FromEnvironment = FROM_ENV,
    settings: Settings | FromEnvironment = FROM_ENV,
    blobs: str | BlobStore | FromEnvironment | None = FROM_ENV,
    blobs_from: int | FromEnvironment = FROM_ENV,
    ledger: str | StorageBackend | FromEnvironment | None = FROM_ENV,
    debug: bool | FromEnvironment = FROM_ENV,
    create: bool = True,
    verify: bool = False,
    checks: Mapping[str, Check] = MappingProxyType({}),
    audit: bool = True,
    audit_retention: timedelta | FromEnvironment | None = FROM_ENV,
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
    - ``ledger``: a second store, as a URL or a backend, which detects suspensions that were put back; None: none.
    - ``debug``: whether exceptions of handlers, tools and observers are logged with messages that may hold state.
    - ``create``: False refuses a store that does not exist or lacks a part of this release's schema, and makes nothing.
    - ``verify``: decode each value that is stored, and compare it, before it is stored.
    - ``checks``: functions that answers must pass, by the names that AwaitInputs give: each is given the answer, and
      returns None, a text, or Problems. They may be coroutine functions, and have 10 seconds together.
    - ``audit``: whether this hub's changes are entries of their suspensions' audit trails, for ``history``.
    - ``audit_retention``: how long it keeps the trails of suspensions that it deletes; None: for ever; nothing: not.

    Raises ``ConfigurationError`` where a setting is not valid and ``StorageError`` where the store can't be opened.
    What was opened is closed at the end of the block, a backend that was passed in too.
    """
    # At this point the locals are the arguments, each under its own name.
    check_options(dict(locals()))
    settings = Settings.from_environ() if isinstance(settings, FromEnvironment) else settings
    keys = _keys(settings) if isinstance(keyring, FromEnvironment) else keyring
    sealer = Sealer(
        codec=Codec(
            types=types,
            limits=chosen(limits, Limits(max_bytes=settings.max_state_bytes)),
            verify=verify,
        ),
        compression=chosen(compression, settings.compression),
        keyring=await ring_from(keys),
    )
    backend = _backend(url, settings, blobs, blobs_from)
    chosen_runtime = chosen(runtime, Runtime(slow=timedelta(milliseconds=settings.slow_ms)))
    records = Heads(backend, sealer, namespace, runtime=chosen_runtime)
    records.ledger = ledger_of(records, chosen(ledger, settings.ledger_url))
    trained = DictionaryStore(records, used=chosen(dictionaries, settings.dictionaries))
    suspensions = Suspensions(
        records,
        _side_records(records, chosen(audit_retention, settings.audit_retention), audit=audit),
        prefix=settings.key_prefix,
        authorizer=authorizer,
        on_event=on_event,
        tracebacks=_tracebacks(chosen(debug, settings.debug)),
    )
    defaults = HubDefaults(
        namespace=namespace,
        timeout=chosen(default_timeout, settings.default_timeout),
        retention=chosen(retention, settings.retention),
        public_url=chosen(public_url, settings.public_url),
    )
    try:
        if not create:
            await _check_there(backend, namespace)
        await records.open_stores(hub_schema(namespace), create=create)
        if trained.used:
            loaded = await trained.load()
            if isinstance(loaded, Failure):
                raise loaded.failure()
        hub = PersistenceHub(suspensions, defaults, trained, AnswerChecks(dict(checks), suspensions.tracebacks))
        async with following(hub, keys):
            with hub.exits:
                yield hub
    finally:
        await records.close_stores()


def _side_records(of: Heads, audit_retention: timedelta | None, *, audit: bool) -> SideRecords:
    """The records beside suspensions: moved receipts and audit entries, large answers, logs and events of runs, and the
    pages of waits.
    """
    backend, sealer, namespace, runtime = of.backend, of.sealer, of.namespace, of.runtime
    receipts = SealedRecords(backend, sealer, receipts_of(namespace), MovedReceipt, purpose="receipt", runtime=runtime)
    answers = SealedRecords(backend, sealer, answers_of(namespace), LargeAnswer, purpose="answer", runtime=runtime)
    steps = SealedRecords(backend, sealer, steps_of(namespace), LoggedSteps, runtime=runtime)
    entries = SealedRecords(backend, sealer, entries_of(namespace), MovedEntries, purpose="audit", runtime=runtime)
    events = SealedRecords(backend, sealer, events_of(namespace), LoggedEvents, runtime=runtime)
    trail = AuditTrail.of(of, entries, audit_retention, kept=audit)
    log = AuditLog(of, kept=audit)
    return SideRecords(receipts, LargeAnswers(answers), StepLog(steps), trail, EventLog(events), of.pages, log)


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
    wanted = hub_schema(namespace)
    statements = await backend.plan(wanted) if isinstance(backend, Migrating) else ()
    if not plan:
        try:
            await backend.open(wanted)
        finally:
            await backend.close()
    return SchemaMigration(backend.name, statements, not plan)


async def _check_there(backend: StorageBackend, namespace: str) -> None:
    """Refuse a store that opening would have to make, or to migrate."""
    if isinstance(backend, Migrating) and await backend.plan(hub_schema(namespace)):
        message = (
            f"the {backend.name} store is not there, or lacks tables or indexes of this release: "
            "check the URL, or make and migrate it with flowpersist migrate"
        )
        raise ConfigurationError(message, "FLOWPERSIST_URL")


def _tracebacks(whole: bool) -> Tracebacks:  # noqa: FBT001
    if whole:
        log.warning("debug is on: tracebacks are logged whole, and may hold state, answers and keys")
    return Tracebacks(whole)


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
    apart = chosen(blobs, settings.blobs_url)
    if apart is None or isinstance(backend, ClaimCheckBackend):
        return backend
    store = blob_store_from_url(apart) if isinstance(apart, str) else apart
    return ClaimCheckBackend(backend, store, from_bytes=chosen(blobs_from, settings.blobs_from))


def _keys(settings: Settings) -> KeyRing | KeyFile | None:
    keys = keys_of(settings)
    if keys is None:
        log.warning(
            "states are stored in plain text: set FLOWPERSIST_KEYS (flowpersist keygen makes one), "
            "or pass keyring=None to say so"
        )
    return keys
