"""Bytes from anywhere: the corpus of the fuzzer, and valid documents that were changed, do no harm."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mutations
import targets

SEEDS = targets.seeds()
DOCUMENTS = SEEDS + targets.kept("codec")
MOST_SECONDS = 2.0
#: What any bytes may take: to write again what was read, msgpack's packer begins with 256 KiB.
LEAST_PEAK = 2**19


@contextmanager
def bounded(size: int):
    """Within, the peak of memory stays under four times the limit and, for what is small, in proportion to its size."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * targets.LIMITS.max_bytes
    assert peak < LEAST_PEAK + 200 * size
    assert time.process_time() - begun < MOST_SECONDS


@pytest.mark.parametrize("target", targets.TARGETS)
def test_the_corpus_does_no_harm(target):
    inputs = targets.kept(target)
    assert len(inputs) > 50
    for data in inputs:
        with bounded(len(data)):
            targets.TARGETS[target](data)


def test_the_corpus_is_small():
    assert sum(file.stat().st_size for file in targets.CORPUS.rglob("*") if file.is_file()) < 300_000


def test_the_seeds_are_valid():
    outcomes = [targets.CODEC.decode(data).map(lambda _: None).value_or("refused") for data in SEEDS]
    assert outcomes.count(None) > 70


def test_the_watch_sees_what_must_not_happen():
    forbidden = (
        lambda: compile("1", "x", "eval"),
        lambda: Path(__file__).read_bytes(),
        lambda: __import__("this_module_is_not_there"),
        targets.Node,
        lambda: setattr(targets.Node.__new__(targets.Node), "first", 1),
    )
    for act in forbidden:
        with pytest.raises(AssertionError), targets.watched(), suppress(ImportError):
            act()


@given(st.sampled_from(DOCUMENTS), st.sampled_from(DOCUMENTS), st.integers(0, 2**32))
@settings(max_examples=1500, deadline=None)
def test_changed_documents_do_no_harm(document, other, seed):
    """Their structure is changed: parts taken out, doubled, exchanged, replaced; counts and lengths altered."""
    changed = mutations.restructured(Random(seed), document, other)
    with bounded(len(changed)):
        targets.codec(changed)


@given(st.sampled_from(DOCUMENTS), st.sampled_from(DOCUMENTS), st.integers(0, 2**32))
@settings(max_examples=1500, deadline=None)
def test_changed_bytes_do_no_harm(document, other, seed):
    """Flipped, overwritten, cut, longer, and two documents spliced."""
    changed = mutations.altered(Random(seed), document, other)
    with bounded(len(changed)):
        targets.codec(changed)


@given(st.sampled_from(DOCUMENTS), st.sampled_from(DOCUMENTS), st.integers(0, 2**32), st.booleans())
@settings(max_examples=300, deadline=None)
def test_changed_envelopes_do_no_harm(document, other, seed, inside):
    """Either the document within is changed and sealed anew, or the envelope itself."""
    random = Random(seed)
    if inside:
        document = mutations.restructured(random, document, other)
    sealed = targets.SEALER.seal_bytes(document, context=targets.CONTEXT).unwrap()
    if not inside:
        sealed = mutations.altered(random, sealed, other)
    with bounded(len(sealed)):
        targets.sealer(sealed)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_do_no_harm(data):
    for target in targets.TARGETS.values():
        with bounded(len(data)):
            target(data)
