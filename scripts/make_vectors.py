"""Make the envelope's vectors. Run once for each version of the format: what is released must open for ever."""

from __future__ import annotations

import json
from pathlib import Path

from flowpersist import KeyRing
from flowpersist.stages import checksum, compress, encrypt

OUT = Path(__file__).parents[1] / "specs" / "persistence" / "vectors" / "envelope.json"
KEY = bytes(range(32))
PLAIN = b"a state that waits " * 40


def vector(suite: int, compression: str, purpose: str) -> dict[str, str]:
    """One vector, with salt and nonce of repeated bytes."""
    counter = iter(range(1, 1000))
    ring = None if suite == 1 else KeyRing({}).add("k1", KEY)
    framed = compress(PLAIN, compression=compression).bind(checksum).unwrap()  # type: ignore[arg-type]
    envelope = encrypt(
        framed,
        keyring=ring,
        context=b"\0\0\0\1n",
        purpose=purpose,
        suite=None if ring is None else suite,  # type: ignore[arg-type]
        entropy=lambda size: bytes([next(counter)]) * size,
    ).unwrap()
    return {
        "name": f"suite {suite}, {compression}, {purpose}",
        "suite": str(suite),
        "compression": compression,
        "purpose": purpose,
        "kid": "" if ring is None else "k1",
        "key": "" if ring is None else KEY.hex(),
        "context": b"\0\0\0\1n".hex(),
        "plain": PLAIN.hex(),
        "envelope": envelope.hex(),
    }


if __name__ == "__main__":
    made = [
        vector(suite, compression, purpose)
        for suite in (1, 2, 3)
        for compression in ("none", "zstd", "gzip")
        for purpose in ("head", "state")
    ]
    OUT.write_text(json.dumps(made, indent=1) + "\n")
