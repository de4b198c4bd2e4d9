"""A ciphertext opens under one key alone, though AES-GCM would open one that was made for two."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from returns.result import Success

from flowpersist import KeyRing
from flowpersist.errors import TamperedEnvelope
from flowpersist.keys.crypto import KEY_BYTES, TAG_BYTES, Expansion, aes_gcm_decrypt, aes_gcm_encrypt
from flowpersist.stages import decrypt, encrypt
from flowpersist.stages.encrypt import _INFOS, DOMAIN
from flowpersist.stages.header import ENCRYPTED, Header, framed, parse_envelope, render_envelope

CONTEXT = b"here"
BLOCK = 16
#: Two rings whose key of one id differs, as after a key was exchanged behind somebody's back.
RINGS = [KeyRing({}).add("k", bytes([fill]) * KEY_BYTES) for fill in (1, 2)]
SALT, NONCE = bytes(range(32)), bytes(12)


def times(one: int, other: int) -> int:
    """The product of two elements of GCM's field (NIST SP 800-38D, 6.3)."""
    product = 0
    for bit in range(127, -1, -1):
        if other >> bit & 1:
            product ^= one
        one = one >> 1 ^ (0xE1 << 120 if one & 1 else 0)
    return product


def power(base: int, exponent: int) -> int:
    found = 1 << 127
    for bit in f"{exponent:b}":
        found = times(found, found)
        found = times(found, base) if bit == "1" else found
    return found


def blocks(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + BLOCK].ljust(BLOCK, b"\0"), "big") for at in range(0, len(data), BLOCK)]


def tag_parts(key: bytes, associated: bytes, length: int) -> tuple[int, int]:
    """The hash's key, and the tag of a ciphertext of so many zeros."""
    # The hash of nothing with nothing beside it is zero, so that its tag is what masks every tag of this nonce.
    mask = int.from_bytes(aes_gcm_encrypt(key, NONCE, b"", b""), "big")
    hashed = hash_key(key)
    sizes = (len(associated) * 8) << 64 | length * 8
    tag = 0
    for block in (*blocks(associated), *[0] * (length // BLOCK), sizes):
        tag = times(tag ^ block, hashed)
    return hashed, tag ^ mask


def hash_key(key: bytes) -> int:
    """AES of a block of zeros, which is the first of the key stream from a counter of zero."""
    return int.from_bytes(
        Cipher(algorithms.AES256(key), modes.CTR(bytes(BLOCK))).encryptor().update(bytes(BLOCK)), "big"
    )


def message_key(ring: KeyRing) -> tuple[bytes, bytes]:
    """The key and the commitment of a message with that salt."""
    keys = Expansion(ring.subkey("k", "state").unwrap()).of(_INFOS[ENCRYPTED] + SALT)
    return keys[:KEY_BYTES], keys[KEY_BYTES:]


def made_for_both() -> bytes:
    """An envelope with the commitment of the first key, and a tag that fits under either (Dodis et al., 2018)."""
    (one, commitment), (other, _) = map(message_key, RINGS)
    raw = Header(ENCRYPTED, "k", SALT, commitment, NONCE).render(BLOCK + TAG_BYTES)
    associated = raw + framed(DOMAIN) + framed(b"state") + framed(CONTEXT)
    (hash_one, tag_one), (hash_other, tag_other) = (tag_parts(key, associated, BLOCK) for key in (one, other))
    # A block of ciphertext is multiplied by the square of each hash's key: the one that makes both tags equal.
    factor = times(hash_one, hash_one) ^ times(hash_other, hash_other)
    block = times(tag_one ^ tag_other, power(factor, 2**128 - 2))
    tag = tag_one ^ times(block, times(hash_one, hash_one))
    payload = block.to_bytes(BLOCK, "big") + tag.to_bytes(TAG_BYTES, "big")
    for key in (one, other):
        assert aes_gcm_decrypt(key, NONCE, payload, associated) is not None
    return render_envelope(raw, [payload], len(payload))


def test_a_ciphertext_that_was_made_for_two_keys_opens_under_one():
    forged = made_for_both()
    assert isinstance(decrypt(forged, keyring=RINGS[0], context=CONTEXT), Success)
    assert isinstance(decrypt(forged, keyring=RINGS[1], context=CONTEXT).failure(), TamperedEnvelope)


def test_each_key_has_a_commitment_of_its_own():
    sealed = [encrypt(b"x", keyring=ring, context=CONTEXT, entropy=bytes).unwrap() for ring in RINGS]
    one, other = (parse_envelope(data).unwrap().commitment for data in sealed)
    assert one != other
