"""Envelopes under hostile hands: every bit, every cut, every place, and bytes of any kind."""

from __future__ import annotations

import struct
import zlib
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from returns.result import Failure, Result, Success

from flowpersist import KeyRing, Sealer, SuspensionKey
from flowpersist.errors import CorruptedEnvelope, EncryptionRequired, PersistenceError, TamperedEnvelope
from flowpersist.stages import Dictionary, checksum, compress, decompress, decrypt, encrypt, verify

RING = KeyRing({}).add("k1", bytes(range(32)))
CONTEXT = b"here"
LIMIT = 1_000_000
DICTIONARY = Dictionary.train([b"state %d waits for %d " % (n, n * n) * 5 for n in range(100)], id=2**15, size=1024)
KNOWN = {DICTIONARY.id: DICTIONARY}
SUITES = st.sampled_from([1, 2, 3])
PURPOSES = ["head", "state", "outcome", "audit", "receipt", "answer", "fingerprint", "run-state"]


def seal(data: bytes, suite: int, compression: str = "auto") -> bytes:
    framed = compress(data, compression=compression).bind(checksum).unwrap()
    if suite == 1:
        return encrypt(framed, keyring=None, context=CONTEXT).unwrap()
    return encrypt(framed, keyring=RING, context=CONTEXT, suite=suite).unwrap()


def unsealed(data: bytes, suite: int) -> Result[bytes, PersistenceError]:
    opened = decrypt(data, keyring=None if suite == 1 else RING, context=CONTEXT)
    return opened.bind(verify).bind(lambda framed: decompress(framed, limit=LIMIT, dictionaries=KNOWN))


def with_crc(data: bytes) -> bytes:
    return data[:-4] + struct.pack(">I", zlib.crc32(data[:-4]))


def flips(data: bytes):
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        yield at // 8, bytes(flipped)


@pytest.mark.parametrize("suite", [1, 2, 3])
@pytest.mark.parametrize("compression", ["none", "zstd", "gzip"])
def test_every_flip_of_a_bit_and_every_truncation_is_noticed(suite, compression):
    sealed = seal(b"state " * 20, suite, compression)
    for _, flipped in flips(sealed):
        assert isinstance(unsealed(flipped, suite).failure(), PersistenceError)
    for end in range(len(sealed)):
        assert isinstance(unsealed(sealed[:end], suite).failure(), CorruptedEnvelope)
    assert isinstance(unsealed(sealed + b"\0", suite).failure(), CorruptedEnvelope)


@pytest.mark.parametrize("suite", [2, 3])
def test_every_flip_is_noticed_by_authentication_where_the_crc_was_made_right(suite):
    sealed = seal(b"state " * 20, suite, "zstd")
    for at, flipped in flips(sealed[:-4]):
        outcome = decrypt(with_crc(flipped + bytes(4)), keyring=RING, context=CONTEXT)
        assert isinstance(outcome, Failure), f"byte {at}"


def test_every_flip_of_salt_commitment_nonce_and_payload_is_tampering():
    sealed = seal(b"state", 3)
    authenticated = {*range(14, 14 + 76), *range(14 + 84, len(sealed) - 4)}
    for at, flipped in flips(sealed):
        if at in authenticated:
            outcome = decrypt(with_crc(flipped), keyring=RING, context=CONTEXT)
            assert isinstance(outcome.failure(), TamperedEnvelope)


@pytest.mark.parametrize("suite", [2, 3])
def test_twenty_records_by_all_purposes_never_change_places(suite):
    contexts = [f"{number}".encode() for number in range(19)] + [b""]
    places = [(context, purpose) for context in contexts for purpose in PURPOSES]
    sealed = {p: encrypt(b"x", keyring=RING, context=p[0], purpose=p[1], suite=suite).unwrap() for p in places}
    for one, other in permutations(places, 2):
        opened = decrypt(sealed[one], keyring=RING, context=other[0], purpose=other[1])
        assert isinstance(opened.failure(), TamperedEnvelope)


@given(st.binary(max_size=60), st.binary(max_size=60), st.text("abc/.", max_size=6), st.text("abc/.", max_size=6))
@example(b"c", b"", "ab", "abc")
def test_no_two_splits_of_purpose_and_context_are_the_same(context, other_context, purpose, other_purpose):
    sealed = encrypt(b"x", keyring=RING, context=context, purpose=purpose).unwrap()
    opened = decrypt(sealed, keyring=RING, context=other_context, purpose=other_purpose)
    assert isinstance(opened, Success) == ((context, purpose) == (other_context, other_purpose))


@given(st.binary(max_size=3000), SUITES, st.sampled_from(["auto", "zstd", "gzip", "none"]))
@example(b"", 3, "zstd")
def test_what_is_sealed_opens(data, suite, compression):
    assert unsealed(seal(data, suite, compression), suite) == Success(data)


@given(st.binary(max_size=400), SUITES)
def test_any_bytes_give_errors_of_ours_only(data, suite):
    for hostile in (data, b"FPE1" + data, b"FPE1\x01\x00\x00" + bytes([suite]) + data):
        assert isinstance(unsealed(hostile, suite).failure(), PersistenceError)
        assert isinstance(Sealer(keyring=RING).open(hostile, context=CONTEXT).failure(), PersistenceError)


@given(st.integers(0, 255), st.one_of(st.integers(0, 5000), st.integers(0, 2**64 - 1)), st.binary(max_size=400))
@example(1, 0, b"\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00\x99\xe9\xd8\x51")
@example(3, 0, b"\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00\x99\xe9\xd8\x51")
@example(3, 2**40, b"\x28\xb5\x2f\xfd\xe2\x00\x80" + struct.pack("<Q", 2**40) + b"\x01\x00\x00")
@example(1, 0, b"\x50\x2a\x4d\x18\x00\x00\x00\x00")
def test_any_frame_that_is_authentic_gives_its_length_or_an_error_of_ours(kind, length, body):
    framed = checksum(struct.pack(">BQ", kind, length) + body).unwrap()
    opened = unsealed(encrypt(framed, keyring=RING, context=CONTEXT).unwrap(), 3)
    match opened:
        case Success(plain):
            assert len(plain) == length
        case Failure(error):
            assert isinstance(error, PersistenceError)


@given(st.binary(min_size=20, max_size=2000), st.sampled_from(["zstd", "gzip"]), st.data())
def test_an_altered_compressed_frame_never_gives_other_than_its_length(data, compression, draw):
    framed = bytearray(compress(data, compression=compression).unwrap())
    framed[draw.draw(st.integers(9, len(framed) - 1))] = draw.draw(st.integers(0, 255))
    match decompress(bytes(framed), limit=LIMIT):
        case Success(plain):
            assert plain == data
        case Failure(error):
            assert isinstance(error, PersistenceError)


@given(st.one_of(st.binary(max_size=3000), st.integers(1, 200).map(b"state 7 waits for 49 ".__mul__)), st.data())
def test_a_dictionary_goes_both_ways_and_an_altered_frame_never_gives_other_data(data, draw):
    framed = bytearray(compress(data, compression="zstd", dictionary=DICTIONARY).unwrap())
    assert decompress(bytes(framed), limit=LIMIT, dictionaries=KNOWN) == Success(data)
    framed[draw.draw(st.integers(9, len(framed) - 1))] = draw.draw(st.integers(0, 255))
    match decompress(bytes(framed), limit=LIMIT, dictionaries=KNOWN):
        case Success(plain):
            assert plain == data
        case Failure(error):
            assert isinstance(error, PersistenceError)


@given(st.binary(max_size=200))
def test_plain_data_is_refused_wherever_a_keyring_is_set(data):
    assert isinstance(decrypt(seal(data, 1), keyring=RING, context=CONTEXT).failure(), EncryptionRequired)
    assert isinstance(
        decrypt(seal(data, 1), keyring=RING.control_only(), context=CONTEXT).failure(), EncryptionRequired
    )


@given(st.one_of(st.text(max_size=120), st.text("abcXYZ019", min_size=71, max_size=71).map("df_susp_".__add__)))
def test_any_text_is_a_key_or_a_refusal_that_does_not_repeat_it(text):
    match SuspensionKey.parse(text):
        case Success(key):
            assert str(key) == text
        case Failure(error):
            assert isinstance(error, PersistenceError)
            assert len(text) < 20 or text not in str(error)
