"""Rounds, the event loop and memory."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import define, field
from cases import Case
from losses import losses
from peers import Peer
from watching import timed

__all__ = ["Figures", "block_of", "peak_of", "rounds_of"]

#: What a state is cut down to where losses are looked for, which takes as long as some hundred encodings.
CHECKED = 1_000_000


@define
class Figures:
    """Of one codec on one state: milliseconds, bytes, what is lost; or why it can't."""

    size: int = 0
    lost: list[str] = field(factory=list)
    failed: str = ""
    encodes: list[float] = field(factory=list)
    decodes: list[float] = field(factory=list)

    @property
    def encode(self) -> float:
        """The median."""
        return statistics.median(self.encodes)

    @property
    def decode(self) -> float:
        """The median."""
        return statistics.median(self.decodes)


@contextmanager
def _collector(*, on: bool) -> Iterator[None]:
    """From a clean heap, with the collector as Python sets it or without."""
    gc.collect()
    if not on:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _timed(operation: Callable[[Any], Any], value: object, times: int) -> tuple[float, Any]:
    result = None
    # The processor's time: a codec does no I/O, and the load of other processes must not count.
    started = time.process_time()
    for _ in range(times):
        result = operation(value)
    return (time.process_time() - started) * 1000 / times, result


def _check(case: Case, peer: Peer, figures: Figures) -> None:
    """Find what is lost. It also warms what a codec makes once for a class."""
    state = case.at_most(CHECKED).make()
    try:
        figures.lost = losses(state, peer.decode(peer.encode(state)))
    except Exception as error:  # noqa: BLE001 - what a codec raises is what is asked
        figures.failed = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:80]}"


def _round(state: object, peer: Peer, figures: Figures, times: int) -> None:
    with _collector(on=peer.collector):
        took, data = _timed(peer.encode, state, times)
    figures.encodes.append(took)
    figures.size = len(data)
    with _collector(on=peer.collector):
        took, result = _timed(peer.decode, data, times)
    figures.decodes.append(took)
    del result


def rounds_of(case: Case, peers: Sequence[Peer], rounds: int) -> dict[str, Figures]:
    """So many rounds, more of them where they are quick: in each a fresh state, and each codec once, another one first
    each time. Small states go through each codec several times a round, since a clock can't see one.
    """
    figures: dict[str, Figures] = defaultdict(Figures)
    for peer in peers:
        _check(case, peer, figures[peer.name])
    able = [peer for peer in peers if not figures[peer.name].failed]
    times = max(1, 2_000_000 // case.size)
    for number in range(rounds * case.repeats):
        state = case.make()
        first = number % max(1, len(able))
        for peer in able[first:] + able[:first]:
            _round(state, peer, figures[peer.name], times)
    return dict(figures)


def block_of(case: Case, peer: Peer, rounds: int) -> tuple[float, float]:
    """The event loop's longest block while a thread encodes and while one decodes: medians of the rounds' longest."""

    async def once() -> tuple[float, float]:
        state = case.make()
        gc.collect()
        data, _, encoding = await timed(asyncio.to_thread(peer.encode, state))
        gc.collect()
        result, _, decoding = await timed(asyncio.to_thread(peer.decode, data))
        del result
        return encoding, decoding

    longest = [asyncio.run(once()) for _ in range(rounds)]
    encoding, decoding = zip(*longest, strict=True)
    return statistics.median(encoding), statistics.median(decoding)


def peak_of(case: Case, peer: Peer) -> float:
    """The most memory that decoding holds, beyond the bytes that it reads, as a multiple of what its result takes."""
    data = peer.encode(case.make())
    gc.collect()
    tracemalloc.start()
    result = peer.decode(data)
    _, most = tracemalloc.get_traced_memory()
    gc.collect()
    own, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return most / own
