"""How a store is, as data for whoever runs it. Nothing is opened that needs the state subkey, and nothing is secret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import BackendHealth, Migrating, Order, PoolUse, Record, RecordRef, Where
from flowpersist.errors import PersistenceError
from flowpersist.hub.base import HubBase
from flowpersist.hub.opening import hub_schema
from flowpersist.hub.telemetry import measure_pool
from flowpersist.lifecycle.indexing import EXPIRING
from flowpersist.lifecycle.model import Head, Status
from flowpersist.sealed.moved import unmoved
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.upkeep import Census, count_all
from flowpersist.sealed.walking import stored_pages
from flowpersist.stages.header import AUTHENTICATED, ENCRYPTED, PLAIN, parse_envelope

__all__ = ["Health", "health", "health_data"]

#: So many of the newest and of the oldest records are checked for how they are sealed.
LOOKED_AT: Final = 100
SEALS: Final = {PLAIN: "plain", AUTHENTICATED: "authenticated", ENCRYPTED: "encrypted"}
PLAIN_TEXT: Final = "are stored in plain text: set FLOWPERSIST_KEYS, and have the runs behind them end or pause again"
MORE_VALUES: Final = "the stores hold more values than were counted"
#: Suspensions of a page, and pages that are counted at most.
PAGE: Final = 500
MOST_PAGES: Final = 200
MORE_SUSPENSIONS: Final = f"there are more suspensions than the {PAGE * MOST_PAGES} that were counted"
#: What the attribute says that anybody who writes the database may alter.
STATUSES: Final = frozenset({*map(str, Status), EXPIRING})
#: A store whose clock differs by more from this process's is worth a look, though it decides nothing.
OFFSET: Final = timedelta(seconds=5)


@frozen
class Health:
    """How the store is: its name, a round trip, what its records are sealed with, and warnings for whoever runs it.

    ``sealed`` counts the newest and oldest records by ``encrypted``, ``authenticated``, ``plain`` and ``damaged``;
    ``encrypted`` says whether all of these are, None without any. ``unreadable`` counts, by reason, the
    records that this hub has met lately and can't read. ``stores`` counts the values of all collections, by name; at
    most 100 pages of 1,000 are counted, and a warning says so where there are more.

    ``statuses`` counts suspensions by the status of their last write, ``sizes`` sums the bytes of their ``heads`` and
    ``bodies`` as they are stored, of at most 100,000. ``oldest_waiting`` is how long ago the oldest one that waits was
    made, ``oldest_answered`` for how long the one that is answered has been claimable: None without one.
    ``clock_offset`` is the store's clock less this process's. ``migrations`` is how many statements the store's schema
    lacks, None for a store without one. ``trails`` counts the audit trails that are kept of deleted suspensions, up to
    100,000. ``pool`` is the use of this process's connections, None where the store has none or its driver does not
    tell.
    """

    backend: str
    latency: timedelta
    encrypted: bool | None
    sealed: Mapping[str, int]
    warnings: tuple[str, ...]
    unreadable: Mapping[str, int] = field(factory=dict)
    stores: Mapping[str, int] = field(factory=dict)
    statuses: Mapping[str, int] = field(factory=dict)
    sizes: Mapping[str, int] = field(factory=dict)
    oldest_waiting: timedelta | None = None
    oldest_answered: timedelta | None = None
    clock_offset: timedelta = timedelta(0)
    migrations: int | None = None
    trails: int = 0
    pool: PoolUse | None = None


def health_data(health: Health) -> dict[str, Any]:
    """The same as JSON data; durations in milliseconds or, of ages, in seconds."""
    return {
        "backend": health.backend,
        "latencyMs": round(health.latency.total_seconds() * 1000, 3),
        "clockOffsetMs": round(health.clock_offset.total_seconds() * 1000, 3),
        "migrations": health.migrations,
        "pool": None if health.pool is None else pool_data(health.pool),
        "encrypted": health.encrypted,
        "sealed": dict(health.sealed),
        "statuses": dict(health.statuses),
        "oldestWaitingSeconds": _seconds(health.oldest_waiting),
        "oldestAnsweredSeconds": _seconds(health.oldest_answered),
        "sizes": dict(health.sizes),
        "trails": health.trails,
        "unreadable": dict(health.unreadable),
        "stores": dict(health.stores),
        "warnings": list(health.warnings),
    }


def pool_data(use: PoolUse) -> dict[str, int | None]:
    """The use of a pool of connections as JSON data."""
    return {"inUse": use.in_use, "size": use.size, "waiting": use.waiting}


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds(), 3)


async def health(hub: HubBase) -> Result[Health, PersistenceError]:
    """Ask the store for all of it. A store that does not answer is the failure."""
    asked = _Asked(hub)
    for ask in (asked.ping, asked.seals, asked.values, asked.count, asked.trails, asked.ages, asked.schema):
        failed = await ask()
        if failed is not None:
            return Failure(failed)
    return Success(asked.made())


@define
class _Asked:
    hub: HubBase
    pinged: BackendHealth | None = None
    offset: timedelta = timedelta(0)
    sealed: Mapping[str, int] = field(factory=dict)
    census: Census = field(factory=lambda: Census({}, complete=True))
    statuses: Counter[str] = field(factory=Counter)
    sizes: Counter[str] = field(factory=Counter)
    more: bool = False
    waiting: timedelta | None = None
    answered: timedelta | None = None
    migrations: int | None = None
    kept: int = 0

    @property
    def records(self) -> SealedRecords[Head]:
        """The records of the suspensions."""
        return self.hub.suspensions.records

    async def ping(self) -> PersistenceError | None:
        seen = await self.records.health()
        here = self.records.runtime.now()
        if not isinstance(seen, Success):
            return seen.failure()
        self.pinged = seen.unwrap()
        measure_pool(self.pinged)
        # The store's clock was read half a round trip ago.
        self.offset = self.pinged.now - (here - self.pinged.latency / 2)
        return None

    async def seals(self) -> PersistenceError | None:
        found = await stored_seals(self.records)
        if not isinstance(found, Success):
            return found.failure()
        self.sealed = found.unwrap()
        return None

    async def values(self) -> PersistenceError | None:
        counted = await count_all(self.records)
        if not isinstance(counted, Success):
            return counted.failure()
        self.census = counted.unwrap()
        return None

    async def count(self) -> PersistenceError | None:
        walk = stored_pages(self.records, Where(), limit=PAGE, most=MOST_PAGES)
        async for listed in walk:
            if not isinstance(listed, Success):
                return listed.failure()
            for record in unmoved(listed.unwrap()).items:
                status = record.attributes.get("status")
                self.statuses[str(status) if status in STATUSES else "unknown"] += 1
                self.sizes["heads"] += len(record.head)
                self.sizes["bodies"] += record.body_size or 0
        self.more = walk.next is not None
        return None

    async def trails(self) -> PersistenceError | None:
        trails = self.hub.suspensions.side_records.trail.purged.records
        async for listed in stored_pages(trails, Where(), limit=PAGE, most=MOST_PAGES):
            if not isinstance(listed, Success):
                return listed.failure()
            self.kept += len(listed.unwrap().items)
        return None

    async def ages(self) -> PersistenceError | None:
        for status, order in ((Status.WAITING, "created"), (Status.ANSWERED, "due")):
            found = await self._first(status, "due" if order == "due" else "created")
            if not isinstance(found, Success):
                return found.failure()
            first = found.unwrap()
            since = None if first is None else first[0].created_at if order == "created" else first[0].due_at
            age = None if first is None or since is None else max(first[1] - since, timedelta(0))
            self.waiting, self.answered = (age, None) if order == "created" else (self.waiting, age)
        return None

    async def _first(self, status: Status, order: Order) -> Result[tuple[Record, datetime] | None, PersistenceError]:
        listed = await self.records.listed(Where({"status": str(status)}), order=order, limit=1)
        return listed.map(lambda page: (page.items[0], page.now) if page.items else None)

    async def schema(self) -> PersistenceError | None:
        backend = self.hub.backend
        if isinstance(backend, Migrating):
            try:
                self.migrations = len(await backend.plan(hub_schema(self.hub.defaults.namespace)))
            except PersistenceError as error:
                return error
        return None

    def made(self) -> Health:
        """The answers together."""
        unreadable = self.records.unreadable.counts()
        pinged = self.pinged
        return Health(
            backend=self.hub.backend.name,
            latency=timedelta(0) if pinged is None else pinged.latency,
            encrypted=self.sealed.keys() <= {"encrypted"} if self.sealed else None,
            sealed=self.sealed,
            warnings=(*(() if pinged is None else pinged.warnings), *self._warnings(unreadable)),
            unreadable=unreadable,
            stores=self.census.counts,
            statuses=dict(self.statuses),
            sizes=dict(self.sizes),
            oldest_waiting=self.waiting,
            oldest_answered=self.answered,
            clock_offset=self.offset,
            migrations=self.migrations,
            trails=self.kept,
            pool=None if pinged is None else pinged.pool,
        )

    def _warnings(self, unreadable: Mapping[str, int]) -> list[str]:
        open_text = self.sealed.get("plain", 0) + self.sealed.get("authenticated", 0)
        warnings = [f"{open_text} of {sum(self.sealed.values())} records looked at {PLAIN_TEXT}"] if open_text else []
        warnings += [f"{count} records can't be read here: {reason}" for reason, count in unreadable.items()]
        warnings += [] if self.census.complete else [MORE_VALUES]
        warnings += [MORE_SUSPENSIONS] if self.more else []
        if abs(self.offset) > OFFSET:
            seconds = f"{self.offset.total_seconds():+.1f} s"
            warnings.append(f"the store's clock differs by {seconds} from this process's: have both synchronized")
        if self.migrations:
            warnings.append(f"the store's schema lacks {self.migrations} statements of this release: migrate it")
        return warnings


async def stored_seals(records: SealedRecords[Head]) -> Result[Mapping[str, int], PersistenceError]:
    """How the newest and the oldest records are sealed, by the headers of their envelopes, which need no key."""
    seals: dict[RecordRef, str] = {}
    for descending in (True, False):
        listed = await records.listed(Where(), limit=LOOKED_AT, descending=descending)
        if not isinstance(listed, Success):
            return Failure(listed.failure())
        for record in unmoved(listed.unwrap()).items:
            parsed = parse_envelope(record.head)
            damaged = isinstance(parsed, Failure)
            seals[record.ref] = "damaged" if damaged else SEALS[parsed.unwrap().suite]
    return Success(Counter(seals.values()))
