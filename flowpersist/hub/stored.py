"""Everything that a hub keeps in its store: the records of each kind, page by page, and what they hold.

Upgrade checks, scrubbing, exports and copies walk the same records; this says which there are, and how what stands in
one is opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import Page, Record, Where
from flowpersist.errors import PersistenceError
from flowpersist.hub.base import HubBase
from flowpersist.hub.delivering import positions_of
from flowpersist.hub.purged_trails import PURPOSE as TRAIL_PURPOSE
from flowpersist.hub.shredding import kept_trails
from flowpersist.lifecycle.model import Head, Status
from flowpersist.sealed.cards import Card
from flowpersist.sealed.catalogue import CollectionCatalog
from flowpersist.sealed.contents import PURPOSE, opened_value
from flowpersist.sealed.dictionaries import DICTIONARY_PURPOSE
from flowpersist.sealed.drafts import Loaded
from flowpersist.sealed.moved import unmoved
from flowpersist.sealed.records import SealedRecords
from flowpersist.sealed.walking import Pages, stored_pages

__all__ = [
    "BESIDE",
    "KINDS",
    "OF_ONE",
    "PURPOSES",
    "SHARED",
    "Kind",
    "Place",
    "all_pages",
    "body_purpose",
    "pages_of",
    "places_of",
    "run_purpose",
]

Kind: TypeAlias = Literal[
    "suspension",
    "receipt",
    "answer",
    "step",
    "audit",
    "event",
    "wait",
    "log",
    "log-tile",
    "log-place",
    "audit-key",
    "halt",
    "halt-entry",
    "shredded",
    "trail",
    "sink",
    "dictionary",
    "collection",
    "value",
    "ledger",
]
#: The kinds that stand beside suspensions, in the order of ``SideRecords.records``.
BESIDE: Final[tuple[Kind, ...]] = (
    "receipt",
    "answer",
    "step",
    "audit",
    "event",
    "wait",
    "log",
    "log-tile",
    "log-place",
)
#: Those of them that each belong to one suspension, whose id is the beginning of their keys.
OF_ONE: Final[tuple[Kind, ...]] = BESIDE[:6]
#: What suspensions of any tenant may need. Whoever has made one never changes it.
SHARED: Final[tuple[Kind, ...]] = ("dictionary", "audit-key")
_OWN: Final[tuple[Kind, ...]] = (
    "audit-key",
    "halt",
    "halt-entry",
    "shredded",
    "trail",
    "sink",
    "dictionary",
    "collection",
)
KINDS: Final[tuple[Kind, ...]] = ("suspension", *BESIDE, *_OWN, "value")
#: Records of a page; bodies end it earlier, so that it takes some 16 MiB and one body more at most.
PAGE: Final = 100
#: What bodies are sealed for, where a record's head does not say so.
PURPOSES: Final[Mapping[Kind, str]] = {
    "answer": "answer",
    "step": "state",
    "event": "state",
    "trail": TRAIL_PURPOSE,
    "dictionary": DICTIONARY_PURPOSE,
    "value": PURPOSE,
}


@frozen
class Place:
    """One namespace of a store: the kind of its records, and these."""

    kind: Kind
    records: SealedRecords[Any]

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        return self.records.namespace

    async def content(self, record: Loaded[Any]) -> Result[object, PersistenceError]:
        """What was encoded and sealed of a record, decoded by the classes of this process; None where it has nothing.

        The body must have been read.
        """
        if self.kind == "value":
            return (await opened_value(self.records, record)).map(lambda both: both[1])
        purpose = body_purpose(self.kind, record.head)
        if purpose is None or not record.has_body:
            return Success(None)
        return await self.records.open_body(record, purpose=purpose)


def body_purpose(kind: Kind, head: object) -> str | None:
    """What the body of a record with that head is sealed for; None where the kind has no sealed bodies."""
    if isinstance(head, Head):
        return run_purpose(head)
    if isinstance(head, Card) and head.clear is not None:
        return None
    return PURPOSES.get(kind)


def run_purpose(head: Head) -> str:
    """What the body of a suspension is sealed for: it is its state, or what a holder has ended it with."""
    completed = head.status is Status.COMPLETED and head.taken is None
    return "outcome" if completed or (head.status is Status.FAILED and head.explained) else "state"


async def places_of(hub: HubBase) -> AsyncIterator[Result[Place, PersistenceError]]:
    """All namespaces of a hub that have records, the suspensions' first; ends at the first failure."""
    suspensions = hub.suspensions
    yield Success(Place("suspension", suspensions.records))
    every: tuple[SealedRecords[Any], ...] = suspensions.side_records.records
    for kind, beside in zip(BESIDE, every, strict=True):
        yield Success(Place(kind, beside))
    yield Success(Place("audit-key", suspensions.side_records.trail.keys.records))
    yield Success(Place("halt", suspensions.halts.records[0]))
    yield Success(Place("halt-entry", suspensions.halts.records[1]))
    yield Success(Place("shredded", kept_trails(suspensions.records)))
    yield Success(Place("trail", suspensions.side_records.trail.purged.records))
    yield Success(Place("sink", positions_of(suspensions.records).now))
    yield Success(Place("dictionary", hub.dictionaries.records()))
    catalog = CollectionCatalog(suspensions.records)
    yield Success(Place("collection", catalog.records_of_all))
    async for found in catalog.keys():
        if not isinstance(found, Success):
            yield Failure(found.failure())
            return
        key, _ = found.unwrap()
        values = await catalog.values(key)
        yield Success(Place("value", values))


def pages_of(place: Place, where: Where | None = None, *, bodies: bool, limit: int = PAGE) -> Pages[Record]:
    """The records of a place as they are stored, by their keys; ends at the first failure."""
    return stored_pages(place.records, Where() if where is None else where, limit=limit, bodies=bodies)


async def all_pages(
    hub: HubBase, *, bodies: bool
) -> AsyncIterator[Result[tuple[Place, Page[Record]], PersistenceError]]:
    """The records of all places, one place after another; ends at the first failure."""
    async for found in places_of(hub):
        if not isinstance(found, Success):
            yield Failure(found.failure())
            return
        place = found.unwrap()
        async for listed in pages_of(place, bodies=bodies):
            if not isinstance(listed, Success):
                yield Failure(listed.failure())
                return
            yield Success((place, unmoved(listed.unwrap())))
