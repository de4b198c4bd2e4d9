"""The stages one by one: encoding, compression, digest, encryption, and the way back.

Run with ``python benchmarks/stages.py``. Times are medians of several rounds, in milliseconds. *Peak* is the most memory
that Python held at once while encoded bytes became an envelope, or an envelope encoded bytes, as a multiple of the
encoded bytes, which are not counted when sealing; the room that zstd asks for and does not touch is.
"""

from __future__ import annotations

import argparse
import pickle
import platform
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

from states import STATES, agent, of_size, rows

from flowpersist import Codec, KeyRing, Sealer
from flowpersist.stages import Dictionary, checksum, compress, decompress, decrypt, encrypt, verify

SIZES = {"10 KB": 10_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
CONTEXT = b"benchmark"
RING = KeyRing.generate()
T = TypeVar("T")


def floats(rng: random.Random, count: int) -> list[list[float]]:
    """Embeddings: lists of 768 random numbers."""
    return [[rng.random() for _ in range(768)] for _ in range(max(1, count // 768))]


def state_of(name: str, size: int) -> object:
    """One of the states, floats among them."""
    if name != "floats":
        return of_size(name, size)
    unit = len(pickle.dumps(floats(random.Random(1), 7680), protocol=5)) / 7680
    return floats(random.Random(1), int(size / unit))


def median(operation: Callable[[], T], rounds: int) -> tuple[float, T]:
    """Milliseconds, and the result."""
    result, times = operation(), []
    for _ in range(rounds):
        started = time.perf_counter()
        result = operation()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000, result


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


def stages(name: str, label: str, size: int, rounds: int) -> None:
    """Print two rows: onwards and back."""
    codec = Codec(types=STATES[name][1] if name in STATES else ())
    sealer = Sealer(codec=codec, keyring=RING)
    state = state_of(name, size)
    rounds = rounds * 30 if size < 100_000 else rounds
    encoding, data = median(lambda: codec.encode(state).unwrap(), rounds)
    compressing, frame = median(lambda: compress(data).unwrap(), rounds)
    digesting, digested = median(lambda: checksum(frame).unwrap(), rounds)
    encrypting, envelope = median(lambda: encrypt(digested, keyring=RING, context=CONTEXT).unwrap(), rounds)
    sealing, _ = median(lambda: sealer.seal(state, context=CONTEXT).unwrap(), rounds)
    copies = peak(lambda: sealer.seal_bytes(data, context=CONTEXT)) / len(data)
    print(
        f"| {name} | {label} | seal | {encoding:.3g} | {speed(len(data), compressing)} "
        f"| {speed(len(frame), digesting)} | {speed(len(frame), encrypting)} | {sealing:.3g} | {100 * (digesting + encrypting) / sealing:.0f} % "
        f"| {len(data) / len(envelope):.2f} | {copies:.2f} |",
        flush=True,
    )
    decrypting, digested = median(lambda: decrypt(envelope, keyring=RING, context=CONTEXT).unwrap(), rounds)
    verifying, frame = median(lambda: verify(digested).unwrap(), rounds)
    decompressing, data = median(lambda: decompress(frame).unwrap(), rounds)
    decoding, _ = median(lambda: codec.decode(data).unwrap(), rounds)
    opening, _ = median(lambda: sealer.open(envelope, context=CONTEXT).unwrap(), rounds)
    copies = peak(lambda: sealer.open_bytes(envelope, context=CONTEXT)) / len(data)
    print(
        f"| | | open | {decoding:.3g} | {speed(len(data), decompressing)} | {speed(len(frame), verifying)} "
        f"| {speed(len(frame), decrypting)} | {opening:.3g} | {100 * (verifying + decrypting) / opening:.0f} % "
        f"| | {copies:.2f} |",
        flush=True,
    )


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
    print(
        "| state | size | | codec | compression | digest | encryption | whole | digest and encryption | ratio | peak |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in (*STATES, "floats"):
        for label, size in SIZES.items():
            stages(name, label, size, rounds)
    dictionaries(rounds)


if __name__ == "__main__":
    main()
