"""Sinks of audit entries on every backend: each entry at least once, over crashes and from any process."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import sys
from collections import Counter
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, ConfigurationError, KeyRing, Maintenance, Principal, or_raise
from flowpersist.errors import StorageError
from flowpersist.hub import FileSink, LoggingSink, OtelSink, delivering
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput("pay", "Pay?", schema=str)
CANARY = "canary-in-the-answer"
RING = KeyRing.generate()


class Sink:
    """Keeps what it takes; refuses as often as it was told to, before or after it has taken."""

    def __init__(self, name="kept"):
        self.name = name
        self.taken = []
        self.faults = []

    async def deliver(self, entries):
        fault = self.faults.pop(0) if self.faults else None
        if fault == "before":
            raise OSError("full")
        self.taken += entries
        if fault == "after":
            raise OSError("no reply")

    @property
    def ids(self):
        return Counter(one.id for one in self.taken)


async def run(hub, pauses=2):
    new = or_raise(await hub.suspend(0, awaiting=ASK, by="ann"))
    for number in range(pauses):
        or_raise(await hub.answer(new.key, CANARY, by=Principal("ben", name="Ben Bo")))
        new = or_raise(await hub.suspend_next(or_raise(await hub.claim(new.key)), number, awaiting=ASK))
    return new


async def written(hub):
    page = or_raise(await hub.query(limit=100))
    return {entry.id for one in page.items for entry in or_raise(await hub.history(one.id))}


async def test_each_entry_is_delivered_once_in_the_normal_course(url, monkeypatch):
    monkeypatch.setattr(delivering, "PAGE", 2)
    sink = Sink()
    async with open_test_hub(url, keyring=RING) as hub:
        maintenance, runs = Maintenance(hub), [await run(hub) for _ in range(5)]
        first = or_raise(await maintenance.deliver(sink))
        assert (first, or_raise(await maintenance.deliver(sink))) == (5 * 7, 0)
        for one in runs[1:3]:
            or_raise(await hub.answer(one.key, "more"))
        assert or_raise(await maintenance.deliver(sink)) == 2
        assert sink.ids == Counter(await written(hub))
        numbers = [one.number for one in sink.taken if one.suspension == runs[0].id]
        assert numbers == sorted(numbers)


async def test_what_a_sink_refuses_it_is_given_again(url, monkeypatch):
    monkeypatch.setattr(delivering, "MOST_AT_ONCE", 3)
    sink = Sink()
    async with open_test_hub(url, keyring=RING) as hub:
        maintenance = Maintenance(hub)
        for _ in range(3):
            await run(hub)
        sink.faults = [None, "before", None, "after"]
        for _ in range(2):
            failed = (await maintenance.deliver(sink)).failure()
            assert isinstance(failed, StorageError)
            assert isinstance(failed.__cause__, OSError)
        or_raise(await maintenance.deliver(sink))
        assert set(sink.ids) == await written(hub)


async def test_a_sink_that_hangs_is_given_up_and_keeps_maintenance_from_nothing(url, monkeypatch, caplog):
    class Hanging(Sink):
        async def deliver(self, entries):
            self.taken += entries
            await asyncio.Event().wait()

    monkeypatch.setattr(delivering, "PATIENCE", 0.05)
    sink, expired = Hanging(), asyncio.Event()
    told = lambda event: expired.set() if event.verb == "expire" else None  # noqa: E731
    async with open_test_hub(url, keyring=RING, on_event=told) as hub:
        maintenance = Maintenance(hub)
        or_raise(await hub.suspend(0, awaiting=ASK, timeout=timedelta(hours=1)))
        failed = (await maintenance.deliver(sink)).failure()
        assert isinstance(failed.__cause__, TimeoutError)
        assert (failed.retryable, "did not take 1 audit entries within 0.05 s" in str(failed)) == (True, True)
        travel(hub, timedelta(hours=2))
        rounds = asyncio.create_task(maintenance.run_forever(sinks=[sink]))
        await expired.wait()
        rounds.cancel()
        await asyncio.wait({rounds})
    assert "maintenance failed, trying again in 0:00:30: the sink kept did not take" in caplog.text
    assert len(sink.ids) == 1


async def test_another_process_goes_on_and_waits_for_its_turn(url):
    """A second Maintenance has another memory, as another process has."""
    one, two = Sink(), Sink()
    async with open_test_hub(url, keyring=RING) as hub:
        await run(hub)
        assert or_raise(await Maintenance(hub).deliver(one)) == 7
        new, other = await run(hub), Maintenance(hub)
        assert or_raise(await other.deliver(two)) == 0
        travel(hub, delivering.LEASE + timedelta(seconds=1))
        or_raise(await other.deliver(two))
        assert {entry.id for entry in or_raise(await hub.history(new.id))} <= set(two.ids)
        assert set(one.ids) | set(two.ids) == await written(hub)
        travel(hub, timedelta(hours=1))
        or_raise(await other.deliver(two))
        travel(hub, timedelta(hours=1))
        last, sink = await run(hub), Sink()
        or_raise(await Maintenance(hub).deliver(sink))
        # What was delivered long ago is not delivered again.
        assert {entry.suspension for entry in sink.taken} == {last.id}


async def test_a_delivery_that_is_cancelled_anywhere_loses_nothing():
    async with open_test_hub(keyring=RING) as hub:
        for _ in range(2):
            await run(hub)
        sink, maintenance = Sink(), Maintenance(hub)
        for steps in range(60):
            task = asyncio.create_task(maintenance.deliver(sink))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            or_raise(await hub.answer((await run(hub, 0)).key, "x"))
        or_raise(await maintenance.deliver(sink))
        assert set(sink.ids) == await written(hub)


async def test_an_altered_trail_is_left_out_and_told(caplog):
    sink = Sink()
    async with open_test_hub(keyring=RING) as hub:
        broken, sound = await run(hub, 12), await run(hub)
        records = hub.suspensions.side_records.trail.records
        moved = or_raise(await records.page(delivering.Where(), limit=9)).items
        or_raise(await records.delete(moved[0].ref.key, revision=moved[0].revision))
        or_raise(await Maintenance(hub).deliver(sink))
        assert {one.suspension for one in sink.taken} == {sound.id}
    assert f"the audit entries of suspension {broken.id} are not delivered" in caplog.text


async def test_maintenance_delivers_before_it_deletes(tmp_path):
    sink = Sink()
    sink.faults = ["before"] * 3
    async with open_test_hub(keyring=RING, retention=timedelta(0)) as hub:
        new = await run(hub)
        or_raise(await hub.cancel(new.id))
        travel(hub, timedelta(seconds=1))
        working = asyncio.create_task(
            Maintenance(hub).run_forever(timedelta(milliseconds=1), sinks=[sink, FileSink(tmp_path / "audit.jsonl")])
        )
        while or_raise(await hub.query()).items:
            await asyncio.sleep(0.001)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert [one.verb for one in sink.taken][-1] == "cancel"
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [one["id"] for one in lines] == [one.id for one in sink.taken]


# ---------------------------------------------------------------------------------------------------------------- sinks


async def test_a_file_has_a_line_for_each_entry_and_no_answers_unless_asked(tmp_path):
    async with open_test_hub(keyring=RING) as hub:
        await run(hub)
        for values in (False, True):
            path = tmp_path / f"{values}.jsonl"
            or_raise(await Maintenance(hub).deliver(FileSink(path, values=values)))
            text = path.read_text()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert [json.loads(line)["number"] for line in text.splitlines()] == [*range(1, 8)]
            assert (CANARY in text, "Ben Bo" in text, "df_susp_" in text) == (values, True, False)


async def test_a_line_that_was_cut_spoils_no_other(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text('{"number":1,"id":"cu')
    async with open_test_hub(keyring=RING) as hub:
        await run(hub)
        or_raise(await Maintenance(hub).deliver(FileSink(path)))
    cut, *whole = path.read_text().splitlines()
    assert cut == '{"number":1,"id":"cu'
    assert len([json.loads(line) for line in whole]) == 7


async def test_a_file_that_cannot_be_written_is_tried_again(tmp_path):
    path = tmp_path / "missing" / "audit.jsonl"
    async with open_test_hub(keyring=RING) as hub:
        await run(hub)
        maintenance, sink = Maintenance(hub), FileSink(path)
        assert isinstance((await maintenance.deliver(sink)).failure(), StorageError)
        path.parent.mkdir()
        assert or_raise(await maintenance.deliver(sink)) == 7
    assert [one.name for one in path.parent.iterdir()] == ["audit.jsonl"]


async def test_a_logger_gets_each_entry(caplog):
    caplog.set_level(logging.INFO, "flowpersist.audit")
    async with open_test_hub(keyring=RING) as hub:
        await run(hub)
        or_raise(await Maintenance(hub).deliver(LoggingSink()))
    told = [json.loads(one.getMessage()) for one in caplog.records if one.name == "flowpersist.audit"]
    assert [one["number"] for one in told] == [*range(1, 8)]
    assert CANARY not in caplog.text


async def test_opentelemetry_gets_each_entry():
    logs = pytest.importorskip("opentelemetry.sdk._logs")
    export = pytest.importorskip("opentelemetry.sdk._logs.export")
    kept = export.InMemoryLogRecordExporter()
    provider = logs.LoggerProvider()
    provider.add_log_record_processor(export.SimpleLogRecordProcessor(kept))
    async with open_test_hub(keyring=RING) as hub:
        await run(hub)
        or_raise(await Maintenance(hub).deliver(OtelSink(provider=provider)))
        ids = sorted(await written(hub))
    told = [one.log_record for one in kept.get_finished_logs()]
    assert sorted(one.attributes["flowpersist.audit.id"] for one in told) == ids
    assert {one.event_name for one in told} == {"flowpersist.audit"}
    assert CANARY not in str(told)
    assert told[0].timestamp == int(told[0].timestamp / 1000) * 1000


def test_without_opentelemetry_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry._logs", None)
    monkeypatch.delattr("opentelemetry._logs", raising=False)
    with pytest.raises(ConfigurationError, match="otel"):
        OtelSink()


@pytest.mark.parametrize("sink", [None, "file.jsonl", object()])
async def test_what_is_no_sink_is_refused(sink):
    async with open_test_hub() as hub:
        with pytest.raises(TypeError, match="AuditSink"):
            await Maintenance(hub).deliver(sink)
