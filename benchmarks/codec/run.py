"""What the command does: measure, print."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import asdict
from cases import CASES, Case
from measure import Figures, block_of, peak_of, rounds_of
from peers import PEERS, make_peers, missing
from probes import PROBE_TYPES, PROBES, outcome, runs_code
from pythons import print_pythons
from report import block_table, goal_table, peak_table, probe_table, state_table

__all__ = ["main"]

Blocks: TypeAlias = dict[Case, dict[str, tuple[float, float]]]
Peaks: TypeAlias = dict[Case, dict[str, float]]

#: The codecs of which the event loop and memory are watched.
WATCHED = ("ours", "pickle")


def _among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names).difference(known):
            message = f"not {', '.join(sorted(unknown))}, but of {', '.join(known)}"
            raise argparse.ArgumentTypeError(message)
        return names

    return parse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks/codec", description="The codec beside others.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--states", type=_among(list(CASES)), default=list(CASES), help=",".join(CASES))
    parser.add_argument("--peers", type=_among(list(PEERS)), default=list(PEERS), help=",".join(PEERS))
    parser.add_argument("--size", type=int, help="bytes that each state has at most, to see that all runs")
    parser.add_argument("--times", action="store_true", help="neither the event loop, memory nor small values")
    parser.add_argument("--json", action="store_true", help="figures for programs, in place of tables")
    parser.add_argument("--pythons", help="versions, as 3.12,3.13: ours to pickle on each, and nothing else")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure as the arguments say, and print."""
    arguments = _arguments()
    cases = [CASES[key] for key in arguments.states]
    if arguments.pythons:
        print_pythons(arguments.pythons.split(","), arguments.states, arguments.rounds)
        return
    if absent := missing(arguments.peers):
        _say(f"Left out, since not installed: {', '.join(absent)}. They come with: pip install -e '.[bench]'")
    if arguments.size:
        cases = [case.at_most(arguments.size) for case in cases]
    if arguments.json:
        _print_json(cases, arguments.peers, arguments.rounds, alone=arguments.times)
    else:
        _print_tables(cases, arguments.peers, arguments.rounds, alone=arguments.times)


def _figures(case: Case, names: Sequence[str], rounds: int) -> dict[str, Figures]:
    _say(case.title)
    return rounds_of(case, make_peers(names, case.types), rounds)


def _watched(cases: Sequence[Case], names: Sequence[str], rounds: int) -> tuple[Blocks, Peaks]:
    """Blocks and peaks, by state and by codec."""
    blocks: Blocks = {}
    peaks: Peaks = {}
    watched = [name for name in names if name in WATCHED]
    for case in cases:
        if case.large and watched:
            _say(f"{case.title}: loop, memory")
            peers = make_peers(watched, case.types)
            blocks[case] = {peer.name: block_of(case, peer, rounds) for peer in peers}
            peaks[case] = {peer.name: peak_of(case, peer) for peer in peers}
    return blocks, peaks


def _probed(names: Sequence[str]) -> dict[str, dict[str, str]]:
    _say("what is lost")
    peers = make_peers([name for name in names if name != "pickle-alone"], PROBE_TYPES)
    found = {probe: {peer.name: outcome(make, peer) for peer in peers} for probe, make in PROBES.items()}
    found["runs what the bytes name"] = {peer.name: runs_code(peer) for peer in peers}
    return found


def _by_key(measured: Mapping[Case, Any]) -> dict[str, Any]:
    return {case.key: one for case, one in measured.items()}


def _print_json(cases: Sequence[Case], names: Sequence[str], rounds: int, *, alone: bool) -> None:
    states = {
        case.key: {
            name: asdict(one) | ({} if one.failed else {"encode": one.encode, "decode": one.decode})
            for name, one in _figures(case, names, rounds).items()
        }
        for case in cases
    }
    measured: dict[str, Any] = {"python": platform.python_version(), "states": states}
    if not alone:
        blocks, peaks = _watched(cases, names, rounds)
        measured |= {"blocks": _by_key(blocks), "peaks": _by_key(peaks), "probes": _probed(names)}
    print(json.dumps(measured, indent=1))


def _print_tables(cases: Sequence[Case], names: Sequence[str], rounds: int, *, alone: bool) -> None:
    version = platform.python_version()
    print(f"CPython {version}, {sys.platform}; milliseconds, medians of {rounds} interleaved rounds\n")
    measured = {}
    for case in cases:
        measured[case] = _figures(case, names, rounds)
        print(f"**{case.title}**\n\n{state_table(measured[case])}\n", flush=True)
    if {"ours", "pickle"} <= set(names):
        print(f"**Goals**\n\n{goal_table(measured)}\n", flush=True)
    if alone:
        return
    blocks, peaks = _watched(cases, names, rounds)
    if blocks:
        print(f"**The event loop's longest block, with the work in a thread**\n\n{block_table(blocks)}\n")
        print(f"**Memory while decoding**\n\n{peak_table(peaks)}\n")
    print(f"**What becomes of**\n\n{probe_table(_probed(names))}")
