"""``history``: the audit trail of a suspension, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from flowpersist.cli.inputs import named, read_key
from flowpersist.cli.layout import moment, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.people import Principal, principal_data

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle.history import AnswerEntry, AuditEntry, WaitEntry

__all__ = ["history"]

#: The columns of a trail.
COLUMNS: Final = ("NUMBER", "AT", "VERB", "STATUS", "BY", "WAITS")


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@store_options
def history(*, store: Store, key: str) -> None:
    """Verify the audit trail of a suspension and print it: who changed what, when, and what was answered.

    Exits with 9 if an entry is missing or was altered.
    """

    async def verb(hub: PersistenceHub) -> tuple[AuditEntry, ...]:
        return or_raise(await hub.history(named(read_key(key), hub)))

    entries = with_hub(store, verb)
    lines = table([COLUMNS, *map(_row, entries)], terminal_width()) if entries else ["no entries"]
    store.show([_entry_data(one) for one in entries], lines)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    verb = entry.verb if entry.refusal is None else f"{entry.verb} refused: {entry.refusal}"
    by = "-" if entry.by is None else entry.by.name or entry.by.subject
    waits = [_wait_text(one) for one in entry.waits] + ([f"{entry.more} more"] if entry.more else [])
    reason = [entry.reason] if entry.reason else []
    return str(entry.number), str(moment(entry.at)), verb, str(entry.status), by, "; ".join(waits + reason) or "-"


def _wait_text(wait: WaitEntry) -> str:
    return f"{wait.name} {wait.change}" + (f" ({wait.decision})" if wait.decision else "")


def _entry_data(entry: AuditEntry) -> dict[str, object]:
    return {
        "number": entry.number,
        "id": entry.id,
        "at": moment(entry.at),
        "verb": entry.verb,
        "suspension": str(entry.suspension),
        "tenant": entry.tenant,
        "status": str(entry.status),
        "sequence": entry.sequence,
        "fence": entry.fence,
        "attempt": entry.attempt,
        "by": _principal(entry.by),
        "reason": entry.reason,
        "error": entry.error,
        "refusal": entry.refusal,
        "waits": [_wait_data(one) for one in entry.waits],
        "more": entry.more,
        "removed": entry.removed,
        "previous": entry.previous,
        "mac": entry.mac,
        "kid": entry.kid,
    }


def _principal(who: Principal | None) -> dict[str, object] | None:
    return None if who is None else principal_data(who)


def _wait_data(wait: WaitEntry) -> dict[str, object]:
    return {
        "name": wait.name,
        "change": wait.change,
        "at": moment(wait.at),
        "question": wait.question,
        "shown": wait.shown,
        "tool": wait.tool,
        "version": wait.version,
        "policy": wait.policy,
        "deadline": moment(wait.deadline),
        "decision": wait.decision,
        "votes": None if wait.votes is None else {"cast": wait.votes[0], "needed": wait.votes[1]},
        "answer": None if wait.answer is None else _answer_data(wait.answer),
    }


def _answer_data(answer: AnswerEntry) -> dict[str, object]:
    given = {"value": answer.value} if answer.kept else {}
    return {"digest": answer.digest, "answerId": answer.answer_id, "replaced": answer.replaced, **given}
