"""Selections as MongoDB's filters. A query by at most one attribute, by key or due, and every query without attributes
in any order, reads one range of one index.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen

from flowpersist.backends._clock import from_micros
from flowpersist.backends._matching import Position, Selection
from flowpersist.backends._mongodb.documents import (
    FIELDS,
    attribute_entries,
    moment_text,
    namespace_bounds,
    ordered,
    place,
)

__all__ = ["Search", "search"]

#: The indexes that the migrations create, by order, without an attribute and with one.
_PLAIN: Final = {"key": "_id_", "created": "by_created", "updated": "by_updated", "due": "by_due"}
_ATTRIBUTE: Final = {**_PLAIN, "key": "by_attribute", "due": "by_attribute_due"}


@frozen
class Search:
    """The arguments of a find."""

    filter: dict[str, Any]
    sort: list[tuple[str, int]]
    #: Named, because the planner would compare plans and cache a choice that suits only the first values.
    hint: str
    projection: dict[str, int] = field(factory=dict)


def search(asked: Selection) -> Search:
    """The find that gives a selection's records in order, without their bodies."""
    name = FIELDS[asked.order]
    conditions: dict[str, Any] = {"n": asked.namespace, name: _bounds(asked)}
    # A bool is the last choice because it selects the least.
    equals = dict(sorted(asked.where.equals.items(), key=lambda item: type(item[1]) is bool))
    if equals:
        conditions["a"] = {"$all": attribute_entries(equals)}
    direction = -1 if asked.descending else 1
    hint = (_ATTRIBUTE if equals else _PLAIN)[asked.order]
    return Search(conditions, [(name, direction)], hint, {} if asked.bodies else {"i": 0})


def _bounds(asked: Selection) -> dict[str, str]:
    least, beyond = namespace_bounds(asked.namespace) if asked.order == "key" else ("", None)
    bounds = {"$gte": least} if beyond is None else {"$gte": least, "$lt": beyond}
    span = asked.where.range
    if span is not None and span.since is not None:
        bounds["$gte"] = _bound(asked, span.since)
    if span is not None and span.before is not None:
        bounds["$lt"] = _bound(asked, span.before)
    if asked.after is not None:
        _narrow(bounds, _place(asked, asked.after), descending=asked.descending)
    return bounds


def _narrow(bounds: dict[str, str], after: str, *, descending: bool) -> None:
    if descending:
        bounds["$lt"] = min(after, bounds.get("$lt", after))
    elif after >= bounds["$gte"]:
        del bounds["$gte"]
        bounds["$gt"] = after


def _bound(asked: Selection, value: Any) -> str:  # noqa: ANN401 - str or datetime, as the order says
    if isinstance(value, str):
        return namespace_bounds(asked.namespace)[0] + ordered(value)
    return moment_text(value)


def _place(asked: Selection, after: Position) -> str:
    time, key = after
    if asked.order == "key":
        return namespace_bounds(asked.namespace)[0] + ordered(key)
    return place(from_micros(time), key)
