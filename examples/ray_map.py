"""A map over numbers whose function runs on a Ray cluster, and a question before the results are used.

    $ python examples/ray_map.py

Needs ``pip install flowpersist ray``. Ray has no executor of ``concurrent.futures``; ``RayExecutor`` below is one. Here
the cluster is of this machine; ``ray.init(address="auto")`` takes the one that the machine belongs to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, Final

import ray  # pyright: ignore[reportMissingImports]

from flowpersist import RaisingHub, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, tool

DOCUMENT: Final = {
    "metadata": {"name": "primes"},
    "flow": [
        {
            "id": "each",
            "map": "$input.numbers",
            "concurrency": 32,  # this many calls are on the cluster at a time
            "with": {"tool": "is_prime", "args": {"number": "$item"}},
        },
        {"id": "ok", "tool": "await_input", "args": {"prompt": "Publish?", "schema": {"type": "boolean"}}},
        {"tool": "count", "args": {"found": "$each"}},
    ],
}


class RayFuture(Future[Any]):
    """A call on the cluster, which ``cancel`` withdraws there too as long as it has not begun."""

    ref: ray.ObjectRef[Any]

    def cancel(self) -> bool:
        """Cancel it, unless it is done."""
        if self.done():
            return False
        # What has begun can't be stopped: like a process, it goes on, and its result is dropped.
        ray.cancel(self.ref, force=False)
        return super().cancel()


class RayExecutor(Executor):
    """Makes each call a task of Ray. ``options`` are those of ``ray.remote``, such as ``num_cpus=1``.

    ``max_retries=0``, since a call that Ray repeats by itself is one that the run does not know of: say in the document
    how often a step is tried again.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Ray's own
        self._task = ray.remote(max_retries=0, **options)(_called)
        self._closed = False
        self._going: set[RayFuture] = set()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> RayFuture:  # noqa: ANN401 - of any function
        """Call the function on the cluster."""
        future = RayFuture()
        with self._lock:
            if self._closed:
                msg = "the executor is shut down"
                raise RuntimeError(msg)
            self._going.add(future)
        future.ref = self._task.remote(fn, args, kwargs)
        future.add_done_callback(self._going.discard)
        future.ref.future().add_done_callback(lambda done: _settle(future, done))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class says so
        """Take no more calls. The cluster stays."""
        with self._lock:
            self._closed = True
            going = list(self._going)
        for future in going:
            if cancel_futures:
                future.cancel()
            elif wait:
                future.exception()


def _called(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    return fn(*args, **kwargs)


def _settle(future: RayFuture, done: Future[Any]) -> None:
    """Pass on what came of a call, with the function's own error and not Ray's."""
    if not future.set_running_or_notify_cancel():
        return
    error = done.exception()
    if error is None:
        future.set_result(done.result())
    elif isinstance(error, ray.exceptions.TaskCancelledError):
        future.set_exception(CancelledError())
    else:
        future.set_exception(getattr(error, "cause", None) or error)


@tool()
def is_prime(number: int) -> bool:
    """Whether a number is prime: plain work for a processor."""
    return number > 1 and all(number % one for one in range(2, int(number**0.5) + 1))


@tool()
async def count(found: list[bool]) -> int:
    """How many are prime."""
    return sum(found)


async def main() -> None:
    """Map on the cluster, ask, and go on without mapping again."""
    async with RaisingHub.open("memory://", keyring=None) as hub:
        with RayExecutor(num_cpus=1) as executor:
            runner = FlowRunner(hub, [is_prime, count], executor=executor)
            outcome = or_raise(await runner.start(DOCUMENT, input={"numbers": list(range(40))}))
            assert isinstance(outcome, Suspended)  # noqa: S101 - an example
            outcome = or_raise(await runner.resume(outcome.key, answer=True))
        assert isinstance(outcome, Completed)  # noqa: S101 - an example
        print(outcome.result)


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        asyncio.run(main())
    finally:
        ray.shutdown()
