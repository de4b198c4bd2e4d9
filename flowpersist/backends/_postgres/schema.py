"""Bringing a database's schema up to this release: safe when many processes start at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowpersist.backends._outcomes import later_release
from flowpersist.backends._postgres.layout import NAME, Layout, Link
from flowpersist.backends._postgres.rows import one
from flowpersist.backends._url import SETTING
from flowpersist.errors import BackendUnavailable, ConfigurationError

__all__ = ["MIGRATIONS", "check_server", "check_version", "migrate", "pending"]

#: The oldest major version that its makers still mended when this was written.
OLDEST: Final = 14
#: Each migration is the statements that lead from the version before. All that are due are run in one transaction: the
#: schema is of one version or of another. None is ever changed.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "create_meta",
        "create_revisions",
        "create_records",
        "create_bodies",
        "store_heads_plain",
        "store_bodies_plain",
        "create_by_key",
        "create_by_created",
        "create_by_updated",
        "create_by_due",
        "create_by_attributes",
    ),
)


def check_version(major: int) -> None:
    """Refuse a server of a version that is too old."""
    if major < OLDEST:
        message = f"the {NAME} server has version {major}; upgrade it to {OLDEST} or later"
        raise BackendUnavailable(message, NAME)


async def check_server(connection: Link, layout: Layout) -> str:
    """Refuse a server or a database that can't hold a store; gives the schema in which the tables stand."""
    check_version(connection.get_server_version().major)
    row = await one(connection, layout.sql["about_server"])
    if row["encoding"] != "UTF8":
        message = f"the {NAME} database is of encoding {row['encoding']}; make one with encoding UTF8"
        raise ConfigurationError(message, SETTING)
    if row["standby"]:
        message = f"the {NAME} server is a standby; name the primary, or all hosts in the URL"
        raise BackendUnavailable(message, NAME)
    if row["read_only"]:
        message = f"the {NAME} database is read-only; use a role and a database without default_transaction_read_only"
        raise BackendUnavailable(message, NAME)
    if row["schema"] is None:
        message = f"no schema of search_path is there in the {NAME} database; create one, or name it in the URL"
        raise ConfigurationError(message, SETTING)
    return str(row["schema"])


async def pending(connection: Link, layout: Layout, indexed: Mapping[str, type]) -> tuple[str, ...]:
    """The statements that would bring the schema up to this release, with the indexes of the declared attributes."""
    version = await _version(connection, layout)
    steps = [layout.sql[name] for names in MIGRATIONS[version:] for name in names]
    if version < len(MIGRATIONS):
        steps.append(
            f"insert into {layout.meta} (name, value) values ('version', {len(MIGRATIONS)}) "  # noqa: S608 - our own names
            "on conflict (name) do update set value = excluded.value"
        )
    rows = await connection.fetch(layout.sql["index_names"], layout.records)
    there = {row["name"] for row in rows}
    wanted = {name: text for attribute in sorted(indexed) for name, text in layout.indexes(attribute).items()}
    return (*steps, *(text for name, text in wanted.items() if name not in there))


async def _version(connection: Link, layout: Layout) -> int:
    if not await connection.fetchval(layout.sql["has_meta"], layout.meta):
        return 0
    version = int(await connection.fetchval(layout.sql["read_version"]) or 0)
    if version > len(MIGRATIONS):
        raise later_release(f"{NAME} database has schema", version, len(MIGRATIONS))
    return version


async def migrate(connection: Link, layout: Layout, indexed: Mapping[str, type], schema: str) -> None:
    """Run what is pending. Whoever comes second finds it done."""
    if not await pending(connection, layout, indexed):
        return
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(layout.sql["lock_schema"], layout.lock(schema))
        for statement in await pending(connection, layout, indexed):
            await connection.execute(statement)
