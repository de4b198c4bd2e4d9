"""Heads of all shapes go both ways; bytes of all kinds give a head or an error."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from returns.result import Success

from flowpersist.errors import MalformedPayload, UnsupportedVersion
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import (
    Answer,
    AnswerReference,
    FinishedVerb,
    Head,
    Status,
    Taken,
    WaitReceipt,
    WaitState,
    WaitStatus,
    replace,
)
from flowpersist.sealed.heads import HeadCodec

HEADS = HeadCodec(Head)
TEXTS = st.text(max_size=20)
NUMBERS = st.integers(min_value=0, max_value=2**63)
MOMENTS = st.datetimes(timezones=st.just(UTC))
MAYBE = st.none() | MOMENTS
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**4095), 2**4095) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
REFERENCES = st.none() | st.builds(AnswerReference, st.binary(max_size=16), st.binary(max_size=32))
ANSWERS = st.builds(Answer, JSON, st.none() | TEXTS, MOMENTS, st.none() | TEXTS, reference=REFERENCES)
WAITS = st.builds(
    WaitState,
    name=TEXTS,
    secret=st.binary(max_size=32),
    sequence=NUMBERS,
    awaiting=st.none() | st.dictionaries(TEXTS, JSON, max_size=3),
    deadline=MAYBE,
    status=st.sampled_from(WaitStatus),
    answer=st.none() | ANSWERS,
    closed_at=MAYBE,
    delivery=st.none() | NUMBERS,
)
RECEIPTS = st.builds(
    WaitReceipt,
    digest=st.binary(max_size=32),
    wait=TEXTS,
    sequence=NUMBERS,
    status=st.sampled_from(WaitStatus),
    at=MOMENTS,
    by=st.none() | TEXTS,
    answer_id=st.none() | TEXTS,
    answer=st.none() | st.binary(max_size=32),
)
STATES = st.builds(
    Head,
    id=st.builds(SuspensionId, st.binary(min_size=16, max_size=16)),
    tenant=st.none() | TEXTS,
    metadata=st.dictionaries(TEXTS, SCALARS, max_size=3),
    created_at=MOMENTS,
    updated_at=MOMENTS,
    retention=st.timedeltas(),
    status=st.sampled_from(Status),
    until=st.sampled_from(["all", "any", "each"]),
    waits=st.lists(WAITS, max_size=3).map(tuple),
)
PASTS = st.fixed_dictionaries(
    {},
    optional={
        "fence": NUMBERS,
        "claim_id": TEXTS,
        "lease_until": MAYBE,
        "cancelling": st.booleans(),
        "reason": TEXTS,
        "taken": st.builds(Taken, st.none() | TEXTS, st.none() | TEXTS, MOMENTS),
        "finished": st.lists(st.builds(FinishedVerb, NUMBERS, TEXTS), max_size=2).map(tuple),
        "receipts": st.lists(RECEIPTS, max_size=2).map(tuple),
        "fingerprint": st.binary(max_size=64),
    },
)
EXAMPLE = HEADS.encode(
    Head(
        id=SuspensionId(bytes(16)),
        tenant="acme",
        metadata={"run": "r"},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        retention=timedelta(days=1),
        status=Status.WAITING,
        until="all",
        waits=(WaitState("ok", bytes(32), 1, {"id": "ok", "limit": 10**30}, None),),
    )
).unwrap()


def written(head: Head) -> str:
    """What equality leaves open: 1, 1.0 and True, of the whole tree."""
    return json.dumps(msgspec.to_builtins(head, builtin_types=(bytes, datetime, timedelta)), default=str)


@given(STATES, PASTS)
def test_any_head_comes_back_as_it_was(state, past):
    head = replace(state, **past)
    back = HEADS.decode(HEADS.encode(head).unwrap()).unwrap()
    assert back == head
    assert written(back) == written(head)


@given(st.binary(max_size=200), st.integers(0, len(EXAMPLE)), st.integers(0, 50))
def test_bytes_of_any_kind_give_a_head_or_an_error(noise, at, over):
    for data in (noise, b"\x01" + noise, EXAMPLE[:at] + noise + EXAMPLE[at + over :]):
        result = HEADS.decode(data)
        assert isinstance(result, Success) or type(result.failure()) in {MalformedPayload, UnsupportedVersion}
