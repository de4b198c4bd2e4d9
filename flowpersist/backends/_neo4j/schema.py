"""Constraints and indexes of this release; many processes may create them at the same time.

Neo4j does not allow data changes in a transaction that changes the schema, so each statement is a transaction of its
own that may be repeated, and the version is written last.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from itertools import chain, repeat
from typing import Final

from flowpersist.backends._neo4j.graph import Relation
from flowpersist.backends._neo4j.link import Link
from flowpersist.backends._neo4j.naming import SHARDS, Names, loaded
from flowpersist.backends._neo4j.rows import NAME
from flowpersist.backends._outcomes import later_release
from flowpersist.errors import BackendUnavailable

__all__ = ["MIGRATIONS", "POPULATION", "migrate", "missing"]

_TEXTS: Final = loaded("schema.cypher")
#: Each migration holds the statements that lead from the version before. None is ever changed.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "constrain_meta",
        "constrain_floors",
        "constrain_records",
        "index_created",
        "index_updated",
        "index_due",
        "create_floors",
    ),
)
#: The long-term release whose Cypher is used: properties by computed names, and subqueries with named variables.
_OLDEST: Final = (5, 26)
#: For indexes of records that are there already.
POPULATION: Final = timedelta(minutes=10)
_LOOKS_AFTER: Final = (0.01, 0.05, 0.2, 0.5)


async def _version(link: Link, names: Names) -> tuple[int, int]:
    """The schema's version, 0 if there is none, and the number of counters for deleted revisions."""
    rows = await link.run(names.fill(_TEXTS["schema_version"]), {}, writes=False)
    return (int(rows[0][0] or 0), int(rows[0][1])) if rows else (0, 0)


async def _check_server(link: Link) -> None:
    ((text,),) = await link.run(_TEXTS["server_version"], {}, writes=False)
    # Later releases are numbered by year: 2025.01.
    found = re.match(r"(\d+)\.(\d+)", str(text))
    if found is None or tuple(map(int, found.groups())) < _OLDEST:
        message = f"the neo4j server has version {text}: upgrade it to 5.26 or later"
        raise BackendUnavailable(message, NAME)


async def missing(
    link: Link, names: Names, indexed: Mapping[str, type], relations: Mapping[str, Relation]
) -> tuple[str, ...]:
    """The statements that must be run, in order. Raises ``UnsupportedVersion`` for the schema of a later release."""
    await _check_server(link)
    version, floors = await _version(link, names)
    if version > len(MIGRATIONS):
        raise later_release("neo4j database has schema", version, len(MIGRATIONS))
    texts = [names.fill(_TEXTS[name]) for names_of in MIGRATIONS[version:] for name in names_of]
    if version and floors < SHARDS:
        texts.append(names.fill(_TEXTS["restore_floors"]))
    there = {name for (name,) in await link.run(_TEXTS["index_names"], {"prefix": names.prefix}, writes=False)}
    for name, text in _declared(names, indexed, relations).items():
        if name not in there:
            texts.append(text)
    return tuple(texts)


def _declared(names: Names, indexed: Mapping[str, type], relations: Mapping[str, Relation]) -> dict[str, str]:
    """The statements for what is declared, by the names of the indexes that they create."""
    made: dict[str, str] = {}
    for attribute in indexed:
        for order in ("key", "due"):
            text = names.fill(_TEXTS[f"index_attribute_by_{order}"], attribute=attribute)
            made[f"{names.prefix}_attr_{attribute}_by_{order}"] = text
    for attribute, relation in relations.items():
        # Also if no namespace declares the attribute, since a record that has it gets a relationship.
        made[f"{names.prefix}_graph_{attribute}"] = names.fill(
            _TEXTS["constrain_related"], attribute=attribute, label=relation.label, property=relation.property
        )
    return made


async def migrate(
    link: Link, patient: Link, names: Names, indexed: Mapping[str, type], relations: Mapping[str, Relation]
) -> None:
    """Run what is missing. A process that comes second finds it done. A ``patient`` statement may take ``POPULATION``,
    because a constraint is created only after all nodes were checked.
    """
    texts = await missing(link, names, indexed, relations)
    if not texts:
        return
    for text in texts:
        await patient.run(text, {}, writes=True)
    await _filled(link, names)
    await link.run(names.fill(_TEXTS["write_version"]), {"version": len(MIGRATIONS)}, writes=True)


async def _filled(link: Link, names: Names) -> None:
    """Wait until all indexes of the store are online."""
    until = time.monotonic() + POPULATION.total_seconds()
    for wait in chain(_LOOKS_AFTER, repeat(_LOOKS_AFTER[-1])):
        rows = await link.run(_TEXTS["unfinished_indexes"], {"prefix": f"{names.prefix}_"}, writes=False)
        if not rows:
            return
        name, state = rows[0]
        if state == "FAILED" or time.monotonic() > until:
            message = f"the index {name} of the neo4j store is {str(state).lower()}; drop it, and open the store again"
            raise BackendUnavailable(message, NAME)
        await asyncio.sleep(wait)
