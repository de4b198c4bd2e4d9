"""Steps of flows: how many run a second by durability, and what an answer costs a run beside many steps and waits.

Run with ``python benchmarks/flow_steps.py``. The cost of an answer is milliseconds of the process's CPU time
(``time.process_time``), for one ``resume`` with its pause, and for an answer that the hub only records: medians,
garbage collected before each measurement. It is to grow by at most 1.5 from the smallest number to the largest.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from flowpersist import AwaitInput, KeyRing, open_hub, or_raise
from flowpersist.dynamicflow import FlowOutcome, FlowRunner, Suspended, tool
from flowpersist.dynamicflow.durability import DurabilityOption

GOAL = 1.5
#: So many answers are recorded beside the open waits of one suspension.
ANSWERS = 8
#: The steps that a run does between two pauses where steps a second are measured.
STEPS = 300
DONE = (100, 1_000, 10_000, 50_000)
WAITS = (10, 100, 400, 1_000, 10_000)
DURABILITY: Mapping[str, DurabilityOption] = {
    "pause": "pause",
    "step": "step",
    "every 10": {"every": 10},
    "1 second": {"seconds": 1},
}
QUESTION = {"id": "ok", "prompt": "Ship $item?", "schema": {"type": "boolean"}}
#: A step that waits, in a loop of ``$input.rounds``.
ASK = {"id": "ask", "tool": "await_input", "args": QUESTION}


@tool(id="check", description="What a step does.")
async def check(item: int) -> dict[str, int]:
    """The smallest result that is not a number."""
    return {"item": item, "ok": 1}


CHECK = {"id": "check", "tool": "check", "args": {"item": "$item"}}
SEQUENCE = {"flow": [{"id": "each", "loop": "for", "over": "$input", "body": [CHECK]}]}
DONE_THEN_ASKED = {
    "flow": [
        {"id": "each", "map": "$input.items", "with": [CHECK]},
        {"id": "rounds", "loop": "for", "over": "$input.rounds", "body": [ASK]},
    ]
}


@asynccontextmanager
async def runner(url: str, durability: DurabilityOption = "pause") -> AsyncGenerator[FlowRunner]:
    """A runner on a store of its own, sealed."""
    async with open_hub(url, keyring=KeyRing.generate()) as hub:
        yield FlowRunner(hub, [check], durability=durability)


async def steps_a_second(url: str, durability: DurabilityOption, rounds: int, steps: int) -> float:
    """The median of the rounds."""
    found = []
    async with runner(url, durability) as flows:
        for _ in range(rounds + 1):
            gc.collect()
            started = time.perf_counter()
            or_raise(await flows.start(SEQUENCE, input=list(range(steps))))
            found.append(steps / (time.perf_counter() - started))
    return statistics.median(found[1:])


async def cost_of_an_answer(flows: FlowRunner, outcome: FlowOutcome, rounds: int) -> float:
    """The median of so many answers, after one that fills caches."""
    taken = []
    for _ in range(rounds + 1):
        if not isinstance(outcome, Suspended):
            raise SystemExit("the run has ended before its last answer")
        key = outcome.waits[0].key
        gc.collect()
        started = time.process_time()
        outcome = or_raise(await flows.resume(key, answer=True))
        taken.append(time.process_time() - started)
    return statistics.median(taken[1:]) * 1000


async def beside_steps(url: str, done: int, rounds: int) -> float:
    """An answer to a run of which so many steps are done."""
    async with runner(url) as flows:
        given = {"items": list(range(done)), "rounds": list(range(rounds + 2))}
        return await cost_of_an_answer(flows, or_raise(await flows.start(DONE_THEN_ASKED, input=given)), rounds)


async def beside_waits(url: str, waits: int, rounds: int) -> tuple[float, int]:
    """An answer to a run that awaits so many, and how many of them were open when the answers began."""
    count = max(waits, rounds + 2)
    document = {"flow": [{"id": "each", "map": "$input", "concurrency": count, "with": [ASK]}]}
    async with runner(url) as flows:
        outcome = or_raise(await flows.start(document, input=list(range(count))))
        opened = len(outcome.waits) if isinstance(outcome, Suspended) else 0
        return await cost_of_an_answer(flows, outcome, rounds), opened


async def alone_beside_waits(url: str, waits: int, rounds: int) -> float:
    """An answer that is only recorded, as a form or a webhook does it, beside so many open waits of a suspension."""
    question = AwaitInput(id="ok", prompt="Ship it?", schema=bool)
    taken = []
    async with open_hub(url, keyring=KeyRing.generate()) as hub:
        for _ in range(rounds + 1):
            new = or_raise(await hub.suspend("state", awaiting={f"w{n}": question for n in range(waits)}, until="each"))
            keys = list(new.keys.values())
            or_raise(await hub.answer(keys[0], True))
            gc.collect()
            started = time.process_time()
            for key in keys[1:ANSWERS]:
                or_raise(await hub.answer(key, True))
            taken.append((time.process_time() - started) / (ANSWERS - 1))
    return statistics.median(taken[1:]) * 1000


def growth(name: str, costs: Sequence[tuple[str, float]]) -> None:
    """One row for each number, with how much more it costs than the first."""
    for what, cost in costs:
        grown = cost / costs[0][1]
        print(f"| {name} | {what} | {cost:.2f} | {grown:.2f} | {'met' if grown <= GOAL else 'missed'} |", flush=True)


async def main(arguments: argparse.Namespace) -> None:
    """Print the tables."""
    rounds, smoke = arguments.rounds, arguments.smoke
    with tempfile.TemporaryDirectory() as place:
        stores = {"memory": "memory://", "sqlite": f"sqlite:///{Path(place) / 'flows.db'}"}
        print("| steps a second | " + " | ".join(DURABILITY) + " |\n| --- |" + " --- |" * len(DURABILITY))
        for name, url in stores.items():
            row = [await steps_a_second(url, how, rounds, 20 if smoke else STEPS) for how in DURABILITY.values()]
            print(f"| {name} | " + " | ".join(f"{cell:,.0f}" for cell in row) + " |", flush=True)
        print(f"\n| CPU ms of an answer | beside | ms | growth | {GOAL} |\n| --- | --- | --- | --- | --- |")
        for name, url in stores.items():
            done = [
                (f"{count:,} steps done", await beside_steps(url, count, rounds))
                for count in (DONE[:1] if smoke else DONE)
            ]
            growth(name, done)
            waits: list[tuple[str, float]] = []
            for count in WAITS[:2] if smoke else WAITS:
                cost, opened = await beside_waits(url, count, rounds)
                waits.append((f"{count:,} waits, {opened:,} open", cost))
            growth(name, waits)
            alone = [
                (f"{count:,} open, recorded only", await alone_beside_waits(url, count, rounds))
                for count in (WAITS[:2] if smoke else WAITS)
            ]
            growth(name, alone)


def options() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="the number of measurements of each")
    parser.add_argument("--smoke", action="store_true", help="small numbers, to check that everything runs")
    given: Any = parser.parse_args()
    return argparse.Namespace(rounds=given.rounds, smoke=given.smoke)


if __name__ == "__main__":
    asyncio.run(main(options()))
