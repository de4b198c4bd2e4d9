"""``feature``: the document of a project's features, and its earlier versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowpersist.cli.inputs import json_of
from flowpersist.cli.layout import moment, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options
from flowpersist.cli.stores import project_option, with_stores
from flowpersist.cli.views import as_json, as_text
from flowpersist.errors import ValueNotFound

if TYPE_CHECKING:
    from flowpersist.stores import FeatureVersion, Saved, Stores

__all__ = ["feature"]


@click.group()
def feature() -> None:
    """Save and load the features of a project, a JSON document."""


@feature.command(cls=Command)
@click.argument("content", metavar="JSON")
@click.option("--if-revision", type=click.IntRange(0), help="Only in the place of this revision; 0: of none.")
@project_option
@store_options
def save(*, store: Store, content: str, if_revision: int | None, project: str | None) -> None:
    """Save the document; - reads it from standard input."""
    meant = json_of(content, "JSON")

    async def verb(stores: Stores) -> Saved:
        return await stores.features.save(meant, if_revision=if_revision)

    saved = with_stores(store, project, verb, writes=True)
    store.show({"revision": saved.revision}, [f"saved revision {saved.revision}"])


@feature.command(cls=Command)
@project_option
@store_options
def load(*, store: Store, project: str | None) -> None:
    """Print the document; exit code 5 if nothing is saved."""

    async def verb(stores: Stores) -> FeatureVersion:
        # Not `load`, which gives None for a document that is null, too.
        versions = await stores.features.history(1)
        if not versions:
            raise ValueNotFound("no features are saved in this project")
        return versions[0]

    found = with_stores(store, project, verb)
    store.show(found.content, [as_text(found.content)])


@feature.command(cls=Command)
@click.option("-n", "count", type=click.IntRange(1, 100), default=20, show_default=True, help="How many at most.")
@project_option
@store_options
def history(*, store: Store, count: int, project: str | None) -> None:
    """List the latest versions of the document, the newest first."""

    async def verb(stores: Stores) -> tuple[FeatureVersion, ...]:
        return await stores.features.history(count)

    found = with_stores(store, project, verb)
    data = [{"revision": one.revision, "at": moment(one.at), "content": one.content} for one in found]
    rows = [(str(one.revision), str(moment(one.at)), as_json(one.content)) for one in found]
    store.show(data, table([("REVISION", "AT", "CONTENT"), *rows], terminal_width()) if rows else ["none"])
