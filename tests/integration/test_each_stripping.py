"""Removing names and reasons from audit entries on every backend: the trails verify, and the writers go on."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, ConfigurationError, Criteria, KeyRing, Maintenance, Principal, or_raise
from flowpersist.backends.base import Where
from flowpersist.backends.kit import DelegatingBackend
from flowpersist.backends.registry import backend_from_url
from flowpersist.hub.audit_trail import prefix_of
from flowpersist.hub.stripping import _Stripping
from flowpersist.lifecycle.model import MovedEntries
from flowpersist.sealed.drafts import Draft
from flowpersist.testing.hubs import open_test_hub

ASK = AwaitInput("pay", "Pay?", schema=bool)
ANN, BEN = Principal("ann", name="Ann Lee"), Principal("agent", name="Bot", on_behalf_of="ben")
RING = KeyRing.generate()


async def run(hub, pauses, **options):
    new = or_raise(await hub.suspend(0, awaiting=ASK, by="asker", **options))
    for number in range(pauses):
        or_raise(await hub.answer(new.key, True, by=(ANN, BEN)[number % 2]))
        new = or_raise(await hub.suspend_next(or_raise(await hub.claim(new.key)), number, awaiting=ASK))
    return new


async def told(hub, id):
    """Who did what, as the verified trail has it."""
    return [(one.verb, one.by and one.by.subject, one.removed) for one in or_raise(await hub.history(id))]


async def test_a_tenants_entries_are_stripped_and_verify(url):
    async with open_test_hub(url, keyring=RING) as hub:
        maintenance = Maintenance(hub)
        mine, other = await run(hub, 12, tenant="acme"), await run(hub, 2, tenant="other")
        before = await told(hub, mine.id)
        dry = or_raise(await maintenance.strip_audit(Criteria(tenant="acme"), dry_run=True))
        assert (dry.suspensions, dry.entries, await told(hub, mine.id)) == (1, 13, before)
        done = or_raise(await maintenance.strip_audit(Criteria(tenant="acme"), reason="asked to", by="dpo"))
        assert (done.suspensions, done.entries) == (1, 13)
        after = await told(hub, mine.id)
        assert after[:-1] == [(verb, None, who is not None) for verb, who, _ in before]
        assert after[-1] == ("strip", "dpo", False)
        assert not any(removed for _, _, removed in await told(hub, other.id))
        assert or_raise(await hub.answer(mine.key, True, by=ANN)).outcome == "accepted"
        assert (await told(hub, mine.id))[-1] == ("answer", "ann", False)
        again = or_raise(await maintenance.strip_audit(Criteria(tenant="acme"), subject="nobody"))
        assert again.entries == 0


@pytest.mark.parametrize(("subject", "count"), [("ann", 6), ("ben", 6), ("asker", 1), ("eve", 0)])
async def test_a_subjects_entries_are_stripped_wherever_they_are(subject, count):
    async with open_test_hub(keyring=RING) as hub:
        runs = [await run(hub, 12), await run(hub, 12)]
        done = or_raise(await Maintenance(hub).strip_audit(subject=subject))
        assert (done.suspensions, done.entries) == (2 * bool(count), 2 * count)
        for one in runs:
            entries = await told(hub, one.id)
            assert sum(removed for *_, removed in entries) == count
            assert subject not in {who for _, who, _ in entries}


async def test_one_suspension_alone():
    async with open_test_hub(keyring=RING) as hub:
        one, other = await run(hub, 2), await run(hub, 2)
        assert or_raise(await Maintenance(hub).strip_audit(suspension=one.id)).suspensions == 1
        assert [any(removed for *_, removed in await told(hub, new.id)) for new in (one, other)] == [True, False]


async def test_no_byte_of_what_was_stripped_is_left_of_moved_entries():
    async with open_test_hub(keyring=None) as hub:
        new = await run(hub, 12)
        or_raise(await Maintenance(hub).strip_audit(suspension=new.id))
        records = (await hub.backend.query("default.audit", Where(), limit=99)).items
        assert len(records) > 1
        assert not any(b"Ann Lee" in record.head for record in records)


async def test_a_writer_that_copies_entries_meanwhile_does_not_bring_them_back(url):
    """Its copy is put after the trail was stripped, and its head is refused; the next writer strips the copy."""
    held, go = asyncio.Event(), asyncio.Event()

    class Held(DelegatingBackend):
        forwarded = frozenset()
        armed = False

        async def put(self, ref, change, *, if_revision, not_after=None):
            if self.armed and ref.namespace == "default.audit":
                self.armed = False
                held.set()
                await go.wait()
            return await super().put(ref, change, if_revision=if_revision, not_after=not_after)

    backend = Held(backend_from_url(url))
    async with open_test_hub(backend, keyring=RING) as hub:
        new = or_raise(await hub.suspend(0, awaiting=ASK, by="asker"))
        for number in range(5):
            or_raise(await hub.answer(new.key, True, by=ANN))
            new = or_raise(await hub.suspend_next(or_raise(await hub.claim(new.key)), number, awaiting=ASK))
        backend.armed = True
        writing = asyncio.create_task(hub.answer(new.key, True, by=BEN))
        await held.wait()
        assert or_raise(await Maintenance(hub).strip_audit(subject="ann")).entries == 5
        go.set()
        or_raise(await writing)
        assert "ann" not in {who for _, who, _ in await told(hub, new.id)}
        moved = or_raise(await hub.suspensions.side_records.trail.records.page(Where(), limit=9)).items
        assert not any(b"Ann Lee" in link for record in moved for link in record.head.links)


async def test_the_next_writer_strips_a_copy_that_a_writer_has_left_behind():
    """A copy with names, put by a writer that stalled until the head was stripped and nobody looked any more."""
    async with open_test_hub(keyring=RING) as hub:
        new = await run(hub, 5)
        heads, trail = hub.suspensions.records, hub.suspensions.side_records.trail
        before = or_raise(await heads.read(str(new.id))).record.head
        assert len(before.trail.links) == 16
        or_raise((await heads.update(str(new.id), _Stripping(hub.suspensions, "ann", None, None, False)._head)).result)
        key = f"{prefix_of(before)}{1:010}"
        or_raise(await trail.records.put(key, Draft(MovedEntries(before.trail.links), {}, None), revision=0))
        or_raise(await hub.answer(new.key, True, by=BEN))
        assert [who for _, who, _ in await told(hub, new.id)].count("ann") == 0
        copied = or_raise(await trail.records.read(key)).record.head.links
        assert len(copied) == 16
        assert not any(b"Ann Lee" in link for link in copied)


async def test_runs_go_on_while_their_entries_are_stripped():
    async with open_test_hub(keyring=RING) as hub:
        runs = [asyncio.create_task(run(hub, 30)) for _ in range(3)]
        stripped = 0
        while not all(one.done() for one in runs):
            stripped += or_raise(await Maintenance(hub).strip_audit(subject="ann")).entries
            await asyncio.sleep(0)
        made = [await one for one in runs]
        stripped += or_raise(await Maintenance(hub).strip_audit(subject="ann")).entries
        for one in made:
            entries = await told(hub, one.id)
            assert "ann" not in {who for _, who, _ in entries}
            assert [verb for verb, *_ in entries if verb == "answer"] == ["answer"] * 30
        assert stripped == 45


async def test_a_removal_that_is_cancelled_anywhere_can_be_repeated():
    async with open_test_hub(keyring=RING) as hub:
        new = await run(hub, 12)
        for steps in range(0, 60, 3):
            task = asyncio.create_task(Maintenance(hub).strip_audit(suspension=new.id))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            or_raise(await hub.history(new.id))
        or_raise(await Maintenance(hub).strip_audit(suspension=new.id, subject="ann"))
        assert "ann" not in {who for _, who, _ in await told(hub, new.id)}


async def test_everything_is_not_stripped_by_mistake():
    async with open_test_hub() as hub:
        with pytest.raises(ConfigurationError, match="criteria"):
            await Maintenance(hub).strip_audit()
        or_raise(await hub.suspend(1, timeout=timedelta(days=1)))
        assert or_raise(await Maintenance(hub).strip_audit(Criteria(tenant="none"))).suspensions == 0
