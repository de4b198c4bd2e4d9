"""Heads as bytes, clause by clause: specs/persistence/heads.md."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from returns.result import Failure, Success

from flowpersist import AwaitInput, Maintenance, or_raise
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import (
    IntegrityError,
    MalformedPayload,
    SerializationError,
    StateTooDeep,
    StateTooLarge,
    StorageError,
    SuspensionNotFound,
    TamperedEnvelope,
    UnsupportedVersion,
)
from flowpersist.hub.paged_heads import page_key
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import verbs
from flowpersist.lifecycle.decisions import Offer
from flowpersist.lifecycle.model import (
    Answer,
    AnswerReference,
    FinishedVerb,
    Head,
    LargeAnswer,
    MovedReceipt,
    Status,
    Taken,
    WaitReceipt,
    WaitState,
    WaitStatus,
    replace,
)
from flowpersist.lifecycle.shown import shown_digest
from flowpersist.sealed.dictionaries import TrainedDictionary
from flowpersist.sealed.drafts import Draft
from flowpersist.sealed.heads import MAX_BYTES, NO_BODY, HeadCodec, kid_in, mark_in, with_mark
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.hubs import open_test_hub, travel

SPEC = Path(__file__).parents[2] / "specs" / "persistence" / "heads.md"
HEADS = HeadCodec(Head)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ANSWERED = WaitState(
    name="ok",
    secret=bytes(range(32)),
    sequence=1,
    awaiting={"id": "ok", "prompt": "Go on?", "schema": {"type": "boolean"}, "default": None},
    deadline=NOW + timedelta(days=3),
    status=WaitStatus.ANSWERED,
    answer=Answer({"amount": 12.5, "lines": [1, True, None, "ä"]}, "ann", NOW, "a-1", b"shown to ann"),
    closed_at=NOW,
    delivery=1,
    shown=b"shown",
)
HEAD = Head(
    id=SuspensionId(bytes(range(16))),
    tenant="acme",
    metadata={"run": "r-1", "whole": 1, "float": 1.0, "flag": True},
    created_at=NOW,
    updated_at=NOW,
    retention=timedelta(days=30, microseconds=1),
    status=Status.RUNNING,
    until="any",
    waits=(
        ANSWERED,
        WaitState("later", bytes(32), 2, None, None),
        replace(
            ANSWERED,
            name="large",
            answer=Answer(None, None, NOW, None, reference=AnswerReference(bytes(16), bytes(32))),
        ),
    ),
    sequence=2,
    attempt=1,
    fence=7,
    claim_id="c",
    lease_until=NOW,
    cancelling=True,
    reason="why",
    taken=Taken("a", None, NOW),
    finished=(FinishedVerb(6, "release"),),
    receipts=(WaitReceipt(bytes(32), "first", 1, WaitStatus.EXPIRED, NOW, None, None, None),),
    fingerprint=b"mark",
    question=bytes(32),
)


MANY = dict.fromkeys(map(str, range(200)), AwaitInput(id="ok", prompt="OK?"))


def with_answer(value: object) -> Head:
    return replace(HEAD, waits=(replace(ANSWERED, answer=replace(ANSWERED.answer, value=value)),))


def fields() -> dict[str, object]:
    return msgspec.msgpack.decode(HEADS.encode(HEAD).unwrap()[34:])


def written(given: dict[str, object]) -> bytes:
    return b"\x01" + NO_BODY + msgspec.msgpack.encode(given)


def test_every_clause_of_the_specification_has_a_test():
    clauses = set(re.findall(r"^- (FPH-\d+):", SPEC.read_text(), re.MULTILINE))
    assert len(clauses) == 12
    docstrings = re.findall(r'"""(FPH[^"]*)"""', Path(__file__).read_text())
    assert clauses == set(re.findall(r"FPH-\d+", " ".join(docstrings)))


def test_a_digest_of_what_is_shown_knows_no_order():
    """FPH-8"""
    awaiting = {"id": "ok", "prompt": "?", "shown": {"a": 1.0, "b": [True]}, "schema": {"type": "null"}}
    shuffled = {"schema": {"type": "null"}, "shown": {"b": [True], "a": 1}, "prompt": "?", "id": "other"}
    assert shown_digest(awaiting) == shown_digest(shuffled)
    wait = WaitState("ok", bytes(32), 1, awaiting, None, shown=shown_digest(awaiting))
    waiting = replace(HEAD, status=Status.WAITING, until="all", waits=(wait,), cancelling=False, taken=None)
    (answered,) = verbs.answer(waiting, wait, Offer(None, "ann", None), NOW).head.waits
    assert answered.answer is not None
    assert answered.answer.shown == answered.shown == shown_digest(awaiting)


def test_a_head_comes_back_equal_with_its_types():
    """FPH-1"""
    data = HEADS.encode(HEAD).unwrap()
    assert data[0] == 1
    back = HEADS.decode(data).unwrap()
    assert back == HEAD
    assert {name: type(value) for name, value in back.metadata.items()} == {
        "run": str,
        "whole": int,
        "float": float,
        "flag": bool,
    }
    assert type(back.status) is Status
    assert back.created_at.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        0.0,
        "",
        [],
        {},
        2**63,
        2**64,
        -(2**63) - 1,
        2**4095,
        -(2**4095),
        [{"deep": [10**40, "text", 1.5]}],
    ],
    ids=repr,
)
def test_an_answer_comes_back_with_its_types(value):
    """FPH-1"""
    back = HEADS.decode(HEADS.encode(with_answer(value)).unwrap()).unwrap().waits[0].answer.value
    assert json.dumps(back) == json.dumps(value)


@pytest.mark.parametrize(
    "moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)]
)
def test_moments_of_all_years_come_back(moment):
    """FPH-1"""
    head = replace(HEAD, created_at=moment, retention=timedelta.max)
    assert HEADS.decode(HEADS.encode(head).unwrap()) == Success(head)


def test_a_moment_elsewhere_comes_back_as_the_same_instant_in_utc():
    """FPH-1"""
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    back = HEADS.decode(HEADS.encode(replace(HEAD, updated_at=elsewhere)).unwrap()).unwrap().updated_at
    assert (back, back.tzinfo) == (NOW, UTC)


def test_other_heads_go_both_ways():
    """FPH-1"""
    for head in (
        HEAD.receipts[0],
        MovedReceipt(HEAD.receipts[0], NOW),
        LargeAnswer(bytes(32)),
        TrainedDictionary(40_000, 1, 10, 20, 30),
    ):
        codec = HeadCodec(type(head))
        assert codec.decode(codec.encode(head).unwrap()) == Success(head)


def test_the_mark_of_a_body_stands_before_the_fields():
    """FPH-7"""
    bare = HEADS.encode(HEAD).unwrap()
    for kid in (b"", b"k1", b"k" * 64):
        mark = bytes(range(1, 33)) + bytes([len(kid)]) + kid
        data = HEADS.encode(HEAD, mark).unwrap()
        assert data == b"\x01" + mark + bare[34:]
        assert (mark_in(data), kid_in(mark), HEADS.decode(data)) == (mark, kid.decode(), Success(HEAD))
        assert with_mark(bare, mark) == data
        assert with_mark(data, NO_BODY) == bare
    assert mark_in(bare) == NO_BODY


def test_a_later_version_is_refused():
    """FPH-2"""
    later = b"\x02" + HEADS.encode(HEAD).unwrap()[1:]
    error = HEADS.decode(later).failure()
    assert isinstance(error, UnsupportedVersion)
    assert "version 2" in str(error)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "lost"},
        {"waits": None},
        {"sequence": "1"},
        {"sequence": 1.5},
        {"cancelling": 1},
        {"created_at": 5},
        {"id": {"value": b"short"}},
        {"metadata": {"secret word": [1]}},
        {"finished": [{"fence": 1}]},
    ],
    ids=str,
)
def test_a_field_of_another_type_is_refused(change):
    """FPH-3"""
    error = HEADS.decode(written(fields() | change)).failure()
    assert isinstance(error, MalformedPayload)
    assert "lost" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("missing", ["id", "waits", "status", "metadata"])
def test_a_field_that_is_missing_is_refused(missing):
    """FPH-3"""
    given = fields()
    del given[missing]
    assert isinstance(HEADS.decode(written(given)).failure(), MalformedPayload)


def test_what_is_no_head_is_refused():
    """FPH-3"""
    data = HEADS.encode(HEAD).unwrap()
    for bad in (
        *(
            b"",
            b"\0",
            b"\x80",
            data[1:],
            data[:1],
            data[:20],
            data[:33],
            data[:34],
            data[:-1],
            data + b"\0",
            b"\xff" + data,
        ),
        b"\x01" + NO_BODY + b"\x90",
    ):
        assert isinstance(HEADS.decode(bad).failure(), MalformedPayload)


@pytest.mark.parametrize(
    "value",
    [msgspec.msgpack.Ext(2, b"1"), msgspec.msgpack.Ext(1, b"1" * 1025), msgspec.Raw(b"\xd4\x01")],
    ids=["type", "length", "cut off"],
)
def test_another_extension_is_refused(value):
    """FPH-3"""
    data = HEADS.encode(with_answer("here")).unwrap().replace(b"\xa4here", msgspec.msgpack.encode(value))
    assert isinstance(HEADS.decode(data).failure(), MalformedPayload)


def test_a_large_head_is_refused_both_ways():
    """FPH-4"""
    assert isinstance(HEADS.encode(with_answer("x" * MAX_BYTES)).failure(), StateTooLarge)
    assert isinstance(HEADS.decode(written({}) + bytes(MAX_BYTES)).failure(), MalformedPayload)
    # One that is right but for its size.
    large = HEADS.encode(with_answer("here")).unwrap().replace(b"\xa4here", msgspec.msgpack.encode("x" * MAX_BYTES))
    assert isinstance(HEADS.decode(large).failure(), MalformedPayload)


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_no_json_data_is_refused():
    """FPH-5"""
    for value in ("\ud800", {"\udfff": 1}, [10**40, "\ud800"], object(), 1j):
        assert isinstance(HEADS.encode(with_answer(value)).failure(), SerializationError)
    assert isinstance(HEADS.encode(with_answer(nested(100_000))).failure(), StateTooDeep)
    assert isinstance(HEADS.encode(with_answer([10**40, nested(100_000)])).failure(), StateTooDeep)
    cycle: list[object] = []
    cycle.append(cycle)
    assert isinstance(HEADS.encode(with_answer(cycle)).failure(), StateTooDeep)


def test_whatever_bytes_come_in_a_head_or_an_error_comes_out():
    """FPH-6"""
    rng, data = random.Random(1), HEADS.encode(HEAD).unwrap()
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(1, len(data))] = rng.randrange(256)
        result = HEADS.decode(bytes(changed))
        assert isinstance(result, Success) or isinstance(result.failure(), MalformedPayload)


def test_lengths_that_are_declared_take_no_memory():
    """FPH-6"""
    before = HEADS.encode(with_answer("here")).unwrap()
    tracemalloc.start()
    try:
        for bomb in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000):
            assert isinstance(HEADS.decode(before.replace(b"\xa4here", bomb)), Failure)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retention", 7),
        ("retention", 1.5),
        ("attempt", True),
        ("attempt", 2**64),
        ("tenant", 5),
        ("metadata", {"a": None}),
        ("until", "some"),
        ("status", "sleeping"),
        ("fingerprint", "abc"),
        ("waits", (replace(ANSWERED, deadline="tomorrow"),)),
    ],
)
def test_what_could_not_be_read_is_not_written(field, value):
    """FPH-9"""
    error = HEADS.encode(replace(HEAD, **{field: value})).failure()
    assert isinstance(error, SerializationError)
    assert field in error.message
    assert "tomorrow" not in error.message


async def test_a_suspension_that_is_being_deleted_is_gone_before_anything_of_it_is():
    """FPH-10"""
    faulty = FaultyBackend(MemoryBackend())
    async with open_test_hub(faulty) as hub:
        new = or_raise(await hub.suspend("state"))
        or_raise(await hub.complete(or_raise(await hub.claim(new.id)), "done"))
        travel(hub, timedelta(days=8))
        faulty.fail("purge", StorageError("the store is read-only", "memory", False))
        assert isinstance((await Maintenance(hub).cleanup()).failure(), StorageError)
        stands = or_raise(await hub.suspensions.records.read(str(new.id))).record
        assert stands.head == replace(stands.head, status=Status.COMPLETED, removing=True)
        for verb in (hub.inspect, hub.outcome, hub.cancel):
            assert isinstance((await verb(new.id)).failure(), SuspensionNotFound)
        assert or_raise(await hub.query()).items == ()
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1


async def test_a_page_of_waits_that_is_missing_or_exchanged_is_refused():
    """FPH-11"""
    async with open_test_hub(keyring=None) as hub:
        new = or_raise(await hub.suspend("state", awaiting=MANY))
        head = or_raise(await hub.suspensions.records.read(str(new.id))).record.head
        pages = hub.suspensions.records.pages
        one, two = [or_raise(await pages.read(page_key(new.id, page.name))).record for page in head.paged.pages[:2]]
        draft = Draft(two.head, one.attributes, one.due_at)
        or_raise(await pages.put(one.ref.key, draft, revision=one.revision, mark=one.mark))
        assert isinstance((await hub.inspect(new.id)).failure(), TamperedEnvelope)
        or_raise(await pages.delete(one.ref.key, revision=None))
        assert isinstance((await hub.inspect(new.id)).failure(), IntegrityError)


async def test_pages_of_waits_stay_as_long_as_a_head_names_them():
    """FPH-12"""
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("state", awaiting=MANY))
        for _ in range(3):
            travel(hub, timedelta(hours=2))
            or_raise(await Maintenance(hub).cleanup())
        for key in new.keys.values():
            or_raise(await hub.answer(key, True))
        assert len(or_raise(await hub.claim(new.id)).answers) == 200
