"""``audit strip``: remove names, reasons and answers from audit entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.hub.maintenance import Maintenance
from flowpersist.hub.outcome import or_raise
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import Criteria

if TYPE_CHECKING:
    from flowpersist.hub.stripping import Stripped
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["strip"]


@click.command(cls=Command)
@click.option("--tenant", help="Of this tenant's suspensions.")
@click.option("--suspension", metavar="ID", help="Of this suspension alone.")
@click.option("--subject", help="Only entries of what this subject did, or somebody on their behalf.")
@click.option("--reason", help="Why, for the entry that says so.")
@click.option("--by", help="Who asks for it, for the same.")
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@store_options
def strip(
    *,
    store: Store,
    tenant: str | None,
    suspension: str | None,
    subject: str | None,
    reason: str | None,
    by: str | None,
    dry_run: bool,
) -> None:
    """Remove who, why and what was answered from audit entries; the trails verify as before.

    Needs --tenant, --suspension or --subject. Nothing can be restored.
    """
    alone = None if suspension is None else or_raise(SuspensionId.parse(suspension))

    async def verb(hub: PersistenceHub) -> Stripped:
        return or_raise(
            await Maintenance(hub).strip_audit(
                Criteria(tenant=tenant), suspension=alone, subject=subject, reason=reason, by=by, dry_run=dry_run
            )
        )

    done = with_hub(store, verb)
    said = "would strip" if done.dry_run else "stripped"
    data = {
        "suspensions": done.suspensions,
        "entries": done.entries,
        "halts": done.halts,
        "dryRun": done.dry_run,
    }
    of_halts = f", {done.halts} of them of the halts" if done.halts else ""
    store.show(data, [f"{said} {done.entries} entries of {done.suspensions} suspensions{of_halts}"])
