"""The parts of the MongoDB backend that need no server."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta

import bson
import pytest
from bson.codec_options import CodecOptions
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)
from pymongo.errors import (
    ConfigurationError as DriverConfigurationError,
)

from flowpersist.backends._matching import selection
from flowpersist.backends._mongodb.clock import ServerClock
from flowpersist.backends._mongodb.documents import identity, key_of, moment_text, ordered
from flowpersist.backends._mongodb.errors import mapped
from flowpersist.backends._mongodb.revisions import CHANGE_BITS, LARGEST_BLOCK, Lives, next_revision
from flowpersist.backends._mongodb.schema import MIGRATIONS
from flowpersist.backends._mongodb.selecting import search
from flowpersist.backends._mongodb.sending import REGISTRY, Sending, TooLate
from flowpersist.backends.base import ORDERS, RecordRef, Where
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    PoolTimeout,
    StorageError,
    StorageFull,
    UnknownOutcome,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXTS = [
    "a",
    "aa",
    "A",
    "\x01",
    "\x7f",
    "é",
    "\ud7ff",
    "\ue000",
    "\ue000a",
    "\ue001",
    "\uffff",
    "😀",
    "😀a",
    "\U0010ffff",
    "a😀",
]


def utf16(text):
    return text.encode("utf-16-be")


@pytest.mark.parametrize("by", [str.encode, utf16], ids=["utf-8", "utf-16"])
def test_keys_are_ordered_by_bytes_whatever_the_server_compares(by):
    for one, other in itertools.permutations(TEXTS, 2):
        assert (by(ordered(one)) < by(ordered(other))) == (one.encode() < other.encode()), (one, other)


@pytest.mark.parametrize("key", TEXTS)
def test_a_key_comes_back_from_its_identity(key):
    assert key_of(identity(RecordRef("n\ue000", key))) == key


def test_moments_are_ordered_by_time():
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(999, 1, 1, tzinfo=UTC), NOON, NOON + timedelta(microseconds=1)]
    texts = [moment_text(moment) for moment in moments]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {28}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("descending", [True, False])
def test_every_query_has_an_index(order, descending):
    """Equalities first, then the field that is the order: then a page is one range of it."""
    indexes = {index["name"]: list(index["key"]) for command in MIGRATIONS[0] for index in command["indexes"]}
    indexes["_id_"] = ["_id"]
    for equals in ({}, {"tool": "x"}):
        asked = search(selection("n", Where(equals), order, 5, None, descending))
        ((field, direction),) = asked.sort
        key = indexes[asked.hint]
        assert key[-1] == field
        assert direction == (-1 if descending else 1)
        assert set(key[:-1]) <= asked.filter.keys()
        if order in {"key", "due"} and equals:
            assert "a" in key


def test_the_first_migration_is_never_changed():
    assert json.dumps(MIGRATIONS[0], sort_keys=True) == (
        '[{"createIndexes": "records", "indexes": [{"key": {"c": 1, "n": 1}, "name": "by_created"}, '
        '{"key": {"n": 1, "u": 1}, "name": "by_updated"}, {"key": {"d": 1, "n": 1}, "name": "by_due"}, '
        '{"key": {"_id": 1, "a": 1, "n": 1}, "name": "by_attribute"}, '
        '{"key": {"a": 1, "d": 1, "n": 1}, "name": "by_attribute_due"}]}, '
        '{"createIndexes": "bodies", "indexes": [{"key": {"_id": 1, "r": 1}, "name": "by_holder"}]}]'
    )


def bulk(**errors):
    return BulkWriteError({"writeErrors": [], "writeConcernErrors": [], **errors})


def test_a_life_ends_before_it_runs_into_the_next():
    last = (2 << CHANGE_BITS) - 1
    assert next_revision(RecordRef("n", "k"), last - 1) == last
    with pytest.raises(StorageError, match="create it again"):
        next_revision(RecordRef("n", "k"), last)


class Counter:
    """The store's counter of lives, and how often it was raised. The next ``failures`` are refused."""

    def __init__(self):
        self.meta, self.reached, self.draws, self.failures = self, 0, 0, []

    async def find_one_and_update(self, found, change, **_):
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()
        assert found == {"_id": "lives"}
        self.draws += 1
        self.reached += change["$inc"]["n"]
        return {"n": self.reached}


async def test_processes_share_no_life_of_a_reference_and_their_own_ones_rise():
    counter = Counter()
    processes = [Lives(counter) for _ in range(3)]
    had = [[await lives.first_revision("n\0k") for lives in processes] for _ in range(300)]
    assert len({revision for revisions in had for revision in revisions}) == 900
    for own in zip(*had, strict=True):
        assert list(own) == sorted(own)
    assert all(revision % (1 << CHANGE_BITS) == 0 for revisions in had for revision in revisions)
    # Three times a block of 1, one of 8, and then of the most.
    assert counter.draws == 3 * (2 + -(-(300 - 9) // LARGEST_BLOCK))


async def test_a_block_is_for_all_references_and_each_takes_a_number_once():
    counter = Counter()
    lives = Lives(counter)
    await lives.first_revision("n\0first")
    had = {key: set() for key in map(str, range(1000))}
    for _ in range(LARGEST_BLOCK):
        for key, revisions in had.items():
            revisions.add(await lives.first_revision(f"n\0{key}"))
    assert {len(revisions) for revisions in had.values()} == {LARGEST_BLOCK}
    # Some references share a shard, and take numbers from each other: few of them, and no more blocks than that.
    assert counter.draws < 12


async def test_tasks_that_need_a_block_at_once_draw_one():
    counter = Counter()
    lives = Lives(counter)
    had = await asyncio.gather(*(lives.first_revision("n\0k") for _ in range(9)))
    assert (len(set(had)), counter.draws) == (9, 2)


async def test_a_block_that_could_not_be_drawn_is_drawn_by_the_next_call():
    counter = Counter()
    # Two processes that make the counter at the same time are told so; another error is the caller's.
    counter.failures = [DuplicateKeyError("x")]
    lives = Lives(counter)
    assert await lives.first_revision("n\0k") == 1 << CHANGE_BITS
    counter.failures = [NotPrimaryError("x", {"code": 10107})]
    with pytest.raises(BackendUnavailable):
        await lives.first_revision("n\0k")
    assert await lives.first_revision("n\0k") == 2 << CHANGE_BITS


@pytest.mark.parametrize(
    ("error", "reading", "writing", "retryable"),
    [
        (ServerSelectionTimeoutError("x"), BackendUnavailable, BackendUnavailable, True),
        (AutoReconnect("x"), BackendUnavailable, UnknownOutcome, True),
        (NetworkTimeout("x"), BackendUnavailable, UnknownOutcome, True),
        (NotPrimaryError("x", {"code": 10107}), BackendUnavailable, BackendUnavailable, True),
        (NotPrimaryError("x", {"code": 11602}), BackendUnavailable, UnknownOutcome, True),
        (WTimeoutError("x", 64), BackendUnavailable, UnknownOutcome, True),
        (WriteConcernError("x", 100), BackendUnavailable, UnknownOutcome, True),
        (ExecutionTimeout("x", 50), BackendUnavailable, UnknownOutcome, True),
        (OperationFailure("x", 18), BackendUnavailable, BackendUnavailable, False),
        (OperationFailure("x", 13), BackendUnavailable, BackendUnavailable, False),
        (OperationFailure("x", 14031), StorageFull, StorageFull, False),
        (OperationFailure("over your space quota", 8000), StorageFull, StorageFull, False),
        (OperationFailure("x", 2), StorageError, StorageError, False),
        (bulk(writeConcernErrors=[{"code": 64}]), BackendUnavailable, UnknownOutcome, True),
        (bulk(writeConcernErrors=[{"code": 91}]), BackendUnavailable, UnknownOutcome, True),
        (bulk(writeErrors=[{"code": 14031}]), StorageFull, StorageFull, False),
        (bulk(writeErrors=[{"code": 14031}], writeConcernErrors=[{"code": 64}]), StorageFull, StorageFull, False),
        (bulk(writeErrors=[{"code": 13}]), BackendUnavailable, BackendUnavailable, False),
    ],
)
def test_the_driver_s_errors(error, reading, writing, retryable):
    for kind, write in ((reading, False), (writing, True)):
        with pytest.raises(kind) as raised, mapped(writing=write):
            raise error
        assert type(raised.value) is kind
        assert raised.value.retryable is retryable
        assert raised.value.__cause__ is error


def test_options_that_the_driver_refuses():
    with pytest.raises(ConfigurationError), mapped():
        raise DriverConfigurationError("x")


class Times:
    """A server's clock and this machine's, in seconds; a round trip takes as long as is said."""

    def __init__(self):
        self.local = 100.0
        self.server = NOON
        self.trip = 0.0
        self.asked = 0

    def monotonic(self):
        return self.local

    def go(self, seconds):
        self.local += seconds
        self.server += timedelta(seconds=seconds)

    async def ask(self):
        self.asked += 1
        self.go(self.trip / 2)
        told = self.server.replace(microsecond=self.server.microsecond // 1000 * 1000)
        self.go(self.trip / 2)
        return told


@pytest.fixture
def times():
    return Times()


@pytest.fixture
def clock(times):
    return ServerClock(times.ask, asyncio.ensure_future, times.monotonic)


async def test_the_clock_is_never_behind_the_server_s_and_never_goes_back(times, clock):
    last = NOON
    for number in range(400):
        times.trip = (number * 7 % 11) / 1000
        times.go(number % 13 / 10)
        now = await clock.now()
        assert last <= now
        assert timedelta(0) <= now - times.server <= timedelta(milliseconds=20)
        last = now
        await asyncio.sleep(0)
    assert times.asked < 300


async def test_a_clock_that_is_set_is_followed(times, clock):
    await clock.now()
    for step in (timedelta(hours=1), -timedelta(hours=2)):
        times.server += step
        times.go(6)
        assert abs(await clock.now() - times.server) < timedelta(milliseconds=20)


async def test_who_comes_together_asks_once(times, clock):
    await asyncio.gather(*(clock.now() for _ in range(20)))
    assert times.asked == 1


def encoded(sending):
    """As the driver encodes a command that goes out."""
    return bson.decode(bson.encode({"t": sending}, codec_options=CodecOptions(type_registry=REGISTRY)))["t"]


def test_a_token_goes_out_until_its_deadline_and_is_counted():
    sending = Sending()
    assert encoded(sending) == encoded(sending) == sending.token
    sending.expect(NOON, NOON + timedelta(seconds=5))
    assert encoded(sending) == sending.token
    assert sending.times == 3
    for late in (timedelta(0), timedelta(seconds=1)):
        sending.expect(NOON, NOON - late)
        with pytest.raises(TooLate):
            encoded(sending)
    assert sending.times == 3
    sending.expect(NOON, None)
    assert encoded(sending) == sending.token


@pytest.mark.parametrize(
    ("error", "sent", "mapped_to"),
    [
        (WaitQueueTimeoutError("-"), 0, PoolTimeout),
        (WaitQueueTimeoutError("-"), 1, UnknownOutcome),
        (ServerSelectionTimeoutError("-"), 0, BackendUnavailable),
        (ServerSelectionTimeoutError("-"), 1, UnknownOutcome),
        (NotPrimaryError("-", {"code": 10107}), 1, BackendUnavailable),
        (NotPrimaryError("-", {"code": 10107}), 2, UnknownOutcome),
    ],
)
def test_an_error_of_the_second_sending_does_not_speak_for_the_first(error, sent, mapped_to):
    with pytest.raises(mapped_to), mapped(writing=True, sent=lambda: sent):
        raise error
