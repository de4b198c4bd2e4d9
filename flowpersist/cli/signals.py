"""``signal``: values that agents set for one another, wait for, and clear."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from flowpersist.cli.inputs import fields_of, value_of
from flowpersist.cli.layout import moment, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options
from flowpersist.cli.stores import project_option, with_stores
from flowpersist.cli.types import DURATION
from flowpersist.cli.views import as_text
from flowpersist.errors import StillWaiting, ValueNotFound

if TYPE_CHECKING:
    from flowpersist.stores import Signal, Stores

__all__ = ["signal"]

TTL: Final = timedelta(hours=24)
#: Without a timeout it waits for so long again and again.
LONG: Final = timedelta(days=1)
ttl_option = click.option(
    "--ttl",
    type=DURATION,
    default=TTL,
    show_default="24h",
    help="How long it stays. A critical one stays until cleared.",
)
critical_option = click.option("--critical", is_flag=True, help="It stays until it is cleared.")


@click.group()
def signal() -> None:
    """Set, read, await and clear signals. A VALUE that is JSON is read as JSON, any other as text."""


@signal.command("set", cls=Command)
@click.argument("key")
@click.argument("value", default="true")
@critical_option
@ttl_option
@project_option
@store_options
def set_signal(*, store: Store, key: str, value: str, critical: bool, ttl: timedelta, project: str | None) -> None:
    """Set the signal KEY to VALUE, true if none is given; - reads JSON from standard input."""
    meant = value_of(value, "VALUE")

    async def verb(stores: Stores) -> Signal:
        return await stores.signals.set(key, meant, critical=critical, ttl=ttl)

    store.show(_data(with_stores(store, project, verb, writes=True)), [f"set {key}"])


@signal.command(cls=Command)
@click.argument("key")
@project_option
@store_options
def get(*, store: Store, key: str, project: str | None) -> None:
    """Print the value of the signal KEY; exit code 5 if it is not set."""

    async def verb(stores: Stores) -> Signal:
        found = await stores.signals.get(key)
        if found is None:
            raise ValueNotFound("the signal is not set, or has expired")
        return found

    _show(store, with_stores(store, project, verb))


@signal.command("all", cls=Command)
@project_option
@store_options
def all_signals(*, store: Store, project: str | None) -> None:
    """List the signals that are set."""

    async def verb(stores: Stores) -> dict[str, Signal]:
        return await stores.signals.all()

    found = [one for _, one in sorted(with_stores(store, project, verb).items())]
    rows = [("KEY", "UNTIL", "VALUE"), *((one.key, _until(one), as_text(one.value)) for one in found)]
    store.show([_data(one) for one in found], table(rows, terminal_width()) if found else ["no signal is set"])


@signal.command(cls=Command)
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@project_option
@store_options
def clear(*, store: Store, keys: tuple[str, ...], project: str | None) -> None:
    """Clear signals, all of them in one step. Succeeds for signals that are not set."""

    async def verb(stores: Stores) -> object:
        return await stores.signals.apply({}, clear=keys)

    with_stores(store, project, verb, writes=True)
    store.show({"cleared": list(keys)}, [f"cleared {', '.join(keys)}"])


@signal.command(cls=Command)
@click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True, help="A signal to set; repeat it.")
@click.option("--clear", "cleared", metavar="KEY", multiple=True, help="A signal to clear; repeat it.")
@critical_option
@ttl_option
@project_option
@store_options
def apply(
    *,
    store: Store,
    pairs: tuple[str, ...],
    cleared: tuple[str, ...],
    critical: bool,
    ttl: timedelta,
    project: str | None,
) -> None:
    """Set and clear several signals in one step: all of it happens, or nothing."""
    if not pairs and not cleared:
        msg = "give what is to change: --set KEY=VALUE, --clear KEY"
        raise click.UsageError(msg)
    values = fields_of(pairs, "--set")

    async def verb(stores: Stores) -> object:
        return await stores.signals.apply(values, clear=cleared, critical=critical, ttl=ttl)

    with_stores(store, project, verb, writes=True)
    said = [f"set {key}" for key in values] + [f"cleared {key}" for key in cleared]
    store.show({"set": values, "cleared": list(cleared)}, [", ".join(said)])


@signal.command(cls=Command)
@click.argument("key")
@click.option("--timeout", type=DURATION, help="Exit with 3 if it is not set by then; by default there is no end.")
@project_option
@store_options
def wait(*, store: Store, key: str, timeout: timedelta | None, project: str | None) -> None:
    """Wait until the signal KEY is set, and print its value."""

    async def verb(stores: Stores) -> Signal:
        while True:
            found = await stores.signals.wait_for(key, timeout=timeout or LONG)
            if found is not None:
                return found
            if timeout is not None:
                raise StillWaiting("the signal was not set in this time")

    _show(store, with_stores(store, project, verb))


def _show(store: Store, one: Signal) -> None:
    store.show(_data(one), [as_text(one.value)])


def _data(one: Signal) -> dict[str, object]:
    times = {"setAt": moment(one.set_at), "expiresAt": moment(one.expires_at)}
    return {"key": one.key, "value": one.value, "critical": one.critical, **times}


def _until(one: Signal) -> str:
    return moment(one.expires_at) or "cleared"
