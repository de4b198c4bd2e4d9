"""``halt``, ``lift`` and ``halts``: the emergency pause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from flowpersist.cli.layout import moment, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.hub.maintenance import Maintenance
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.people import principal_data
from flowpersist.lifecycle import Criteria
from flowpersist.lifecycle.halt_history import halt_entry_data

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle.halt_history import HaltEntry
    from flowpersist.lifecycle.halts import Halt

__all__ = ["halt", "halts", "lift"]

COLUMNS: Final = ("ID", "AT", "TOOL", "TENANT", "BY", "REASON")
PAST: Final = ("NUMBER", "AT", "VERB", "ID", "TOOL", "TENANT", "BY", "REASON")


@click.command(cls=Command)
@click.option("--tool", help="Stop the suspensions of this question or tool only.")
@click.option("--tenant", help="Stop the suspensions of this tenant only.")
@click.option("--reason", required=True, help="Why; each claim that is stopped says it.")
@click.option("--by", help="Who halts, for the trail.")
@store_options
def halt(*, store: Store, tool: str | None, tenant: str | None, reason: str, by: str | None) -> None:
    """Stop claims in every process, of everything unless --tool or --tenant is given, until lifted.

    It takes some three seconds: when it is back, no claim that it stops is made any more. Answers are taken, and runs
    that are held go on.
    """

    async def verb(hub: PersistenceHub) -> Halt:
        return or_raise(await Maintenance(hub).halt(Criteria(tool=tool, tenant=tenant), reason, by))

    made = with_hub(store, verb)
    store.show(_data(made), [f"halted {_scope(made)}: lift it with flowpersist lift {made.id}"])


@click.command(cls=Command)
@click.argument("id")
@click.option("--reason", help="Why, for the trail.")
@click.option("--by", help="Who lifts it, for the trail.")
@store_options
def lift(*, store: Store, id: str, reason: str | None, by: str | None) -> None:
    """Lift a halt: what it stopped is claimed again."""

    async def verb(hub: PersistenceHub) -> Halt:
        return or_raise(await Maintenance(hub).lift(id, reason, by))

    lifted = with_hub(store, verb)
    store.show(_data(lifted), [f"lifted {_scope(lifted)}"])


@click.command(cls=Command)
@click.option("--history", is_flag=True, help="Verify and print what was halted and lifted, instead of what stands.")
@store_options
def halts(*, store: Store, history: bool) -> None:
    """List the halts that stand. With --history, exits with 9 if an entry is missing or was altered."""
    if history:
        entries = with_hub(store, _history)
        rows = [PAST, *map(_past_row, entries)]
        store.show(
            [halt_entry_data(one) for one in entries], table(rows, terminal_width()) if entries else ["no entries"]
        )
        return
    found = with_hub(store, _halts)
    rows = [COLUMNS, *map(_row, found)]
    store.show([_data(one) for one in found], table(rows, terminal_width()) if found else ["nothing is halted"])


async def _halts(hub: PersistenceHub) -> tuple[Halt, ...]:
    return or_raise(await Maintenance(hub).halts())


async def _history(hub: PersistenceHub) -> tuple[HaltEntry, ...]:
    return or_raise(await Maintenance(hub).halt_history())


def _scope(made: Halt) -> str:
    named = [f"{what} {name}" for what, name in (("tool", made.tool), ("tenant", made.tenant)) if name is not None]
    return " and ".join(named) or "everything"


def _by(one: Halt | HaltEntry) -> str:
    return "-" if one.by is None else one.by.name or one.by.subject


def _row(one: Halt) -> tuple[str, ...]:
    return one.id, str(moment(one.at)), one.tool or "-", one.tenant or "-", _by(one), one.reason


def _past_row(one: HaltEntry) -> tuple[str, ...]:
    scope = one.tool or "-", one.tenant or "-"
    return str(one.number), str(moment(one.at)), one.verb, one.halt, *scope, _by(one), one.reason or "-"


def _data(one: Halt) -> dict[str, object]:
    by = None if one.by is None else principal_data(one.by)
    at = moment(one.at)
    return {"id": one.id, "at": at, "tool": one.tool, "tenant": one.tenant, "by": by, "reason": one.reason}
