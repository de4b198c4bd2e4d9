"""What OpenTelemetry is told of waits, workers and flows; and that nothing changes where it is not installed."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from canaries import CANARIES, OUTCOME, PERSON, PROMPT, STATE, WORD
from exported import exporting
from flowpersist import Maintenance, or_raise
from flowpersist.dynamicflow import FlowRunner, Suspended, tool
from flowpersist.errors import LeaseLost, StillWaiting
from flowpersist.hub.opening import open_hub
from flowpersist.sealed.telemetry import CONTEXT_BYTES, METRICS, telemetry
from flowpersist.testing.hubs import open_test_hub, travel

PROGRAM = Path(__file__).with_name("telemetry_program.py")
LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)


@pytest.fixture
def exported(monkeypatch):
    with exporting(monkeypatch) as found:
        yield found


def ids(context):
    return context.trace_id, context.span_id


@tool()
async def charge(amount: int) -> int:
    logging.getLogger("flowpersist.test").warning("charging")
    return amount


@tool()
async def boom(text: str) -> str:
    raise RuntimeError(f"the tool failed on {text} for {PERSON}")


async def test_a_process_that_resumes_links_to_the_span_of_the_process_that_suspended(exported, tmp_path):
    url = f"sqlite:///{tmp_path}/flows.db"
    said = json.loads(subprocess.run([sys.executable, PROGRAM, url], check=True, capture_output=True).stdout)
    async with open_hub(url, keyring=None) as hub:
        or_raise(await hub.claim(said["key"], "yes"))
    (claimed,) = exported.named("flowpersist.claim")
    (link,) = claimed.links
    assert ids(link.context) == (said["trace"], said["span"])
    assert link.context.is_remote
    assert claimed.context.trace_id != said["trace"]


async def test_waits_are_measured_by_the_stores_clock(exported):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=WORD))
        travel(hub, HOUR)
        or_raise(await hub.answer(new.key, "yes"))
        travel(hub, timedelta(minutes=10))
        run = or_raise(await hub.claim(new.key))
        again = or_raise(await hub.suspend_next(run, "t", awaiting=WORD))
        travel(hub, timedelta(minutes=5))
        run = or_raise(await hub.claim(again.key, "yes"))
        or_raise(await hub.complete(run))
    (waited,) = exported.points("flowpersist.wait.duration")
    assert waited.count == 2
    assert waited.sum == pytest.approx(3600 + 300, abs=5)
    (queued,) = exported.points("flowpersist.queue.age")
    assert queued.count == 2
    assert queued.sum == pytest.approx(600, abs=5)
    counted = {name: exported.total(f"flowpersist.{name}") for name in ("suspended", "answered", "resumed", "closed")}
    assert counted == {"suspended": 2, "answered": 2, "resumed": 2, "closed": 1}
    assert exported.total("flowpersist.closed", flowpersist_status="completed") == 1


async def test_expiries_defaults_and_the_oldest_of_the_queue_are_measured_by_ticks(exported):
    async with open_test_hub() as hub:
        or_raise(await hub.suspend("s", awaiting=WORD, timeout=HOUR))
        new = or_raise(await hub.suspend("s", awaiting=WORD))
        or_raise(await hub.answer(new.key, "yes"))
        travel(hub, 2 * HOUR)
        or_raise(await Maintenance(hub).tick())
    assert exported.total("flowpersist.closed", flowpersist_status="expired") == 1
    (oldest,) = exported.points("flowpersist.queue.oldest")
    assert oldest.value == pytest.approx(7200, abs=5)


async def test_an_empty_queue_has_no_age(exported):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=WORD))
        or_raise(await hub.answer(new.key, "yes"))
        travel(hub, HOUR)
        or_raise(await Maintenance(hub).tick())
        assert [point.value for point in exported.points("flowpersist.queue.oldest")] == [pytest.approx(3600, abs=5)]
        or_raise(await hub.resume(new.key))
        or_raise(await Maintenance(hub).tick())
    assert [point.value for point in exported.points("flowpersist.queue.oldest")] == [0]


async def test_failures_are_told_by_their_codes(exported):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=WORD))
        assert isinstance((await hub.claim(new.key)).failure(), StillWaiting)
        run = or_raise(await hub.claim(new.key, "yes", lease=LEASE))
        travel(hub, HOUR)
        assert isinstance((await hub.complete(run)).failure(), LeaseLost)
    first, _ = exported.named("flowpersist.claim")
    assert first.attributes["error.type"] == StillWaiting.code
    assert first.status.status_code is StatusCode.ERROR
    assert not first.status.description
    assert not first.events
    assert exported.total("flowpersist.lease.losses", flowpersist_verb="complete") == 1
    assert exported.total("flowpersist.verb.duration", flowpersist_verb="claim", error_type=StillWaiting.code) == 1
    assert exported.total("flowpersist.verb.duration", flowpersist_verb="claim") == 2


async def test_lost_races_are_conflicts(exported):
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting={"a": WORD, "b": WORD}))
        assert exported.total("flowpersist.conflicts") == 0
        await asyncio.gather(hub.answer(new.keys["a"], "x"), hub.answer(new.keys["b"], "y"))
        stale = hub.backend
        read = await stale.get(hub.suspensions.records.ref(str(new.id)))
        sealed = hub.suspensions.records
        found = or_raise(await sealed.read(str(new.id)))
        draft = hub.suspensions.draft(found.record.head, read, before=found.record.head)
        lost = await sealed.put(str(new.id), draft, revision=read.record.revision - 1, mark=found.record.mark)
        assert lost.failure().code == "revision-conflict"
    assert exported.total("flowpersist.conflicts", error_type="revision-conflict") >= 1


async def test_a_worker_handles_a_run_in_a_span_that_links_to_the_pause(exported):
    handled = asyncio.Event()

    async def handler(run):
        logging.getLogger("flowpersist.test").warning("handling")
        handled.set()

    async with open_test_hub() as hub:
        with trace.get_tracer("test").start_as_current_span("request"):
            new = or_raise(await hub.suspend("s", awaiting=WORD))
        or_raise(await hub.answer(new.key, "yes"))
        work = asyncio.create_task(hub.work(handler, poll=timedelta(milliseconds=10)))
        await asyncio.wait_for(handled.wait(), 10)
        await asyncio.sleep(0.1)
        work.cancel()
        await asyncio.wait([work])
    (handling,), (paused,) = exported.named("flowpersist.process"), exported.named("flowpersist.suspend")
    assert [ids(link.context) for link in handling.links] == [ids(paused.context)]
    assert handling.kind is SpanKind.CONSUMER
    # Polling makes no traces.
    roots = {span.name for span in exported.spans if span.parent is None}
    assert roots == {
        "request",
        "flowpersist.answer",
        "flowpersist.claim",
        "flowpersist.process",
        "flowpersist.complete",
    }
    (told,) = [one for one in exported.logs if one.body == "handling"]
    assert (told.trace_id, told.span_id) == ids(handling.context)


async def test_a_flow_has_spans_of_its_legs_steps_and_tools_over_the_wait(exported):
    ask = {"id": "ask", "tool": "await_input", "args": {"prompt": PROMPT}}
    document = {
        "metadata": {"name": "refund"},
        "flow": [
            {"id": "pay", "tool": "charge", "args": {"amount": 7}},
            ask,
            {"tool": "charge", "args": {"amount": 8}},
        ],
    }
    async with open_test_hub() as hub:
        runner = FlowRunner(hub, [charge])
        paused = or_raise(await runner.start(document))
        assert isinstance(paused, Suspended)
        or_raise(await runner.resume(paused.waits[0].key, answer=STATE))
    first, second = exported.named("flowpersist.run")
    (suspended,) = exported.named("flowpersist.suspend_next")
    assert suspended.parent.span_id == first.context.span_id
    assert ids(suspended.context) in [ids(link.context) for link in second.links]
    (step,) = exported.named("step pay")
    called, again = exported.named("execute_tool charge")
    assert step.parent.span_id == first.context.span_id
    assert called.parent.span_id == step.context.span_id
    assert called.attributes["gen_ai.operation.name"] == "execute_tool"
    assert called.attributes["gen_ai.tool.name"] == "charge"
    assert again.context.trace_id == second.context.trace_id != first.context.trace_id
    told = {(one.trace_id, one.span_id) for one in exported.logs if one.body == "charging"}
    assert told == {ids(called.context), ids(again.context)}


async def test_a_tool_that_fails_tells_its_class_and_no_value(exported):
    document = {"metadata": {"name": "doc"}, "flow": [{"id": "one", "tool": "boom", "args": {"text": STATE}}]}
    async with open_test_hub() as hub:
        assert (await FlowRunner(hub, [boom]).start(document, input={"to": OUTCOME})).failure().code == "flow"
    (called,), (step,) = exported.named("execute_tool boom"), exported.named("step one")
    assert called.attributes["error.type"] == "RuntimeError"
    assert step.attributes["error.type"] == "flow"
    text = exported.text()
    assert not [canary for canary in CANARIES if canary in text]


async def test_a_cancelled_verb_ends_its_span(exported):
    async with open_test_hub() as hub:
        suspending = asyncio.create_task(hub.suspend("s", awaiting=WORD))
        await asyncio.sleep(0)
        suspending.cancel()
        await asyncio.wait([suspending])
        assert not trace.get_current_span().get_span_context().is_valid
    for span in exported.named("flowpersist.suspend"):
        assert span.end_time is not None


async def test_without_the_api_nothing_is_told_and_every_verb_works(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    telemetry.cache_clear()
    async with open_test_hub() as hub:
        with trace.get_tracer("test").start_as_current_span("request"):
            new = or_raise(await hub.suspend("s", awaiting=WORD))
            or_raise(await hub.resume(new.key, "yes"))
        assert or_raise(await hub.suspensions.records.read(str(new.id))).record.head.trace is None
    assert telemetry() is None
    assert {span.name for span in exported.spans} == {"request"}
    assert not exported.points("flowpersist.verb.duration")


async def test_without_a_provider_heads_hold_no_trace():
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=WORD))
        assert or_raise(await hub.suspensions.records.read(str(new.id))).record.head.trace is None


@pytest.mark.parametrize("stored", [None, b"", bytes(CONTEXT_BYTES), b"\x01" * (CONTEXT_BYTES - 1), b"\xff" * 26])
def test_what_is_no_span_context_is_linked_to_nothing(exported, stored):
    with telemetry().span("one", {}, linked=stored):
        telemetry().link(stored)
    (span,) = exported.named("one")
    assert not span.links


def test_units_are_of_the_conventions():
    counts = {name for name, one in METRICS.items() if one.kind == "counter" or ".connection." in name}
    assert {METRICS[name].unit for name in METRICS.keys() - counts} == {"s"}
    assert all(METRICS[name].unit.startswith("{") for name in counts)
