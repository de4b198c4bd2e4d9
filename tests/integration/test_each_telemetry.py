"""What OpenTelemetry is told on every backend: spans of verbs and of the backend, the link over the wait, metrics, and
nothing that is secret or personal.
"""

from __future__ import annotations

import re

import pytest
from opentelemetry import trace

from canaries import CANARIES, WORD, forms, full_cycle
from exported import exporting
from flowpersist import KeyRing, open_hub, or_raise
from flowpersist.keys.suspension_key import DEFAULT_PREFIX

SYSTEMS = {"postgres": "postgresql", "redis_cluster": "redis", "motor": "mongodb"}


@pytest.fixture
def exported(monkeypatch):
    with exporting(monkeypatch) as found:
        yield found


async def test_the_span_that_takes_a_run_is_linked_to_the_one_that_paused_it(url, backend, exported):
    async with open_hub(url, keyring=KeyRing.generate()) as hub:
        new = or_raise(await hub.suspend({"n": 1}, awaiting=WORD))
        with trace.get_tracer("test").start_as_current_span("webhook"):
            or_raise(await hub.answer(new.key, "yes", by="ann"))
        run = or_raise(await hub.claim(new.key))
        again = or_raise(await hub.suspend_next(run, {"n": 2}, awaiting=WORD))
        or_raise(await hub.resume(again.key, "yes"))
    (paused,), (next_pause,) = exported.named("flowpersist.suspend"), exported.named("flowpersist.suspend_next")
    for name, origin in (("answer", paused), ("claim", paused), ("resume", next_pause)):
        (taken,) = exported.named(f"flowpersist.{name}")
        assert [(link.context.trace_id, link.context.span_id) for link in taken.links] == [
            (origin.context.trace_id, origin.context.span_id)
        ]
        assert taken.context.trace_id != origin.context.trace_id
        assert taken.attributes["flowpersist.suspension.id"] == str(new.id)
    writes = [span for span in exported.spans if span.attributes.get("db.operation.name") == "put"]
    system = SYSTEMS.get(backend, backend)
    assert writes
    assert {span.name for span in writes} == {f"put {system}"}
    assert {span.kind for span in writes} == {trace.SpanKind.CLIENT}
    assert {span.attributes["db.system.name"] for span in writes} == {system}
    (webhook,), (answer,) = exported.named("webhook"), exported.named("flowpersist.answer")
    assert answer.parent.span_id == webhook.context.span_id
    assert answer.context.span_id in {span.parent.span_id for span in writes}
    assert exported.total("db.client.operation.duration", db_operation_name="put") >= len(writes)


async def test_nothing_that_is_exported_is_secret_or_names_a_person(url, exported):
    async with open_hub(url, keyring=KeyRing.generate()) as hub:
        with trace.get_tracer("test").start_as_current_span("request"):
            keys = await full_cycle(hub)
    text = exported.text()
    assert len(exported.spans) > 40
    for secret in (*CANARIES, *map(str, keys)):
        assert not [form for form, data in forms(secret).items() if data in text.encode()]
    assert not re.search(re.escape(DEFAULT_PREFIX) + "[0-9A-Za-z]{8,}", text)
