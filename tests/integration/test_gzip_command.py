"""gzip is there for others to read: the system's own command is one of them."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess

import pytest
from returns.result import Success

from flowpersist.stages import compress, decompress

pytestmark = pytest.mark.skipif(shutil.which("gzip") is None, reason="there is no gzip here")


@pytest.mark.parametrize("data", [b"", b"x", b"a state that waits " * 5000, random.Random(1).randbytes(100_000)])
def test_the_command_and_the_stage_read_each_other(data):
    framed = compress(data, compression="gzip").unwrap()
    read = subprocess.run(["gzip", "-dc"], input=framed[9:], capture_output=True, check=True)
    assert (read.stdout, read.stderr) == (data, b"")
    made = subprocess.run(["gzip", "-9c"], input=data, capture_output=True, check=True)
    assert decompress(struct.pack(">BQ", 2, len(data)) + made.stdout) == Success(data)
