"""The envelope, clause by clause: specs/persistence/envelope.md."""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from itertools import permutations
from pathlib import Path

import pytest
import zstandard
from returns.pipeline import flow
from returns.pointfree import bind
from returns.result import Failure, Success

from flowpersist import KeyRing, Sealer
from flowpersist.codec import Codec, Limits
from flowpersist.errors import (
    CompressionError,
    CorruptedEnvelope,
    EncryptionRequired,
    PersistenceError,
    StateTooLarge,
    TamperedEnvelope,
    UnknownDictionary,
    UnknownKey,
    UnsupportedVersion,
)
from flowpersist.sealed.envelope import mark_of
from flowpersist.stages import Dictionaries, Dictionary, checksum, compress, decompress, decrypt, encrypt, verify

SPECS = Path(__file__).parents[2] / "specs" / "persistence"
RING = KeyRing({}).add("k1", bytes(range(32)))
CONTEXT = b"here"


def counting():
    """Entropy that is the same in every run."""
    state = iter(range(1, 1000))
    return lambda size: bytes([next(state)]) * size


def seal(data=b"some state", **changes) -> bytes:
    arguments = {"keyring": RING, "context": CONTEXT, "purpose": "state"} | changes
    return encrypt(compress(data).bind(checksum).unwrap(), **arguments).unwrap()


def opened(data, dictionaries=(), **changes):
    arguments = {"keyring": RING, "context": CONTEXT, "purpose": "state"} | changes
    known = {dictionary.id: dictionary for dictionary in dictionaries}
    return decrypt(data, **arguments).bind(verify).bind(lambda framed: decompress(framed, dictionaries=known))


def with_crc(data: bytes) -> bytes:
    return data[:-4] + struct.pack(">I", zlib.crc32(data[:-4]))


def test_every_clause_of_the_specification_has_a_test():
    clauses = set(re.findall(r"^- (FPE-\d+):", (SPECS / "envelope.md").read_text(), re.MULTILINE))
    assert len(clauses) == 23
    docstrings = re.findall(r'"""(FPE[^"]*)"""', Path(__file__).read_text())
    assert clauses == set(re.findall(r"FPE-\d+", " ".join(docstrings)))


@pytest.mark.parametrize("suite", [2, 3])
def test_suites_with_keys_go_both_ways(suite):
    """FPE-1"""
    sealed = seal(suite=suite)
    assert sealed[6:8] == suite.to_bytes(2, "big")
    assert opened(sealed) == Success(b"some state")
    with pytest.raises(ValueError, match="keyring"):
        seal(keyring=None, suite=suite)


def test_plain_is_for_no_keyring_only():
    """FPE-1, FPE-8"""
    plain = seal(keyring=None)
    assert opened(plain, keyring=None) == Success(b"some state")
    assert isinstance(opened(plain).failure(), EncryptionRequired)
    with pytest.raises(ValueError, match="suite 1"):
        seal(suite=1)
    forged = bytearray(plain)
    forged[20] = 7
    assert isinstance(opened(with_crc(bytes(forged)), keyring=None).failure(), TamperedEnvelope)


def test_the_same_state_twice_shares_nothing():
    """FPE-2"""
    one, other = seal(bytes(4096)), seal(bytes(4096))
    blocks = {one[at : at + 16] for at in range(60, len(one) - 16)}
    assert not any(other[at : at + 16] in blocks for at in range(60, len(other) - 16, 16))


@pytest.mark.parametrize(
    "value", [None, "text" * 1000, {"a": [1, 2.5, "x"]}, list(range(5000)), random.Random(1).randbytes(1_200_000)]
)
def test_the_sealer_is_the_stages_composed_by_hand(value):
    """FPE-3"""
    sealer = Sealer(keyring=None)
    by_hand = flow(
        value,
        sealer.codec.encode,
        bind(compress),
        bind(checksum),
        bind(lambda data: encrypt(data, keyring=None, context=CONTEXT)),
    )
    assert sealer.seal(value, context=CONTEXT) == by_hand
    assert sealer.open(by_hand.unwrap(), context=CONTEXT) == Success(value)


@pytest.mark.parametrize("data", [b"", b"FPE", b"FPE1", b"NOPE" + bytes(200), bytes(200)])
def test_what_is_no_envelope_is_refused(data):
    """FPE-4"""
    assert isinstance(opened(data).failure(), CorruptedEnvelope)


@pytest.mark.parametrize(("at", "value"), [(4, 2), (4, 0), (5, 1), (7, 4), (7, 0)])
def test_other_versions_flags_and_suites_are_refused(at, value):
    """FPE-5"""
    data = bytearray(seal())
    data[at] = value
    assert isinstance(opened(with_crc(bytes(data))).failure(), UnsupportedVersion)


@pytest.mark.parametrize("kid_length", [65, 2**16, 2**32 - 1])
def test_a_key_ids_length_is_not_trusted(kid_length):
    """FPE-6"""
    data = seal()
    assert isinstance(opened(data[:8] + struct.pack(">I", kid_length) + data[12:]).failure(), CorruptedEnvelope)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**64 - 1])
def test_a_payloads_length_is_not_trusted(length):
    """FPE-6"""
    data = seal()
    at = 12 + 2 + 76
    assert isinstance(
        opened(with_crc(data[:at] + struct.pack(">Q", length) + data[at + 8 :])).failure(), CorruptedEnvelope
    )


def test_every_bit_and_every_truncation_is_noticed():
    """FPE-7, FPE-11, FPE-16"""
    data = seal()
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        assert isinstance(opened(bytes(flipped)).failure(), PersistenceError)
        # With the CRC made right again, authentication alone must notice.
        assert isinstance(opened(with_crc(bytes(flipped))), Failure) or at >= (len(data) - 4) * 8
    for end in range(len(data)):
        assert isinstance(opened(data[:end]).failure(), CorruptedEnvelope)


@pytest.mark.parametrize("suite", [2, 3])
def test_altered_payload_with_a_right_crc_is_tampering(suite):
    """FPE-11"""
    data = bytearray(seal(suite=suite))
    data[-30] ^= 1
    assert isinstance(opened(with_crc(bytes(data))).failure(), TamperedEnvelope)


def test_keys_are_looked_up_by_id_and_never_tried():
    """FPE-9"""
    renamed = KeyRing({}).add("k2", bytes(range(32)))
    assert isinstance(opened(seal(), keyring=renamed).failure(), UnknownKey)
    assert isinstance(opened(seal(), keyring=None).failure(), UnknownKey)
    same_id = KeyRing({}).add("k1", bytes(32))
    assert isinstance(opened(seal(), keyring=same_id).failure(), TamperedEnvelope)


def test_a_control_ring_opens_heads_and_no_states():
    """FPE-10"""
    control = RING.control_only()
    assert opened(seal(purpose="head"), keyring=control, purpose="head") == Success(b"some state")
    assert isinstance(opened(seal(), keyring=control).failure(), UnknownKey)
    assert isinstance(encrypt(b"", keyring=control, context=b"", purpose="state").failure(), UnknownKey)


def test_all_ordered_pairs_of_contexts_and_purposes_are_apart():
    """FPE-12"""
    places = [
        (context, purpose) for context in (b"", b"ab", b"a", b"abc") for purpose in ("head", "state", "outcome", "c")
    ]
    sealed = {place: seal(context=place[0], purpose=place[1]) for place in places}
    for one, other in permutations(places, 2):
        assert isinstance(opened(sealed[one], context=other[0], purpose=other[1]).failure(), TamperedEnvelope)


def test_purpose_and_context_can_not_be_split_otherwise():
    """FPE-12"""
    sealed = seal(context=b"c", purpose="ab")
    assert isinstance(opened(sealed, context=b"c", purpose="ab"), Success)
    assert isinstance(opened(sealed, context=b"bc", purpose="a").failure(), TamperedEnvelope)


def test_a_wrong_digest_stops_before_decompression():
    """FPE-13"""
    frame = compress(b"x" * 1000).unwrap()
    broken = encrypt(frame + bytes(32), keyring=RING, context=CONTEXT).unwrap()
    assert isinstance(opened(broken).failure(), CorruptedEnvelope)
    assert isinstance(verify(b"short").failure(), CorruptedEnvelope)


def test_a_plain_length_over_the_limit_is_refused():
    """FPE-14"""
    assert isinstance(decompress(compress(bytes(2000)).unwrap(), limit=1999).failure(), StateTooLarge)
    sealer = Sealer(codec=Codec(limits=Limits(max_bytes=1000)))
    large = Sealer().seal("x" * 2000, context=CONTEXT).unwrap()
    assert isinstance(sealer.open(large, context=CONTEXT).failure(), StateTooLarge)


def frame(kind: int, length: int, data: bytes) -> bytes:
    return struct.pack(">BQ", kind, length) + data


ZSTD = compress(b"x" * 5000, compression="zstd").unwrap()[9:]
GZIP = compress(b"x" * 5000, compression="gzip").unwrap()[9:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(9, 1, b"x"),
        frame(0, 2, b"x"),
        frame(1, 4999, ZSTD),
        frame(1, 5000, ZSTD[:-5]),
        frame(1, 5000, ZSTD + b"more"),
        frame(1, 0, ZSTD),
        frame(1, 0, b""),
        frame(1, 5000, b"rubbish"),
        frame(2, 4999, GZIP),
        frame(2, 5001, GZIP),
        frame(2, 5000, GZIP[:-5]),
        frame(2, 5000, GZIP + b"more"),
        frame(2, 5000, b"rubbish"),
    ],
)
def test_frames_that_lie_are_refused(data):
    """FPE-15"""
    assert isinstance(decompress(data).failure(), CompressionError)


@pytest.mark.parametrize("compression", ["auto", "zstd", "gzip", "none"])
@pytest.mark.parametrize("data", [b"", b"x", b"y" * 600, bytes(range(256)) * 4000])
def test_compression_goes_both_ways(compression, data):
    """FPE-15"""
    assert compress(data, compression=compression).bind(decompress) == Success(data)


def test_what_is_small_or_random_is_stored_as_it_is():
    noise = random.Random(1).randbytes(300_000)
    assert compress(noise).unwrap()[0] == 0
    assert compress(b"y" * 2047).unwrap()[0] == 0
    assert compress(b"y" * 2048).unwrap()[0] == 1
    with pytest.raises(ValueError, match="auto, zstd, gzip, none"):
        compress(b"", compression="lzma")


def test_a_zstd_frame_declares_its_size():
    """FPE-18"""
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 5000)
    assert isinstance(decompress(frame(1, 5000, sizeless)).failure(), CompressionError)


def test_an_empty_zstd_frame_has_nothing_behind_it():
    """FPE-18"""
    empty = zstandard.ZstdCompressor(level=1).compress(b"")
    assert decompress(frame(1, 0, empty)) == Success(b"")
    assert isinstance(decompress(frame(1, 0, empty + b"more")).failure(), CompressionError)


DICTIONARY = Dictionary.train([b"state %d waits for %d " % (n, n * n) * 5 for n in range(100)], id=2**15, size=1024)
STATE = b"state 7 waits for 1000 " * 8
WITH_DICTIONARY = compress(STATE, dictionary=DICTIONARY).unwrap()[9:]


def test_a_dictionary_serves_states_alone_and_only_where_it_was_given():
    """FPE-20"""
    assert compress(STATE).unwrap()[0] == 0
    assert frame(3, len(STATE), WITH_DICTIONARY) == compress(STATE, dictionary=DICTIONARY).unwrap()
    assert zstandard.get_frame_parameters(WITH_DICTIONARY).dict_id == DICTIONARY.id == 2**15
    sealer = Sealer(dictionaries=Dictionaries().using(DICTIONARY))
    for purpose in ("state", "head", "fingerprint", "outcome", "dictionary"):
        sealed = sealer.seal(STATE, context=CONTEXT, purpose=purpose).unwrap()
        assert (decrypt(sealed, keyring=None, context=CONTEXT, purpose=purpose).unwrap()[0] == 3) == (
            purpose == "state"
        )
        assert sealer.open(sealed, context=CONTEXT, purpose=purpose) == Success(STATE)


def test_an_unknown_dictionary_is_told_by_its_id():
    """FPE-21"""
    sealed = encrypt(checksum(frame(3, len(STATE), WITH_DICTIONARY)).unwrap(), keyring=RING, context=CONTEXT).unwrap()
    assert opened(sealed, [DICTIONARY]) == Success(STATE)
    error = opened(sealed).failure()
    assert isinstance(error, UnknownDictionary)
    assert error.id == error.to_problem()["dictionary"] == DICTIONARY.id
    assert str(DICTIONARY.id) in str(error)


@pytest.mark.parametrize(
    "data",
    [
        frame(3, 0, b""),
        frame(3, 5000, ZSTD),
        frame(3, len(STATE), b"rubbish"),
        frame(3, len(STATE) - 1, WITH_DICTIONARY),
        frame(3, len(STATE) + 1, WITH_DICTIONARY),
        frame(3, len(STATE), WITH_DICTIONARY[:-5]),
        frame(3, len(STATE), WITH_DICTIONARY + b"more"),
        frame(1, len(STATE), WITH_DICTIONARY),
    ],
)
def test_frames_with_a_dictionary_that_lie_are_refused(data):
    """FPE-15, FPE-18, FPE-21"""
    error = decompress(data, dictionaries={DICTIONARY.id: DICTIONARY}).failure()
    assert type(error) is CompressionError


def test_another_dictionary_under_the_same_id_is_noticed():
    """FPE-22"""
    other = Dictionary.train([b"run %d of %d has ended " % (n, n * n) * 5 for n in range(100)], id=2**15, size=1024)
    framed = frame(3, len(STATE), WITH_DICTIONARY)
    assert isinstance(decompress(framed, dictionaries={other.id: other}).failure(), CompressionError)


def test_a_later_version_is_told_as_such_whatever_its_crc():
    """FPE-5, FPE-7"""
    data = bytearray(seal())
    data[4] = 2
    assert isinstance(opened(bytes(data)).failure(), UnsupportedVersion)
    data[4] = 1
    data[20] ^= 1
    assert isinstance(opened(bytes(data)).failure(), CorruptedEnvelope)


@pytest.mark.parametrize("purpose", ["state", "head"])
def test_errors_tell_no_key_and_no_plain_bytes(purpose):
    """FPE-19"""
    secret = "canary-of-the-state"
    sealed = Sealer(keyring=RING).seal(secret, context=CONTEXT, purpose=purpose).unwrap()
    plain = Sealer().seal(secret, context=CONTEXT, purpose=purpose).unwrap()
    rings = (None, RING, KeyRing.generate("k1"), KeyRing.generate("other"), RING.control_only())
    failures = [
        outcome.failure()
        for data in (sealed, plain, sealed[:-1], with_crc(sealed[:-9] + bytes(9)), plain[:-9] + bytes(9))
        for ring in rings
        if isinstance(outcome := Sealer(keyring=ring).open(data, context=CONTEXT, purpose=purpose), Failure)
    ]
    assert len(failures) > 15
    root = RING.export().partition(":")[2]
    for error in failures:
        told = repr(error.args) + str(error) + json.dumps(error.to_problem())
        assert secret not in told
        assert root not in told


@pytest.mark.parametrize("size", [0, 1, 500, 100_000])
@pytest.mark.parametrize("suite", [1, 2, 3])
def test_a_mark_stands_for_one_envelope(suite, size):
    """FPE-23"""
    ring = None if suite == 1 else RING
    data = random.Random(size).randbytes(size)

    def envelope(plain):
        return encrypt(checksum(compress(plain).unwrap()).unwrap(), keyring=ring, context=CONTEXT, suite=suite).unwrap()

    sealed, again = envelope(data), envelope(data)
    mark = mark_of(sealed)
    kid = b"" if ring is None else ring.primary.encode()
    assert (mark[32:], mark == mark_of(again)) == (bytes([len(kid)]) + kid, suite == 1)
    assert mark != mark_of(envelope(data + b"x"))
    # Of all alterations in one place those that keep the mark don't open, the CRC put right or not.
    for at in random.Random(1).choices(range(len(sealed)), k=200):
        altered = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        for forged in (altered, with_crc(altered)):
            assert forged == sealed or mark_of(forged) != mark or isinstance(opened(forged, keyring=ring), Failure)


def vectors() -> list[dict[str, str]]:
    return json.loads((SPECS / "vectors" / "envelope.json").read_text())


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_vectors_open_for_ever(vector):
    """FPE-17"""
    ring = KeyRing({}).add(vector["kid"], bytes.fromhex(vector["key"])) if vector["key"] else None
    where = {"context": bytes.fromhex(vector["context"]), "purpose": vector["purpose"]}
    plain, envelope = bytes.fromhex(vector["plain"]), bytes.fromhex(vector["envelope"])
    needed = [Dictionary(bytes.fromhex(vector["dictionary"]))] if "dictionary" in vector else []
    assert opened(envelope, needed, keyring=ring, **where) == Success(plain)
    if vector["compression"] == "none":
        framed = compress(plain, compression="none").bind(checksum).unwrap()
        suite = int(vector["suite"])
        again = encrypt(framed, keyring=ring, suite=suite if ring else None, entropy=counting(), **where)
        assert again == Success(envelope)
