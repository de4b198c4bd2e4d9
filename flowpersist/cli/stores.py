"""What the commands of the stores share: options, and the stores of an open hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from flowpersist.cli.session import Store, with_hub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.stores import Stores

__all__ = ["agent_option", "project_option", "with_stores"]

T = TypeVar("T")

project_option = click.option(
    "--project", envvar="FLOWPERSIST_PROJECT", help="The project; by default what is in none. [FLOWPERSIST_PROJECT]"
)
agent_option = click.option("--agent", envvar="FLOWPERSIST_AGENT", required=True, help="Your id. [FLOWPERSIST_AGENT]")


def with_stores(
    store: Store, project: str | None, verb: Callable[[Stores], Awaitable[T]], *, writes: bool = False
) -> T:
    """Open the stores of a project, await the verb, close them."""

    async def session(hub: PersistenceHub) -> T:
        stores = Stores(hub)
        return await verb(stores if project is None else stores.project(project))

    return with_hub(store, session, writes=writes)
