"""The last stage on bytes: encrypt or authenticate a frame, bound to its context, into an envelope.

Each message has a key of its own, expanded from the ring's subkey with a random salt, and a commitment to it, so that a
ciphertext belongs to one key (AES-GCM alone does not commit; AWS Encryption SDK's suite 0x0478 does the same) and the
limit of SP 800-38D on random nonces under one key does not bind. Keys are looked up by id, never tried.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import EncryptionRequired, PersistenceError, StateTooLarge, TamperedEnvelope, UnknownKey
from flowpersist.errors.arguments import check_bytes, check_callable, check_instance, check_str, check_whole
from flowpersist.keys.crypto import (
    KEY_BYTES,
    TAG_BYTES,
    Expansion,
    aes_gcm_decrypt,
    aes_gcm_decrypt_pieces,
    aes_gcm_encrypt,
    aes_gcm_encrypt_pieces,
)
from flowpersist.keys.keyring import KeyRing, Role
from flowpersist.stages.header import (
    AUTHENTICATED,
    ENCRYPTED,
    NONCE_BYTES,
    PIECE_BYTES,
    PLAIN,
    SALT_BYTES,
    Envelope,
    Header,
    Suite,
    buffer_of,
    framed,
    in_pieces,
    parsed_envelope,
    render_envelope,
    rendered_end,
    rendered_start,
)

__all__ = ["CONTROL_PURPOSES", "Encrypt", "Seal", "decrypt", "encrypt", "encrypt_parts", "role_of"]

CONTROL_PURPOSES: Final = frozenset({"head", "answer", "audit", "collection", "ledger", "receipt"})
DOMAIN: Final = b"flowpersist/v1"
MAC_BYTES: Final = 32
#: What the key and the commitment of a message are expanded for, before the salt.
_INFOS: Final = {suite: DOMAIN + b"/message" + suite.to_bytes(2, "big") for suite in (AUTHENTICATED, ENCRYPTED)}
#: The most bytes of one call of the library, with the tag.
AES_GCM_LIMIT: Final = 2**31 - 1 - TAG_BYTES


def _check(keyring: object, context: object, purpose: object) -> None:
    check_instance(keyring, "keyring", (KeyRing, type(None)), "a KeyRing or None")
    check_instance(context, "context", bytes, "bytes")
    check_str(purpose, "purpose")


def role_of(purpose: str) -> Role:
    """The subkey with which a purpose is sealed."""
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
    """Seal data in an envelope: encrypted with a keyring, in plain text if it is None.

    ``suite`` 2 authenticates without encrypting. Sealed data opens only under the same context and purpose.
    ``UnknownKey`` if the ring is empty or lacks the purpose's subkey; ``StateTooLarge`` from 2 GiB on.
    """
    check_bytes(data, "data")
    check_callable(entropy, "entropy")
    return encrypt_parts((data,), keyring=keyring, context=context, purpose=purpose, suite=suite, entropy=entropy)


def encrypt_parts(
    parts: Sequence[bytes],
    *,
    keyring: KeyRing | None,
    context: bytes,
    purpose: str = "state",
    suite: Suite | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> Result[bytes, PersistenceError]:
    """The same of data in parts, which are not joined first."""
    _check(keyring, context, purpose)
    if suite is not None:
        check_whole(suite, "suite", most=ENCRYPTED)
    return Seal(keyring, purpose).seal(parts, context, suite=suite, entropy=entropy)


def _ciphertext(key: bytes, nonce: bytes, parts: Sequence[bytes], size: int, associated: bytes) -> Iterable[bytes]:
    if size <= PIECE_BYTES:
        return (aes_gcm_encrypt(key, nonce, b"".join(parts), associated),)
    return aes_gcm_encrypt_pieces(key, nonce, in_pieces(parts), associated)


def decrypt(
    data: bytes, *, keyring: KeyRing | None, context: bytes, purpose: str = "state"
) -> Result[bytes, PersistenceError]:
    """Open what ``encrypt`` sealed; no byte is interpreted before it is authenticated.

    ``EncryptionRequired`` for plain data if a keyring is set, ``UnknownKey`` for a key that the ring lacks,
    ``TamperedEnvelope`` if bytes, context or purpose differ from what was sealed.
    """
    check_bytes(data, "data")
    _check(keyring, context, purpose)
    return Seal(keyring, purpose).open(data, context)


class Seal:
    """Seals and opens for one purpose with one keyring. What all messages have in common is made once.

    - ``keyring``: None seals in plain text.
    - ``purpose``: it is bound, and tells which subkey is used.
    """

    __slots__ = ("_binding", "_expansions", "_keyring", "_role", "_starts")

    def __init__(self, keyring: KeyRing | None, purpose: str) -> None:
        self._keyring = keyring
        self._role: Role = role_of(purpose)
        # Each part with its length, so that different parts never give the same bytes.
        self._binding = framed(DOMAIN) + framed(purpose.encode())
        #: The beginning of the header for each suite that has sealed.
        self._starts: dict[int, bytes] = {}
        #: The subkeys that were used, by the id of their key.
        self._expansions: dict[str, Expansion] = {}

    def seal(
        self,
        parts: Sequence[bytes],
        context: bytes,
        *,
        suite: Suite | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> Result[bytes, PersistenceError]:
        """Seal data in parts, with the arguments and failures of ``encrypt``."""
        size, keyring = sum(map(len, parts)), self._keyring
        if keyring is None:
            if suite not in {None, PLAIN}:
                msg = f"Invalid suite: {suite} needs a keyring"
                raise ValueError(msg)
            return Success(render_envelope(Header(PLAIN).render(size), in_pieces(parts), size))
        if suite == PLAIN:
            msg = "Invalid suite: suite 1 is plain text, and a keyring is set"
            raise ValueError(msg)
        if not keyring.keys:
            return Failure(UnknownKey("the keyring is empty, so nothing can be sealed; add a key (flowpersist keygen)"))
        if size > AES_GCM_LIMIT:
            message = f"the state has {size} bytes, over the limit of {AES_GCM_LIMIT} for one message; keep less in it"
            return Failure(StateTooLarge(message))
        kid, chosen = keyring.primary, ENCRYPTED if suite is None else suite
        expansion = self._expansions.get(kid)
        if expansion is None:
            learned = self._learned(keyring, kid)
            if not isinstance(learned, Success):
                return Failure(learned.failure())
            expansion = learned.unwrap()
        return Success(self._sealed(parts, size, chosen, kid, expansion, context, entropy))

    def _sealed(
        self,
        parts: Sequence[bytes],
        size: int,
        suite: int,
        kid: str,
        expansion: Expansion,
        context: bytes,
        entropy: Callable[[int], bytes],
    ) -> bytes:
        start = self._starts.get(suite)
        if start is None:
            start = self._starts[suite] = rendered_start(suite, kid)
        binding = self._binding + framed(context)
        salt, nonce = entropy(SALT_BYTES), entropy(NONCE_BYTES)
        keys = expansion.of(_INFOS[suite] + salt)
        key, commitment = keys[:KEY_BYTES], keys[KEY_BYTES:]
        if suite == AUTHENTICATED:
            raw = start + rendered_end(salt, commitment, bytes(NONCE_BYTES), size + MAC_BYTES)
            return render_envelope(raw, in_pieces((*parts, _mac(key, raw, binding, parts))), size + MAC_BYTES)
        raw = start + rendered_end(salt, commitment, nonce, size + TAG_BYTES)
        payload = _ciphertext(key, nonce, parts, size, raw + binding)
        return render_envelope(raw, payload, size + TAG_BYTES)

    def open(self, data: bytes, context: bytes) -> Result[bytes, PersistenceError]:
        """Open what was sealed, with the failures of ``decrypt``."""
        opened = self.opened(data, context)
        return Success(opened) if isinstance(opened, bytes) else Failure(opened)

    def opened(self, data: bytes, context: bytes) -> bytes | PersistenceError:
        """The same without a ``Result``: every read opens a head."""
        envelope = parsed_envelope(data)
        if not isinstance(envelope, Envelope):
            return envelope
        if envelope.suite == PLAIN:
            return _plain(envelope, self._keyring)
        if self._keyring is None:
            message = f"the data is sealed with key {envelope.kid!r}, but there is no keyring; set FLOWPERSIST_KEYS"
            return UnknownKey(message)
        expansion = self._expansions.get(envelope.kid)
        if expansion is None:
            learned = self._learned(self._keyring, envelope.kid)
            if not isinstance(learned, Success):
                return learned.failure()
            expansion = learned.unwrap()
        return _authenticated(envelope, expansion, self._binding + framed(context))

    def _learned(self, keyring: KeyRing, kid: str) -> Result[Expansion, PersistenceError]:
        subkey = keyring.subkey(kid, self._role)
        if not isinstance(subkey, Success):
            return Failure(subkey.failure())
        expansion = Expansion(subkey.unwrap())
        # A key that is not the ring's own may run out, or be destroyed.
        return Success(self._expansions.setdefault(kid, expansion) if kid in keyring.keys else expansion)


def _plain(envelope: Envelope, keyring: KeyRing | None) -> bytes | PersistenceError:
    if keyring is not None:
        message = "the data is not encrypted, but a keyring is set: it is refused because it could be forged"
        return EncryptionRequired(message)
    if not envelope.is_bare:
        return _tampered()
    return bytes(envelope.payload)


def _authenticated(envelope: Envelope, expansion: Expansion, binding: bytes) -> bytes | PersistenceError:
    keys = expansion.of(_INFOS[envelope.suite] + envelope.salt)
    key = keys[:KEY_BYTES]
    if not hmac.compare_digest(keys[KEY_BYTES:], envelope.commitment):
        return _tampered()
    if envelope.suite == AUTHENTICATED:
        plain = _verified(envelope, key, binding)
    else:
        plain = _plaintext(key, envelope.nonce, envelope.payload, envelope.raw + binding)
    return _tampered() if plain is None else plain


def _plaintext(key: bytes, nonce: bytes, payload: memoryview, associated: bytes) -> bytes | None:
    if len(payload) <= PIECE_BYTES:
        return aes_gcm_decrypt(key, nonce, payload, associated)
    sealed, tag = payload[:-TAG_BYTES], bytes(payload[-TAG_BYTES:])
    room = buffer_of(len(sealed))
    return aes_gcm_decrypt_pieces(key, nonce, in_pieces((sealed,)), tag, associated, into=room)


def _verified(envelope: Envelope, key: bytes, binding: bytes) -> bytes | None:
    data, mac = envelope.payload[:-MAC_BYTES], envelope.payload[-MAC_BYTES:]
    return bytes(data) if hmac.compare_digest(_mac(key, envelope.raw, binding, (data,)), mac) else None


def _mac(key: bytes, raw: bytes, binding: bytes, parts: Sequence[bytes | memoryview]) -> bytes:
    mac = hmac.new(key, raw, "sha256")
    for part in (binding, *parts):
        mac.update(part)
    return mac.digest()


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

    def __attrs_post_init__(self) -> None:
        _check(self.keyring, self.context, self.purpose)

    def apply(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Seal."""
        return encrypt(data, keyring=self.keyring, context=self.context, purpose=self.purpose)

    def revert(self, data: bytes) -> Result[bytes, PersistenceError]:
        """Open."""
        return decrypt(data, keyring=self.keyring, context=self.context, purpose=self.purpose)
