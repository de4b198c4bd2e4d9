"""The schema, and the requirements on the server.

Migrations are commands in ``migrations.json``, numbered by position; none is ever changed. Running one twice changes
nothing, so many processes may start at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from attrs import frozen
from pymongo.errors import OperationFailure

from flowpersist.backends._mongodb.client import Client, Collections
from flowpersist.backends._mongodb.documents import Document
from flowpersist.backends._mongodb.errors import NAME, NOT_FOUND, mapped
from flowpersist.backends._outcomes import later_release
from flowpersist.errors import BackendUnavailable

__all__ = ["MIGRATIONS", "Server", "ask_server", "greet", "migrate", "pending", "tell_time"]

MIGRATIONS: Final[tuple[tuple[Document, ...], ...]] = tuple(
    tuple(commands)
    for commands in json.loads((files("flowpersist.backends._mongodb") / "migrations.json").read_text("utf-8"))
)
OLDEST: Final = (4, 4)
_TRIES: Final = 5
_DURABLE: Final = {"w": "majority", "j": True}


@frozen
class Server:
    """What kind of server it is."""

    ferretdb: bool
    replica_set: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the operator."""
        if self.ferretdb:
            return ("FerretDB's updates are not atomic: two callers may resume one flow",)
        return () if self.replica_set else ("the server is not a replica set: a single machine holds its data",)


async def greet(client: Client) -> Document:
    """The primary's reply to hello, with its clock."""
    with mapped():
        try:
            return await client.admin.command("hello")
        except OperationFailure as error:
            if error.code != NOT_FOUND:
                raise
        return await client.admin.command("isMaster")


async def tell_time(client: Client) -> datetime:
    """The primary's clock."""
    told = (await greet(client)).get("localTime")
    if not isinstance(told, datetime):
        raise BackendUnavailable("the mongodb server does not report its time, which the store needs", NAME)
    return told


async def ask_server(client: Client, *, allow_ferretdb: bool) -> Server:
    """Find out what the server is, and refuse one without the guarantees that the store needs."""
    greeting = await greet(client)
    with mapped():
        built = await client.admin.command("buildInfo")
    ferretdb = any(name.lower().startswith("ferretdb") for name in built)
    if ferretdb and not allow_ferretdb:
        message = (
            "the server is FerretDB, whose updates are not atomic: two callers could resume one flow; use "
            "MongoDB, or for "
            "trials set allow_unsafe_ferretdb=on in the URL"
        )
        raise BackendUnavailable(message, NAME)
    if tuple(built.get("versionArray", OLDEST))[:2] < OLDEST:
        raise BackendUnavailable(f"the server is MongoDB {built.get('version')}; upgrade it to 4.4 or later", NAME)
    return Server(ferretdb, "setName" in greeting or greeting.get("msg") == "isdbgrid")


async def _version(store: Collections) -> int:
    with mapped():
        found = await store.meta.find_one({"_id": "schema"})
    version = 0 if found is None else int(found["version"])
    if version > len(MIGRATIONS):
        raise later_release("mongodb database has schema", version, len(MIGRATIONS))
    return version


async def pending(store: Collections) -> list[Document]:
    """The commands that bring the store to this release's schema."""
    version = await _version(store)
    if version == len(MIGRATIONS):
        return []
    commands = [_named(store, command) for migration in MIGRATIONS[version:] for command in migration]
    raised = {"q": {"_id": "schema"}, "u": {"$max": {"version": len(MIGRATIONS)}}, "upsert": True}
    return [*commands, {"update": store.meta.name, "updates": [raised], "writeConcern": _DURABLE}]


def _named(store: Collections, command: Mapping[str, Any]) -> Document:
    names = {"records": store.records.name, "bodies": store.bodies.name}
    return {**command, "createIndexes": names[command["createIndexes"]], "writeConcern": _DURABLE}


async def migrate(store: Collections) -> None:
    """Bring the schema to this release's version. A process that comes second finds it done."""
    for command in await pending(store):
        with mapped():
            await _run(store, command)


async def _run(store: Collections, command: Document) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            done = await store.database.command(command)
        except OperationFailure:
            # Some servers refuse one of two concurrent creations of a collection or an index.
            if not tries_left:
                raise
        else:
            # Likewise of two concurrent inserts of the same document.
            if not done.get("writeErrors"):
                return
