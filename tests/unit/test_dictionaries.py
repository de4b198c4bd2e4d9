"""Dictionaries as stages use them; tests/integration/test_dictionaries.py has them with a store."""

from __future__ import annotations

import random

import pytest

from flowpersist.errors import CompressionError
from flowpersist.stages import Dictionary, compress, decompress


def state(number: int) -> dict[str, object]:
    """Small ones of a kind: the same words, other values."""
    rng = random.Random(number)
    order = {"customer": f"customer number {rng.random()}", "status": "waiting for approval", "amount": rng.random()}
    return {"order": order, "history": ["created", "checked by accounting", "sent"]}


SAMPLES = [repr(state(number)).encode() for number in range(60)]
DICTIONARY = Dictionary.train(SAMPLES, id=2**15, size=2048)


def test_the_same_samples_give_the_same_dictionary():
    assert Dictionary.train(SAMPLES, id=2**15, size=2048).data == DICTIONARY.data
    assert Dictionary(DICTIONARY.data).id == 2**15
    assert "accounting" not in repr(DICTIONARY)
    with pytest.raises(ValueError, match="32768"):
        Dictionary.train(SAMPLES, id=7)
    for size in (255, 2**20 + 1):
        with pytest.raises(ValueError, match="256"):
            Dictionary.train(SAMPLES, id=2**15, size=size)
    with pytest.raises(CompressionError, match="expected a zstd dictionary"):
        Dictionary(b"rubbish")


@pytest.mark.parametrize("compression", ["auto", "zstd", "gzip", "none"])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 5000, 64 * 1024, 64 * 1024 + 1])
def test_a_dictionary_serves_what_is_small(compression, size):
    data = (repr(state(100)).encode() * 400)[:size]
    framed = compress(data, compression=compression, dictionary=DICTIONARY).unwrap()
    served = compression in {"auto", "zstd"} and 64 <= size <= 64 * 1024
    assert (framed[0] == 3) == served
    assert decompress(framed, dictionaries={DICTIONARY.id: DICTIONARY}).unwrap() == data
    assert served or framed == compress(data, compression=compression).unwrap()
