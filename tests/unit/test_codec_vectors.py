"""The codec's vectors: what was released is written byte for byte, and read, for ever."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from flowpersist.codec import Codec
from flowpersist.testing import same_graph

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from make_codec_vectors import TYPES, files, made  # noqa: E402 - from the folder of scripts

# From CPython 3.13 on array says so of its code for texts.
pytestmark = pytest.mark.filterwarnings("ignore:The 'u' type code is deprecated:DeprecationWarning")
FILES = sorted((ROOT / "specs" / "codec" / "vectors").glob("*.json"))
VECTORS = [
    pytest.param(file.stem, vector, id=f"{file.stem}: {vector['name']}")
    for file in FILES
    for vector in json.loads(file.read_text(encoding="utf-8"))["vectors"]
]


@pytest.mark.parametrize(("stem", "vector"), VECTORS)
def test_a_vector_is_written_and_read(stem, vector):
    document = bytes.fromhex(vector["document"])
    value = made(vector["value"])
    codec = Codec(types=TYPES)
    assert sha256(document).hexdigest() == vector["sha256"]
    assert codec.encode(value).unwrap().hex() == vector["document"]
    copy = codec.decode(document).unwrap()
    # Groups of exceptions and partials are equal to themselves only; that these come back test_codec_standard.py shows.
    is_own = isinstance(value, ExceptionGroup) or stem == "standard"
    assert type(copy) is type(value) if is_own else same_graph(copy, value, types=TYPES)
    assert codec.encode(copy).unwrap() == document


def test_the_script_makes_the_vectors_that_are_there():
    assert {file.name: file.read_text(encoding="utf-8") for file in FILES} == files()
