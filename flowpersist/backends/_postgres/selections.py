"""Selections as SQL: a query by at most one declared attribute, in the order of key or due, is answered from an index.

The planner knows that ``attribute = $n`` implies the ``is not null`` of a partial index. What is asked of other
attributes, the index of all attributes answers, and what it finds is sorted. Left alone, the planner would at times
walk through the whole namespace in its order in search of them: it knows nothing of how rare they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, mutable

from flowpersist.backends._matching import Selection, bound
from flowpersist.backends._postgres.layout import Layout, attribute
from flowpersist.backends._scalars import attributes_to_text, scalar_to_text
from flowpersist.backends.base import MAX_BODIES_BYTES, Order

__all__ = ["Statement", "page", "purge"]

_COLUMNS: Final[Mapping[Order, str]] = {
    "key": "key",
    "created": "created_at",
    "updated": "updated_at",
    "due": "due_at",
}


@mutable
class Statement:
    """A statement in the making: its arguments get their numbers as they come."""

    arguments: list[object] = field(factory=list)
    text: str = ""

    def number(self, value: object) -> str:
        """Add an argument; gives how it is referred to."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"


def _conditions(statement: Statement, asked: Selection, indexed: Mapping[str, type]) -> list[str]:
    equals = asked.where.equals
    terms = [f"namespace = {statement.number(asked.namespace)}"]
    terms += [
        f"{attribute(name)} = {statement.number(scalar_to_text(value))}"
        for name, value in equals.items()
        if name in indexed
    ]
    free = {name: value for name, value in equals.items() if name not in indexed}
    if free:
        terms.append(f"attributes @> {statement.number(attributes_to_text(free))}::text::jsonb")
    return terms + _bounds(statement, asked)


def _bounds(statement: Statement, asked: Selection) -> list[str]:
    column, span = _COLUMNS[asked.order], asked.where.range
    terms = ["due_at is not null"] if asked.order == "due" else []
    if span is not None and span.since is not None:
        terms.append(f"{column} >= {statement.number(bound(span.since))}")
    if span is not None and span.before is not None:
        terms.append(f"{column} < {statement.number(bound(span.before))}")
    if asked.after is not None:
        sign = "<" if asked.descending else ">"
        time, key = asked.after
        if asked.order == "key":
            terms.append(f"key {sign} {statement.number(key)}")
        else:
            terms.append(f"({column}, key) {sign} ({statement.number(time)}, {statement.number(key)})")
    return terms


def _order(asked: Selection, *, walked: bool = True) -> str:
    """The order of a selection. Where it is not ``walked``, it is written so that no index has it."""
    direction = "desc" if asked.descending else "asc"
    time = "" if asked.order == "key" else f"{_COLUMNS[asked.order]}{'' if walked else ' + 0'} {direction}, "
    key = "key" if walked else "(key || '')"
    return f"order by {time}{key} {direction}"


def _rest(statement: Statement, asked: Selection, indexed: Mapping[str, type]) -> str:
    terms = " and ".join(_conditions(statement, asked, indexed))
    order = _order(asked, walked=asked.where.equals.keys() <= indexed.keys())
    return f"where {terms} {order} limit {statement.number(asked.limit)}"


def page(layout: Layout, asked: Selection, indexed: Mapping[str, type], offset: int) -> Statement:
    """The statement that reads a page. Its last column is the clock, which stands there also where no record does."""
    statement = Statement([offset])
    selected = f"from {layout.records} {_rest(statement, asked, indexed)}"
    if not asked.bodies:
        statement.text = layout.sql["page"].format(selected=selected, order=_order(asked))
        return statement
    # The last row only tells whether more follow.
    statement.text = layout.sql["page_with_bodies"].format(
        selected=selected,
        order=_order(asked),
        count=statement.number(asked.limit - 1),
        bytes=statement.number(MAX_BODIES_BYTES),
    )
    return statement


def purge(layout: Layout, asked: Selection, indexed: Mapping[str, type], channel: str | None) -> Statement:
    """The statement that deletes the records that are selected, without their bodies, and gives their ids."""
    statement = Statement([channel])
    rest = _rest(statement, asked, indexed)
    statement.text = layout.sql["purge_records"].format(selected=f"from {layout.records} {rest}")
    return statement
