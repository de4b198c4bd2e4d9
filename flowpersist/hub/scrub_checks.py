"""What can be wrong with one record, found without writing, and how it is mended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Range, Record, RecordChange, RecordRef, Scalar, Where
from flowpersist.errors import (
    IntegrityError,
    PersistenceError,
    StorageError,
    TamperedEnvelope,
    UnknownKey,
)
from flowpersist.hub.base import HubBase
from flowpersist.hub.purged_trails import PurgedTrail
from flowpersist.hub.scrub_related import related
from flowpersist.hub.stored import OF_ONE, Place, body_purpose
from flowpersist.hub.troubles import Looked, Problem, Trouble
from flowpersist.lifecycle.changes import due_at
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.lifecycle.model import Head, LargeAnswer, WaitPage
from flowpersist.sealed.cards import Card
from flowpersist.sealed.contents import opened_value
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.encoding import in_thread_if_large
from flowpersist.sealed.envelope import mark_of
from flowpersist.sealed.heads import NO_BODY
from flowpersist.sealed.raw import RawRecords
from flowpersist.sealed.tenancy import ready_to_open
from flowpersist.sealed.walking import stored_pages
from flowpersist.stages.header import parse_envelope

__all__ = ["Checks", "Context"]

TICK: Final = timedelta(microseconds=1)
PAGE: Final = 100
#: So many records that are due at one microsecond are searched for one of them.
MOST_DUE: Final = 1000


@frozen
class Context:
    """What is needed of the store to judge the records of one page.

    ``owners`` are the suspensions beside which they stand: None where there is none, the error where it can't be read.
    ``listed`` are the keys that queries by status and by liveness find.
    """

    owners: Mapping[str, Head | PersistenceError | None]
    listed: frozenset[str] | None = None


@frozen
class Checks:
    """The checks of the records of one hub."""

    hub: HubBase
    read_data: bool

    async def context(self, place: Place, page: Page[Record]) -> Result[Context, PersistenceError]:
        """What the records of a page are judged by. It is read after them."""
        if place.kind == "suspension":
            listed = await self._listed(place, page.items)
            return listed.map(lambda keys: Context({}, keys))
        if not self._is_beside(place):
            return Success(Context({}))
        ids = sorted({record.ref.key.partition("/")[0] for record in page.items})
        heads = self.hub.suspensions.records
        # The waits alone name large answers.
        read = await (heads.read_many(ids) if place.kind == "answer" else heads.bare_many(ids))
        if not isinstance(read, Success):
            return Failure(read.failure())
        owners: dict[str, Head | PersistenceError | None] = {}
        for id_, found in zip(ids, read.unwrap(), strict=True):
            record = found.unwrap().record if isinstance(found, Success) else None
            missing = None if record is None else record.head
            owners[id_] = missing if isinstance(found, Success) else found.failure()
        return Success(Context(owners))

    @staticmethod
    def _is_beside(place: Place) -> bool:
        return place.kind in OF_ONE

    async def troubles(
        self, place: Place, record: Record, now: datetime, context: Context
    ) -> Result[Looked, PersistenceError]:
        """All that is wrong with one record. Failure: the store fails."""
        unready = await ready_to_open(place.records.sealer, [record])
        loaded = await place.records.whole(record, now) if unready is None else Failure(unready)
        if not isinstance(loaded, Success):
            return await self._unopened(place, record, loaded.failure())
        opened = loaded.unwrap()
        troubles = [*self._columns(place, opened, record)]
        if context.listed is not None and not troubles:
            troubles += await self._unlisted(place, record, context.listed)
        body = await self._body(place, opened)
        if isinstance(body, Failure):
            return Failure(body.failure())
        troubles += body.unwrap().troubles
        more = await related(self.hub, opened, context.owners if self._is_beside(place) else None)
        if not isinstance(more, Success):
            return Failure(more.failure())
        return Success(Looked((*troubles, *more.unwrap()), body.unwrap().unopened))

    async def again(
        self, place: Place, raw: RawRecords, ref: RecordRef, problem: Problem
    ) -> Result[tuple[Record, Trouble] | None, PersistenceError]:
        """The record as it stands now, if it still has that trouble."""
        read = await raw.get(ref, body=self.read_data)
        if not isinstance(read, Success):
            return Failure(read.failure())
        record, now = read.unwrap().record, read.unwrap().now
        if record is None:
            return Success(None)
        page = Page((record,), None, now)
        context = await self.context(place, page)
        if not isinstance(context, Success):
            return Failure(context.failure())
        looked = await self.troubles(place, record, now, context.unwrap())
        if not isinstance(looked, Success):
            return Failure(looked.failure())
        same = [one for one in looked.unwrap().troubles if one.problem == problem]
        return Success((record, same[0]) if same else None)

    async def _unopened(
        self, place: Place, record: Record, error: PersistenceError
    ) -> Result[Looked, PersistenceError]:
        """A head that does not open: for want of a key its checksum is compared, and that of the body."""
        if not (isinstance(error, UnknownKey) and self._lacks(record.head)):
            return Success(Looked((Trouble("head", error.code, error.message),)))
        body = await self._checksum(record.body) if place.kind != "value" else None
        troubles = () if body is None else (Trouble("body", body.code, body.message),)
        return Success(Looked(troubles, unopened=True))

    def _lacks(self, sealed: bytes) -> bool:
        """Whether this process was not given the key: it has no keyring, or one for control alone."""
        keyring = self.hub.suspensions.records.sealer.keyring
        parsed = parse_envelope(sealed)
        return isinstance(parsed, Success) and (keyring is None or parsed.unwrap().kid in keyring.keys)

    async def _checksum(self, sealed: bytes | None) -> PersistenceError | None:
        if sealed is None:
            return None
        parsed = await in_thread_if_large(parse_envelope, sealed)
        return parsed.failure() if isinstance(parsed, Failure) else None

    async def _body(self, place: Place, record: Loaded[Any]) -> Result[Looked, PersistenceError]:
        if (record.mark != NO_BODY) != (record.body_size is not None):
            what = "has no body, and its head names one" if record.mark != NO_BODY else "has a body that no head names"
            return Success(Looked((Trouble("body", IntegrityError.code, f"the record {what}"),)))
        if not self.read_data or record.body is None:
            return Success(Looked(()))
        opened = await self._opened(place, record)
        if not isinstance(opened, Failure):
            return Success(Looked(()))
        error = opened.failure()
        if isinstance(error, StorageError):
            return Failure(error)
        if isinstance(error, UnknownKey) and self._lacks(record.body):
            torn = await self._checksum(record.body)
            found = () if torn is None else (Trouble("body", torn.code, torn.message),)
            return Success(Looked(found, unopened=True))
        return Success(Looked((Trouble("body", error.code, error.message),)))

    @staticmethod
    async def _opened(place: Place, record: Loaded[Any]) -> Result[object, PersistenceError]:
        """The body, opened and not decoded."""
        if isinstance(record.head, Card):
            return await opened_value(place.records, record, decode=False)
        purpose = body_purpose(place.kind, record.head)
        if purpose is not None:
            return await place.records.open_body_bytes(record, purpose=purpose)
        mark = mark_of(record.body or b"")
        return Success(None) if mark == record.mark else Failure(TamperedEnvelope("the body is not its head's own"))

    def _columns(self, place: Place, record: Loaded[Any], stored: Record) -> list[Trouble]:
        columns = _columns_of(place, record)
        if columns is None:
            return []
        attributes, due = columns
        wrong = [f"{name} is altered" for name in _differing(record.attributes, attributes)]
        if due is not stored.due_at and due != stored.due_at:
            wrong.append("the due time is altered")
        if not wrong:
            return []

        async def mend(raw: RawRecords, seen: Record) -> Result[object, PersistenceError]:
            return await raw.put(
                seen.ref,
                RecordChange(raw.write_id(), attributes=attributes, due_at=due),
                if_revision=seen.revision,
            )

        message = f"{', '.join(wrong)}: queries and workers may not find it; the sealed head says what it should be"
        return [Trouble("columns", None, message, mend)]

    async def _listed(self, place: Place, items: tuple[Record, ...]) -> Result[frozenset[str], PersistenceError]:
        """Those of the keys that are found by the status and by the liveness that stand beside them."""
        if not items:
            return Success(frozenset())
        within = Range("key", since=items[0].ref.key, before=items[-1].ref.key + "~")
        found: dict[str, set[str]] = {}
        for name in ("status", "live"):
            found[name] = set()
            for value in sorted({record.attributes[name] for record in items if name in record.attributes}, key=repr):
                keys = await self._keys(place, Where({name: value}, within), most=None)
                if not isinstance(keys, Success):
                    return Failure(keys.failure())
                found[name] |= keys.unwrap()
        return Success(frozenset(found["status"] & found["live"]))

    async def _keys(self, place: Place, where: Where, *, most: int | None) -> Result[set[str], PersistenceError]:
        keys: set[str] = set()
        order = "key" if where.range is None else where.range.by
        async for listed in stored_pages(place.records, where, order=order, limit=PAGE):
            if not isinstance(listed, Success):
                return Failure(listed.failure())
            keys |= {record.ref.key for record in listed.unwrap().items}
            if most is not None and len(keys) >= most:
                break
        return Success(keys)

    async def _unlisted(self, place: Place, record: Record, listed: frozenset[str]) -> list[Trouble]:
        missing = record.ref.key not in listed
        if not missing and record.due_at is not None:
            status = {name: value for name, value in record.attributes.items() if name == "status"}
            due = Range("due", since=record.due_at, before=record.due_at + TICK)
            keys = await self._keys(place, Where(status, due), most=MOST_DUE)
            missing = (
                isinstance(keys, Success) and record.ref.key not in keys.unwrap() and len(keys.unwrap()) < MOST_DUE
            )
        if not missing or await self._changed(place, record):
            return []

        async def mend(raw: RawRecords, seen: Record) -> Result[object, PersistenceError]:
            return await raw.reindex(seen)

        message = "a query by its status, liveness or due time does not find it: an entry of the store's index is gone"
        return [Trouble("index", None, message, mend)]

    async def _changed(self, place: Place, record: Record) -> bool:
        read = await RawRecords(place.records.backend, place.records.runtime).get(record.ref, body=False)
        now = read.unwrap().record if isinstance(read, Success) else None
        return now is None or now.revision != record.revision


def _columns_of(place: Place, record: Loaded[Any]) -> tuple[Mapping[str, Scalar], datetime | None] | None:
    """The attributes and the due time that a record must have; None where its head does not say."""
    head = record.head
    if isinstance(head, Head):
        made = attributes_of(head)
        return {name: value for name, value in made.items() if value is not None}, due_at(head)
    # The seal binds the tenant, so it is right where the head opens. The due time of an answer or page is the sweep's.
    tenant: dict[str, Scalar] = {} if record.tenant is None else {"tenant": record.tenant}
    if isinstance(head, Card):
        return {**head.attributes, **tenant}, head.expires_at
    if isinstance(head, PurgedTrail):
        return {"suspension": str(head.id), **tenant}, head.keep_until
    if place.kind not in OF_ONE:
        return (tenant, None) if place.kind in {"dictionary", "collection"} else None
    owner: dict[str, Scalar] = {"suspension": record.ref.key.partition("/")[0]}
    return {**owner, **tenant}, record.due_at if isinstance(head, LargeAnswer | WaitPage) else None


def _differing(found: Mapping[str, Scalar], wanted: Mapping[str, Scalar]) -> list[str]:
    """The names of attributes that differ in value or type."""
    names = sorted(found.keys() | wanted.keys())
    return [name for name in names if _typed(found.get(name)) != _typed(wanted.get(name))]


def _typed(value: Scalar | None) -> tuple[type, Scalar | None]:
    return type(value), value
