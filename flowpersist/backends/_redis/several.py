"""Several records, in as few exchanges as the nodes allow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import evolve, frozen

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
    """The replies to ``commands_of``."""

    ref: RecordRef
    replies: Sequence[Any]

    @property
    def torn(self) -> bool:
        """True if the record changed between the commands."""
        if len(self.replies) == _PLAIN:
            return False
        fields, _, revision = map(self._told, self.replies)
        return bool(revision != fields[0])

    def record(self) -> Record | None:
        """The record; ``IntegrityError`` if it is damaged."""
        fields, *rest = map(self._told, self.replies)
        if not any(field is not None for field in fields):
            return None
        record = record_of(self.ref, fields)
        return evolve(record, body=with_body(record, rest[0])) if rest else record

    def _told(self, reply: Any) -> Any:  # noqa: ANN401 - whatever the command gives
        """A reply, raised if it is an error; a value of another kind is damage of the record."""
        if is_of_other_kind(reply):
            raise unreadable(NAME, named(self.ref))
        return raised(reply)


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
    found: dict[RecordRef, Replies] = {}
    times: list[datetime] = []

    async def exchange(places: Sequence[int]) -> None:
        wanted = {tags[place] for place in places}
        mine = [ref for ref in dict.fromkeys(refs) if layout.tag(ref) in wanted]
        commands = [command for ref in mine for command in commands_of(layout, ref, body=body)]
        *replies, now = await wire.exchange(tags[places[0]].keys, [*commands, ("TIME",)], writing=False)
        times.append(server_time(raised(now), offset))
        step = _WITH_BODY if body else _PLAIN
        found.update({ref: Replies(ref, replies[at * step : (at + 1) * step]) for at, ref in enumerate(mine)})

    with mapped():
        # All of them to their end, also if one fails: none may be under way when the store is closed.
        exchanges = (exchange(places) for places in wire.groups([tag.keys for tag in tags]))
        for failed in await asyncio.gather(*exchanges, return_exceptions=True):
            if failed is not None:
                raise failed
        records = {ref: await _settled(replies, again) for ref, replies in found.items()}
    return tuple(records[ref] for ref in refs), max(times)


async def _settled(replies: Replies, again: Callable[[RecordRef], Awaitable[Record | None]]) -> One:
    try:
        return await again(replies.ref) if replies.torn else replies.record()
    except IntegrityError as error:
        return Unreadable(replies.ref, error.with_traceback(None))
