"""Several puts by one statement for each form of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from flowpersist.backends._clock import from_micros
from flowpersist.backends._neo4j.deciding import decided
from flowpersist.backends._neo4j.link import Link, Rows
from flowpersist.backends._neo4j.naming import loaded, shard
from flowpersist.backends._neo4j.rows import NAME, conditions, upserted
from flowpersist.backends._neo4j.store import Store
from flowpersist.backends._outcomes import written_already
from flowpersist.backends._putting import AT_ONCE, PutResult, portions, put_each
from flowpersist.backends.base import KEEP, Keep, Put, RecordChange, RecordRef, Written
from flowpersist.errors import StorageError, UnknownOutcome

__all__ = ["put_many"]

_SEVERAL: Final = loaded("records.cypher")["upsert_records"]
_PARAMETER: Final = re.compile(r"\$(\w+)")


async def put_many(store: Store, link: Link, puts: Sequence[Put], offset: int) -> tuple[PutResult, ...]:
    """Those without a revision whose attributes are no nodes, each form by one statement; the others alone."""
    results: dict[int, PutResult] = {}
    by_form: dict[tuple[str, ...], list[int]] = {}
    # In one order, so that of two who put the same records neither waits for the other in a circle.
    for place in sorted(range(len(puts)), key=lambda place: puts[place].ref):
        form = _form(store, puts[place])
        if form and link.alone:
            by_form.setdefault(form, []).append(place)
    for form, places in by_form.items():
        for some in portions(puts, places):
            results.update(await _together(store, link, form, {place: puts[place] for place in some}, offset))
    # What no statement has done is asked, or tried, alone.
    left = [place for place in range(len(puts)) if place not in results]

    async def put(ref: RecordRef, change: RecordChange, *, if_revision: int | None, not_after: Any) -> Written:  # noqa: ANN401
        return await store.put(link, ref, change, if_revision, not_after, offset)

    alone = await put_each(put, [puts[place] for place in left], at_once=AT_ONCE if link.alone else 1)
    results.update(zip(left, alone, strict=True))
    return tuple(results[place] for place in range(len(puts)))


def _form(store: Store, put: Put) -> tuple[str, ...]:
    """The parts of the statement for such puts; empty where they are done alone."""
    change = put.change
    if put.if_revision is not None or isinstance(change.attributes, Keep):
        return ()
    if any(name in (change.attributes or {}) for name in store.mapped):
        return ()
    written = ("write_body",) if isinstance(change.body, bytes) else ()
    dropped = () if change.body is KEEP else ("drop_body",)
    return (*written, *dropped, "drop_attributes", "unmoved")


async def _together(
    store: Store, link: Link, form: tuple[str, ...], puts: dict[int, Put], offset: int
) -> dict[int, PutResult]:
    """The results of those that were done, or whose outcome is not known."""
    given = [
        {
            "place": place,
            **conditions(it.ref, it.not_after, offset, alone=True),
            **upserted(it.ref, it.change),
            "shard": shard(it.ref),
        }
        for place, it in puts.items()
    ]
    try:
        rows = await link.run(_text(store, form), {"puts": given}, writes=True)
    except StorageError as error:
        # Where the server has undone all of them, one alone may be the reason.
        known = not isinstance(error, UnknownOutcome) and not error.retryable
        return {} if known else dict.fromkeys(puts, error)
    by_place: dict[int, Rows] = {}
    for place, *row in rows:
        by_place.setdefault(place, []).append(row)
    results = {place: _result(puts[place], decided(mine)) for place, mine in by_place.items()}
    return {place: result for place, result in results.items() if result is not None}


def _result(put: Put, row: Sequence[Any]) -> PutResult | None:
    done, revision, now, _, repeated, *_ = row
    if repeated:
        return written_already(NAME, put.ref)
    return Written(revision, from_micros(now)) if done else None


def _text(store: Store, form: tuple[str, ...]) -> str:
    one = _PARAMETER.sub(r"given.\1", store.text("upsert_record", *form))
    return _SEVERAL.replace("<upsert_record>", one)
