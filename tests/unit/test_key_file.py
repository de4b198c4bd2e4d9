"""A keyring in a file: changed in one step, and read again once it has changed and stands still."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import pytest

from flowpersist import ConfigurationError, KeyRing, or_raise
from flowpersist.hub import Runtime
from flowpersist.keys import KeyFile, KeyProvider, KeyUpdates
from flowpersist.testing.hubs import open_test_hub


class Looks:
    """Lets the file be looked at once for each call of ``next``, and gives what was told by then."""

    def __init__(self, path):
        self._turn, self._done = asyncio.Event(), asyncio.Event()
        self.file = KeyFile(path, interval=timedelta(seconds=1), sleep=self._sleep)
        self.told = []

    async def _sleep(self, seconds):
        assert seconds == 1
        self._done.set()
        await self._turn.wait()
        self._turn.clear()

    async def follow(self):
        async with aclosing(self.file.updates()) as updates:
            async for ring in updates:
                self.told.append(ring.kids)

    async def next(self, times=1):
        for _ in range(times):
            await self._done.wait()
            self._done.clear()
            self._turn.set()
            await self._done.wait()
        return self.told


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "keys"
    found.write_text(KeyRing.generate("a").export() + "\n")
    found.chmod(0o600)
    return found


@asynccontextmanager
async def looking(path):
    made = Looks(path)
    await made.file.keyring()
    task = asyncio.create_task(made.follow())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_change_is_told_once_it_stands_still(path):
    async with looking(path) as looks:
        assert await looks.next(2) == []
        KeyFile(path).add("b")
        assert await looks.next() == []
        assert await looks.next() == [("a", "b")]
        assert await looks.next(3) == [("a", "b")]
        KeyFile(path).promote("b")
        KeyFile(path).retire("a")
        assert (await looks.next(2))[1:] == [("b",)]


async def test_what_is_written_over_in_place_is_not_read_half(path):
    async with looking(path) as looks:
        text = path.read_text()
        whole = text + KeyRing.generate("b").export()
        path.write_text(text + whole[len(text) : len(text) + 9])
        assert await looks.next() == []
        path.write_text(whole)
        assert await looks.next() == []
        assert await looks.next() == [("a", "b")]


@pytest.mark.parametrize(("bad", "mode"), [("nothing", 0o600), ("", 0o600), (None, 0o622), (None, 0o606)])
async def test_a_file_that_is_no_good_leaves_the_keyring_as_it_is(path, caplog, bad, mode):
    async with looking(path) as looks:
        good = path.read_text() + KeyRing.generate("b").export()
        path.write_text(good if bad is None else bad)
        path.chmod(mode)
        with caplog.at_level(logging.WARNING):
            assert await looks.next(4) == []
        assert caplog.text.count("the keyring stays as it was") == 1
        path.write_text(good)
        path.chmod(0o600)
        assert await looks.next(2) == [("a", "b")]


async def test_a_file_that_is_gone_for_a_while_changes_nothing(path):
    async with looking(path) as looks:
        text = path.read_text()
        path.unlink()
        assert await looks.next(3) == []
        path.write_text(text)
        path.chmod(0o600)
        assert await looks.next(3) == []
        KeyFile(path).add("b")
        assert await looks.next(2) == [("a", "b")]


def test_a_change_replaces_the_file_in_one_step(path, tmp_path):
    before = path.stat()
    (tmp_path / ".keys.new").write_text("left by a crash")
    ring = KeyFile(path).add("b")
    assert KeyRing.from_file(path) == ring
    assert (ring.kids, stat.S_IMODE(path.stat().st_mode), path.stat().st_ino != before.st_ino) == (
        ("a", "b"),
        0o600,
        True,
    )
    assert KeyFile(path).promote("b").kids == ("b", "a")
    assert KeyFile(path).retire("a").kids == ("b",)
    assert [one.name for one in tmp_path.iterdir()] == ["keys"]
    assert KeyFile(path).add(entropy=bytes).kids[1] == "k00000000"


@pytest.mark.parametrize(
    "change",
    [("add", "a"), ("add", "a b"), ("promote", "x"), ("retire", "x"), ("retire", "a")],
)
def test_a_change_that_makes_no_sense_leaves_the_file(path, change):
    before = path.read_bytes(), path.stat().st_ino
    with pytest.raises(ConfigurationError):
        getattr(KeyFile(path), change[0])(change[1])
    assert (path.read_bytes(), path.stat().st_ino) == before


def test_a_change_that_fails_leaves_the_file(path, tmp_path, monkeypatch):
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="it is as it was"):
        KeyFile(path).add("b")
    assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (before, ["keys"])


def test_only_a_regular_file_is_changed(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match="regular file"):
            KeyFile(place).add("b")


def test_no_key_is_shown(path):
    file = KeyFile(path)
    assert isinstance(file, KeyProvider)
    assert isinstance(file, KeyUpdates)
    secret = path.read_text().partition(":")[2].strip()
    assert secret not in repr(file)
    assert secret not in str(vars(file))


async def test_a_hub_follows_its_file(path):
    looks = Looks(path)
    async with open_test_hub(keyring=looks.file) as hub:
        assert hub.suspensions.records.sealer.keyring.kids == ("a",)
        new = or_raise(await hub.suspend("sealed by a"))
        KeyFile(path).add("b")
        KeyFile(path).promote("b")
        await looks.next(3)
        assert hub.suspensions.records.sealer.keyring.kids == ("b", "a")
        assert or_raise(await hub.resume(new.key)).state == "sealed by a"
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_provider_that_raises_is_asked_again(caplog):
    rings = [KeyRing.generate("a"), KeyRing.generate("b")]

    class Broken:
        asked = 0

        async def keyring(self):
            return rings[0]

        async def updates(self):
            self.asked += 1
            if self.asked == 1:
                raise OSError("secret words")
            yield rings[1]
            await asyncio.Event().wait()

    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    with caplog.at_level(logging.WARNING):
        async with open_test_hub(keyring=Broken(), runtime=Runtime(sleep=sleep)) as hub:
            for _ in range(20):
                await asyncio.sleep(0)
            assert hub.suspensions.records.sealer.keyring == rings[1]
    assert slept == [5.0]
    assert "OSError" in caplog.text
    assert "secret words" not in caplog.text
