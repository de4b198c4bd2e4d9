"""A hub that reads parts of its heads does what one does that reads all, whatever is done in whatever order."""

from __future__ import annotations

import itertools
import random
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from returns.result import Success

from flowpersist import AwaitInput, Maintenance, Principal, or_raise
from flowpersist.backends.base import Where
from flowpersist.hub import side_records
from flowpersist.hub.answering_verbs import Reply, claim_unless
from flowpersist.hub.outcome import MISSING
from flowpersist.lifecycle import paging
from flowpersist.lifecycle.indexing import attributes_of
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import Quorum

HOUR = timedelta(hours=1)
SEEDS = 12
#: How many runs and pauses of each test were parts.
parts = []
VALUES = {"ok": True, "vote": True, "say": "x" * 5000, "soon": "said", "kept": "said"}


def question(chance):
    return chance.choice(
        [
            *[AwaitInput(id="ok", prompt="OK?", schema=bool)] * 6,
            AwaitInput(id="say", prompt="Say it", schema=str),
            AwaitInput(id="vote", prompt="?", schema=bool, quorum=Quorum(2, of=["ops"])),
            AwaitInput(id="soon", prompt="?", schema=str, timeout=chance.randrange(1, 40) * HOUR),
            AwaitInput(id="kept", prompt="?", schema=str, default="it", timeout=40 * HOUR, reminders=(9 * HOUR,)),
            AwaitInput(id="delay", prompt="?", timeout=chance.randrange(1, 60) * HOUR, answerable_by=()),
        ]
    )


class Twin:
    """One of two hubs to which the same is done. It keeps the keys of all waits, by name."""

    def __init__(self, hub, partly):
        self.hub = hub
        self.partly = partly
        self.keys = {}
        self.run = None
        self.parts = 0

    async def start(self, asked):
        new = or_raise(await self.hub.suspend("s", awaiting=asked, until="each"))
        self.id = new.id
        await self.learn()

    async def learn(self):
        for wait in (await self.head()).waits:
            self.keys[wait.name] = self.keys.get(wait.name) or []
        found = or_raise(await self.hub.keys(self.id))
        for name, key in found.items():
            self.keys[name] = [key]

    async def head(self):
        return or_raise(await self.hub.suspensions.records.read(str(self.id))).record.head

    async def do(self, verb, *args):
        """What a verb gives, in a form that is the same for both."""
        try:
            given = await getattr(self, verb)(*args)
        except ValueError as error:
            return str(error)
        if not isinstance(given, Success):
            return type(given.failure()).__name__
        done = given.unwrap()
        return getattr(done, "outcome", None), sorted(getattr(done, "answers", {})), getattr(done, "expired", None)

    async def answer(self, name, value, by):
        return await self.hub.answer(self.keys[name][0], value, by=by, answer_id=f"{name} {by and by.subject}")

    async def claim(self, name, value, lease):
        async def refusal(_):
            return None

        reply = Reply(value, Principal("ann", roles=["ops"])) if name else Reply(MISSING, None)
        key = self.keys[name][0] if name else self.id
        return self.taken(await claim_unless(self.hub, refusal, key, reply, lease=lease, partly=self.partly))

    def taken(self, given):
        if isinstance(given, Success):
            self.run = given.unwrap()
            self.parts += self.run.partial is not None
        return given

    async def hands_out(self, given, asked):
        """The keys of what a verb has opened, by which it can be answered."""
        if isinstance(given, Success):
            keys, every = given.unwrap().keys, or_raise(await self.hub.keys(self.id))
            assert keys.items() <= every.items()
            assert {name for name in asked or () if name in every} <= keys.keys()

    async def checkpoint(self, asked, superseded, unread, progress):
        kept = await self.hub.checkpoint(
            self.run, "t", awaiting=asked, superseded=superseded, unread=unread, progress=progress
        )
        await self.hands_out(kept, asked)
        return self.taken(kept)

    async def pause(self, asked, superseded, until):
        given = await self.hub.suspend_next(self.run, "t", awaiting=asked, until=until, superseded=superseded)
        self.parts += isinstance(given, Success) and given.unwrap().partial
        await self.hands_out(given, asked)
        return given

    async def release(self):
        return await self.hub.release(self.run)

    async def renew(self):
        return await self.hub.renew(self.run, lease=50 * HOUR)

    async def tick(self):
        return await Maintenance(self.hub).tick()

    async def seen(self):
        """All that stands of the suspension, but for secrets, times, and where receipts stand."""
        head = await self.head()
        moved = or_raise(await self.hub.suspensions.side_records.receipts.page(Where(), limit=1000)).items
        receipts = [*head.receipts, *(one.head.receipt for one in moved)]
        assert len({one.digest for one in receipts}) == len(receipts)
        record = or_raise(await self.hub.suspensions.records.bare(str(self.id))).record
        return {
            "facts": (head.status, head.until, head.sequence, head.attempt, head.fence, head.cancelling),
            "waits": [
                (
                    wait.name,
                    wait.sequence,
                    wait.status,
                    wait.delivery,
                    wait.answer and (wait.answer.value, wait.answer.by, wait.answer.reference is None),
                    [(one.decision, one.answer and one.answer.by) for one in wait.votes],
                    wait.schedule and (wait.schedule.level, len(wait.schedule.notices)),
                )
                for wait in head.waits
            ],
            "receipts": sorted((one.wait, one.sequence, one.status, one.answer or b"", one.voted) for one in receipts),
            "attributes": {**record.attributes, "run": None},
            "as the head says": {**attributes_of(head), "run": None}.items()
            >= {**record.attributes, "run": None}.items(),
            "trail": [
                (one.verb, one.sequence, sorted((it.name, it.change) for it in one.waits), one.more)
                for one in or_raise(await self.hub.history(self.id))
            ],
        }


class Chances:
    """What is done next, as chance has it."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.numbers = itertools.count()

    def asked(self, least, most):
        return {f"w{next(self.numbers)}": question(self.chance) for _ in range(self.chance.randrange(least, most + 1))}

    def some(self, names, *counts):
        return self.chance.sample(names, min(len(names), self.chance.choice(counts)))

    def verb(self, head, *, held):
        """The name of a verb of ``Twin``, and its arguments; None: nothing is done."""
        of_all = ["answer", "answer", "claim", "claim"]
        verb = self.chance.choice([*of_all, "checkpoint", "pause", "pause", "rest"] if held else of_all)
        return getattr(self, verb)(head)

    def one(self, head):
        one = self.chance.choice(head.waits) if head.waits else None
        return one, None if one is None or one.awaiting is None else VALUES.get(one.awaiting["id"])

    def answer(self, head):
        one, value = self.one(head)
        by = Principal(self.chance.choice(["ann", "ben", "cat"]), roles=["ops"])
        return None if value is None else ("answer", one.name, value, by)

    def claim(self, head):
        one, value = self.one(head)
        by_key = value is not None and self.chance.random() < 0.6
        return "claim", one.name if by_key else None, value, self.chance.choice([HOUR, 9 * HOUR, 90 * HOUR])

    def dropped(self, head):
        return self.some([wait.name for wait in head.waits if wait.open], 0, 0, 0, 1, 2)

    def checkpoint(self, head):
        given = [wait.name for wait in head.waits if wait.delivery == head.sequence]
        unread = self.some(given, 0, 0, 1)
        dropped = [*self.dropped(head), *self.some([name for name in given if name not in unread], 0, 0, 1)]
        return "checkpoint", self.asked(0, 3) or None, dropped, unread, self.chance.random() < 0.8

    def pause(self, head):
        return "pause", self.asked(0, 3) or None, self.dropped(head), self.chance.choice(["each"] * 12 + ["all"])

    def rest(self, _):
        return self.chance.choice([("release",), ("renew",), ("renew",), ("tick",)])

    def later(self):
        return self.chance.choice([HOUR / 2, 2 * HOUR, 10 * HOUR]) if self.chance.random() < 0.15 else timedelta(0)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_the_same_happens_with_parts_as_with_all(seed, monkeypatch):
    chances = Chances(seed)
    sizes = {"PAGED_FROM": 4, "PER_PAGE": 2 + seed % 4, "KEPT_PAGES": 2, "REMOVED_PAGES": 1}
    for name, value in sizes.items():
        monkeypatch.setattr(paging, name, value)
    for module in paging, side_records:
        monkeypatch.setattr(module, "MAX_RECEIPTS", 5 if seed % 2 else 100)
    async with AsyncExitStack() as stack:
        # An authorizer is shown all waits, also by an answer.
        hubs = [
            await stack.enter_async_context(open_test_hub("memory://", authorizer=asks))
            for asks in (None, lambda *_: True)
        ]
        twins = Twin(hubs[0], partly=True), Twin(hubs[1], partly=False)
        first = chances.asked(30, 30)
        for twin in twins:
            await twin.start(first)
        for _ in range(60):
            await do_the_same(twins, chances)
        for twin in twins:
            assert or_raise(await Maintenance(twin.hub).verify()).clean
        assert twins[1].parts == 0
        parts.append(twins[0].parts)


async def do_the_same(twins, chances):
    head = await twins[0].head()
    verb = None if head.status.closed else chances.verb(head, held=twins[0].run is not None)
    if verb is None:
        return
    done = [await twin.do(*verb) for twin in twins]
    assert done[0] == done[1], verb
    gone = chances.later()
    for twin in twins:
        travel(twin.hub, gone)
    ours, theirs = [await twin.seen() for twin in twins]
    for name, value in theirs.items():
        assert ours[name] == value, (verb, name)
    for twin in twins:
        await twin.learn()


def test_many_of_these_were_parts():
    assert sum(parts) > 4 * len(parts)
