"""A map over numbers whose function runs on a Dask cluster, and a question before the results are used.

    $ python examples/dask_map.py

Needs ``pip install flowpersist distributed``. Here the cluster is two processes of this machine; ``Client("tcp://…")``
takes one that runs elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Final

from distributed import Client, LocalCluster

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


@tool()
def is_prime(number: int) -> bool:
    """Whether a number is prime: plain work for a processor."""
    return number > 1 and all(number % one for one in range(2, int(number**0.5) + 1))


@tool()
async def count(found: list[bool]) -> int:
    """How many are prime."""
    return sum(found)


async def main(client: Client) -> None:
    """Map on the cluster, ask, and go on without mapping again."""
    executor = client.get_executor(pure=False)
    async with RaisingHub.open("memory://", keyring=None) as hub:
        runner = FlowRunner(hub, [is_prime, count], executor=executor)
        outcome = or_raise(await runner.start(DOCUMENT, input={"numbers": list(range(40))}))
        assert isinstance(outcome, Suspended)  # noqa: S101 - an example
        outcome = or_raise(await runner.resume(outcome.key, answer=True))
        assert isinstance(outcome, Completed)  # noqa: S101 - an example
        print(outcome.result)


if __name__ == "__main__":
    with LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as here:
        asyncio.run(main(here))
