"""What a claim takes beside few suspended flows and beside many: the ratio is to stay below 1.5."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import timedelta

from flowpersist import AwaitInput, PersistenceHub, open_hub, or_raise

FEW, MANY = 100, 10_000
ROUNDS = 60
AT_ONCE = 50
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
DAY = timedelta(days=1)


async def fill(hub: PersistenceHub, count: int) -> None:
    """So many that wait, with a deadline."""
    for start in range(0, count, AT_ONCE):
        made = range(start, min(count, start + AT_ONCE))
        for one in await asyncio.gather(*(hub.suspend(number, awaiting=CONFIRM, timeout=DAY) for number in made)):
            or_raise(one)


async def measured(hub: PersistenceHub) -> tuple[float, float]:
    """The medians of a claim, and of a claim where nothing is due, in milliseconds."""
    taken, idle = [], []
    for _ in range(ROUNDS):
        new = or_raise(await hub.suspend(0, awaiting=CONFIRM))
        or_raise(await hub.answer(new.key, True))
        started = time.perf_counter()
        (run,) = or_raise(await hub.claim_due())
        taken.append(time.perf_counter() - started)
        or_raise(await hub.complete(run))
        started = time.perf_counter()
        or_raise(await hub.claim_due())
        idle.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000, statistics.median(idle) * 1000


async def main(urls: list[str]) -> None:
    """One line for each store."""
    print(f"{'store':12} {'claim':>8} {'of many':>8} {'ratio':>6} {'idle':>8} {'of many':>8} {'ratio':>6}")
    for url in urls:
        async with open_hub(url, keyring=None) as hub:
            await fill(hub, FEW)
            few = await measured(hub)
            await fill(hub, MANY - FEW)
            many = await measured(hub)
        cells = [f"{one:8.2f} {other:8.2f} {other / one:6.2f}" for one, other in zip(few, many, strict=True)]
        print(f"{url.partition(':')[0]:12}", *cells, flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(sys.argv[1:] or ["memory://", f"sqlite:///{place}/flows.db", f"file://{place}/flows"]))
