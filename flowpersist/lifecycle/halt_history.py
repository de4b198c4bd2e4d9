"""The audit trail of halts, as callers and sinks see it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import PersistenceError
from flowpersist.inputs.people import Principal, principal_data, principal_from
from flowpersist.lifecycle.entry_data import entry_data
from flowpersist.lifecycle.halts import HaltFacts, HaltPrivate
from flowpersist.lifecycle.history import AuditEntry
from flowpersist.sealed.chain import Link
from flowpersist.sealed.heads import unpacker

__all__ = [
    "AnyEntry",
    "HaltEntry",
    "any_entry_data",
    "halt_entries",
    "halt_entry",
    "halt_entry_data",
    "read_halt_facts",
    "read_halt_private",
]

read_halt_facts = unpacker(HaltFacts)
read_halt_private = unpacker(HaltPrivate)


@frozen
class HaltEntry:
    """That a halt was made or lifted, or that entries were stripped: ``verb`` is ``halt``, ``lift`` or ``strip``;
    ``halt`` is the halt's id, empty for ``strip``. ``id`` names the entry everywhere. The rest is as in an
    ``AuditEntry``.
    """

    number: int
    id: str
    at: datetime
    verb: str
    halt: str
    tool: str | None
    tenant: str | None
    by: Principal | None
    reason: str | None
    removed: bool
    previous: str
    mac: str
    kid: str


#: What a sink is given.
AnyEntry: TypeAlias = AuditEntry | HaltEntry


def halt_entries(namespace: str, links: Iterable[Link]) -> Result[tuple[HaltEntry, ...], PersistenceError]:
    """The entries of verified links; ``namespace`` is that of the halts."""
    entries: list[HaltEntry] = []
    for link in links:
        made = halt_entry(namespace, link)
        if not isinstance(made, Success):
            return Failure(made.failure())
        entries.append(made.unwrap())
    return Success(tuple(entries))


def halt_entry(namespace: str, link: Link) -> Result[HaltEntry, PersistenceError]:
    """The entry of one link."""
    private = Success(HaltPrivate()) if link.private is None else read_halt_private(link.private)
    return read_halt_facts(link.facts).bind(
        lambda facts: private.map(lambda told: _entry(namespace, link, facts, told))
    )


def _entry(namespace: str, link: Link, facts: HaltFacts, told: HaltPrivate) -> HaltEntry:
    return HaltEntry(
        number=link.number,
        id=f"{namespace}/{link.number}",
        at=facts.at,
        verb=facts.verb,
        halt=facts.halt,
        tool=facts.tool,
        tenant=facts.tenant,
        by=None if told.by is None else principal_from(told.by),
        reason=told.reason,
        removed=link.removed,
        previous=link.previous.hex(),
        mac=link.mac.hex(),
        kid=link.kid,
    )


def halt_entry_data(entry: HaltEntry) -> dict[str, object]:
    """An entry as JSON data."""
    return {
        "number": entry.number,
        "id": entry.id,
        "at": entry.at.isoformat(),
        "verb": entry.verb,
        "halt": entry.halt,
        "tool": entry.tool,
        "tenant": entry.tenant,
        "by": None if entry.by is None else principal_data(entry.by),
        "reason": entry.reason,
        "removed": entry.removed,
        "previous": entry.previous,
        "mac": entry.mac,
        "kid": entry.kid,
    }


def any_entry_data(entry: AnyEntry, *, values: bool = True) -> dict[str, object]:
    """An entry of a suspension or of the halts as JSON data; ``values``: with the answers that it has."""
    return halt_entry_data(entry) if isinstance(entry, HaltEntry) else entry_data(entry, values=values)
