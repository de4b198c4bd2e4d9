"""The manager: takes the order of a project, queues its tasks, and goes round after round until QA passes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from examples.orchestrator.work import (
    CODE,
    COMPLETED,
    LEASE,
    ORDER,
    PHASE,
    QA_PASSED,
    REJECTED,
    SIGNED_OFF,
    SPEC,
    Task,
)
from flowpersist import Criteria, RaisingHub, Resumption, Status, SuspensionId
from flowpersist.stores import Stores

__all__ = ["order", "work"]

POLL = timedelta(milliseconds=200)


async def order(hub: RaisingHub, project: str) -> str:
    """Order a project, once for each name; gives the key under which its outcome can be had."""
    ordered = await hub.suspend({"project": project}, awaiting=ORDER, idempotency_key=f"project/{project}")
    await hub.answer(ordered.key, True, answer_id=project)
    return str(ordered.key)


async def work(hub: RaisingHub, agent: str) -> None:
    """Work on orders until it is cancelled. If this process dies, another manager goes on where it was."""

    async def handle(run: Resumption[dict[str, str]]) -> dict[str, object]:
        return await _Manager(hub, run.state["project"], agent).make()

    await hub.work(handle, Criteria(tool=ORDER.id), lease=LEASE, max_attempts=20, poll=POLL)


class _Manager:
    def __init__(self, hub: RaisingHub, project: str, agent: str) -> None:
        self._hub = hub
        self._project = project
        self._agent = agent
        self._stores = Stores(hub).project(project)

    async def make(self) -> dict[str, object]:
        number, modules = await self._begun()
        while modules:
            await self._code(number, modules)
            # QA waits for it, and clears it in the same step in which it gives its verdict.
            await self._stores.signals.apply({COMPLETED: number}, clear=(REJECTED,))
            modules = await self._verdict()
            if modules:
                number += 1
                await self._note({"event": "rejected", "round": number - 1, "modules": modules})
                await self._stores.signals.set(PHASE, {"round": number, "modules": modules}, critical=True)
        await self._stores.signals.apply({SIGNED_OFF: number}, critical=True, clear=(QA_PASSED, PHASE))
        await self._note({"event": "signed off", "round": number})
        return {"project": self._project, "rounds": number}

    async def _begun(self) -> tuple[int, list[str]]:
        """Where an earlier manager was, or the beginning."""
        found = await self._stores.signals.get(PHASE)
        if found is not None:
            return found.value["round"], found.value["modules"]
        await self._stores.features.save(dict(SPEC))
        await self._stores.signals.set(PHASE, {"round": 1, "modules": list(SPEC)}, critical=True)
        await self._note({"event": "init", "modules": list(SPEC)})
        return 1, list(SPEC)

    async def _code(self, number: int, modules: Sequence[str]) -> None:
        """Queue a task for each module, once, and wait until all are done."""
        tasks = []
        for module in modules:
            task: Task = {"project": self._project, "module": module, "round": number}
            name = f"{self._project}/{module}/{number}"
            queued = await self._hub.suspend(task, awaiting=CODE, idempotency_key=name)
            await self._hub.answer(queued.key, True, answer_id=name)
            tasks.append(queued)
        for queued in tasks:
            await self._ended(queued.id)

    async def _ended(self, task: SuspensionId) -> None:
        seen = await self._hub.inspect(task)
        while not seen.status.closed:
            await asyncio.sleep(POLL.total_seconds())
            seen = await self._hub.inspect(task)
        if seen.status is not Status.COMPLETED:
            raise RuntimeError(f"a task has {seen.status}")

    async def _verdict(self) -> list[str]:
        """The modules that QA rejects; none if all passed."""
        watched: Any = self._stores.signals.watch()
        async with aclosing(watched) as changes:
            async for signals in changes:
                if QA_PASSED in signals:
                    return []
                if REJECTED in signals:
                    return list(signals[REJECTED].value)
        raise RuntimeError("the signals are no longer watched")

    async def _note(self, content: dict[str, object]) -> None:
        await self._stores.observations.add(self._agent, content)
