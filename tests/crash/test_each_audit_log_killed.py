"""Processes that append to one log and are killed: no leaf is lost or there twice, and the log only grows."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from flowpersist import KeyRing, Maintenance, or_raise
from flowpersist.hub import Audit, audit_log, check_export, opened_checkpoint
from flowpersist.keys import NoteSigner
from flowpersist.lifecycle import log_records
from flowpersist.testing.hubs import open_test_hub
from machine import BACKENDS
from programs import started_programs

PROGRAM = Path(__file__).with_name("log_program.py")
RING = KeyRing.generate()
SIGNER = NoteSigner.generate("example.com/killed")
LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
#: How often all are killed; each process takes a second to start.
ROUNDS = 20 if LONG else 1


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of four, so that a few leaves make several levels."""
    monkeypatch.setattr(log_records, "TILE", 4)
    monkeypatch.setattr(log_records, "TILE_HEIGHT", 2)
    monkeypatch.setattr(audit_log, "TILE", 4)


@pytest.mark.parametrize("backend", BACKENDS if LONG else ("sqlite", "postgres"))
async def test_a_log_that_killed_processes_have_written_is_whole(url):
    kept = []
    with started_programs(PROGRAM, url, RING.export()) as start:
        async with open_test_hub(url, keyring=RING) as hub:
            for _ in range(ROUNDS):
                processes = [start() for _ in range(2)]
                for process in processes:
                    assert await asyncio.to_thread(process.stdout.readline) == "appended\n"
                for process in processes:
                    await asyncio.sleep(0.1)
                    process.send_signal(signal.SIGKILL)
                    assert process.wait() == -signal.SIGKILL
                or_raise(await Maintenance(hub).append_log())
                # Twice, since a write of a killed process may become visible late.
                or_raise(await Maintenance(hub).append_log())
                lines = [or_raise(line) async for line in Audit(hub, SIGNER).export()]
                report = check_export(lines, SIGNER.verifier, kept)
                assert report.problems == ()
                assert report.leaves == report.trails == report.entries > 0
                note = or_raise(await Audit(hub, SIGNER).checkpoint())
                kept.append(or_raise(opened_checkpoint(note, SIGNER.verifier)))
