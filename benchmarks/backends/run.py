"""What the command does: measure, print."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict
from cases import CASES, Case
from hub_work import hub_rounds
from indexes import uses_indexes
from measure import Timings, backend_rounds
from peers import PEERS, missing
from places import PLACES, Place, places
from races import Race, raced
from report import backend_table, hub_table, page_table, race_table, scale_table
from scale import Scale, scaled

__all__ = ["main"]

#: Numbers of records; FerretDB is not raced: its updates are not atomic.
SIZES = (1_000, 10_000, 100_000)
UNRACED = frozenset({"memory", "ferretdb"})
KEYS = 1_000


def _among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names).difference(known):
            message = f"not {', '.join(sorted(unknown))}, but of {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
        return names

    return parse


def _numbers(text: str) -> list[int]:
    return sorted(int(number) for number in text.split(","))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks/backends", description="The backends beside raw drivers and others.")
    parser.add_argument("--backends", type=_among(PLACES), default=list(PLACES), help=",".join(PLACES))
    parser.add_argument("--cases", type=_among(list(CASES)), default=list(CASES), help=",".join(CASES))
    parser.add_argument(
        "--peers", type=_among([*PEERS, "none"]), default=list(PEERS), help=f"{','.join(PEERS)} or none"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", action="store_true", help="many records, in place of single ones")
    parser.add_argument("--records", type=_numbers, default=SIZES, help="for --scale; 1000,10000,100000 unless given")
    parser.add_argument("--races", action="store_true", help="processes racing for keys, in place of single records")
    parser.add_argument("--size", type=int, help="bytes of each state, records and keys, at most: to see that all runs")
    parser.add_argument("--directory", type=Path, help="where the files of SQLite and others go; on a disk")
    parser.add_argument("--json", action="store_true", help="figures for programs, in place of tables")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure as the arguments say, and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        there = []
        for place in places(arguments.backends, Path(directory)):
            if isinstance(place, Place):
                there.append(place)
            else:
                _say(f"Left out: {place}")
        if not arguments.json:
            print(f"CPython {platform.python_version()}, {sys.platform}; milliseconds, median / p99\n")
        asyncio.run(_measured(arguments, there))


async def _measured(arguments: argparse.Namespace, there: Sequence[Place]) -> None:
    measured: dict[str, Any] = {}
    if arguments.scale:
        measured["scale"] = await _scales(arguments, there)
    if arguments.races:
        measured["races"] = await _races(arguments, there)
    if not arguments.scale and not arguments.races:
        measured = await _singles(arguments, there)
    if arguments.json:
        print(json.dumps({"python": platform.python_version(), **measured}, indent=1))


async def _scales(arguments: argparse.Namespace, there: Sequence[Place]) -> dict[str, Any]:
    sizes = arguments.records if arguments.size is None else (arguments.size, arguments.size * 2)
    measured: dict[str, list[Scale]] = {}
    for place in there:
        if not await uses_indexes(place):
            _say(f"Left out: {place.name} has no indexes to use")
            continue
        _say(f"{place.name}: {', '.join(f'{size:,}' for size in sizes)} records")
        found = measured[place.name] = await scaled(place, sizes)
        if not arguments.json:
            print(f"{scale_table(place.name, found)}\n\n{page_table(place.name, found)}\n", flush=True)
    return {name: [asdict(one) for one in found] for name, found in measured.items()}


async def _races(arguments: argparse.Namespace, there: Sequence[Place]) -> dict[str, Any]:
    measured: dict[str, dict[str, Race]] = {}
    for place in there:
        if place.name in UNRACED:
            _say(f"Left out: {place.name} is of one process, or its updates are not atomic")
            continue
        _say(f"{place.name}: races")
        count = min(KEYS, arguments.size or KEYS)
        best: dict[str, Race] = {}
        for _ in range(min(3, arguments.rounds)):
            for name in ("floor", "ours"):
                race = await raced(name, place, count)
                best[name] = min(best.get(name, race), race, key=lambda one: one.seconds)
        measured[place.name] = best
    if not arguments.json:
        print(f"{race_table(measured)}\n", flush=True)
    return {place: {name: asdict(race) for name, race in found.items()} for place, found in measured.items()}


async def _singles(arguments: argparse.Namespace, there: Sequence[Place]) -> dict[str, Any]:
    cases = [CASES[key] for key in arguments.cases]
    if arguments.size:
        cases = [case.at_most(arguments.size) for case in cases]
    names = [name for name in arguments.peers if name != "none"]
    measured: dict[str, Any] = {}
    for place in there:
        if absent := missing(names, place.name):
            _say(f"Left out, since not installed: {', '.join(absent)}. They come with: pip install -e '.[bench]'")
        bytes_found: dict[Case, Timings] = {}
        states_found: dict[Case, Timings] = {}
        for case in cases:
            _say(f"{place.name}, {case.title}")
            bytes_found[case] = await backend_rounds(place, case, arguments.rounds)
            states_found[case] = await hub_rounds(place, case, arguments.rounds, names)
        if not arguments.json:
            print(f"{backend_table(place.name, bytes_found)}\n\n{hub_table(place.name, states_found)}\n", flush=True)
        measured[place.name] = {
            case.key: {"bytes": _plain(bytes_found[case]), "states": _plain(states_found[case])} for case in cases
        }
    return measured


def _plain(found: Timings) -> dict[str, Any]:
    return {
        name: {verb: {"median": times.median, "p99": times.p99} for verb, times in verbs.items()}
        for name, verbs in found.items()
    }
