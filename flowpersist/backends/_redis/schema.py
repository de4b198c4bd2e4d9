"""The data beside the records: the version of the layout, the number of shards, the declared attributes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from flowpersist.backends._outcomes import later_release, unreadable
from flowpersist.backends._redis.errors import NAME, mapped
from flowpersist.backends._redis.layout import Layout, Tag
from flowpersist.backends._redis.scripts import BUILD, DECLARE, SCHEMA
from flowpersist.backends._redis.wire import Wire, raised, run, run_all
from flowpersist.backends.base import NamespaceSchema

__all__ = ["VERSION", "declare", "migrate", "plan"]

#: The version of this release's layout. A later layout migrates by it.
VERSION: Final = 1
MAX_SHARDS: Final = 256
#: The records that get the index entries of a new attribute in one script.
BATCH: Final = 200


def _checked(prefix: str, version: bytes, shards: bytes | None) -> Layout:
    try:
        known, number = int(version), int(shards or b"")
    except ValueError:
        raise unreadable(NAME, "the schema") from None
    if known > VERSION:
        raise later_release(f"{NAME} store has schema", known, VERSION)
    return Layout(prefix, number)


async def migrate(wire: Wire, prefix: str, shards: int) -> Layout:
    """Write the schema if there is none. A process that comes second finds it done and reads the number of shards."""
    with mapped():
        version, there = await run(wire, SCHEMA.call((Layout.schema_key(prefix),), VERSION, shards), writing=False)
    return _checked(prefix, version, there)


async def declare(wire: Wire, layout: Layout, schema: Sequence[NamespaceSchema]) -> None:
    """Create the missing indexes of the declared attributes. After an interruption the next call continues."""
    tags = [(tag, sorted(one.indexed)) for one in schema if one.indexed for tag in layout.tags(one.name)]
    with mapped():
        calls = [DECLARE.call((tag.keys,), tag.text, *names) for tag, names in tags]
        for (tag, _), building in zip(tags, await run_all(wire, calls) if calls else (), strict=True):
            if building:
                await _build(wire, tag, building)


async def _build(wire: Wire, tag: Tag, names: Sequence[bytes]) -> None:
    after = b"-"
    while True:
        last = await run(wire, BUILD.call((tag.keys,), tag.text, after, BATCH, *names), writing=False)
        if not last:
            return
        after = b"(" + last


async def plan(wire: Wire, prefix: str, shards: int, schema: Sequence[NamespaceSchema]) -> tuple[str, ...]:
    """The commands that ``migrate`` and ``declare`` would run, to be read by people."""
    with mapped():
        return tuple([statement async for statement in _planned(wire, prefix, shards, schema)])


async def _planned(wire: Wire, prefix: str, shards: int, schema: Sequence[NamespaceSchema]) -> AsyncIterator[str]:
    key = Layout.schema_key(prefix)
    (found,) = await wire.exchange(key, [("HMGET", key, "version", "shards")], writing=False)
    version, there = raised(found)
    if version is None:
        layout = Layout(prefix, shards)
        yield f"HSET {key.decode()} version {VERSION} shards {shards}"
    else:
        layout = _checked(prefix, version, there)
    for one in schema:
        for tag in layout.tags(one.name):
            for name in sorted(one.indexed):
                async for statement in _declaration(wire, tag, name):
                    yield statement


async def _declaration(wire: Wire, tag: Tag, name: str) -> AsyncIterator[str]:
    asked: list[tuple[Any, ...]] = [("HGET", tag.declared, name), ("ZCARD", tag.keys)]
    state, records = [raised(reply) for reply in await wire.exchange(tag.keys, asked, writing=False)]
    if state == b"ready":
        return
    if records:
        yield f"HSET {tag.declared.decode()} {name} building"
        index = f"{tag.text.decode()}key:{name}=<value>"
        yield f"ZADD {index} 0 <key> (and due:{name}=<value>), for each of {records} records"
    yield f"HSET {tag.declared.decode()} {name} ready"
