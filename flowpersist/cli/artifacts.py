"""``artifact``: files that agents hand to one another, streamed in bounded memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from uuid import uuid4

import click

from flowpersist.cli.inputs import stream_of
from flowpersist.cli.layout import moment, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options
from flowpersist.cli.stores import project_option, with_stores
from flowpersist.errors import ValueNotFound

if TYPE_CHECKING:
    from flowpersist.stores import Artifact, Stores

__all__ = ["artifact"]

CHUNK: Final = 2**18


@click.group()
def artifact() -> None:
    """Write and read artifacts: bytes by name, with a digest that is checked on reading."""


@artifact.command(cls=Command)
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@click.option("--media-type", help="What it is, such as text/html.")
@project_option
@store_options
def write(*, store: Store, name: str, file: str, media_type: str | None, project: str | None) -> None:
    """Write FILE, or standard input, as the artifact NAME, in the place of an earlier one."""

    async def verb(stores: Stores) -> Artifact:
        with stream_of(file) as stream:
            return await stores.artifacts.write(name, _chunks(stream), media_type=media_type)

    made = with_stores(store, project, verb, writes=True)
    store.show(_data(made), [f"wrote {made.name}: {made.size} bytes"])


@artifact.command("open", cls=Command)
@click.argument("name")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file, written when all is checked.")
@project_option
@store_options
def open_artifact(*, store: Store, name: str, output: Path | None, project: str | None) -> None:
    """Print the artifact NAME to standard output, or write it to a file; exit code 5 if it does not exist.

    Standard output gets each part once it is checked. If a later part is damaged, the exit code is 9.
    """

    async def verb(stores: Stores) -> None:
        if output is None:
            await _copy(stores, name, sys.stdout.buffer)
            return
        part = output.with_name(f".{output.name}.{uuid4().hex}.part")
        try:
            with part.open("xb") as stream:
                await _copy(stores, name, stream)
            part.replace(output)
        finally:
            part.unlink(missing_ok=True)

    with_stores(store, project, verb)


@artifact.command("list", cls=Command)
@project_option
@store_options
def list_artifacts(*, store: Store, project: str | None) -> None:
    """List the artifacts."""

    async def verb(stores: Stores) -> tuple[Artifact, ...]:
        return await stores.artifacts.list()

    found = with_stores(store, project, verb)
    rows = [(one.name, str(one.size), one.digest[:12], str(moment(one.at)), one.media_type or "-") for one in found]
    lines = table([("NAME", "BYTES", "DIGEST", "WRITTEN", "TYPE"), *rows], terminal_width()) if rows else ["none"]
    store.show([_data(one) for one in found], lines)


@artifact.command(cls=Command)
@click.argument("name")
@project_option
@store_options
def delete(*, store: Store, name: str, project: str | None) -> None:
    """Delete the artifact NAME; exit code 5 if it does not exist."""

    async def verb(stores: Stores) -> bool:
        return await stores.artifacts.delete(name)

    if not with_stores(store, project, verb, writes=True):
        raise ValueNotFound("there is no artifact of this name")
    store.show({"deleted": name}, [f"deleted {name}"])


async def _chunks(stream: IO[bytes]) -> AsyncIterator[bytes]:
    # In a thread, since a pipe may be slow.
    while chunk := await asyncio.to_thread(stream.read, CHUNK):
        yield chunk


async def _copy(stores: Stores, name: str, stream: IO[bytes]) -> None:
    async for chunk in stores.artifacts.open(name):
        await asyncio.to_thread(stream.write, chunk)
    await asyncio.to_thread(stream.flush)


def _data(one: Artifact) -> dict[str, object]:
    return {
        "name": one.name,
        "size": one.size,
        "digest": one.digest,
        "mediaType": one.media_type,
        "at": moment(one.at),
    }
