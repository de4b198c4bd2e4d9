"""The agents of examples/orchestrator as processes, to the sign-off: one is killed, and its work is taken over."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from flowpersist import KeyRing, RaisingHub
from flowpersist.stores import Stores

ROOT = Path(__file__).parents[2]
RING = KeyRing.generate()
#: Seconds after which a test gives up, on a machine that is busy with others.
MOST = 280
FILES = {"tokens.py", "evaluate.py", "report.py"}
CLAIM = re.compile(r"(\S+) +(begins|finishes) file=(\S+) round=(\d) fence=(\d+)")


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request):
    return request.param


@pytest.fixture
def environ(url):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPERSIST_")}
    path = os.pathsep.join((str(Path(sys.executable).parent), bare["PATH"]))
    settings = {"FLOWPERSIST_URL": url, "FLOWPERSIST_KEYS": RING.export(), "ORCHESTRATOR_LEASE": "8"}
    return {**bare, **settings, "PATH": path}


@asynccontextmanager
async def project(url):
    async with RaisingHub.open(url, keyring=RING) as hub:
        yield Stores(hub).project("calculator")


async def signed_off(url):
    """What the stores hold at the end."""
    async with project(url) as stores:
        signals = await stores.signals.all()
        assert set(signals) == {"SIGNED_OFF"}
        assert signals["SIGNED_OFF"].critical
        assert signals["SIGNED_OFF"].value == 2
        assert set(await stores.features.load()) == {name.removesuffix(".py") for name in FILES}
        assert {one.name for one in await stores.artifacts.list()} == FILES
        for name in FILES:
            assert await stores.locks.holders(name) == ()
            (file,) = [one.value for one in (await stores.values("repository", dict).items((name,))).items]
            assert b"".join([part async for part in stores.artifacts.open(name)]).decode() == file["text"]
            assert file["text"].endswith("\n")


@pytest.mark.slow
async def test_the_project_is_signed_off_though_a_coder_is_killed(url, environ):
    command = (sys.executable, "-m", "examples.orchestrator", "demo")
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(running.communicate(), MOST)
    lines = out.decode().splitlines()
    assert running.returncode == 0, lines

    def place(text):
        return next(number for number, line in enumerate(lines) if text in line)

    assert lines[0].split()[:2] == ["manager", "init"]
    story = [
        "init",
        "coder-1 ",
        "kill -9",
        "qa         rejects modules=['evaluate']",
        "round=2",
        "passes",
        "signed off",
    ]
    assert [place(text) for text in story] == sorted(place(text) for text in story)
    claims = [CLAIM.fullmatch(line).groups() for line in lines if CLAIM.fullmatch(line)]
    ((_, _, lost, _, fence),) = [one for one in claims if one[0] == "coder-1"]
    # More than once, where a busy server took longer than a lease.
    again = [one for one in claims if one[1:4] == ("finishes", lost, "1")]
    assert {one[0] for one in again} <= {"coder-2", "coder-3"}
    assert min(int(one[4]) for one in again) > int(fence)
    assert {one[2] for one in claims if one[1:4:2] == ("finishes", "1")} == FILES
    assert {one[2] for one in claims if one[3] == "2"} == {"evaluate.py"}
    assert re.fullmatch(rf"refused +coder-1's late write: {lost} was written under fence \d+, .*", lines[-2])
    assert lines[-1] == "signed off after 2 rounds"
    await signed_off(url)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_another_manager_goes_on_where_one_was_killed(url, environ):
    started = []

    async def start(agent, *command):
        named = {**environ, "FLOWPERSIST_AGENT": agent, "FLOWPERSIST_PROJECT": "calculator"}
        made = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=named, start_new_session=True)
        started.append(made)
        return made

    async def role(agent, name):
        return await start(agent, sys.executable, "-m", "examples.orchestrator", name)

    try:
        async with asyncio.timeout(MOST), project(url) as stores:
            assert await (await role("order", "order")).wait() == 0
            first = await role("first", "manager")
            await start("qa", "bash", "examples/orchestrator/qa.sh")
            await role("coder", "coder")
            while not any(one.content["event"] == "rejects" for one in await stores.observations.recent("qa")):
                await asyncio.sleep(0.1)
            # It may have seen the verdict, and may be at the second round already.
            first.kill()
            await role("second", "manager")
            assert await stores.signals.wait_for("SIGNED_OFF", timeout=timedelta(seconds=MOST)) is not None
            noted = [(one.agent_id, one.content["event"]) for one in await stores.observations.recent(n=100)]
            assert ("first", "init") in noted
            assert ("second", "init") not in noted
            assert ("second", "signed off") in noted
    finally:
        for process in started:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    await signed_off(url)
