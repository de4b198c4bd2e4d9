"""Add the envelope's vectors that are missing. What is there stays as it is: it must open for ever."""

from __future__ import annotations

import json
from pathlib import Path

from flowpersist import KeyRing
from flowpersist.stages import Dictionary, checksum, compress, encrypt

OUT = Path(__file__).parents[1] / "specs" / "persistence" / "vectors" / "envelope.json"
KEY = bytes(range(32))
PLAIN = b"a state that waits " * 40


def dictionary() -> Dictionary:
    """A small one, whose id the frames name."""
    samples = [b"a state that waits for %d, then for %d " % (n, n * n) * 3 for n in range(100)]
    return Dictionary.train(samples, id=2**15, size=512)


def vector(suite: int, compression: str, purpose: str, trained: Dictionary | None = None) -> dict[str, str]:
    """One vector, with salt and nonce of repeated bytes."""
    counter = iter(range(1, 1000))
    ring = None if suite == 1 else KeyRing({}).add("k1", KEY)
    framed = compress(PLAIN, compression=compression, dictionary=trained).bind(checksum).unwrap()  # type: ignore[arg-type]
    envelope = encrypt(
        framed,
        keyring=ring,
        context=b"\0\0\0\1n",
        purpose=purpose,
        suite=None if ring is None else suite,  # type: ignore[arg-type]
        entropy=lambda size: bytes([next(counter)]) * size,
    ).unwrap()
    told = {} if trained is None else {"dictionary": trained.data.hex()}
    return {
        "name": f"suite {suite}, {compression}{', dictionary' if told else ''}, {purpose}",
        "suite": str(suite),
        "compression": compression,
        "purpose": purpose,
        "kid": "" if ring is None else "k1",
        "key": "" if ring is None else KEY.hex(),
        "context": b"\0\0\0\1n".hex(),
        "plain": PLAIN.hex(),
        "envelope": envelope.hex(),
        **told,
    }


if __name__ == "__main__":
    made = [
        vector(suite, compression, purpose)
        for suite in (1, 2, 3)
        for compression in ("none", "zstd", "gzip")
        for purpose in ("head", "state")
    ]
    trained = dictionary()
    made += [vector(suite, "zstd", "state", trained) for suite in (1, 2, 3)]
    kept = json.loads(OUT.read_text())
    names = {vector["name"] for vector in kept}
    added = [vector for vector in made if vector["name"] not in names]
    OUT.write_text(json.dumps(kept + added, indent=1) + "\n")
