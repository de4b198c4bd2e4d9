"""``observe``: notes of agents, in the order of the store's clock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from flowpersist.cli.inputs import json_of, read_text
from flowpersist.cli.layout import moment, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options
from flowpersist.cli.stores import agent_option, project_option, with_stores
from flowpersist.cli.types import MOMENT
from flowpersist.cli.views import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowpersist.stores import Observation, Stores

__all__ = ["observe"]

of_agent_option = click.option("--agent", help="Only this agent's.")


@click.group()
def observe() -> None:
    """Add what an agent has seen, and read what all of them have."""


@observe.command(cls=Command)
@click.argument("text", required=False)
@click.option("--value", metavar="JSON", help="The content as JSON, in the place of TEXT; - reads standard input.")
@agent_option
@project_option
@store_options
def add(*, store: Store, text: str | None, value: str | None, agent: str, project: str | None) -> None:
    """Add an observation, and print its id; TEXT is - to read it from standard input."""
    if (text is None) == (value is None):
        msg = "give the content: TEXT, or --value JSON"
        raise click.UsageError(msg)
    content = read_text(text) if text is not None else json_of(str(value), "--value")

    async def verb(stores: Stores) -> str:
        return str(await stores.observations.add(agent, content))

    made = with_stores(store, project, verb, writes=True)
    store.show({"id": made}, [made])


@observe.command(cls=Command)
@of_agent_option
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@project_option
@store_options
def recent(*, store: Store, agent: str | None, count: int, project: str | None) -> None:
    """List the latest observations, the newest first."""

    async def verb(stores: Stores) -> Sequence[Observation]:
        return await stores.observations.recent(agent, n=count)

    _show(store, with_stores(store, project, verb))


@observe.command(cls=Command)
@click.argument("start", type=MOMENT)
@click.argument("end", type=MOMENT)
@project_option
@store_options
def between(*, store: Store, start: datetime, end: datetime, project: str | None) -> None:
    """List the observations from START until before END, times with their offset such as 2027-01-31T17:00+01:00."""

    async def verb(stores: Stores) -> Sequence[Observation]:
        return await stores.observations.between(start, end)

    _show(store, with_stores(store, project, verb))


@observe.command(cls=Command)
@of_agent_option
@project_option
@store_options
def count(*, store: Store, agent: str | None, project: str | None) -> None:
    """Count the observations."""

    async def verb(stores: Stores) -> int:
        return await stores.observations.count(agent)

    found = with_stores(store, project, verb)
    store.show({"count": found}, [str(found)])


def _show(store: Store, found: Sequence[Observation]) -> None:
    data = [{"id": str(o.id), "at": moment(o.at), "agent": o.agent_id, "content": o.content} for o in found]
    rows = [(str(moment(o.at)), o.agent_id, as_text(o.content)) for o in found]
    store.show(data, table([("AT", "AGENT", "CONTENT"), *rows], terminal_width()) if rows else ["none"])
