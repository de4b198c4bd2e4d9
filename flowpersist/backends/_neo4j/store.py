"""The operations on records, over anything that runs statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any, Final

from attrs import evolve

from flowpersist.backends._clock import from_micros
from flowpersist.backends._damage import (
    check_following,
    check_patience,
    found_in,
    left_standing,
    named,
    page_of,
    wider,
)
from flowpersist.backends._matching import Selection
from flowpersist.backends._neo4j.deciding import decided, leading_of, maimed, of_one, portions, standing
from flowpersist.backends._neo4j.errors import came_late, of_wrong_type
from flowpersist.backends._neo4j.graph import Graph
from flowpersist.backends._neo4j.link import Link, Rows, again
from flowpersist.backends._neo4j.naming import (
    ATTRIBUTE,
    Names,
    loaded,
    ordered,
    shard,
)
from flowpersist.backends._neo4j.places import Found, bounds, key_of, position_in, purgeable, stands, whole
from flowpersist.backends._neo4j.rows import NAME, Parameters, Torn, changed, conditions, inserted, upserted
from flowpersist.backends._outcomes import body_missing, check_deadline, check_revision, unreadable, written_already
from flowpersist.backends._pages import One, completed, one_of
from flowpersist.backends._scalars import entry_text
from flowpersist.backends.base import (
    KEEP,
    MAX_BODIES_BYTES,
    Keep,
    Order,
    Page,
    Read,
    Reads,
    Record,
    RecordChange,
    RecordRef,
    Unreadable,
    Written,
)
from flowpersist.errors import DeadlinePassed, IntegrityError, StorageError

__all__ = ["Store"]

_TEXTS: Final = loaded("records.cypher")
#: How often a write is repeated that found a node without properties: it is being deleted, or it is damaged.
_LOOKS_AGAIN: Final = 10
#: A torn read is repeated this often without a lock, then once with the record's lock.
_LOOKS: Final = (False, False, False, True)
#: The limits of one transaction of a purge, in records and in bytes of bodies, since the server holds it in memory.
_PURGE_RECORDS: Final = 200
#: How often a purge looks again for records that changed between being found and being locked.
_PURGE_ROUNDS: Final = 3
#: The parts that a statement holds once if any attribute is mapped.
_OF_GRAPH: Final = ("find_moved", "lock_related", "drop_stale", "drop_orphans")
_OPTIONAL: Final = ("write_body", "drop_body", "drop_attributes", "lock", *_OF_GRAPH)
#: The parts of a statement that may remove the last relationships of nodes.
_LOCKED: Final = ("lock_related", "left")
#: The parts of a change after which a record has relationships to other nodes.
_MOVING: Final = ("find_moved", "moved", *_LOCKED, "drop_stale", "stale", "relate", "drop_orphans", "late")
_PLACES: Final[Mapping[Order, str]] = {"key": "key", "created": "by_created", "updated": "by_updated", "due": "by_due"}


class Store:
    """Runs the filled statements with their parameters and reads their rows."""

    def __init__(self, names: Names, graph: Graph) -> None:
        self._names = names
        self.mapped = graph.relations
        self._graph = graph.parts()
        self.text = cache(self._filled)

    def _filled(self, name: str, *parts: str, **others: str) -> str:
        """Fill a statement with only those of its optional parts that are named."""
        optional = dict.fromkeys((*_OPTIONAL, *self._graph), "")
        optional["late"] = "null"
        if not self.mapped:
            parts = tuple(part for part in parts if part not in _OF_GRAPH)
        optional.update({part: self._graph.get(part) or _TEXTS.get(part, "") for part in parts})
        return self._names.fill(_TEXTS[name], **optional, **others)

    async def now(self, link: Link, offset: int) -> datetime:
        """The server's clock."""
        ((now,),) = await link.run(self.text("read_clock"), {"offset": offset}, writes=False)
        return from_micros(now)

    # ------------------------------------------------------------------------------------------------- one record

    async def get(self, link: Link, ref: RecordRef, offset: int, *, body: bool) -> Read:
        """Read until all parts are of one revision, at last with the record's lock."""
        parameters = {"namespace": ref.namespace, "key": ordered(ref.key), "offset": offset}
        for lock in _LOOKS:
            text = self.text("read_record" if body else "read_standing", *(["lock"] if lock else []))
            rows = await link.run(text, parameters, writes=False)
            if not rows:
                # The server sometimes gives no row for a record that is deleted while it is read.
                continue
            now, found, *_ = rows[0]
            if not found:
                return Read(None, from_micros(now))
            try:
                return Read(of_one(ref, rows, body=body), from_micros(now))
            except Torn:
                continue
        raise body_missing(NAME, ref)

    async def get_many(self, link: Link, refs: Sequence[RecordRef], offset: int, *, body: bool) -> Reads:
        """Read several records by one statement; one that changed meanwhile is read again."""
        keys = [{"namespace": ref.namespace, "key": ordered(ref.key)} for ref in refs]
        given = {"refs": keys, "offset": offset, "body": body}
        rows: Rows = await link.run(self.text("read_records"), given, writes=False) if refs else []
        found: list[list[list[Any]]] = [[] for _ in refs]
        for row in rows:
            found[row[1]].append(row)
        records = [await self._of_several(link, ref, mine, body=body) for ref, mine in zip(refs, found, strict=True)]
        now = from_micros(rows[0][0]) if rows else await self.now(link, offset)
        return Reads(tuple(records), now)

    async def _of_several(self, link: Link, ref: RecordRef, rows: Rows, *, body: bool) -> One:
        if len(rows) != 1:
            return await self._again(link, ref, body=body)
        _, _, found, snapshot, head, parts = rows[0]
        try:
            row = Found(None, None, snapshot, head, parts if body else None)
            return one_of(ref, lambda: whole(ref, row) if found else None)
        except Torn:
            return await self._again(link, ref, body=body)

    async def _bodies(self, link: Link, refs: Sequence[RecordRef]) -> Sequence[One]:
        return (await self.get_many(link, refs, 0, body=True)).records

    async def put(
        self,
        link: Link,
        ref: RecordRef,
        change: RecordChange,
        if_revision: int | None,
        not_after: datetime | None,
        offset: int,
    ) -> Written:
        """Compare the revision, and set what changes."""
        given = conditions(ref, not_after, offset, alone=link.alone)
        late = f"the deadline for writing record {ref.key} has passed; nothing was written"
        try:
            rows = await self._written(link, ref, change, if_revision, given)
        except StorageError as error:
            if came_late(error.__cause__):
                raise DeadlinePassed(late, NAME) from error
            if of_wrong_type(error.__cause__):
                raise unreadable(NAME, named(ref)) from error
            raise
        if not rows:
            check_revision(NAME, ref, 0, if_revision)
        done, revision, micros, *_ = decided(rows)
        now = from_micros(micros)
        if done:
            return Written(revision, now)
        if if_revision is not None:
            check_revision(NAME, ref, standing(ref, revision), if_revision)
            check_following(NAME, ref, if_revision)
        check_deadline(NAME, ref, now, not_after)
        # The deadline and the revision were right, so another part of the node is damaged.
        raise unreadable(NAME, named(ref))

    async def _written(
        self, link: Link, ref: RecordRef, change: RecordChange, if_revision: int | None, given: Parameters
    ) -> Rows:
        if if_revision is None:
            return await self._upsert(link, ref, change, given)
        if if_revision == 0:
            return await self._insert(link, ref, change, given)
        return await self._change(link, ref, change, {**given, "expected": if_revision})

    async def _insert(self, link: Link, ref: RecordRef, change: RecordChange, given: Parameters) -> Rows:
        parameters = inserted(ref, change)
        parts = ["write_body"] if parameters["parts"] else []
        if any(f"{ATTRIBUTE}{name}" in parameters["properties"] for name in self.mapped):
            parts += ["relate_new", "late"]
        text = self.text("insert_record", *parts)
        rows = await link.run(text, {**given, **parameters, "shard": shard(ref)}, writes=True)
        if rows[0][-1]:
            raise maimed()
        return rows

    async def _change(self, link: Link, ref: RecordRef, change: RecordChange, given: Parameters) -> Rows:
        """Change a record with the statement that leaves the graph as it is; if that finds that the graph must change,
        use the other one. A body is not sent twice.
        """
        parameters = {**given, **changed(ref, change)}
        with_body = "parts" in parameters
        parts = ["write_body"] if with_body else []
        if change.body is not KEEP:
            parts.append("drop_body")
        if isinstance(change.attributes, Keep):
            return await link.run(self.text("change_record", *parts), parameters, writes=True)
        parts.append("drop_attributes")
        if not with_body:
            rows = await link.run(self.text("change_record", *parts, "unmoved"), parameters, writes=True)
            if not rows or not decided(rows)[-1]:
                return rows
        return await link.run(self.text("change_record", *parts, *_MOVING), parameters, writes=True)

    async def _upsert(self, link: Link, ref: RecordRef, change: RecordChange, given: Parameters) -> Rows:
        """With the statement that changes no relationships, unless the change needs them or sends a body."""
        parameters = {**given, **upserted(ref, change), "shard": shard(ref)}
        parts = ["write_body"] if "parts" in parameters else []
        if change.body is not KEEP:
            parts.append("drop_body")
        if isinstance(change.attributes, Keep):
            return await self._upserted(link, ref, parts, parameters)
        parts.append("drop_attributes")
        if "parts" not in parameters and not any(name in (change.attributes or {}) for name in self.mapped):
            rows = await self._upserted(link, ref, [*parts, "unmoved"], parameters)
            if not decided(rows)[-1]:
                return rows
        return await self._upserted(link, ref, [*parts, *_MOVING], parameters)

    async def _upserted(self, link: Link, ref: RecordRef, parts: Sequence[str], parameters: Parameters) -> Rows:
        rows: Rows = []
        for attempt in range(_LOOKS_AGAIN):
            await again(attempt)
            rows = await link.run(self.text("upsert_record", *parts), parameters, writes=True)
            done, revision, *_, repeated, maimed, _ = decided(rows)
            if repeated:
                raise written_already(NAME, ref)
            if maimed:
                raise maimed()
            if done or revision is not None:
                break
        return rows

    async def delete(self, link: Link, ref: RecordRef, if_revision: int | None) -> bool:
        """Delete a record, its body, and the graph nodes that only it has relationships to."""
        parameters = {
            "namespace": ref.namespace,
            "key": ordered(ref.key),
            "expected": if_revision,
            "shard": shard(ref),
        }
        text = self.text("delete_record", "find_related", *_LOCKED, "drop_orphans")
        for attempt in range(_LOOKS_AGAIN):
            await again(attempt)
            rows = await link.run(text, parameters, writes=True)
            if not rows:
                return False
            done, revision = decided(rows)
            if done:
                return True
            check_revision(NAME, ref, standing(ref, revision), if_revision)
            if revision is not None:
                break
        raise unreadable(NAME, named(ref))

    # ----------------------------------------------------------------------------------------------- many records

    async def page(self, link: Link, asked: Selection, indexed: Mapping[str, type], offset: int) -> Page[Record]:
        """Read a page, and a cursor if more follows, which one extra record shows."""
        for looked in wider(asked.limit):
            more = evolve(asked, limit=looked + 1)
            now, rows = await self._find(link, more, indexed, offset, head="r.head")
            found = [(position_in(row, asked), await self._record(link, asked, row)) for row in rows[: looked + 1]]
            page = page_of(asked, found, looked, from_micros(now))
            if page is not None:
                return await completed(asked, page, partial(self._bodies, link))
        raise AssertionError("unreachable: the iterator has no end")

    async def _record(self, link: Link, asked: Selection, row: Found) -> Record | Unreadable | None:
        """The record of a row; None if it is no longer at that position."""
        found: Record | Unreadable | None
        try:
            found = found_in(NAME, asked.namespace, key_of(row), lambda ref: whole(ref, row))
        except Torn:
            found = await self._again(link, RecordRef(asked.namespace, str(key_of(row))), body=asked.bodies)
        return found if not isinstance(found, Record) or stands(found, row, asked) else None

    async def _again(self, link: Link, ref: RecordRef, *, body: bool) -> One:
        try:
            return (await self.get(link, ref, 0, body=body)).record
        except IntegrityError as error:
            return Unreadable(ref, error.with_traceback(None))

    async def _find(
        self, link: Link, asked: Selection, indexed: Mapping[str, type], offset: int, *, head: str
    ) -> tuple[int, list[Found]]:
        equals = asked.where.equals
        leading = leading_of(equals, indexed, asked.order)
        since, before = bounds(asked)
        parameters: Parameters = {
            "namespace": asked.namespace,
            "since": since,
            "before": before,
            "entries": [entry_text(name, value) for name, value in equals.items()],
            "limit": asked.limit,
            "offset": offset,
        }
        if leading is not None:
            parameters["value"] = equals[leading]
        share = str(MAX_BODIES_BYTES // asked.limit) if asked.bodies else ""
        text = self._page_text(leading, asked.order, asked.descending, head, share)
        ((now, rows),) = await link.run(text, parameters, writes=False)
        return now, [Found(*row) for row in rows]

    def _page_text(self, leading: str | None, order: Order, descending: bool, head: str, share: str) -> str:  # noqa: FBT001
        place = _PLACES[order]
        direction = " DESC" if descending else ""
        # Safe to write into Cypher: a declared name is plain.
        attribute = [] if leading is None else [f"`{ATTRIBUTE}{leading}`"]
        columns = ["namespace", *attribute, place]
        values = ["$namespace", *(["$value"] if attribute else [])]
        conditions = "".join(f"r.{column} = {value} AND " for column, value in zip(columns, values, strict=False))
        return self.text(
            "read_page",
            index=", ".join(columns),
            conditions=conditions,
            place=place,
            order=", ".join(f"r.{column}{direction}" for column in columns),
            head=head,
            bodies=_TEXTS["bodies"] if share else "",
            share=share,
        )

    async def purge(self, link: Link, asked: Selection, indexed: Mapping[str, type]) -> int:
        """Delete in batches, each a transaction; only records that are as they were found."""
        purged = 0
        for _ in range(_PURGE_ROUNDS):
            missed, after, more_at_once = 0, None, 1
            while purged < asked.limit:
                left = asked.limit - purged
                batch = evolve(asked, limit=min(_PURGE_RECORDS, left) * more_at_once, after=after)
                _, rows = await self._find(link, batch, indexed, 0, head="null")
                found = [await self._settled(link, purgeable(asked, row)) for row in rows]
                left_standing(found)
                removable = [one for one in found if isinstance(one, Record)][:left]
                gone = [await self._purge(link, asked.namespace, records) for records in portions(removable)]
                purged += sum(gone)
                missed += sum(not isinstance(one, Unreadable) for one in found) - sum(gone)
                if len(rows) < batch.limit:
                    break
                places = [place for row in rows if (place := position_in(row, asked)) is not None]
                more_at_once = 1 if places else more_at_once * 4
                after = places[-1] if places else after
                check_patience(0 if places else batch.limit)
            if not missed or purged >= asked.limit:
                break
        return purged

    async def _settled(self, link: Link, found: One) -> One:
        """What a purge has found; None for a node that only looked damaged, since it was deleted while it was read."""
        if not isinstance(found, Unreadable) or found.ref is None:
            return found
        again = await self._again(link, found.ref, body=False)
        return again if isinstance(again, Unreadable) else None

    async def _purge(self, link: Link, namespace: str, records: Collection[Record]) -> int:
        keyed = sorted((ordered(record.ref.key), record.revision) for record in records)
        parameters = {
            "namespace": namespace,
            "purged": [{"key": key, "revision": revision} for key, revision in keyed],
        }
        text = self.text("purge_records", "find_related", "gather_related", *_LOCKED, "drop_orphans")
        ((purged,),) = await link.run(text, parameters, writes=True)
        return int(purged)
