"""The cryptographic primitives, and the one place that knows where they come from.

HKDF is RFC 5869 with SHA-512; AES-256-GCM is NIST SP 800-38D with nonces of 96 bits and tags of 128; Ed25519 is RFC
8032.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "KEY_BYTES",
    "TAG_BYTES",
    "Expansion",
    "KeyedDigest",
    "aes_gcm_decrypt",
    "aes_gcm_decrypt_pieces",
    "aes_gcm_encrypt",
    "aes_gcm_encrypt_pieces",
    "ed25519_public",
    "ed25519_sign",
    "ed25519_verifies",
    "hkdf_expand",
]

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
#: What each byte of a key becomes in either pad of HMAC (RFC 2104).
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def hkdf_expand(key: bytes, info: bytes) -> bytes:
    """32 bytes for this purpose."""
    return Expansion(key).of(info)[:KEY_BYTES]


class Expansion:
    """HKDF-Expand of one key to 64 bytes, for any number of purposes; any thread may use it."""

    __slots__ = ("_mac",)

    def __init__(self, key: bytes) -> None:
        self._mac = KeyedDigest(key, hashlib.sha512)

    def of(self, info: bytes) -> bytes:
        """The 64 bytes for this purpose."""
        # They are one block, so the first is all there is to compute (RFC 5869, 2.3).
        return self._mac.of(info + b"\x01")


class KeyedDigest:
    """HMAC of any number of messages under one key; any thread may use it.

    By its definition (RFC 2104), since OpenSSL 3 takes longer to set one up than the rest takes.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, kind: Callable[[bytes], hashlib._Hash] = hashlib.sha256) -> None:
        block = kind(b"").block_size
        padded = (key if len(key) <= block else kind(key).digest()).ljust(block, b"\0")
        self._inner, self._outer = kind(padded.translate(_INNER)), kind(padded.translate(_OUTER))

    def of(self, message: bytes) -> bytes:
        """The digest of a message."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


def aes_gcm_encrypt(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """Ciphertext and tag."""
    return AESGCM(key).encrypt(nonce, data, associated)


def aes_gcm_decrypt(key: bytes, nonce: bytes, data: bytes | memoryview, associated: bytes) -> bytes | None:
    """The plaintext, or None where the tag does not fit, or the data is longer than anything sealed by this."""
    try:
        return AESGCM(key).decrypt(nonce, data, associated)
    except (InvalidTag, OverflowError):
        return None


# What is small is done sooner in one call, which holds the interpreter's lock throughout; between pieces others get it.


def aes_gcm_encrypt_pieces(
    key: bytes, nonce: bytes, pieces: Iterable[bytes | memoryview], associated: bytes
) -> Iterator[bytes]:
    """The same of data that comes in pieces, in pieces; the tag is the last."""
    encryptor = Cipher(algorithms.AES256(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(associated)
    for piece in pieces:
        yield encryptor.update(piece)
    yield encryptor.finalize() + encryptor.tag


def aes_gcm_decrypt_pieces(
    key: bytes, nonce: bytes, pieces: Iterable[bytes | memoryview], tag: bytes, associated: bytes, *, into: BytesIO
) -> bytes | None:
    """The plaintext of pieces, or None where the tag does not fit: nothing of it is given before that is known.

    ``into`` is an empty buffer, of which nobody else makes use.
    """
    decryptor = Cipher(algorithms.AES256(key), modes.GCM(nonce, tag)).decryptor()
    decryptor.authenticate_additional_data(associated)
    into.writelines(map(decryptor.update, pieces))
    try:
        decryptor.finalize()
    except InvalidTag:
        return None
    return into.getvalue()


def ed25519_public(seed: bytes) -> bytes:
    """The public key, 32 bytes, of a private one, which is a seed of 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    """The signature, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def ed25519_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the holder of the private key has signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
