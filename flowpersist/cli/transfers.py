"""``export`` and ``import``: one suspension, or all of a tenant, in a file, sealed as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowpersist.cli.exits import Exit
from flowpersist.cli.inputs import named, read_key
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.hub.maintenance import Maintenance
from flowpersist.hub.outcome import or_raise
from flowpersist.keys.suspension_key import SuspensionId

if TYPE_CHECKING:
    from flowpersist.hub.copying import Copied
    from flowpersist.hub.export_file import Exported
    from flowpersist.hub.importing import Imported
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["copy", "export", "import_"]

file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command(cls=Command)
@file_argument
@click.option("--suspension", metavar="KEY|ID", help="The suspension to export.")
@click.option("--tenant", help="Export all suspensions and values of this tenant.")
@store_options
def export(*, store: Store, file: Path, suspension: str | None, tenant: str | None) -> None:
    """Write one suspension, or all of a tenant, to FILE, sealed as it is: for backups and bug reports.

    Only you can read the file, and only with the keyring of the store.
    """
    if (suspension is None) == (tenant is None):
        raise click.UsageError("one of --suspension and --tenant must be given")

    async def verb(hub: PersistenceHub) -> Exported:
        one = None
        if suspension is not None:
            key = named(read_key(suspension), hub)
            one = key if isinstance(key, SuspensionId) else or_raise(await hub.inspect(key)).id
        return or_raise(await Maintenance(hub).export(file, suspension=one, tenant=tenant))

    made = with_hub(store, verb)
    data = {"file": str(file), "records": made.records, "sha256": made.sha256}
    store.show(data, [f"wrote {made.records} records to {file}, SHA-256 {made.sha256}"])


@click.command("import", cls=Command)
@file_argument
@click.option("--replace", is_flag=True, help="Replace records that are older than those of the file.")
@click.option("--dry-run", is_flag=True, help="Check the file and compare it with the store; write nothing.")
@store_options
def import_(*, store: Store, file: Path, replace: bool, dry_run: bool) -> None:
    """Put the records of an exported FILE into the store. The whole file is checked first; repeat it after a crash.

    The store is created if it does not exist. Exits with 6 if another record stands in the place of one.
    """

    async def verb(hub: PersistenceHub) -> Imported:
        return or_raise(await Maintenance(hub).import_(file, replace=replace, dry_run=dry_run))

    done = with_hub(store, verb, creates=not dry_run)
    data = {"created": done.created, "replaced": done.replaced, "present": done.present, "dryRun": dry_run}
    said = "would create" if dry_run else "created"
    store.show(data, [f"{said} {done.created}, replaced {done.replaced}, there already {done.present}"])


@click.command(cls=Command)
@click.argument("to", metavar="URL")
@click.option("--name", help="What whoever comes for a moved record is told, in clear; the default is the backend.")
@store_options
def copy(*, store: Store, to: str, name: str | None) -> None:
    """Move everything to the store of URL while both are in use. Repeat it until nothing is left.

    Exits with 3 if runs that somebody holds, or conflicts, are left.
    """

    async def verb(hub: PersistenceHub) -> Copied:
        return or_raise(await Maintenance(hub).copy(to, name=name))

    done = with_hub(store, verb)
    data = {"moved": done.moved, "copied": done.copied, "busy": done.busy, "conflicts": done.conflicts}
    said = f"moved {done.moved}, copied {done.copied}, held by others {done.busy}, conflicts {done.conflicts}"
    store.show({**data, "complete": done.complete}, [said])
    if not done.complete:
        click.get_current_context().exit(Exit.NOT_YET)
