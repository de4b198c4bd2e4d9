"""Processes that delete suspensions and are killed: each entry that was there is there afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from flowpersist import KeyRing, Maintenance, SuspensionId, or_raise
from flowpersist.hub import Audit, check_export
from flowpersist.keys import NoteSigner
from flowpersist.testing.hubs import open_test_hub
from machine import BACKENDS
from programs import started_programs

PROGRAM = Path(__file__).with_name("purge_program.py")
RING = KeyRing.generate()
SIGNER = NoteSigner.generate("example.com/killed")
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
#: How often the process is killed, each time a little later in its work; it takes a second to start.
ROUNDS = 60 if LONG else 3


@pytest.mark.parametrize("backend", BACKENDS if LONG else ("sqlite",))
async def test_no_entry_of_a_suspension_is_lost_by_a_kill(url):
    told = {}
    with started_programs(PROGRAM, url, RING.export()) as start:
        for number in range(ROUNDS):
            process = start()
            line = await asyncio.to_thread(process.stdout.readline)
            # Somewhere in what follows the line; where does not matter to what must hold.
            await asyncio.sleep(0.004 * number)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            for one in [line, *process.stdout]:
                if one.endswith("\n"):
                    id_, count, mac = one.split()
                    told[or_raise(SuspensionId.parse(id_))] = (int(count), mac)
            async with open_test_hub(url, keyring=RING) as hub:
                for id_, (count, mac) in told.items():
                    entries = or_raise(await hub.history(id_))
                    assert entries[count - 1].mac == mac
                or_raise(await Maintenance(hub).cleanup())
                lines = [or_raise(line) async for line in Audit(hub, SIGNER).export()]
                assert check_export(lines, SIGNER.verifier).problems == ()
                assert or_raise(await Maintenance(hub).verify()).clean
    assert len(told) >= ROUNDS
