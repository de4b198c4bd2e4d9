"""``answer``, ``cancel``, ``extend`` and ``keys``: actions on a suspension that waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen
from returns.result import Failure

from flowpersist.cli.inputs import fields_of, fields_taken, json_of, named, read_key
from flowpersist.cli.layout import moment
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.cli.types import CHANNEL, DURATION, MOMENT
from flowpersist.cli.views import receipt_data, suspension_data, tally_text
from flowpersist.errors import SuspensionClosed
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, Principal, Via
from flowpersist.lifecycle.model import WaitState

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.keys.suspension_key import SuspensionId
    from flowpersist.lifecycle.receipts import Receipt
    from flowpersist.lifecycle.views import Suspension

__all__ = ["Given", "actor", "answer", "answer_options", "cancel", "extend", "given_answer"]

ANSWER = (
    click.option("--value", metavar="JSON", help="The answer as JSON; - reads it from standard input."),
    click.option("--set", "fields", metavar="NAME=VALUE", multiple=True, help="A field of the answer; repeat it."),
    click.option("--by", help="The person who answers; recorded and shown, not verified."),
    click.option("--role", "roles", metavar="ROLE", multiple=True, help="A role of that person; repeat it."),
    click.option("--shown-digest", metavar="DIGEST", help="Answer only if the question still has this digest."),
    click.option(
        "--via", type=CHANNEL, metavar="CHANNEL[:DELIVERY]", help="How the answer came, such as slack:msg-17; recorded."
    ),
)


def answer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that give an answer."""
    for option in reversed(ANSWER):
        function = option(function)
    return function


@frozen
class Given:
    """An answer from the command line: whole, or as fields, whose texts are read by the wait's schema."""

    whole: tuple[object, ...] = ()
    fields: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.whole or self.fields)

    async def read(self, hub: PersistenceHub, key: str | SuspensionId) -> object:
        """The answer to the wait of a key."""
        if self.whole:
            return self.whole[0]
        seen = or_raise(await hub.suspensions.look("inspect", key))
        wait = seen.target if isinstance(seen.target, WaitState) else None
        if seen.target is None and len(seen.head.answerable_waits) == 1:
            wait = seen.head.answerable_waits[0]
        return fields_of(self.fields, "--set", fields_taken(_awaiting(wait)))


def _awaiting(wait: WaitState | None) -> AwaitInput[Any] | None:
    if wait is None or wait.awaiting is None:
        return None
    read = AwaitInput.from_data(wait.awaiting)
    return None if isinstance(read, Failure) else read.unwrap()


def actor(by: str | None, roles: tuple[str, ...]) -> By | None:
    """Who answers, by ``--by`` and ``--role``."""
    if not roles:
        return by
    if by is None:
        msg = "give --by with --role: the person who has it"
        raise click.UsageError(msg)
    return Principal(by, roles=roles)


def given_answer(value: str | None, fields: tuple[str, ...]) -> Given:
    """The answer of ``--value`` or ``--set``; false if neither is given."""
    if value is not None and fields:
        msg = "--value and --set exclude each other"
        raise click.UsageError(msg)
    # Text that is not a field is refused before the store is opened.
    fields_of(fields, "--set")
    return Given(fields=fields) if value is None else Given((json_of(value, "--value"),))


@click.command(cls=Command)
@click.argument("key", metavar="KEY")
@answer_options
@click.option("--answer-id", help="Your own id of this answer: repeating it is not a second answer.")
@store_options
def answer(
    *,
    store: Store,
    key: str,
    value: str | None,
    fields: tuple[str, ...],
    by: str | None,
    roles: tuple[str, ...],
    shown_digest: str | None,
    via: Via | None,
    answer_id: str | None,
) -> None:
    """Record an answer; KEY is - to read it from standard input. `resume` or a worker continues the flow."""
    given = given_answer(value, fields)
    if not given:
        msg = "give the answer: --value JSON, or --set NAME=VALUE for each field"
        raise click.UsageError(msg)

    who = actor(by, roles)

    async def verb(hub: PersistenceHub) -> Receipt:
        token = read_key(key)
        value = await given.read(hub, token)
        options: dict[str, Any] = {"answer_id": answer_id, "shown_digest": shown_digest, "via": via}
        return or_raise(await hub.answer(token, value, by=who, **options))

    receipt = with_hub(store, verb, writes=True)
    votes = [] if receipt.tally is None else [f"votes: {tally_text(receipt.tally)}"]
    store.show(receipt_data(receipt), [f"{receipt.outcome}: {receipt.wait} of {receipt.suspension_id}", *votes])


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@click.option("--reason", help="The reason, shown to anyone who answers later.")
@click.option("--by", help="Who cancels.")
@store_options
def cancel(*, store: Store, key: str, reason: str | None, by: str | None) -> None:
    """Cancel a suspension; a run that is being worked on is cancelled at its next pause."""

    async def verb(hub: PersistenceHub) -> Suspension:
        return or_raise(await hub.cancel(named(read_key(key), hub), reason, by=by))

    suspension = with_hub(store, verb)
    store.show(suspension_data(suspension), [f"{suspension.status}: {suspension.id}"])


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@click.option("--timeout", type=DURATION, help="From now, such as 30m, 12h or 7d.")
@click.option("--deadline", type=MOMENT, help="A time with its offset, such as 2027-01-31T17:00+01:00.")
@click.option("--by", help="Who extends.")
@store_options
def extend(*, store: Store, key: str, timeout: timedelta | None, deadline: datetime | None, by: str | None) -> None:
    """Move the deadline of the key's wait, or, given an id, of all open waits."""
    if (timeout is None) == (deadline is None):
        msg = "give the new deadline: --timeout or --deadline"
        raise click.UsageError(msg)

    async def verb(hub: PersistenceHub) -> Suspension:
        return or_raise(await hub.extend(named(read_key(key), hub), timeout=timeout, deadline=deadline, by=by))

    suspension = with_hub(store, verb)
    if not suspension.open_waits:
        message = f"suspension {suspension.id} is {suspension.status} and has no open wait, so no deadline was moved"
        raise SuspensionClosed(message, suspension.status)
    until = ", ".join(f"{wait.name} until {moment(wait.deadline)}" for wait in suspension.open_waits)
    store.show(suspension_data(suspension), [f"extended: {suspension.id}: {until}"])
