"""Receipts that no longer fit the head stand in records of their own, and tell the same truth."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Maintenance, SuspensionKey, or_raise
from flowpersist.backends.base import Where
from flowpersist.errors import AlreadyResumed, SuspensionNotFound, WaitSuperseded
from flowpersist.testing.hubs import open_test_hub, travel

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)


@pytest.fixture
async def hub():
    async with open_test_hub() as opened:
        yield opened


async def test_receipts_of_more_pauses_than_fit_a_head(hub):
    """108 pauses: every old link gets the truth, from the head or from a receipt record, and cleanup removes both."""
    keys = []
    new = or_raise(await hub.suspend(0, awaiting=CONFIRM))
    for pause in range(108):
        keys.append(new.key)
        run = or_raise(await hub.claim(new.key, pause % 2 == 0, by=f"p{pause}", answer_id=f"id{pause}"))
        new = or_raise(await hub.suspend_next(run, pause, awaiting=CONFIRM))
    assert new.sequence == 109
    stored = or_raise(await hub.suspensions.side_records.receipts.page(Where(), limit=1000)).items
    assert len(stored) == 8
    # Those that left the head, those that are about to, and the newest.
    for pause, key in [*enumerate(keys)][:12] + [*enumerate(keys)][-4:]:
        conflict = (await hub.answer(key, pause % 2 == 1)).failure()
        assert type(conflict) is AlreadyResumed
        assert conflict.receipt.by == f"p{pause}"
        assert or_raise(await hub.answer(key, pause % 2 == 0)).outcome == "replayed"
        assert or_raise(await hub.answer(key, pause % 2 == 1, answer_id=f"id{pause}")).outcome == "replayed"
        assert type((await hub.claim(key)).failure()) is AlreadyResumed
    forged = SuspensionKey(keys[0].id, bytes(32))
    assert isinstance((await hub.inspect(forged)).failure(), SuspensionNotFound)
    or_raise(await hub.resume(new.key, True))
    travel(hub, timedelta(days=8))
    assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
    assert or_raise(await hub.suspensions.side_records.receipts.page(Where(), limit=1000)).items == ()
    for key in (keys[0], keys[-1], new.key):
        assert isinstance((await hub.inspect(key)).failure(), SuspensionNotFound)


async def test_no_record_of_a_receipt_is_named_by_a_secret(hub):
    keys = []
    new = or_raise(await hub.suspend(0, awaiting=CONFIRM))
    for pause in range(102):
        keys.append(new.key)
        new = or_raise(await hub.suspend_next(or_raise(await hub.claim(new.key, True)), pause, awaiting=CONFIRM))
    records = (await hub.backend.query("default.receipts", Where(), limit=10)).items
    assert records
    clear = repr([(record.ref, record.attributes) for record in records])
    assert not [key for key in keys if key.secret.hex() in clear]


async def test_many_waits_that_close_at_once_leave_their_receipts_too(hub):
    wide = or_raise(await hub.suspend(0, awaiting={f"w{n}": CONFIRM for n in range(110)}, until="any"))
    run = or_raise(await hub.claim(wide.keys["w7"], True))
    or_raise(await hub.suspend_next(run, 1, awaiting=CONFIRM))
    told = {name: type((await hub.answer(key, False)).failure()) for name, key in wide.keys.items()}
    assert told.pop("w7") is AlreadyResumed
    assert set(told.values()) == {WaitSuperseded}
