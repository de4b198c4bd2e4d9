"""``list``, ``show`` and ``outcome``: the contents of the store. None of them changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import evolve

from flowpersist.cli.inputs import named, read_key, scalars_of
from flowpersist.cli.layout import table, terminal_width
from flowpersist.cli.session import Command, Store, note, store_options, with_hub
from flowpersist.cli.views import LISTED, as_text, listed_row, suspension_data, suspension_lines
from flowpersist.hub.outcome import or_raise
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.model import Status, WaitState
from flowpersist.lifecycle.views import Suspension, suspension_of

if TYPE_CHECKING:
    from flowpersist.backends.base import Page
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["list_suspensions", "outcome", "show"]


#: The sort orders of a page.
SORTS: Final[Mapping[str, Callable[[Suspension], Any]]] = {
    "newest": lambda one: -one.created_at.timestamp(),
    "oldest": lambda one: one.created_at,
    "deadline": lambda one: (one.deadline is None, one.deadline),
    "status": lambda one: (str(one.status), one.created_at),
    "updated": lambda one: one.updated_at,
}


@click.command("list", cls=Command)
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="Only those of this status.")
@click.option("--tool", help="Only those that await this AwaitInput, by its id.")
@click.option("--run", help="Only this run.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--metadata", metavar="NAME=VALUE", multiple=True, help="Only those with this metadata; repeat it.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="The most suspensions to list."
)
@click.option("--sort", type=click.Choice(sorted(SORTS)), help="Sort the page; by default the oldest come first.")
@click.option("--after", help="Continue after this cursor, which the previous page printed.")
@store_options
def list_suspensions(
    *,
    store: Store,
    status: str | None,
    tool: str | None,
    run: str | None,
    tenant: str | None,
    metadata: tuple[str, ...],
    limit: int,
    sort: str | None,
    after: str | None,
) -> None:
    """List suspensions, oldest first, with their prompts. It shows ids, never keys."""
    criteria = Criteria(
        status=None if status is None else Status(status),
        tool=tool,
        run=run,
        tenant=tenant,
        metadata=scalars_of(metadata, "--metadata"),
    )

    async def verb(hub: PersistenceHub) -> Page[Suspension]:
        return or_raise(await hub.query(criteria, limit=limit, after=after))

    page = with_hub(store, verb)
    if sort is not None:
        page = evolve(page, items=tuple(sorted(page.items, key=SORTS[sort])))
        if page.next is not None:
            note(f"warning: there are more than {limit}, and only this page of them is sorted; see --limit and --after")
    for one in page.unreadable:
        note(f"warning: {'a record' if one.ref is None else one.ref.key} is left out: {one.error}")
    data = {"items": [suspension_data(item) for item in page.items], "next": page.next}
    store.show(data, _listed(page))


def _listed(page: Page[Suspension]) -> list[str]:
    more = [] if page.next is None else [f"more: --after {page.next}"]
    if not page.items:
        return more or ["nothing found"]
    return [*table([LISTED, *(listed_row(item, page.now) for item in page.items)], terminal_width()), *more]


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@store_options
def show(*, store: Store, key: str) -> None:
    """Show one suspension: its status, what it awaits, and who answered. The state is not read."""

    async def verb(hub: PersistenceHub) -> tuple[Suspension, str | None]:
        seen = or_raise(await hub.suspensions.look("inspect", named(read_key(key), hub)))
        return suspension_of(seen.head), seen.target.name if isinstance(seen.target, WaitState) else None

    suspension, own = with_hub(store, verb)
    store.show(suspension_data(suspension), suspension_lines(suspension, terminal_width(), own))


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@store_options
def outcome(*, store: Store, key: str) -> None:
    """Print the outcome of a completed run."""

    async def verb(hub: PersistenceHub) -> object:
        return or_raise(await hub.outcome(named(read_key(key), hub)))

    kept = with_hub(store, verb)
    store.show(kept, [as_text(kept)])
