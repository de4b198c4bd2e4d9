"""``verify``: every record of the store, held against its seal; ``accept-restored``: what the ledger refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowpersist.cli.exits import Exit
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.hub.maintenance import Maintenance
from flowpersist.hub.outcome import or_raise
from flowpersist.keys.suspension_key import SuspensionId

if TYPE_CHECKING:
    from flowpersist.hub.scrubbing import Finding, Verification
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["accept_restored", "verify"]


@click.command(cls=Command)
@click.option("--no-data", is_flag=True, help="Read heads, attributes and due times alone, and no bodies.")
@click.option(
    "--repair",
    is_flag=True,
    help="Write altered attributes, due times and index entries again, and remove what no suspension has.",
)
@store_options
def verify(*, store: Store, no_data: bool, repair: bool) -> None:
    """Read every record of the store and report what is damaged, altered, missing or left behind.

    Without a keyring it compares checksums alone. With --json it prints JSON Lines, the last one the summary. Exits
    with 9 if anything was found that was not mended.
    """

    def tell(one: Finding) -> None:
        store.line({"type": "finding", **_data(one)}, _text(one))

    async def verb(hub: PersistenceHub) -> Verification:
        verified = await Maintenance(hub).verify(read_data=not no_data, repair=repair, most=0, tell=tell)
        return or_raise(verified)

    made = with_hub(store, verb)
    summary = {
        "type": "summary",
        "clean": made.clean,
        "records": dict(made.records),
        "unopened": dict(made.unopened),
        "found": dict(made.found),
        "repaired": dict(made.repaired),
        "swept": made.swept,
    }
    store.line(summary, _summed(made))
    if not made.clean:
        click.get_current_context().exit(Exit.UNREADABLE)


@click.command(cls=Command)
@click.argument("suspension", metavar="[ID]", required=False)
@store_options
def accept_restored(*, store: Store, suspension: str | None) -> None:
    """Accept what stands in a store that was restored from a backup, where the replay ledger refuses it.

    Without an ID all suspensions are accepted. Work that was done since the backup may be done again.
    """
    one = None if suspension is None else or_raise(SuspensionId.parse(suspension))

    async def verb(hub: PersistenceHub) -> int:
        return or_raise(await Maintenance(hub).accept_restored(one))

    accepted = with_hub(store, verb)
    store.show({"accepted": accepted}, [f"{accepted} suspensions accepted"])


def _summed(made: Verification) -> str:
    found, repaired, unopened = (sum(one.values()) for one in (made.found, made.repaired, made.unopened))
    parts = [f"{sum(made.records.values())} records read", f"{found} found" if found else "nothing found"]
    parts += [f"{repaired} repaired"] if repaired else []
    parts += [f"{made.swept} left behind by crashes removed"] if made.swept else []
    parts += [f"of {unopened} only the checksums, for want of a key"] if unopened else []
    return ", ".join(parts)


def _data(one: Finding) -> dict[str, object]:
    return {
        "problem": one.problem,
        "kind": one.kind,
        "namespace": None if one.ref is None else one.ref.namespace,
        "key": None if one.ref is None else one.ref.key,
        "code": one.code,
        "message": one.message,
        "repaired": one.repaired,
    }


def _text(one: Finding) -> str:
    named = "with an unreadable key" if one.ref is None else f"{one.ref.key} of {one.ref.namespace}"
    return f"{one.problem}: {one.kind} {named}: {one.message}{' (repaired)' if one.repaired else ''}"
