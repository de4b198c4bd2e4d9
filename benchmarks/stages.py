"""The stages one by one, as ``Sealer`` runs them: encoding, compression, digest, encryption, and the way back.

Run with ``python benchmarks/stages.py``. Times are medians of several rounds, in milliseconds. *Share* is what digest
and encryption (with the CRC) take of the whole. *Peak* is the most memory that Python held at once while encoded bytes
became an envelope, or an envelope encoded bytes, as a multiple of the encoded bytes. When sealing those do not count,
and the room that zstd asks for and does not touch does.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from states import ALL_STATES, STATES, agent, of_size, rows

from flowpersist import Codec, KeyRing, Sealer
from flowpersist.stages import Dictionary, compress, decompress, decrypt
from flowpersist.stages.checksum import digest, verified
from flowpersist.stages.compress import compressed
from flowpersist.stages.encrypt import encrypt_parts

SIZES = {"10 KB": 10_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
CONTEXT = b"benchmark"
RING = KeyRing.generate()
T = TypeVar("T")


def median(operation: Callable[[], T], rounds: int) -> tuple[float, T]:
    """Milliseconds, and the result."""
    result, times = operation(), []
    for _ in range(rounds):
        started = time.perf_counter()
        result = operation()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000, result


def chain(value: object, steps: Sequence[Callable[[Any], Any]], rounds: int) -> list[float]:
    """Milliseconds of each step, the steps of a round one after another as they are in earnest."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 1):
        result = value
        for step, taken in zip(steps, times, strict=True):
            started = time.perf_counter()
            result = step(result)
            taken.append(time.perf_counter() - started)
    # The first round warms what is kept.
    return [statistics.median(taken[1:]) * 1000 for taken in times]


def peak(operation: Callable[[], object]) -> int:
    """The most bytes that Python held at once meanwhile, beyond what it held before."""
    tracemalloc.start()
    operation()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def speed(size: int, milliseconds: float) -> str:
    """Milliseconds, and MB a second."""
    return f"{milliseconds:.3g} ({size / milliseconds / 1000:.0f})"


def row(name: str, figures: Sequence[float], plain: int, framed: int, memory: float) -> str:
    """Codec, compression, digest, encryption, whole, share, peak."""
    codec, compression, digesting, encryption = figures
    whole = sum(figures)
    return (
        f"| {name} | {codec:.3g} | {speed(plain, compression)} | {speed(framed, digesting)} "
        f"| {speed(framed, encryption)} | {whole:.3g} | {100 * (digesting + encryption) / whole:.0f} % | {memory:.2f} |"
    )


def stages(name: str, label: str, size: int, rounds: int) -> None:
    """Print two rows: onwards and back."""
    codec = Codec(types=ALL_STATES[name][1])
    sealer = Sealer(codec=codec, keyring=RING)
    state = of_size(name, size)
    rounds = rounds * 30 if size < 100_000 else rounds
    data = codec.encode(state).unwrap()
    envelope = sealer.seal_bytes(data, context=CONTEXT).unwrap()
    seal = (
        lambda value: codec.encode(value).unwrap(),
        lambda encoded: compressed(encoded, "auto"),
        lambda parts: (*parts, digest(parts)),
        lambda parts: encrypt_parts(parts, keyring=RING, context=CONTEXT).unwrap(),
    )
    memory = peak(lambda: sealer.seal_bytes(data, context=CONTEXT)) / len(data)
    ratio = f"{len(data) / len(envelope):.2f}"
    print(row(f"{name} | {label} | {ratio} | seal", chain(state, seal, rounds), len(data), len(envelope), memory))
    open_ = (
        lambda sealed: decrypt(sealed, keyring=RING, context=CONTEXT).unwrap(),
        verified,
        lambda frame: decompress(frame).unwrap(),
        lambda encoded: codec.decode(encoded).unwrap(),
    )
    memory = peak(lambda: sealer.open_bytes(envelope, context=CONTEXT)) / len(data)
    back = chain(envelope, open_, rounds)[::-1]
    print(row("| | | open", back, len(data), len(envelope), memory), flush=True)


def dictionaries(rounds: int) -> None:
    """Print what a trained dictionary does for small states that it has not seen."""
    kinds = {"agent history": (agent, 2), "rows": (rows, 25)}
    print(
        "\n| 400 states of | bytes each | ratio | with a dictionary | ms | with a dictionary |"
        "\n|---|---|---|---|---|---|"
    )
    for name, (make, unit) in kinds.items():
        for scale in (1, 3, 8):
            codec = Codec(types=STATES[name][1])
            encoded = [codec.encode(make(random.Random(seed), unit * scale)).unwrap() for seed in range(800)]
            trained = Dictionary.train(encoded[:400], id=2**15)
            unseen = encoded[400:]
            size = sum(map(len, unseen))
            cells = []
            for dictionary in (None, trained):
                took, made = median(lambda: [compress(one, dictionary=dictionary).unwrap() for one in unseen], rounds)  # noqa: B023
                cells.append((size / sum(map(len, made)), took / len(unseen)))
            (plain, slow), (small, quick) = cells
            print(
                f"| {name} | {size // len(unseen)} | {plain:.2f} | {small:.2f} | {slow:.3f} | {quick:.3f} |", flush=True
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"CPython {platform.python_version()}, {sys.platform}, medians of {rounds} rounds: milliseconds (MB/s)\n")
    print("| state | size | ratio | | codec | compression | digest | encryption | whole | share | peak |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in (*STATES, "floats"):
        for label, size in SIZES.items():
            stages(name, label, size, rounds)
    dictionaries(rounds)


if __name__ == "__main__":
    main()
