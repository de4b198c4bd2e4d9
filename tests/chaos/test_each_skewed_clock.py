"""Workers whose machines' clocks are an hour apart (libfaketime) decide the same, because the server's clock decides.

SQLite and files have no server: there, the clock of the machine is the store's. With FLOWPERSIST_LONG=1 on each server.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta

import pytest

from clients import all_at_once, client
from flowpersist import AwaitInput, KeyRing, Status, or_raise
from flowpersist.errors import SuspensionExpired
from flowpersist.testing.hubs import open_test_hub, travel
from machine import SERVERS, program

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
WORD = AwaitInput(id="word", prompt="Which?", schema=str)
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
HALF = timedelta(minutes=30)
SKEWS = ("-1h", "+1h")


@pytest.fixture(params=SERVERS if LONG else ["postgres"])
def backend(request):
    return request.param


def skewed(by):
    """What begins a program whose clock is wrong. Waiting stays as it is."""
    # By its library: the command starts two processes, and a test that kills one would leave the other.
    asked = [program("faketime", "faketime"), "-f", "+0", "printenv", "LD_PRELOAD"]
    library = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return ("env", f"LD_PRELOAD={library}", f"FAKETIME={by}", "FAKETIME_DONT_FAKE_MONOTONIC=1")


@pytest.mark.parametrize("by", SKEWS)
async def test_deadlines_and_leases_are_the_servers(url, by):
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring) as hub:
        asked = or_raise(await hub.suspend(1, awaiting=WORD, timeout=HALF))
        over = or_raise(await hub.suspend(2, awaiting=WORD, timeout=timedelta(milliseconds=1)))
        held = or_raise(await hub.suspend(3, awaiting=CONFIRM))
        keys = [["answer", str(one.key)] for one in (asked, over)]
        async with client(url, ring, "hold", start=skewed(by), key=str(held.key)) as holder:
            holder.stdin.write(b"go\n")
            json.loads(await holder.stdout.readline())
            (told,) = await all_at_once(url, ring, "race", [{"keys": keys, "tasks": 1, "me": "it"}], start=skewed(by))
            assert [name for _, _, name in told] == ["won", "SuspensionExpired"]
            (taken,) = await all_at_once(url, ring, "drain", [{"limit": 5}], start=skewed(by))
            assert taken == [str(asked.id)]
        seen = or_raise(await hub.inspect(asked.key))
        assert abs(seen.updated_at - seen.created_at) < timedelta(minutes=5)
        assert or_raise(await hub.inspect(held.key)).status is Status.RUNNING
        assert isinstance((await hub.answer(over.key, "late")).failure(), SuspensionExpired)
        # Ten minutes of the server's end what was held, whatever the holder's clock says.
        travel(hub, timedelta(minutes=10, seconds=1))
        assert [run.suspension.id for run in or_raise(await hub.claim_due())] == [held.id]


async def test_the_clock_is_wrong(tmp_path):
    """On SQLite, whose clock is the machine's: a deadline in half an hour is over an hour ahead."""
    ring, url = KeyRing.generate(), f"sqlite:///{tmp_path}/flows.db"
    async with open_test_hub(url, keyring=ring) as hub:
        asked = or_raise(await hub.suspend(1, awaiting=WORD, timeout=HALF))
        given = [{"keys": [["answer", str(asked.key)]], "tasks": 1, "me": "it"}]
        (told,) = await all_at_once(url, ring, "race", given, start=skewed("+1h"))
        assert [name for _, _, name in told] == ["SuspensionExpired"]
