"""The CPU time of ``suspend`` and ``claim`` of 10 KB, of this tree and, in the same run, of another one.

Run with ``python benchmarks/verb_cpu.py [--against DIRECTORY] [--state NAME] [STORE …]``. Each tree runs in a process
of its own, and the processes take turns, so that both meet the same load of the machine. Figures are milliseconds of
the process's CPU time (``time.process_time``), all of its threads included; what a server computes is not part of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO
from uuid import uuid4

HERE = Path(__file__).resolve().parents[1]
SIZE = 10_000
STORES = ("memory", "sqlite", "postgres", "redis")
STATES = ("agent history", "dict messages")
#: Pairs of verbs in one turn: long enough for a clock of 1 ms to be of no matter.
TURN = 50


def _url(name: str, directory: str) -> str | None:
    run = uuid4().hex[:12]
    if name == "memory":
        return "memory://"
    if name == "sqlite":
        return f"sqlite:///{directory}/{run}.db"
    url = os.environ.get(f"FLOWPERSIST_TEST_{name.upper()}_URL")
    return None if url is None else f"{url}{'&' if '?' in url else '?'}prefix=b{run}"


async def work(url: str, name: str) -> None:
    """One tree's process: at each line of the input a turn, whose figures are one line of the output."""
    from states import ALL_STATES, of_size  # noqa: PLC0415 - of the tree that the first entry of sys.path names

    from flowpersist import AwaitInput, KeyRing, open_hub, or_raise  # noqa: PLC0415

    state, types = of_size(name, SIZE), ALL_STATES[name][1]
    question = AwaitInput(id="ok", prompt="Go on?", schema=bool)
    async with open_hub(url, keyring=KeyRing.generate(), types=types) as hub:
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            made, started = [], time.process_time()
            for _ in range(TURN):
                made.append(or_raise(await hub.suspend(state, awaiting=question)))  # noqa: PERF401 - one by one
            suspended = time.process_time()
            runs = [or_raise(await hub.claim(one.key, True)) for one in made]
            claimed = time.process_time()
            if any(type(run.state) is not type(state) for run in runs):
                raise AssertionError("another state")
            for run in runs:
                or_raise(await hub.complete(run))
            each = [(suspended - started) / TURN * 1000, (claimed - suspended) / TURN * 1000]
            print(json.dumps(each), flush=True)


class Tree:
    """A checkout, whose process measures when it is told to."""

    def __init__(self, name: str, directory: Path, url: str, state: str) -> None:
        self.name = name
        self.turns: list[list[float]] = []
        path = os.pathsep.join((str(directory), str(HERE / "benchmarks")))
        command = [sys.executable, __file__, "--work", url, "--state", state]
        self._process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line()

    def turn(self) -> list[float]:
        """Measure once: milliseconds of suspend, and of claim."""
        given = self._process.stdin
        if given is None:
            raise AssertionError("no input")
        print(flush=True, file=given)
        taken: list[float] = json.loads(self._line())
        return taken

    def _line(self) -> str:
        output: IO[str] | None = self._process.stdout
        line = "" if output is None else output.readline()
        if not line:
            raise SystemExit(f"the process of {self.name} ended")
        return line

    def end(self) -> None:
        """End its process, and wait for it."""
        self._process.communicate()


def _cells(turns: list[list[float]]) -> list[str]:
    columns = [*zip(*turns, strict=True), [sum(turn) for turn in turns]]
    return [f"{statistics.median(column):.2f} / {min(column):.2f}" for column in columns]


def measure(store: str, url: dict[str, str], trees: dict[str, Path], rounds: int, state: str) -> None:
    """The rows of one store."""
    running = [Tree(name, directory, url[name], state) for name, directory in trees.items()]
    for number in range(-2, rounds):
        # Another one is the first in each round; the first two rounds warm caches, statements and files.
        first = number % len(running)
        for tree in (*running[first:], *running[:first]):
            taken = tree.turn()
            if number >= 0:
                tree.turns.append(taken)
    for tree in running:
        tree.end()
        print("|", " | ".join((store, tree.name, *_cells(tree.turns))), "|", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="*", default=STORES, metavar="STORE", help=f"of {', '.join(STORES)}")
    parser.add_argument("--against", type=Path, metavar="DIRECTORY", help="another checkout, as git worktree add makes")
    parser.add_argument("--state", choices=STATES, default=STATES[0], help="of objects, or of dicts")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        asyncio.run(work(arguments.work, arguments.state))
        return
    trees = {"this": HERE} if arguments.against is None else {"against": arguments.against.resolve(), "this": HERE}
    print("| store | tree | suspend | claim | both |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as directory:
        for store in arguments.stores:
            url = {name: _url(store, directory) for name in trees}
            there = {name: one for name, one in url.items() if one is not None}
            if len(there) < len(trees):
                print(f"{store}: FLOWPERSIST_TEST_{store.upper()}_URL is not set (scripts/test-setup.sh env prints it)")
                continue
            measure(store, there, trees, arguments.rounds, arguments.state)


if __name__ == "__main__":
    main()
