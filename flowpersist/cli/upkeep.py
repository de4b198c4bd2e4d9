"""``tick``, ``cleanup``, ``train-dictionary``, ``health``, ``migrate`` and ``keygen``: store and keys."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowpersist.cli.layout import ago
from flowpersist.cli.session import Command, Store, awaited, store_options, with_hub
from flowpersist.hub.health import health_data
from flowpersist.hub.maintenance import Cleanup, Health, Maintenance, Tick, TrainedDictionary
from flowpersist.hub.opening import SchemaMigration
from flowpersist.hub.opening import migrate as migrated
from flowpersist.hub.outcome import or_raise
from flowpersist.keys.key_file import KeyFile
from flowpersist.keys.keyring import KeyRing
from flowpersist.lifecycle import Criteria

if TYPE_CHECKING:
    from flowpersist.backends.base import BackendHealth
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["cleanup", "health", "keygen", "migrate", "tick", "train_dictionary"]


@click.command(cls=Command)
@store_options
def tick(*, store: Store) -> None:
    """Apply what is due: expiries, defaults, lapsed leases. Run it from a timer if no worker runs.

    It can't deliver reminders and escalations: for these, tick in a process whose hub has on_event.
    """

    async def verb(hub: PersistenceHub) -> Tick:
        return or_raise(await Maintenance(hub).tick())

    done = with_hub(store, verb)
    store.show({"updated": done.updated}, [f"updated {done.updated}"])


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="Count, and delete nothing.")
@store_options
def cleanup(*, store: Store, dry_run: bool) -> None:
    """Delete closed suspensions whose retention period has ended, and audit trails whose own period has."""

    async def verb(hub: PersistenceHub) -> Cleanup:
        return or_raise(await Maintenance(hub).cleanup(dry_run=dry_run))

    done = with_hub(store, verb)
    said = "would delete" if done.dry_run else "deleted"
    trails = f", and {done.trails} audit trails that were kept" if done.trails else ""
    data = {"deleted": done.deleted, "dryRun": done.dry_run, "trails": done.trails}
    store.show(data, [f"{said} {done.deleted}{trails}"])


@click.command(name="train-dictionary", cls=Command)
@click.option("--tenant", help="Train on this tenant's states only.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=1000, help="The most states to train on; the default is 1000."
)
@click.option(
    "--size", type=click.IntRange(256, 2**20), default=64 * 1024, help="Its most bytes; the default is 65536."
)
@store_options
def train_dictionary(*, store: Store, tenant: str | None, samples: int, size: int) -> None:
    """Train a dictionary for small states. FLOWPERSIST_DICTIONARIES=on uses it."""

    async def verb(hub: PersistenceHub) -> TrainedDictionary:
        return or_raise(await Maintenance(hub).train_dictionary(Criteria(tenant=tenant), samples=samples, size=size))

    made = with_hub(store, verb)
    data = {"id": made.id, "version": made.version, "bytes": made.size, "samples": made.samples}
    said = f"version {made.version}: dictionary {made.id} of {made.size} bytes, from {made.samples} states"
    store.show(data, [said])


@click.command(cls=Command)
@click.option("--ping", is_flag=True, help="Ask only whether the store answers, and count nothing: for a probe.")
@store_options
def health(*, store: Store, ping: bool) -> None:
    """Check that the store answers; exit with 0 if it does."""
    if ping:
        seen = with_hub(store, _pinged)
        store.show({"backend": seen.backend, "latencyMs": _milliseconds(seen.latency)}, [_answered(seen)])
        return

    async def verb(hub: PersistenceHub) -> Health:
        return or_raise(await Maintenance(hub).health())

    whole = with_hub(store, verb)
    kept = {True: "encrypted", False: "not all encrypted", None: "none yet"}[whole.encrypted]
    counts = ", ".join(f"{name} {count}" for name, count in sorted(whole.stores.items()))
    lines = [f"{_answered(whole)}, stored records are {kept}", *([f"values: {counts}"] if counts else [])]
    lines += [*_pool(whole), *_suspensions(whole)]
    lines += [f"audit trails of deleted suspensions: {whole.trails}"] if whole.trails else []
    store.show(health_data(whole), [*lines, *(f"warning: {warning}" for warning in whole.warnings)])


def _pool(whole: Health) -> list[str]:
    if whole.pool is None:
        return []
    waiting = "" if whole.pool.waiting is None else f", {whole.pool.waiting} wait for one"
    return [f"connections: {whole.pool.in_use} in use, at most {whole.pool.size} to a server{waiting}"]


def _suspensions(whole: Health) -> list[str]:
    counts = ", ".join(f"{name} {count}" for name, count in sorted(whole.statuses.items()))
    waits = [] if whole.oldest_waiting is None else [f"the oldest waits for {ago(whole.oldest_waiting)}"]
    claims = [] if whole.oldest_answered is None else [f"the oldest answer for {ago(whole.oldest_answered)}"]
    sizes = [f"{name} {size} bytes" for name, size in sorted(whole.sizes.items())]
    return [f"suspensions: {'; '.join([counts, *waits, *claims, *sizes])}"] if counts else []


async def _pinged(hub: PersistenceHub) -> BackendHealth:
    return or_raise(await hub.suspensions.records.health())


def _answered(seen: Health | BackendHealth) -> str:
    return f"{seen.backend}: answered in {_milliseconds(seen.latency)} ms"


def _milliseconds(latency: timedelta) -> float:
    return round(latency.total_seconds() * 1000, 3)


@click.command(cls=Command)
@click.option("--plan", is_flag=True, help="Print the statements that would run, and change nothing.")
@store_options
def migrate(*, store: Store, plan: bool) -> None:
    """Upgrade the store's schema to this release. Every other command does so too; this one reports what it did."""
    namespace = "default" if store.namespace is None else store.namespace
    made = awaited(migrated(store.url, plan=plan, namespace=namespace))
    data = {"backend": made.backend, "statements": list(made.statements), "applied": made.applied}
    store.show(data, _migration(made))


def _migration(made: SchemaMigration) -> list[str]:
    if not made.statements:
        return [f"{made.backend}: nothing to migrate"]
    if not made.applied:
        return list(made.statements)
    count = len(made.statements)
    return [f"{made.backend}: migrated by {count} statement{'' if count == 1 else 's'}"]


@click.command(cls=Command)
@click.option("--kid", help="The key's id; random where none is given.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a new file that only you can read, and print nothing secret.",
)
@click.option(
    "--append",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Add the key to the end of a keys file: it opens data, and seals once it is the first.",
)
@store_options
def keygen(*, store: Store, kid: str | None, output: Path | None, append: Path | None) -> None:
    """Make a new keyring of one key, in the form that FLOWPERSIST_KEYS takes. Do not keep it with the database."""
    if output is not None and append is not None:
        msg = "--output and --append exclude each other"
        raise click.UsageError(msg)
    if append is not None:
        added = KeyFile(append).add(kid).kids[-1]
        said = f"added {added} to {append}: distribute the file to every process, then flowpersist keys promote {added}"
        store.show({"keysFile": str(append), "kid": added}, [said])
        return
    made = KeyRing.generate(kid)
    text = made.export()
    if output is None:
        store.show({"keys": text}, [text])
        return
    # Never overwrites a file, because data sealed with its keys would be lost.
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    store.show({"keysFile": str(output)}, [f"wrote {output}: set FLOWPERSIST_KEYS_FILE={output}"])
