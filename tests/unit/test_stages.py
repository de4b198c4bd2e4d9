"""The stages alone, and the folds over them."""

from __future__ import annotations

import gzip
import random
import struct
import threading
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from returns.result import Success

from flowpersist import KeyRing, Sealer
from flowpersist.codec import Codec
from flowpersist.errors import CompressionError, CorruptedEnvelope, StateTooLarge, UnknownKey, UnsupportedType
from flowpersist.keys.crypto import (
    Expansion,
    aes_gcm_decrypt_pieces,
    aes_gcm_encrypt,
    aes_gcm_encrypt_pieces,
    hkdf_expand,
)
from flowpersist.stages import (
    Checksum,
    Compress,
    Dictionary,
    Encrypt,
    apply_all,
    checksum,
    compress,
    decompress,
    decrypt,
    deserialize,
    encrypt,
    revert_all,
    serialize,
)
from flowpersist.stages.encrypt import encrypt_parts
from flowpersist.stages.header import PIECE_BYTES, in_pieces

RING = KeyRing.generate()
STAGES = (Compress(), Checksum(), Encrypt(RING, b"here"))
EMPTY = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(b"")


def frame(kind: int, length: int, data: bytes) -> bytes:
    return struct.pack(">BQ", kind, length) + data


def test_a_value_goes_through_serialize_and_back():
    codec = Codec()
    assert serialize({"a": [1]}, codec=codec).bind(lambda data: deserialize(data, codec=codec)) == Success({"a": [1]})
    assert isinstance(serialize(object(), codec=codec).failure(), UnsupportedType)


def test_the_folds_are_inverse_to_each_other():
    for data in (b"", b"x", b"y" * 100_000):
        assert apply_all(data, STAGES).bind(lambda sealed: revert_all(sealed, STAGES)) == Success(data)
    assert apply_all(b"as it is", ()) == Success(b"as it is")


def test_a_fold_stops_at_the_first_failure():
    reached = []

    class Spy(Checksum):
        def revert(self, data):
            reached.append(data)
            return super().revert(data)

    sealed = bytearray(apply_all(b"state", STAGES).unwrap())
    sealed[-6] ^= 1
    assert isinstance(
        revert_all(bytes(sealed), (Compress(), Spy(), Encrypt(RING, b"here"))).failure(), CorruptedEnvelope
    )
    assert not reached


def test_the_stage_of_a_limit_holds_it():
    compressed = compress(b"y" * 2000).unwrap()
    assert isinstance(Compress(limit=1999).revert(compressed).failure(), StateTooLarge)
    assert Compress(limit=2000).revert(compressed) == Success(b"y" * 2000)


@pytest.mark.parametrize("size", [2048, 4096, 131_072, 131_073, 1_000_000])
def test_auto_stores_what_does_not_shrink_by_its_factor(size):
    noise = random.Random(size).randbytes(size)
    assert compress(noise).unwrap() == frame(0, size, noise)
    assert compress(bytes(size)).unwrap()[0] == 1
    # What was asked for by name is done, whether it gains or not.
    assert compress(noise, compression="zstd").unwrap()[0] == 1


def test_auto_stores_what_only_looks_as_if_it_shrank():
    # The samples are zeros, all between them is noise.
    data = bytearray(random.Random(1).randbytes(16 * 100_000))
    for start in range(0, len(data), 100_000):
        data[start : start + 4096] = bytes(4096)
    assert compress(bytes(data)).unwrap()[0] == 0


def test_what_is_half_random_pays_for_the_other_half_only():
    noise, text = random.Random(1).randbytes(1_000_000), b"a state that waits " * 50_000
    for data in (noise + text, text + noise):
        framed = compress(data).unwrap()
        assert framed[0] == 1
        assert len(framed) < len(noise) + 2000
        assert decompress(framed) == Success(data)


@pytest.mark.parametrize("size", [128 * 1024, 128 * 1024 + 1, 4 * 2**20 - 1, 4 * 2**20])
def test_every_level_gives_equal_bytes_for_equal_data(size):
    data = (random.Random(1).randbytes(50_000) * 100)[:size]
    framed = compress(data).unwrap()
    assert framed == compress(bytearray(data)).unwrap()
    assert decompress(framed) == Success(data)


def test_what_two_threads_make_is_what_any_number_makes():
    data = random.Random(1).randbytes(2_200_000).hex().encode()
    alone = zstandard.ZstdCompressor(level=1, write_checksum=True, threads=1).compress(data)
    assert alone != zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data)
    assert compress(data).unwrap() == frame(1, len(data), alone)


def test_gzip_is_everybodys():
    data = b"a state that waits " * 500
    framed = compress(data, compression="gzip").unwrap()
    assert gzip.decompress(framed[9:]) == data
    # No time and no name, so that equal data gives equal bytes.
    assert framed[9:17] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    foreign = gzip.compress(data, compresslevel=9, mtime=1_700_000_000)
    assert decompress(frame(2, len(data), foreign)) == Success(data)
    two_members = gzip.compress(data[:100]) + gzip.compress(data[100:])
    assert isinstance(decompress(frame(2, len(data), two_members)).failure(), CompressionError)


def test_a_gzip_bomb_takes_no_more_than_it_declares():
    bomb = gzip.compress(bytes(20_000_000), compresslevel=1)
    tracemalloc.start()
    outcome = decompress(frame(2, 1000, bomb))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome.failure(), CompressionError)
    assert most < 100_000 + 2 * len(bomb)


SIZES = [0, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7]


@pytest.mark.parametrize("suite", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_parts_are_sealed_as_the_whole_is(suite, size):
    data = random.Random(size).randbytes(size)
    ring, asked = (None, None) if suite == 1 else (RING, suite)
    sealed = [
        encrypt_parts(parts, keyring=ring, context=b"", suite=asked, entropy=bytes).unwrap()
        for parts in ((data,), (data[:9], data[9:]), (b"", data[:-32], data[-32:]))
    ]
    assert (
        sealed[0]
        == sealed[1]
        == sealed[2]
        == encrypt(data, keyring=ring, context=b"", suite=asked, entropy=bytes).unwrap()
    )
    assert decrypt(sealed[0], keyring=ring, context=b"") == Success(data)


@pytest.mark.parametrize("info", [b"", b"key", bytes(200)])
def test_keys_are_expanded_as_the_library_does_it(info):
    key = bytes(range(64))
    assert hkdf_expand(key, info) == HKDFExpand(hashes.SHA512(), 32, info).derive(key)


@pytest.mark.parametrize("size", [0, 1, 32, 64, 127, 128, 129, 1000])
def test_keys_of_any_size_are_expanded_to_64_bytes_for_any_number_of_purposes(size):
    key = random.Random(size).randbytes(size)
    expansion = Expansion(key)
    for info in (b"info", b"", bytes(1000), b"info"):
        assert expansion.of(info) == HKDFExpand(hashes.SHA512(), 64, info).derive(key)


def test_the_key_of_a_message_is_as_the_specification_says():
    ring, salt = KeyRing({}).add("k1", bytes(range(32))), bytes([1]) * 32
    subkey = ring.subkey("k1", "state").unwrap()
    context = b"here"
    entropy = iter((salt, bytes([2]) * 12))
    sealed = encrypt(b"data", keyring=ring, context=context, entropy=lambda _: next(entropy)).unwrap()
    info = b"flowpersist/v1/message" + (3).to_bytes(2, "big") + salt
    keys = HKDFExpand(hashes.SHA512(), 64, info).derive(subkey)
    header, payload = sealed[: 12 + 2 + 84], sealed[12 + 2 + 84 : -4]
    assert header[12 + 2 + 32 :][:32] == keys[32:]
    bound = header + b"".join(len(part).to_bytes(4, "big") + part for part in (b"flowpersist/v1", b"state", context))
    assert AESGCM(keys[:32]).decrypt(bytes([2]) * 12, payload, bound) == b"data"


@pytest.mark.parametrize("size", SIZES)
def test_pieces_are_encrypted_as_one_message(size):
    key, nonce, data = bytes(range(32)), bytes(12), random.Random(size).randbytes(size)
    whole = aes_gcm_encrypt(key, nonce, data, b"bound")
    assert b"".join(aes_gcm_encrypt_pieces(key, nonce, in_pieces([data]), b"bound")) == whole
    pieces, tag = list(in_pieces([whole[:-16]])), whole[-16:]
    assert aes_gcm_decrypt_pieces(key, nonce, pieces, tag, b"bound", into=BytesIO()) == data
    assert aes_gcm_decrypt_pieces(key, nonce, pieces, tag, b"other", into=BytesIO()) is None


def test_a_flip_in_any_piece_is_tampering():
    sealed = encrypt(bytes(3 * PIECE_BYTES), keyring=RING, context=b"").unwrap()
    for at in (200, PIECE_BYTES, 2 * PIECE_BYTES + 500, len(sealed) - 5):
        flipped = bytearray(sealed[:-4])
        flipped[at] ^= 1
        altered = bytes(flipped) + struct.pack(">I", zlib.crc32(flipped))
        assert decrypt(altered, keyring=RING, context=b"").failure().code == "tampered"


def test_sixteen_threads_compress_at_once():
    barrier = threading.Barrier(16)

    def work(seed: int) -> bool:
        data = random.Random(seed).randbytes(1000) * 200
        barrier.wait()
        return all(compress(data).bind(decompress) == Success(data) for _ in range(5))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_equal_data_gives_equal_bytes():
    for compression in ("zstd", "gzip"):
        assert compress(b"y" * 5000, compression=compression) == compress(b"y" * 5000, compression=compression)


def test_an_empty_zstd_frame_is_looked_at_like_any_other():
    """FPE-15: nothing behind it, no skippable frame, no content after a header that says there is none."""
    assert decompress(frame(1, 0, EMPTY)) == Success(b"")
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 2) + b"ab"
    bomb = EMPTY[:6] + b"\x03\x00\x10" + b"y"
    for lie in (EMPTY + b"more", skippable, EMPTY[:-1], EMPTY[:-4] + bytes(4), bomb, EMPTY + EMPTY, b""):
        assert isinstance(decompress(frame(1, 0, lie)).failure(), CompressionError)


def test_a_frame_that_claims_a_terabyte_allocates_nothing():
    """FPE-14, FPE-15"""
    claim = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**40) + b"\x01\x00\x00"
    assert isinstance(decompress(frame(1, 2**40, claim)).failure(), StateTooLarge)
    assert isinstance(decompress(frame(1, 100, claim)).failure(), CompressionError)
    dictionary = Dictionary.train([b"state %d waits for %d " % (n, n * n) * 5 for n in range(100)], id=2**15, size=1024)
    named = b"\x28\xb5\x2f\xfd\xe2\x00\x80" + claim[5:]
    assert zstandard.get_frame_parameters(named).dict_id == dictionary.id
    for length, error in ((2**40, StateTooLarge), (100, CompressionError)):
        outcome = decompress(frame(3, length, named), dictionaries={dictionary.id: dictionary})
        assert type(outcome.failure()) is error


@pytest.mark.parametrize("kind", [1, 3])
def test_a_zstd_bomb_takes_no_more_than_it_declares(kind):
    """FPE-15"""
    dictionary = Dictionary.train([b"state %d waits for %d " % (n, n * n) * 5 for n in range(100)], id=2**15, size=1024)
    maker = zstandard.ZstdCompressor() if kind == 1 else dictionary.compressor()
    bomb = frame(kind, 1000, maker.compress(bytes(20_000_000)))
    tracemalloc.start()
    outcome = decompress(bomb, dictionaries={dictionary.id: dictionary})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert type(outcome.failure()) is CompressionError
    assert most < 100_000


def test_an_empty_ring_seals_nothing_and_says_why():
    assert isinstance(encrypt(b"", keyring=KeyRing({}), context=b"").failure(), UnknownKey)
    sealed = encrypt(b"", keyring=RING, context=b"").unwrap()
    assert "it has none" in str(decrypt(sealed, keyring=KeyRing({}), context=b"").failure())


def test_more_than_one_message_holds_is_too_large(monkeypatch):
    monkeypatch.setitem(encrypt.__globals__, "AES_GCM_LIMIT", 100)
    assert isinstance(encrypt(bytes(101), keyring=RING, context=b"").failure(), StateTooLarge)
    assert isinstance(encrypt(bytes(100), keyring=RING, context=b""), Success)


def test_a_payload_shorter_than_its_tag_is_tampering():
    """FPE-11: header and commitment are true, all of the payload but some bytes is cut off."""
    for suite, tag in ((2, 32), (3, 16)):
        sealed = encrypt(b"frame", keyring=RING, context=b"", suite=suite).unwrap()
        at = len(sealed) - 4 - tag - len(b"frame")
        for left in range(tag):
            cut = sealed[: at - 8] + struct.pack(">Q", left) + sealed[at : at + left]
            assert decrypt(_with_crc(cut), keyring=RING, context=b"").failure().code == "tampered"


def _with_crc(data: bytes) -> bytes:
    return data + struct.pack(">I", crc_32(data))


def crc_32(data: bytes) -> int:
    # Bit by bit, so that the table's CRC is checked against something that is not zlib.
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_stages_show_neither_keys_nor_contexts():
    text = repr(STAGES) + repr(Sealer(keyring=RING))
    assert "here" not in text
    assert RING.export().partition(":")[2] not in text


def test_another_keyring_makes_another_sealer():
    sealer = Sealer(keyring=RING)
    sealed = sealer.seal("x", context=b"").unwrap()
    other = sealer.with_keyring(KeyRing.generate())
    assert isinstance(other.open(sealed, context=b"").failure(), UnknownKey)
    assert sealer.open(sealed, context=b"") == Success("x")


def test_the_digest_is_sha_256_over_all_before_it():
    assert checksum(b"abc").unwrap()[3:].hex().startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
