"""Several processes: they start from one that has imported everything, so that a test can afford many."""

from __future__ import annotations

import asyncio
import multiprocessing
import pkgutil
import queue
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Final

import pytest

from flowpersist import backends
from flowpersist.backends.base import Capability, StorageBackend
from flowpersist.testing.suite.ground import PATIENCE

__all__ = ["CONTEXT", "PRELOADED", "need_processes", "run_processes"]


#: Seconds between looks at whether a process has failed.
LOOK: Final = 0.5


#: What the process has imported that the others start from. What can't be, for want of a driver, is passed over.
PRELOADED: Final = (
    "__main__",
    "flowpersist.testing.conformance",
    *(f"{backends.__name__}.{module.name}" for module in pkgutil.iter_modules(backends.__path__)),
)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    return context


CONTEXT: Final = _context()


async def run_processes(target: Any, arguments: list[tuple[Any, ...]]) -> list[Any]:  # noqa: ANN401
    """Run a function in so many processes and give what they put into the queue, which is its last argument."""
    results = CONTEXT.Queue()
    processes = [CONTEXT.Process(target=target, args=(*given, results)) for given in arguments]
    for process in processes:
        process.start()
    try:
        return [await asyncio.to_thread(_next_result, results, processes) for _ in processes]
    finally:
        for process in processes:
            await asyncio.to_thread(process.join, PATIENCE)
            process.close()
        results.close()
        await asyncio.to_thread(results.join_thread)


def _next_result(results: Any, processes: list[ForkServerProcess]) -> object:  # noqa: ANN401 - a queue of the context
    """What some process gives next. It fails as soon as one has failed, not only when patience has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return results.get(timeout=LOOK)
        except queue.Empty:
            codes = [process.exitcode for process in processes if process.exitcode]
            assert not codes, f"a process failed with exit code {codes[0]}: its output says why"
            assert time.monotonic() < deadline, f"no process gave a result within {PATIENCE:g} s"


def need_processes(backend: StorageBackend) -> None:
    """Skip the test where a store serves one process."""
    if Capability.MULTI_PROCESS not in backend.capabilities:
        pytest.skip(f"{backend.name} serves one process")
