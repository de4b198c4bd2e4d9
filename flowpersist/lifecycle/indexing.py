"""The attributes of a suspension's record, which backends index and query, and the conditions that criteria make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowpersist.backends.base import NamespaceSchema, Order, Range, Scalar, Where
from flowpersist.lifecycle.changes import pending
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.model import METADATA, Head, WaitState, references_of, rest_of

__all__ = ["EXPIRING", "attributes_of", "first_asked", "matches", "order_of", "schema", "tool_of", "where"]

#: The status attribute of expired suspensions whose expiry still has to be handled.
EXPIRING: Final = "expiring"


def schema(namespace: str) -> NamespaceSchema:
    """The namespace of suspensions, with an index for every query that the hub makes."""
    return NamespaceSchema(namespace, {"status": str, "live": bool, "tool": str, "run": str, "tenant": str})


def attributes_of(head: Head) -> dict[str, Scalar | None]:
    """The attributes of the record with this head."""
    attributes: dict[str, Scalar | None] = {METADATA + name: value for name, value in head.metadata.items()}
    attributes.update(
        status=EXPIRING if pending(head) else str(head.status),
        live=pending(head) or not head.status.closed,
        tool=tool_of(head),
        run=_run(head),
        tenant=head.tenant,
    )
    return attributes


def tool_of(head: Head) -> str | None:
    """What the first wait asks that somebody may answer, or else the first one that only time ends."""
    if head.removing and head.paged is not None and references_of(head):
        # What is beside a head that is being removed may be gone.
        return head.paged.tool
    wait, rest = first_asked(head.waits), rest_of(head)
    if wait is None or wait.awaiting is None or _earlier(rest.first, wait):
        return rest.tool
    return str(wait.awaiting["id"])


def first_asked(waits: Sequence[WaitState]) -> WaitState | None:
    """The first wait that somebody may answer, or else the first one that only time ends."""
    timed: WaitState | None = None
    for wait in waits:
        if wait.awaiting is not None and not wait.timed:
            return wait
        timed = timed or (wait if wait.awaiting is not None else None)
    return timed


def _earlier(first: int, wait: WaitState) -> bool:
    """Whether the first one of the other pages comes before this one, which has no place yet if it is new."""
    if not first or (first < 0) != wait.timed:
        return first > 0
    return not wait.place or abs(first) < wait.place


def _run(head: Head) -> str:
    return str(head.metadata.get("run", head.id))


def where(criteria: Criteria) -> Where:
    """The conditions that the store can check: equality, and one range."""
    equals: dict[str, Scalar | None] = {METADATA + name: value for name, value in criteria.metadata.items()}
    status = None if criteria.status is None else str(criteria.status)
    equals.update(status=status, tool=criteria.tool, run=criteria.run, tenant=criteria.tenant)
    return Where(equals, _range(criteria))


def _range(criteria: Criteria) -> Range | None:
    if criteria.due_before is not None:
        return Range("due", before=criteria.due_before)
    if criteria.created_after is None and criteria.created_before is None:
        return None
    return Range("created", since=criteria.created_after, before=criteria.created_before)


def order_of(conditions: Where) -> Order:
    """The order of the range; without one the order of creation."""
    return "created" if conditions.range is None else conditions.range.by


def matches(criteria: Criteria, head: Head) -> bool:
    """Whether an up-to-date head fits the criteria; the record's attributes may be older."""
    attributes = {**attributes_of(head), "status": str(head.status)}
    asked = where(criteria).equals
    if any(attributes.get(name) != value for name, value in asked.items()):
        return False
    after, before = criteria.created_after, criteria.created_before
    return (after is None or head.created_at >= after) and (before is None or head.created_at < before)
