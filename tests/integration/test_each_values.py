"""The general store keeps its promises on every backend, and refuses what makes no sense."""

from __future__ import annotations

from datetime import timedelta

import pytest

from canaries import forms
from flowpersist import ConfigurationError, KeyRing, RaisingHub
from flowpersist.errors import BackendUnavailable, PersistenceError, UnknownKey
from flowpersist.stores import Stores, open_stores
from flowpersist.testing import open_test_hub
from flowpersist.testing.conformance import ValueConformance
from flowpersist.testing.faults import FaultyBackend
from flowpersist.testing.suite.stored_changes import StoredChanges
from machine import WITH_MEMORY

RING = KeyRing.generate()


@pytest.fixture(params=WITH_MEMORY)
def backend(request):
    return request.param


@pytest.fixture
async def stores(url):
    async with open_test_hub(url, keyring=RING) as hub:
        yield Stores(hub)


async def test_what_lasts_ends_a_watch():
    async with open_test_hub(keyring=RING) as hub:
        values = Stores(hub).values("v", int)
        await values.save("a", 1)
        hub.use_keyring(KeyRing.generate())
        with pytest.raises(UnknownKey):
            await anext(values.watch())
        faulty = FaultyBackend(hub.backend)
        faulty.fail("query", BackendUnavailable("for good", "memory"))
    async with open_test_hub(faulty, keyring=RING) as hub:
        with pytest.raises(BackendUnavailable):
            await anext(Stores(hub).values("v", int).watch())


class TestValues(ValueConformance):
    @pytest.fixture
    def url(self, url):
        return url


class TestNotified(StoredChanges):
    """Where it is not the default that the backend tells of changes."""

    @pytest.fixture
    def backend(self):
        return "postgres"

    @pytest.fixture
    def url(self, url):
        return f"{url}&notify=on"


PERSON = "canary-person-4Rt9Xq2Lm8Vb"


async def test_no_key_stands_in_clear_unless_it_is_asked_for(backend, url, stored, caplog):
    if backend == "memory":
        pytest.skip("nobody else reads it")
    async with open_test_hub(url, keyring=RING) as hub:
        values = Stores(hub).values("v", str)
        for key in (PERSON, (PERSON, "x"), PERSON * 2000):
            await values.save(key, f"value of {PERSON}")
            await values.update(key, lambda value: value)
            with pytest.raises(PersistenceError) as refused:
                await values.save(key, "again", if_revision=0)
            assert PERSON not in str(refused.value)
        hub.use_keyring(KeyRing.generate())
        with pytest.raises(PersistenceError) as refused:
            await values.load(PERSON)
        assert PERSON not in str(refused.value)
        hub.use_keyring(RING)
        found = await stored()
        assert [name for name, form in forms(PERSON).items() if form in found] == []
        await Stores(hub).values("listed", str, listed=True).save(PERSON, "x")
    assert PERSON.encode() in await stored()
    assert PERSON not in caplog.text


REFUSED = {
    "a key that is no text": (lambda values: values.save(5, 1), TypeError),
    "a key of no parts": (lambda values: values.save((), 1), ConfigurationError),
    "a part that is no text": (lambda values: values.load(("a", 1.5)), TypeError),
    "a part that is a bool": (lambda values: values.load(("a", True)), TypeError),
    "a huge integer": (lambda values: values.load((2**256,)), ConfigurationError),
    "a value of another class": (lambda values: values.save("a", "1"), TypeError),
    "a change to another class": (lambda values: values.update("a", str, default=1), TypeError),
    "a change that is none": (lambda values: values.update("a", 1, default=1), TypeError),
    "a revision below zero": (lambda values: values.save("a", 1, if_revision=-1), ConfigurationError),
    "a revision that is a text": (lambda values: values.save("a", 1, if_revision="1"), TypeError),
    "no time to live": (lambda values: values.save("a", 1, ttl=timedelta(0)), ConfigurationError),
    "a time to live in seconds": (lambda values: values.save("a", 1, ttl=5), TypeError),
    "a negative age": (lambda values: values.cleanup(older_than=timedelta(-1)), ConfigurationError),
    "attributes with NUL": (lambda values: values.save("a", 1, attributes={"x": "\0"}), ConfigurationError),
    "attributes of lists": (lambda values: values.save("a", 1, attributes={"x": []}), ConfigurationError),
    "too many attributes": (lambda v: v.save("a", 1, attributes={str(n): n for n in range(65)}), ConfigurationError),
    "a prefix of text among digests": (lambda values: values.keys("a"), ConfigurationError),
    "an order that is none": (lambda values: values.keys(order="size"), ConfigurationError),
    "a limit of nothing": (lambda values: values.items(limit=0), ConfigurationError),
    "another word for the unreadable": (lambda values: values.items(unreadable="ignore"), ConfigurationError),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_makes_no_sense_is_refused_before_anything_is_done(case):
    call, error = REFUSED[case]
    async with open_test_hub() as hub:
        values = Stores(hub).values("v", int)
        await values.save("first", 1)
        with pytest.raises(error):
            await call(values)
        assert (await values.keys()).items == ("first",)


def test_stores_stand_on_a_hub():
    for hub in (None, object()):
        with pytest.raises(TypeError):
            Stores(hub)


async def test_the_same_data_by_either_door(url, stores):
    await stores.values("v", int).save("a", 1)
    backend = stores.hub.backend if "memory" in url else url
    async with open_stores(backend, keyring=RING) as others:
        assert (await others.values("v", int).load("a")).value == 1
        assert (await Stores(RaisingHub(others.hub)).values("v", int).load("a")).value == 1
