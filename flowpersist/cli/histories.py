"""``history``: the audit trail of a suspension, verified."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from flowpersist.cli.inputs import named, read_key
from flowpersist.cli.layout import moment, table, terminal_width, writable
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.hub.outcome import or_raise
from flowpersist.lifecycle.entry_data import entry_data
from flowpersist.lifecycle.traces import approval_trace

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle.history import AuditEntry, WaitEntry

__all__ = ["history"]

#: The columns of a trail.
COLUMNS: Final = ("NUMBER", "AT", "VERB", "STATUS", "BY", "WAITS")


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "agentack"]),
    default="table",
    help="agentack: JSON Lines that 'agentack check' reads, a trace of the approvals.",
)
@store_options
def history(*, store: Store, key: str, form: str) -> None:
    """Verify the audit trail of a suspension and print it: who changed what, when, and what was answered.

    Exits with 9 if an entry is missing or was altered.
    """

    async def verb(hub: PersistenceHub) -> tuple[AuditEntry, ...]:
        return or_raise(await hub.history(named(read_key(key), hub)))

    entries = with_hub(store, verb)
    if form == "agentack":
        for event in approval_trace(entries):
            click.echo(writable(json.dumps(event, ensure_ascii=False)))
        return
    lines = table([COLUMNS, *map(_row, entries)], terminal_width()) if entries else ["no entries"]
    store.show([entry_data(one) for one in entries], lines)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    verb = entry.verb if entry.refusal is None else f"{entry.verb} refused: {entry.refusal}"
    by = "-" if entry.by is None else entry.by.name or entry.by.subject
    waits = [_wait_text(one) for one in entry.waits] + ([f"{entry.more} more"] if entry.more else [])
    reason = [entry.reason] if entry.reason else []
    return str(entry.number), str(moment(entry.at)), verb, str(entry.status), by, "; ".join(waits + reason) or "-"


def _wait_text(wait: WaitEntry) -> str:
    return f"{wait.name} {wait.change}" + (f" ({wait.decision})" if wait.decision else "")
