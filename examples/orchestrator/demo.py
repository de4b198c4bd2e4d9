"""The whole story in processes of their own: a manager, three coders of which one is killed, and QA by the shell."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from examples.orchestrator import manager
from examples.orchestrator.repository import Repository, StaleFence
from examples.orchestrator.work import SIGNED_OFF
from flowpersist import RaisingHub
from flowpersist.stores import Stores

__all__ = ["play"]

ROOT = Path(__file__).parents[2]
MOST = 300
QA = ("bash", str(Path(__file__).with_name("qa.sh")))


async def play(hub: RaisingHub, project: str) -> None:
    """Make the project from its order to the sign-off, and print what the agents observe."""
    stores = Stores(hub).project(project)
    log = _Log(stores)
    async with asyncio.timeout(MOST), _agents(project) as start:
        await start("manager", *_role("manager"))
        await start("qa", *QA)
        killed = await start("coder-1", *_role("coder", "--stuck"))
        await manager.order(hub, project)
        begun = await log.until(lambda agent, seen: agent == "coder-1" and seen["event"] == "begins")
        for name in ("coder-2", "coder-3"):
            await start(name, *_role("coder"))
        await log.until(lambda agent, seen: agent != "coder-1" and seen["event"] == "begins")
        os.kill(killed.pid, signal.SIGKILL)
        print("kill -9    coder-1")
        await log.until(lambda _, seen: seen["event"] == "signed off")
        signed = await stores.signals.get(SIGNED_OFF)
        if signed is None:
            raise RuntimeError("the project is not signed off")
        await _late(Repository(stores), begun)
        print(f"signed off after {signed.value} rounds")


async def _late(repository: Repository, begun: Mapping[str, Any]) -> None:
    """What coder-1 would have written if it had been stopped rather than killed, and had gone on now."""
    try:
        await repository.write(begun["file"], "late", fence=begun["fence"], by="coder-1")
    except StaleFence as refused:
        print(f"refused    coder-1's late write: {refused}")
    else:
        raise RuntimeError("the repository took a write of a lease that has ended")


class _Log:
    """The agents' observations, printed as they come."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._printed: set[str] = set()

    async def until(self, wanted: Callable[[str, Mapping[str, Any]], bool]) -> Mapping[str, Any]:
        """Print until one is as wanted, and give it."""
        while True:
            for one in reversed(await self._stores.observations.recent(n=200)):
                if str(one.id) not in self._printed:
                    self._printed.add(str(one.id))
                    facts = " ".join(f"{name}={value}" for name, value in one.content.items() if name != "event")
                    print(f"{one.agent_id:10} {one.content['event']} {facts}".rstrip(), flush=True)
                    if wanted(one.agent_id, one.content):
                        return dict(one.content)
            await asyncio.sleep(0.2)


def _role(*arguments: str) -> tuple[str, ...]:
    return sys.executable, "-m", "examples.orchestrator", *arguments


@asynccontextmanager
async def _agents(project: str) -> AsyncIterator[Callable[..., Any]]:
    """Starts agents; at the end all of them are told to end, and waited for."""
    started: list[Process] = []
    # So that the shell finds the command `flowpersist` and the interpreter of this process.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))

    async def start(agent: str, *command: str) -> Process:
        environ = {**os.environ, "PATH": path, "FLOWPERSIST_AGENT": agent, "FLOWPERSIST_PROJECT": project}
        made = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environ, start_new_session=True)
        started.append(made)
        return made

    try:
        yield start
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        await asyncio.gather(*(_end(process) for process in started))


async def _end(process: Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), 30)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
