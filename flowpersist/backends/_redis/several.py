"""Several records, in as few exchanges as the nodes allow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import frozen

from flowpersist.backends._damage import named
from flowpersist.backends._outcomes import unreadable
from flowpersist.backends._pages import One
from flowpersist.backends._redis.connections import Command
from flowpersist.backends._redis.errors import NAME, is_of_other_kind, mapped
from flowpersist.backends._redis.layout import Layout, server_time
from flowpersist.backends._redis.records import FIELDS, record_of, with_body
from flowpersist.backends._redis.wire import Wire, raised
from flowpersist.backends.base import Record, RecordRef, Unreadable
from flowpersist.errors import IntegrityError

__all__ = ["Replies", "commands_of", "read_all"]

#: Commands for one record.
_PLAIN: Final = 1
_WITH_BODY: Final = 3


@frozen
class Replies:
    """The replies to ``commands_of``: the fields, and with the body the body and the revision once more."""

    ref: RecordRef
    fields: Sequence[bytes | None]
    rest: Sequence[Any]

    @classmethod
    def of(cls, ref: RecordRef, replies: Sequence[Any]) -> Replies:
        """Replies as they came: an error is raised; a value of another kind is damage of the record."""
        for reply in replies:
            if isinstance(reply, Exception):
                if is_of_other_kind(reply):
                    raise unreadable(NAME, named(ref))
                raised(reply)
        return cls(ref, replies[0], replies[1:])

    @property
    def torn(self) -> bool:
        """True if the record changed between the commands."""
        return bool(self.rest) and bool(self.rest[1] != self.fields[0])

    def record(self) -> Record | None:
        """The record; ``IntegrityError`` if it is damaged."""
        # The reply for a record that does not exist is a list with None alone.
        if self.fields.count(None) == len(self.fields):
            return None
        record = record_of(self.ref, self.fields)
        return record if not self.rest or record.body_size is None else with_body(record, self.rest[0])


def commands_of(layout: Layout, ref: RecordRef, *, body: bool) -> list[Command]:
    """The commands that read a record; the last one shows if another client changed it in between."""
    tag = layout.tag(ref)
    hashed = tag.record(ref.key)
    fields: Command = ("HMGET", hashed, *FIELDS)
    return [fields, ("GET", tag.body(ref.key)), ("HGET", hashed, FIELDS[0])] if body else [fields]


async def read_all(
    wire: Wire,
    layout: Layout,
    refs: Sequence[RecordRef],
    offset: timedelta,
    again: Callable[[RecordRef], Awaitable[Record | None]],
    *,
    body: bool,
) -> tuple[tuple[One, ...], datetime]:
    """The records at ``refs``, and the clock. ``again`` reads one that changed while it was read."""
    tags = list(dict.fromkeys(layout.tag(ref) for ref in refs)) or [layout.tags("")[0]]
    found: dict[RecordRef, Sequence[Any]] = {}
    times: list[datetime] = []

    async def exchange(places: Sequence[int]) -> None:
        wanted = {tags[place] for place in places}
        mine = [ref for ref in dict.fromkeys(refs) if layout.tag(ref) in wanted]
        commands = [command for ref in mine for command in commands_of(layout, ref, body=body)]
        *replies, now = await wire.exchange(tags[places[0]].keys, [*commands, ("TIME",)], writing=False)
        times.append(server_time(raised(now), offset))
        step = _WITH_BODY if body else _PLAIN
        found.update({ref: replies[at * step : (at + 1) * step] for at, ref in enumerate(mine)})

    with mapped():
        # All of them to their end, also if one fails: none may be under way when the store is closed.
        exchanges = (exchange(places) for places in wire.groups([tag.keys for tag in tags]))
        for failed in await asyncio.gather(*exchanges, return_exceptions=True):
            if failed is not None:
                raise failed
        records = {ref: await _settled(ref, replies, again) for ref, replies in found.items()}
    return tuple(records[ref] for ref in refs), max(times)


async def _settled(ref: RecordRef, told: Sequence[Any], again: Callable[[RecordRef], Awaitable[Record | None]]) -> One:
    try:
        replies = Replies.of(ref, told)
        return await again(ref) if replies.torn else replies.record()
    except IntegrityError as error:
        return Unreadable(ref, error.with_traceback(None))
