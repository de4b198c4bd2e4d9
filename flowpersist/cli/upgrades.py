"""``check-upgrade``: whether what is stored could be read and continued by this release of your code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowpersist.cli.exits import Exit
from flowpersist.cli.flow_files import document_of
from flowpersist.cli.inputs import load_tools, load_types
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.dynamicflow import FlowRunner
from flowpersist.hub.maintenance import Maintenance
from flowpersist.hub.outcome import or_raise

if TYPE_CHECKING:
    from flowpersist.hub.upgrade_check import UpgradeBreak, UpgradeCheck
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["check_upgrade"]


@click.command("check-upgrade", cls=Command)
@click.option(
    "--types",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="The classes that states may hold: a module or a .py file, and a name in it; repeat it.",
)
@click.option(
    "--tools", metavar="MODULE[:NAME]", multiple=True, help="The tools of open runs: runs that lack one are reported."
)
@click.option(
    "--migrations",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="Migrations between the documents of open runs; repeat it.",
)
@click.option(
    "--document",
    "documents",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A document that open runs of its flow will be resumed with; repeat it.",
)
@store_options
def check_upgrade(
    *,
    store: Store,
    types: tuple[str, ...],
    tools: tuple[str, ...],
    migrations: tuple[str, ...],
    documents: tuple[Path, ...],
) -> None:
    """Decode everything that is stored with your present code, and list what would break. Nothing is written or run.

    With --json it prints JSON Lines, the last one the summary. Exits with 9 if anything would break.
    """
    classes = load_types(types)
    loaded: list[Any] = load_tools(tools)
    moves: list[Any] = load_tools(migrations, "--migrations")
    given = [document_of(one) for one in documents]
    is_held = bool(tools or migrations or documents)

    async def verb(hub: PersistenceHub) -> UpgradeCheck:
        runner = FlowRunner(hub, loaded, migrations=moves) if is_held else None
        return or_raise(await Maintenance(hub).check_upgrade(runner, given))

    made = with_hub(store, verb, types=classes)
    for one in made.breaks:
        store.line({"type": "break", **_data(one)}, _text(one))
    summary = {
        "type": "summary",
        "passes": made.passes,
        "complete": made.complete,
        "records": dict(made.records),
        "breaks": len(made.breaks),
    }
    read = f"{sum(made.records.values())} records read"
    store.line(summary, f"{read}, nothing would break" if made.passes else f"{read}, {_broken(made)}")
    if not made.passes:
        click.get_current_context().exit(Exit.UNREADABLE)


def _broken(made: UpgradeCheck) -> str:
    more = "" if made.complete else ", and others that are not listed"
    return f"{sum(one.count for one in made.breaks)} would break{more}"


def _data(one: UpgradeBreak) -> dict[str, object]:
    return {
        "kind": one.kind,
        "code": one.code,
        "subject": one.subject,
        "flow": one.flow,
        "count": one.count,
        "first": None if one.first is None else {"namespace": one.first.namespace, "key": one.first.key},
        "message": one.message,
    }


def _text(one: UpgradeBreak) -> str:
    named = [f" of {one.subject}"] if one.subject else []
    flow = [f" in flow {one.flow}"] if one.flow else []
    return f"{one.count} {one.kind}{'' if one.count == 1 else 's'}: {one.code}{''.join(named + flow)}: {one.message}"
