"""The last stage on bytes: encrypt or authenticate a frame, bound to its context, into an envelope.

Each message has a key of its own, derived from the ring's subkey and a random salt, and a commitment to it, so that a
ciphertext belongs to one key (AES-GCM alone does not commit; AWS Encryption SDK's suite 0x0478 does the same) and the
limit of SP 800-38D on random nonces under one key does not bind. Keys are looked up by id, never tried.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Final

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import EncryptionRequired, PersistenceError, StateTooLarge, TamperedEnvelope, UnknownKey
from flowpersist.keyring import KeyRing, Role
from flowpersist.primitives import TAG_BYTES, aes_gcm_decrypt, aes_gcm_encrypt, hkdf_expand, hkdf_extract
from flowpersist.stages.header import (
    AUTHENTICATED,
    ENCRYPTED,
    NONCE_BYTES,
    PLAIN,
    SALT_BYTES,
    Envelope,
    Header,
    Suite,
    parse_envelope,
    render_envelope,
)

__all__ = ["CONTROL_PURPOSES", "Encrypt", "decrypt", "encrypt", "role_of"]

CONTROL_PURPOSES: Final = frozenset({"head", "answer", "audit", "receipt"})
DOMAIN: Final = b"flowpersist/v1"
MAC_BYTES: Final = 32
#: What the library takes in one call, in bytes, with the tag.
AES_GCM_LIMIT: Final = 2**31 - 1 - TAG_BYTES


def role_of(purpose: str) -> Role:
    """Which subkey a purpose is sealed with."""
    return "control" if purpose in CONTROL_PURPOSES else "state"


def encrypt(
    data: bytes,
    *,
    keyring: KeyRing | None,
    context: bytes,
    purpose: str = "state",
    suite: Suite | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Result[bytes, PersistenceError]:
    """An envelope of the data: encrypted where there is a keyring, plain where it is None.

    ``suite`` 2 authenticates without encrypting. What was sealed under one context and purpose opens under no other.
    ``UnknownKey`` where the ring is empty or lacks the purpose's subkey; ``StateTooLarge`` from 2 GiB on.
    """
    if keyring is None:
        if suite not in {None, PLAIN}:
            msg = f"suite {suite} needs a keyring"
            raise ValueError(msg)
        return Success(render_envelope(Header(PLAIN).render(len(data)), data))
    if suite == PLAIN:
        msg = "suite 1 is for no keyring: with one nothing is stored in plain text"
        raise ValueError(msg)
    if not keyring.kids:
        return Failure(UnknownKey("the keyring is empty, so nothing can be sealed; add a key (flowpersist keygen)"))
    if len(data) > AES_GCM_LIMIT:
        message = f"{len(data)} bytes are too many for one message, which holds {AES_GCM_LIMIT}; keep less in the state"
        return Failure(StateTooLarge(message))
    chosen = ENCRYPTED if suite is None else suite
    header = Header(chosen, keyring.primary, entropy(SALT_BYTES), nonce=entropy(NONCE_BYTES))
    subkey = keyring.subkey(keyring.primary, role_of(purpose))
    return subkey.map(lambda key: _sealed(data, header, key, _binding(purpose, context)))


def _sealed(data: bytes, header: Header, subkey: bytes, binding: bytes) -> bytes:
    key, commitment = _message_keys(header, subkey)
    committed = evolve(header, commitment=commitment)
    if header.suite == AUTHENTICATED:
        raw = evolve(committed, nonce=bytes(NONCE_BYTES)).render(len(data) + MAC_BYTES)
        return render_envelope(raw, data, _mac(key, raw, binding, data))
    raw = committed.render(len(data) + TAG_BYTES)
    return render_envelope(raw, aes_gcm_encrypt(key, header.nonce, data, raw + binding))


def decrypt(
    data: bytes, *, keyring: KeyRing | None, context: bytes, purpose: str = "state"
) -> Result[bytes, PersistenceError]:
    """What ``encrypt`` was given; nothing of it is looked at before it is authenticated.

    ``EncryptionRequired`` for plain data where a keyring is set, ``UnknownKey`` for a key that the ring lacks,
    ``TamperedEnvelope`` where bytes, context or purpose are not those that were sealed.
    """
    return parse_envelope(data).bind(lambda envelope: _opened(envelope, keyring, context, purpose))


def _opened(
    envelope: Envelope, keyring: KeyRing | None, context: bytes, purpose: str
) -> Result[bytes, PersistenceError]:
    header = envelope.header
    if header.suite == PLAIN:
        return _plain(envelope, keyring)
    if keyring is None:
        message = f"this is sealed with key {header.kid!r}, and there is no keyring; set FLOWPERSIST_KEYS"
        return Failure(UnknownKey(message))
    return keyring.subkey(header.kid, role_of(purpose)).bind(
        lambda subkey: _authenticated(envelope, subkey, _binding(purpose, context))
    )


def _plain(envelope: Envelope, keyring: KeyRing | None) -> Result[bytes, PersistenceError]:
    if keyring is not None:
        message = "plain data where a keyring is set: it is refused, since anybody could have written it"
        return Failure(EncryptionRequired(message))
    if envelope.header != Header(PLAIN):
        return Failure(_tampered())
    return Success(bytes(envelope.payload))


def _authenticated(envelope: Envelope, subkey: bytes, binding: bytes) -> Result[bytes, PersistenceError]:
    key, commitment = _message_keys(envelope.header, subkey)
    if not hmac.compare_digest(commitment, envelope.header.commitment):
        return Failure(_tampered())
    if envelope.header.suite == AUTHENTICATED:
        plain = _verified(envelope, key, binding)
    else:
        plain = aes_gcm_decrypt(key, envelope.header.nonce, envelope.payload, envelope.raw + binding)
    return Failure(_tampered()) if plain is None else Success(plain)


def _verified(envelope: Envelope, key: bytes, binding: bytes) -> bytes | None:
    data, mac = bytes(envelope.payload[:-MAC_BYTES]), envelope.payload[-MAC_BYTES:]
    return data if hmac.compare_digest(_mac(key, envelope.raw, binding, data), mac) else None


def _message_keys(header: Header, subkey: bytes) -> tuple[bytes, bytes]:
    extracted = hkdf_extract(header.salt, subkey)
    suite = header.suite.to_bytes(2, "big")
    return hkdf_expand(extracted, suite + b"key"), hkdf_expand(extracted, suite + b"commit")


def _mac(key: bytes, raw: bytes, binding: bytes, data: bytes) -> bytes:
    mac = hmac.new(key, raw, "sha256")
    mac.update(binding)
    mac.update(data)
    return mac.digest()


def _binding(purpose: str, context: bytes) -> bytes:
    """Associated data after the header; each part with its length, so that no two splits are the same bytes."""
    parts = (DOMAIN, purpose.encode(), context)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _tampered() -> PersistenceError:
    return TamperedEnvelope(
        "authentication failed: the data was altered, or moved from another record, tenant or purpose; it is not used"
    )


@frozen
class Encrypt:
    """The stage of ``encrypt`` and ``decrypt``."""

    keyring: KeyRing | None
    context: bytes = field(repr=False)
    purpose: str = "state"

    def apply(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Seal."""
        return encrypt(data, keyring=self.keyring, context=self.context, purpose=self.purpose)

    def revert(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Open."""
        return decrypt(data, keyring=self.keyring, context=self.context, purpose=self.purpose)
