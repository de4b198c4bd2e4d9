"""The same graph gives the same bytes in every process, whatever its seed of hashes."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
from hashlib import sha256
from uuid import UUID
from flowpersist.codec import Codec

words = {f"word {number}" for number in range(100)}
mixed = {1, "one", b"one", 1.5, None, (1, "two"), frozenset({("a", "b"), ("c", ("d",))}), UUID(int=5)}
value = [words, mixed, {frozenset(words): words}, {(word, len(word)) for word in words}]
print(sha256(Codec().encode(value).unwrap()).hexdigest())
"""


def digest(seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return ran.stdout


def test_bytes_do_not_depend_on_the_process():
    assert len({digest(seed) for seed in (0, 1, 2)}) == 1
