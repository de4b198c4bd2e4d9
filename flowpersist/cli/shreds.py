"""``shred``: destroy the data keys of a tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowpersist.cli.session import Command, Store, store_options, tenant_keys_of, with_hub
from flowpersist.hub.maintenance import Maintenance, Shredded
from flowpersist.hub.outcome import or_raise

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["shred"]


@click.command(cls=Command)
@click.argument("tenant")
@click.option("--yes", is_flag=True, help="Do not ask for the tenant's name again.")
@store_options
def shred(*, store: Store, tenant: str, yes: bool) -> None:
    """Destroy the data keys of TENANT: nothing of it can be read any more, backups included. Needs --tenant-keys.

    The audit trails of its suspensions are kept, without names, reasons and answers. Nothing can be restored.
    """
    # What is wrong with the keys is said before the question, which nobody should answer for nothing.
    tenant_keys_of(store)
    if not yes:
        told = f"Nothing of tenant {tenant!r} can be read or restored afterwards. Its name again, to destroy its keys"
        if click.prompt(told, err=True, default="", show_default=False) != tenant:
            msg = "that is not the tenant's name: nothing was destroyed (--yes does not ask)"
            raise click.UsageError(msg)

    async def verb(hub: PersistenceHub) -> Shredded:
        return or_raise(await Maintenance(hub).shred(tenant))

    done = with_hub(store, verb)
    said = f"destroyed {done.keys} keys of {tenant}, and kept {done.trails} audit trails"
    if done.unreadable:
        said += f"; those of {done.unreadable} suspensions that can't be read were not kept"
    counts = {"keys": done.keys, "trails": done.trails, "unreadable": done.unreadable}
    store.show({"tenant": tenant, **counts}, [said])
