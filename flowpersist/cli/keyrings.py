"""``keys``: the keys of open waits, and the rotation of the keyring: ``add``, ``promote``, ``rekey``, ``retire``,
``status``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from flowpersist.cli.inputs import named, read_key
from flowpersist.cli.session import Command, Store, note, store_options, with_hub
from flowpersist.cli.types import DURATION
from flowpersist.errors import ConfigurationError
from flowpersist.hub.maintenance import KeyUse, Maintenance, Rekeyed, RekeyProgress
from flowpersist.hub.outcome import or_raise
from flowpersist.keys.key_file import KeyFile
from flowpersist.keys.keyring import KeyRing
from flowpersist.settings import Settings

if TYPE_CHECKING:
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.keys.suspension_key import SuspensionKey

__all__ = ["keys"]

T = TypeVar("T")
#: The options of a store that take a value.
_VALUED: Final = frozenset({"--url", "--keys-file", "--tenant-keys", "--namespace"})
#: A progress line each so many records.
TOLD_EACH: Final = 1000


class KeysGroup(click.Group):
    """Subcommands, and without one of their names the command that prints the keys of a suspension."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the command first: options of the store may stand before it."""
        at = _first_argument(args)
        if at is None or args[at] in self.commands:
            moved = args if at is None else [args[at], *args[:at], *args[at + 1 :]]
            return super().parse_args(ctx, moved if at is not None or _wants_help(args) else ["of", *args])
        return super().parse_args(ctx, ["of", *args])


def _wants_help(args: list[str]) -> bool:
    return not args or any(one in {"-h", "--help"} for one in args)


def _first_argument(args: list[str]) -> int | None:
    """Where the first argument stands that is no option and no option's value."""
    skipped = False
    for at, one in enumerate(args):
        if skipped:
            skipped = False
        elif one in _VALUED:
            skipped = True
        elif not one.startswith("-") or one == "-":
            return at
    return None


@click.group(cls=KeysGroup, subcommand_metavar="KEY|ID | COMMAND [ARGS]...", no_args_is_help=True)
def keys() -> None:
    """Print the keys of a suspension's open waits (keys KEY|ID), or rotate the keyring that seals the store.

    To rotate: add a key, wait until every process has it, promote it, wait until it seals in every process, rekey, and
    retire the old key.
    """


@keys.command(name="of", cls=Command, hidden=True)
@click.argument("key", metavar="KEY|ID")
@store_options
def of(*, store: Store, key: str) -> None:
    """Print the keys of the open waits again, for a link that was lost. Anyone with a key can answer."""

    async def verb(hub: PersistenceHub) -> Mapping[str, SuspensionKey]:
        seen = or_raise(await hub.inspect(named(read_key(key), hub)))
        return or_raise(await hub.keys(seen.id))

    found = with_hub(store, verb)
    lines = [line for name, one in found.items() for line in (f"{name}:", f"  {one}")]
    store.show({name: str(one) for name, one in found.items()}, lines or ["no open waits"])


@keys.command(cls=Command)
@click.option("--kid", help="The key's id; random where none is given.")
@store_options
def add(*, store: Store, kid: str | None) -> None:
    """Add a new key to the keys file: it opens what it seals, and seals once it is promoted. It is not printed."""
    ring = _key_file(store).add(kid)
    added = ring.kids[-1]
    _show_ring(store, ring, f"added {added}: promote it once every process has the file")


@keys.command(cls=Command)
@click.argument("kid")
@store_options
def promote(*, store: Store, kid: str) -> None:
    """Let a key of the keys file seal from now on. Every process must have it by then."""
    ring = _key_file(store).promote(kid)
    _show_ring(store, ring, f"{kid} seals: rekey once every process has the file")


@keys.command(cls=Command)
@click.option("--accept-plain", is_flag=True, help="Also seal what is in plain text; anyone may have written it.")
@store_options
def rekey(*, store: Store, accept_plain: bool) -> None:
    """Seal every record again with the key that seals now. Others may work meanwhile; repeat it if it was ended."""

    async def verb(hub: PersistenceHub) -> Rekeyed:
        told = _Told()
        return or_raise(await Maintenance(hub).rekey(accept_plain=accept_plain, on_progress=told))

    done = with_hub(store, verb)
    data = {
        "primary": done.primary,
        "lookedAt": done.looked_at,
        "resealed": done.resealed,
        "problems": dict(done.problems),
        "unreadable": [{"namespace": one.namespace, "key": one.key} for one in done.unreadable],
    }
    lines = [f"sealed {done.resealed} records again with {done.primary}, of {done.looked_at}"]
    lines += [f"left {count} as they are: {code}" for code, count in sorted(done.problems.items())]
    store.show(data, lines)


@keys.command(cls=Command)
@click.argument("kid")
@click.option(
    "--wait",
    type=DURATION,
    default=timedelta(seconds=10),
    show_default="10s",
    help="How long after the first count to count again, for writes that were under way.",
)
@store_options
def retire(*, store: Store, kid: str, wait: timedelta) -> None:
    """Remove a key from the keys file, unless records need it."""
    file = _key_file(store)

    async def verb(hub: PersistenceHub) -> KeyRing:
        return or_raise(await Maintenance(hub).retire(kid, wait=wait))

    with_hub(store, verb)
    _show_ring(store, file.retire(kid), f"retired {kid}: remove it from every process")


@keys.command(cls=Command)
@store_options
def status(*, store: Store) -> None:
    """Count the records that need each key. Reads the head of every record."""

    async def verb(hub: PersistenceHub) -> tuple[KeyRing | None, KeyUse]:
        return hub.suspensions.records.sealer.keyring, or_raise(await Maintenance(hub).key_use())

    ring, use = with_hub(store, verb)
    known = () if ring is None else ring.kids
    data = {
        "primary": known[0] if known else None,
        "keys": {kid: use.records.get(kid, 0) for kid in known},
        "missing": {kid: count for kid, count in sorted(use.records.items()) if kid not in known},
        "plain": use.plain,
        "unknown": use.unknown,
    }
    store.show(data, [*_counted(known, use.records), *_further(use)])


def _counted(known: tuple[str, ...], records: Mapping[str, int]) -> Iterable[str]:
    for number, kid in enumerate(known):
        yield f"{kid}: {records.get(kid, 0)} records{'' if number else ', seals'}"
    for kid, count in sorted(records.items()):
        if kid not in known:
            yield f"{kid}: {count} records, and the keyring lacks it"


def _further(use: KeyUse) -> Iterable[str]:
    if use.plain:
        yield f"plain text: {use.plain} records"
    if use.unknown:
        yield f"can't be opened: {use.unknown} records"
    if not (use.records or use.plain or use.unknown):
        yield "no records"


class _Told:
    """Prints how far a rekey has come, now and then."""

    def __init__(self) -> None:
        self._next = TOLD_EACH

    def __call__(self, progress: RekeyProgress) -> None:
        if progress.looked_at >= self._next or progress.looked_at < self._next - TOLD_EACH:
            self._next = progress.looked_at - progress.looked_at % TOLD_EACH + TOLD_EACH
            done = f"looked at {progress.looked_at} records, sealed {progress.resealed} again"
            note(f"{done}; now in {progress.namespace}")


def _key_file(store: Store) -> KeyFile:
    settings = Settings.from_environ()
    path = store.keys_file or (Path(settings.keys_file) if settings.keys_file and not settings.keys else None)
    if path is None:
        message = "there is no keys file to change: pass --keys-file, or set FLOWPERSIST_KEYS_FILE alone"
        raise ConfigurationError(message, "FLOWPERSIST_KEYS_FILE")
    return KeyFile(path)


def _show_ring(store: Store, ring: KeyRing, said: str) -> None:
    store.show({"primary": ring.primary, "keys": list(ring.kids)}, [said])
