"""``list``, ``show``, ``answer`` and ``cancel``: what waits, and what a person does about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from flowpersist.cli.inputs import fields_of, json_of, named, read_key
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.cli.views import receipt_data, suspension_data, suspension_lines, table
from flowpersist.lifecycle.model import Status
from flowpersist.lifecycle.views import Criteria, new_suspension_of, suspension_of
from flowpersist.raising import or_raise

if TYPE_CHECKING:
    from flowpersist.backends.base import Page
    from flowpersist.hub import PersistenceHub
    from flowpersist.keys import SuspensionKey
    from flowpersist.lifecycle.views import Receipt, Suspension

__all__ = ["answer", "answer_options", "cancel", "given_answer", "list_suspensions", "show"]

ANSWER = (
    click.option("--value", metavar="JSON", help="The answer as JSON; - reads it from standard input."),
    click.option("--set", "fields", metavar="NAME=VALUE", multiple=True, help="A field of the answer; repeat it."),
    click.option("--by", help="Who answers; recorded and shown, not proven."),
)


def answer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What an answer is given by."""
    for option in reversed(ANSWER):
        function = option(function)
    return function


def given_answer(value: str | None, fields: tuple[str, ...]) -> tuple[object, ...]:
    """The answer of ``--value`` or ``--set`` in a tuple of one; empty where neither is given."""
    if value is not None and fields:
        msg = "--value and --set exclude each other"
        raise click.UsageError(msg)
    if value is not None:
        return (json_of(value, "--value"),)
    return (fields_of(fields, "--set"),) if fields else ()


@click.command("list", cls=Command)
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="Only those of this status.")
@click.option("--tool", help="Only those that await this AwaitInput, by its id.")
@click.option("--run", help="Only this run.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--metadata", metavar="NAME=VALUE", multiple=True, help="Only those with this metadata; repeat it.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@click.option("--after", help="Go on after this cursor, which the page before printed.")
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
    after: str | None,
) -> None:
    """List suspensions, oldest first. It shows ids, never keys."""
    criteria = Criteria(
        status=None if status is None else Status(status),
        tool=tool,
        run=run,
        tenant=tenant,
        metadata=_scalars(fields_of(metadata, "--metadata")),
    )

    async def verb(hub: PersistenceHub) -> Page[Suspension]:
        return or_raise(await hub.query(criteria, limit=limit, after=after))

    page = with_hub(store, verb)
    data = {"items": [suspension_data(item) for item in page.items], "next": page.next}
    store.show(data, _listed(page))


def _scalars(fields: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    for name, value in fields.items():
        if not isinstance(value, str | int | float | bool):
            raise click.BadParameter(f"{name} must be a text, a number, true or false", param_hint="--metadata")
    return {name: value for name, value in fields.items() if isinstance(value, str | int | float | bool)}


def _listed(page: Page[Suspension]) -> list[str]:
    if not page.items:
        return ["nothing found"]
    rows = [("ID", "STATUS", "CREATED", "WAITS")]
    rows += [(str(s.id), str(s.status), s.created_at.isoformat(timespec="seconds"), _open(s)) for s in page.items]
    return table(rows) if page.next is None else [*table(rows), f"more: --after {page.next}"]


def _open(suspension: Suspension) -> str:
    return ", ".join(wait.name for wait in suspension.open_waits) or "-"


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@click.option("--keys", is_flag=True, help="Print the keys of the open waits too: whoever has one can answer.")
@store_options
def show(*, store: Store, key: str, keys: bool) -> None:
    """Show one suspension: its status, what it awaits, and who answered. The state is not read."""

    async def verb(hub: PersistenceHub) -> tuple[Suspension, Mapping[str, SuspensionKey] | None]:
        seen = or_raise(await hub.suspensions.look("inspect", named(read_key(key))))
        if not keys:
            return suspension_of(seen.head), None
        # The holder of the store's keyring can open its heads, and so give a lost link again; no verb of the hub does.
        new = new_suspension_of(seen.head, prefix=hub.suspensions.prefix)
        return new, new.keys

    suspension, found = with_hub(store, verb)
    store.show(suspension_data(suspension, found), suspension_lines(suspension, found))


@click.command(cls=Command)
@click.argument("key", metavar="KEY")
@answer_options
@click.option("--answer-id", help="Your own id of this answer: the same one again is no second answer.")
@store_options
def answer(
    *, store: Store, key: str, value: str | None, fields: tuple[str, ...], by: str | None, answer_id: str | None
) -> None:
    """Record an answer; KEY is - to read it from standard input. The flow goes on by `resume` or a worker."""
    given = given_answer(value, fields)
    if not given:
        msg = "give the answer: --value JSON, or --set NAME=VALUE for each field"
        raise click.UsageError(msg)

    async def verb(hub: PersistenceHub) -> Receipt:
        return or_raise(await hub.answer(read_key(key), given[0], by=by, answer_id=answer_id))

    receipt = with_hub(store, verb)
    store.show(receipt_data(receipt), [f"{receipt.outcome}: {receipt.wait} of {receipt.suspension_id}"])


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@click.option("--reason", help="Told to whoever answers later.")
@click.option("--by", help="Who cancels.")
@store_options
def cancel(*, store: Store, key: str, reason: str | None, by: str | None) -> None:
    """Cancel what waits; a run that somebody works on is cancelled at its next pause."""

    async def verb(hub: PersistenceHub) -> Suspension:
        return or_raise(await hub.cancel(named(read_key(key)), reason, by=by))

    suspension = with_hub(store, verb)
    store.show(suspension_data(suspension), [f"{suspension.status}: {suspension.id}"])
