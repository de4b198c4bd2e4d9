"""``lock``: leases on paths, for agents in different processes and on different machines."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import click

from flowpersist.cli.inputs import read_key
from flowpersist.cli.layout import moment, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options
from flowpersist.cli.stores import agent_option, project_option, with_stores
from flowpersist.cli.types import DURATION
from flowpersist.errors import ConfigurationError
from flowpersist.stores import Lease, Stores

__all__ = ["lock"]

TTL: Final = timedelta(minutes=5)
#: What a command finds in its environment: what it protects refuses what comes with a lower one than it has seen.
FENCE: Final = "FLOWPERSIST_FENCE"
#: Exit codes of a shell for a command that can't be run.
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127

ASKED = (
    click.argument("path"),
    agent_option,
    click.option("--shared", is_flag=True, help="Hold it together with others who take it shared."),
    click.option("--ttl", type=DURATION, default=TTL, show_default="5m", help="When it ends unless it is renewed."),
    click.option(
        "--wait", type=DURATION, help="How long to wait for it; without it a lock that is held is exit code 3."
    ),
    project_option,
    store_options,
)
lease_argument = click.argument("token", metavar="LEASE")


def asked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The path and the options of a lock that is wanted."""
    for option in reversed(ASKED):
        function = option(function)
    return function


@click.group()
def lock() -> None:
    """Hold a path exclusively or shared. The store's clock decides; those who wait come in their order."""


@lock.command(cls=Command)
@asked
def acquire(
    *,
    store: Store,
    path: str,
    agent: str,
    shared: bool,
    ttl: timedelta,
    wait: timedelta | None,
    project: str | None,
) -> None:
    """Take the lock of PATH, and print the lease that `renew` and `release` take."""

    async def verb(stores: Stores) -> Lease:
        return await stores.locks.acquire(
            path, agent, lock_type="shared" if shared else "exclusive", ttl=ttl, wait=wait
        )

    show(store, with_stores(store, project, verb, writes=True))


@lock.command(cls=Command)
@lease_argument
@click.option("--ttl", type=DURATION, default=TTL, show_default="5m", help="When it ends, from now.")
@project_option
@store_options
def renew(*, store: Store, token: str, ttl: timedelta, project: str | None) -> None:
    """Renew a LEASE; - reads it from standard input. Exit code 3 if it has ended: stop what it protects."""
    lease = read_lease(token)

    async def verb(stores: Stores) -> Lease:
        return await stores.locks.renew(lease, ttl)

    show(store, with_stores(store, project, verb, writes=True))


@lock.command(cls=Command)
@lease_argument
@project_option
@store_options
def release(*, store: Store, token: str, project: str | None) -> None:
    """Release a LEASE; - reads it from standard input. Succeeds if the lease has already ended."""
    lease = read_lease(token)

    async def verb(stores: Stores) -> bool:
        return await stores.locks.release(lease)

    released = with_stores(store, project, verb, writes=True)
    store.show({"released": released}, ["released" if released else "it had ended"])


@lock.command(cls=Command)
@click.argument("path")
@project_option
@store_options
def holders(*, store: Store, path: str, project: str | None) -> None:
    """List who holds the lock of PATH. `release` takes a lease of --json too, if its holder has died."""

    async def verb(stores: Stores) -> tuple[Lease, ...]:
        return tuple(await stores.locks.holders(path))

    found = with_stores(store, project, verb)
    rows = [(one.agent_id, one.lock_type, str(one.fence), str(moment(one.expires_at))) for one in found]
    lines = table([("AGENT", "TYPE", "FENCE", "UNTIL"), *rows], terminal_width()) if rows else ["nobody"]
    store.show([lease_data(one) for one in found], lines)


@lock.command(cls=Command)
@asked
@click.argument("command", metavar="-- COMMAND", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    *,
    store: Store,
    path: str,
    agent: str,
    shared: bool,
    ttl: timedelta,
    wait: timedelta | None,
    project: str | None,
    command: tuple[str, ...],
) -> None:
    """Hold the lock of PATH while COMMAND runs, and exit with its exit code.

    The lease is renewed. If it is lost, the command is terminated, and the exit code is 3. The command finds its fence
    in FLOWPERSIST_FENCE.
    """
    kind: Any = "shared" if shared else "exclusive"

    async def verb(stores: Stores) -> int:
        async with stores.locks.held(path, agent, lock_type=kind, ttl=ttl, wait=wait) as lease:
            return await run_to_end(command, {**os.environ, FENCE: str(lease.fence)})

    context.exit(with_stores(store, project, verb, writes=True))


async def run_to_end(command: tuple[str, ...], environ: Mapping[str, str]) -> int:
    """Run a command to its end; its exit code as a shell gives it. Cancelled: the command is terminated."""
    try:
        process = await asyncio.create_subprocess_exec(*command, env=dict(environ))
    except OSError as error:
        click.echo(f"flowpersist: {command[0]}: {error.strerror}", err=True)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    try:
        code = await process.wait()
    except BaseException:
        await ended(process)
        raise
    return code if code >= 0 else 128 - code


async def ended(process: Process, grace: timedelta = timedelta(seconds=5)) -> None:
    """End a command: SIGTERM, and SIGKILL after the grace."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), grace.total_seconds())
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def show(store: Store, lease: Lease) -> None:
    """Print a lease: as text its token alone, for a shell's variable."""
    store.show(lease_data(lease), [token_of(lease)])


def lease_data(lease: Lease) -> dict[str, object]:
    """A lease as JSON data."""
    return {
        "lease": token_of(lease),
        "path": lease.path,
        "agent": lease.agent_id,
        "fence": lease.fence,
        "expiresAt": moment(lease.expires_at),
        "type": lease.lock_type,
    }


def token_of(lease: Lease) -> str:
    """A lease as one word, which another process can renew and release."""
    fields = (lease.path, lease.agent_id, lease.fence, moment(lease.expires_at), lease.lock_type)
    return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")


def read_lease(token: str) -> Lease:
    """The lease of such a word."""
    text = read_key(token)
    try:
        path, agent, fence, until, kind = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return Lease(str(path), str(agent), int(fence), datetime.fromisoformat(until), kind)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        message = "Invalid LEASE: expected what `lock acquire` or `lock renew` prints"
        raise ConfigurationError(message, "LEASE") from error
