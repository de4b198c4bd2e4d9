"""Puts: one, and several in one exchange for each group of keys that may go together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from attrs import frozen
from redis.exceptions import NoScriptError

from flowpersist.backends._damage import check_following, named
from flowpersist.backends._outcomes import check_body, check_revision, unreadable, written_already
from flowpersist.backends._putting import PutResult, apart, portions, settled
from flowpersist.backends._redis.connections import Command
from flowpersist.backends._redis.errors import NAME, mapped
from flowpersist.backends._redis.layout import Layout, Tag, offset_arguments, time_from_text
from flowpersist.backends._redis.records import LAST_REVISION, number, put_call, upload_of
from flowpersist.backends._redis.scripts import Call
from flowpersist.backends._redis.wire import Wire, raised, run
from flowpersist.backends.base import Put, RecordRef, Written
from flowpersist.errors import BackendUnavailable, DeadlinePassed, PersistenceError

__all__ = ["Putting", "standing"]


@frozen
class Putting:
    """What puts need to know: where, the clock's offset, the largest body, and the channel of a namespace."""

    wire: Wire
    layout: Layout
    offset: timedelta
    largest: int
    channel: Callable[[str], bytes]

    async def one(self, put: Put) -> Written:
        """One record, in one exchange."""
        self._check(put)
        before, call = self._call(put)
        with mapped():
            reply = await run(self.wire, call, writing=True, before=before)
        return _written(put, reply)

    async def several(self, puts: Sequence[Put]) -> tuple[PutResult, ...]:
        """Several records. The bodies of one exchange take at most ``MAX_BODIES_BYTES`` together."""
        results: dict[int, PutResult] = {}
        by_tag: dict[Tag, list[int]] = {}
        for place in apart(results, puts, self._check):
            by_tag.setdefault(self.layout.tag(puts[place].ref), []).append(place)
        tags = list(by_tag)

        async def exchanged(group: Sequence[int]) -> None:
            places = [place for at in group for place in by_tag[tags[at]]]
            for some in portions(puts, places):
                results.update(zip(some, await self._exchanged([puts[place] for place in some]), strict=True))

        # All of them to their end, also if one fails: none may be under way when the store is closed.
        running = (exchanged(group) for group in self.wire.groups([tag.keys for tag in tags]))
        for failed in await asyncio.gather(*running, return_exceptions=True):
            if failed is not None:
                raise failed
        return tuple(results[place] for place in range(len(puts)))

    async def _exchanged(self, puts: Sequence[Put]) -> Sequence[PutResult]:
        calls = [self._call(put) for put in puts]
        try:
            with mapped():
                replies = await self._replies(calls)
        except PersistenceError as error:
            return [error] * len(puts)
        return [settled(partial(_told, replies=mine), put) for put, mine in zip(puts, replies, strict=True)]

    async def _replies(self, calls: Sequence[tuple[tuple[Command, ...], Call]]) -> list[list[Any]]:
        key = calls[0][1].key
        units = [(*before, call.by_digest) for before, call in calls]
        replies = await self.wire.exchange_each(key, units, writing=True)
        unknown = [at for at, mine in enumerate(replies) if isinstance(mine[-1], NoScriptError)]
        if unknown:
            # Of these only the bodies were written. The first brings the script's text, which the others follow.
            texts = [(calls[at][1].by_text if at == unknown[0] else calls[at][1].by_digest,) for at in unknown]
            for at, mine in zip(unknown, await self.wire.exchange_each(key, texts, writing=True), strict=True):
                replies[at][-1] = mine[-1]
        return replies

    def _check(self, put: Put) -> None:
        check_body(NAME, put.ref, put.change.body, self.largest)

    def _call(self, put: Put) -> tuple[tuple[Command, ...], Call]:
        upload = upload_of(self.layout.tag(put.ref), put.ref, put.change)
        conditions = put.if_revision, put.not_after
        offset = offset_arguments(self.offset)
        channel = self.channel(put.ref.namespace)
        return upload.commands, put_call(self.layout, put.ref, put.change, upload, conditions, offset, channel)


def _told(put: Put, replies: Sequence[Any]) -> Written:
    with mapped():
        *_, reply = [raised(reply) for reply in replies]
    return _written(put, reply)


def standing(ref: RecordRef, text: bytes) -> int:
    """The revision of a record as a script gives it; ``IntegrityError`` for a damaged one."""
    try:
        found = number(text)
    except ValueError:
        found = -1
    if not 0 <= found <= LAST_REVISION:
        raise unreadable(NAME, named(ref))
    return found


def _written(put: Put, reply: Sequence[bytes]) -> Written:
    outcome, revision, now = reply
    ref = put.ref
    if outcome == b"repeated":
        raise written_already(NAME, ref)
    if outcome in {b"conflict", b"damaged"}:
        check_revision(NAME, ref, standing(ref, revision if outcome == b"conflict" else outcome), put.if_revision)
    if outcome == b"last":
        check_following(NAME, ref, LAST_REVISION, last=LAST_REVISION)
    if outcome == b"late":
        raise DeadlinePassed(f"the deadline for writing record {ref.key} has passed; nothing was written", NAME)
    if outcome == b"no-body":
        message = f"the body of record {ref.key} was removed before its record was written; try again"
        raise BackendUnavailable(message, NAME, True)
    return Written(int(revision), time_from_text(now))
