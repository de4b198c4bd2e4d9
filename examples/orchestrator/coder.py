"""A coding agent: takes tasks from the queue, and writes each module under the lock of its file."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from examples.orchestrator.repository import Repository
from examples.orchestrator.work import CODE, LEASE, VERSIONS, Task
from flowpersist import Criteria, RaisingHub, Resumption
from flowpersist.stores import Stores

__all__ = ["work"]


async def work(hub: RaisingHub, agent: str, *, stuck: bool = False) -> None:
    """Work on tasks until it is cancelled. If this process dies, its task is due again when its lease ends.

    - ``stuck``: stay in the middle of the first task; the demo kills such an agent.
    """

    async def handle(run: Resumption[Task]) -> dict[str, object]:
        task = run.state
        coder = _Coder(Stores(hub).project(task["project"]), agent)
        return await coder.write(task, stuck=stuck)

    poll = timedelta(milliseconds=200)
    await hub.work(handle, Criteria(tool=CODE.id), concurrency=1, lease=LEASE, max_attempts=20, poll=poll, grace=LEASE)


class _Coder:
    def __init__(self, stores: Stores, agent: str) -> None:
        self._stores = stores
        self._repository = Repository(stores)
        self._agent = agent

    async def write(self, task: Task, *, stuck: bool) -> dict[str, object]:
        module, number = task["module"], task["round"]
        text = VERSIONS[module][min(number, len(VERSIONS[module])) - 1]
        name = f"{module}.py"
        # Whoever waits has a place in the queue, so the time is long: the holder may have just died.
        async with self._stores.locks.held(name, self._agent, ttl=LEASE, wait=LEASE * 10) as lease:
            await self._note({"event": "begins", "file": name, "round": number, "fence": lease.fence})
            await self._repository.write(name, text[: len(text) // 2], fence=lease.fence, by=self._agent)
            if stuck:
                await asyncio.Event().wait()
            await self._repository.write(name, text, fence=lease.fence, by=self._agent)
            await self._stores.artifacts.write(name, text.encode(), media_type="text/x-python")
        await self._note({"event": "finishes", "file": name, "round": number, "fence": lease.fence})
        return {"file": name, "by": self._agent}

    async def _note(self, content: dict[str, object]) -> None:
        await self._stores.observations.add(self._agent, content)
