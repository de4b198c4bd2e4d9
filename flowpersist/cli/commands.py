"""The group of all commands, and the options that are allowed before a command's name."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click

from flowpersist.cli import (
    artifacts,
    auditing,
    deliveries,
    dry_runs,
    features,
    flow_documents,
    flow_runs,
    flows,
    halts,
    histories,
    keyrings,
    locks,
    looking,
    observations,
    scrubs,
    shreds,
    signals,
    stripping,
    transfers,
    upgrades,
    upkeep,
    waits,
)
from flowpersist.cli.group import Group
from flowpersist.cli.session import Store, store_options

__all__ = ["command"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("flowpersist"), prog_name="flowpersist")
@store_options
@click.pass_context
def command(
    context: click.Context,
    *,
    url: str | None,
    keys_file: Path | None,
    tenant_keys: str | None,
    namespace: str | None,
    json: bool | None,
    debug: bool | None,
) -> None:
    """Run flows that wait for people, answer them by key, and go on from any process.

    Exits with 0 done, 1 the flow failed, 2 wrong usage, 3 not yet, 4 invalid input, 5 no such key, 6 closed,
    7 wrong settings, 8 the store failed, 9 unreadable data, 10 denied, 130 interrupted, 143 terminated.
    """
    context.obj = Store(url, keys_file, tenant_keys, namespace, bool(json), bool(debug))


for one in (
    flows.run,
    flows.resume,
    flows.worker,
    flow_documents.flow,
    looking.list_suspensions,
    looking.show,
    histories.history,
    auditing.receipt,
    auditing.audit,
    looking.outcome,
    waits.answer,
    waits.cancel,
    waits.extend,
    keyrings.keys,
    locks.lock,
    signals.signal,
    observations.observe,
    features.feature,
    artifacts.artifact,
    halts.halt,
    halts.lift,
    halts.halts,
    upkeep.tick,
    upkeep.cleanup,
    shreds.shred,
    upkeep.train_dictionary,
    upkeep.health,
    upgrades.check_upgrade,
    scrubs.verify,
    scrubs.accept_restored,
    transfers.export,
    transfers.import_,
    transfers.copy,
    upkeep.migrate,
    upkeep.keygen,
):
    command.add_command(one)
for one in (stripping.strip, deliveries.deliver):
    auditing.audit.add_command(one)
for one in (dry_runs.rehearse, flow_runs.inspect, flow_runs.retry):
    flow_documents.flow.add_command(one)
