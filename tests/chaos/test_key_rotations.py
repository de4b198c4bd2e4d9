"""Keys rotated over several processes under load, each following one keys file: no call fails."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta

from flowpersist import KeyRing, Maintenance, or_raise
from flowpersist.hub import open_hub
from flowpersist.keys import KeyFile
from flowpersist.stores import Stores

LONG = os.environ.get("FLOWPERSIST_LONG") == "1"
ROTATIONS, PROCESSES = (50, 6) if LONG else (5, 3)
LOOK = timedelta(milliseconds=25)

WORKER = """
import asyncio, json, sys
from datetime import timedelta
from flowpersist import AwaitInput, RaisingHub
from flowpersist.keys import KeyFile
from flowpersist.stores import Stores

ASK = AwaitInput(id="ok", prompt="OK?", schema=bool)


async def work(url, keys, stop):
    done, seen = 0, set()
    async with RaisingHub.open(url, keyring=KeyFile(keys, interval=timedelta(milliseconds=25))) as hub:
        values = Stores(hub.hub).values("n")
        new = await hub.suspend(0, awaiting=ASK)
        print("ready", flush=True)
        while not stop.exists():
            seen.add(hub.hub.suspensions.records.sealer.keyring.primary)
            run = await hub.claim(new.key, True)
            assert run.state == done, (run.state, done)
            await hub.renew(run)
            done += 1
            new = await hub.suspend_next(run, done, awaiting=ASK)
            await values.update("shared", lambda value: value + 1, default=0)
        entries = len(await hub.history(new.key))
    print(json.dumps({"done": done, "seen": sorted(seen), "entries": entries}))


from pathlib import Path
asyncio.run(work(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
"""


async def rotated(url, path, kid):
    """The steps of docs/how-to/rotate-keys.md, each once all processes have the one before."""
    file = KeyFile(path)
    (old,) = KeyRing.from_file(path).kids
    for step in (file.add, file.promote):
        step(kid)
        # Two looks of each process, and what was under way.
        await asyncio.sleep(LOOK.total_seconds() * 8)
    async with open_hub(url, keyring=KeyRing.from_file(path)) as hub:
        work = Maintenance(hub)
        assert or_raise(await work.rekey()).problems == {}
        or_raise(await work.retire(old, wait=timedelta(milliseconds=50)))
    file.retire(old)


async def test_rotations_under_load_fail_no_call(tmp_path):
    url, path, stop = f"sqlite:///{tmp_path}/flows.db", tmp_path / "keys", tmp_path / "stop"
    path.write_text(KeyRing.generate("k0").export())
    path.chmod(0o600)
    async with open_hub(url, keyring=KeyRing.from_file(path)):
        pass
    line = [sys.executable, "-c", WORKER, url, str(path), str(stop)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(line, **pipes) for _ in range(PROCESSES)]
    try:
        for worker in workers:
            assert await asyncio.to_thread(worker.stdout.readline) == "ready\n"
        for number in range(1, ROTATIONS + 1):
            await rotated(url, path, f"k{number}")
    finally:
        stop.touch()
        said = [worker.communicate(timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * PROCESSES, [error for _, error in said]
    told = [json.loads(out) for out, _ in said]
    last = f"k{ROTATIONS}"
    for one in told:
        assert one["entries"] == 1 + 2 * one["done"]
        assert one["done"] > ROTATIONS
        assert last in one["seen"]
        assert len(one["seen"]) > ROTATIONS / 2
    async with open_hub(url, keyring=KeyRing.from_file(path)) as hub:
        use = or_raise(await Maintenance(hub).key_use())
        assert (set(use.records), use.plain, use.unknown) == ({last}, 0, 0)
        assert (await Stores(hub).values("n").load("shared")).value == sum(one["done"] for one in told)
