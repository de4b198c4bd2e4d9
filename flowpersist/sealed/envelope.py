"""``Sealer``: a value to a sealed envelope and back, by the codec and the stages.

Byte for byte it is the stages composed by hand, with fewer copies: what is compressed is not joined with its length
and digest before it is encrypted, and not cut from them before it is decompressed. What was sealed under one context
and purpose opens under no other; the purpose also says which subkey is used.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.codec import Codec
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import (
    check_bytes,
    check_choice,
    check_instance,
    check_optional,
    check_size,
    check_str,
)
from flowpersist.keys.keyring import KeyRing
from flowpersist.keys.tenant_keys import TenantRing
from flowpersist.stages import Checksum, Compress, Encrypt, Stage
from flowpersist.stages.checksum import digest, verified
from flowpersist.stages.compress import COMPRESSIONS, Compression, compressed, decompressed
from flowpersist.stages.encrypt import Seal
from flowpersist.stages.header import kid_of
from flowpersist.stages.zstd import Dictionaries

__all__ = ["MARK_BYTES", "Sealer", "mark_of"]

#: The bytes of a mark.
MARK_BYTES: Final = 32
#: The most bytes of an envelope's header.
_HEADER_MOST: Final = 160
#: The bytes at the end that contain the CRC and at least the whole tag, MAC or digest.
_TAIL: Final = 36
_NONE: Final = Dictionaries()
#: Of one sealer, for which what seals is kept.
MOST_PURPOSES: Final = 64
#: Tenants of one sealer, for which it is kept.
MOST_TENANTS: Final = 1024


def mark_of(sealed: bytes) -> bytes:
    """What no other envelope has: a digest of 32 bytes, and the id of its key behind its length, a byte. The time for
    it does not depend on the envelope's size.

    The header's salt is drawn anew for every message that is sealed, and a frame that is stored plain ends with its own
    digest. So of all envelopes that open, only one has this header and this end.
    """
    kid = kid_of(sealed).encode("ascii", "replace")
    return hashlib.sha256(sealed[:_HEADER_MOST] + sealed[-_TAIL:]).digest() + len(kid).to_bytes(1, "big") + kid


@frozen
class Sealer:
    """Values to sealed bytes. Without a keyring they are stored plain, with checksums only.

    ``dictionaries`` serve what is sealed for the purpose ``state``, of which they are trained, and nothing else: heads
    open without them.
    """

    codec: Codec = field(factory=Codec)
    compression: Compression = "auto"
    keyring: KeyRing | None = None
    dictionaries: Dictionaries = field(factory=Dictionaries)

    #: The same sealer for tenants, by their data keys.
    _tenants: dict[str, Sealer] = field(init=False, eq=False, repr=False, factory=dict)
    #: What seals, by the purpose.
    _seals: dict[str, Seal] = field(init=False, eq=False, repr=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        check_instance(self.codec, "codec", Codec, "a Codec")
        check_choice(self.compression, "compression", COMPRESSIONS)
        check_instance(self.keyring, "keyring", (KeyRing, type(None)), "a KeyRing or None")
        check_instance(self.dictionaries, "dictionaries", Dictionaries, "a Dictionaries")
        # Whether secrets may be written is for the keyring to say, and for nobody else.
        object.__setattr__(self, "codec", evolve(self.codec, encrypted=self.keyring is not None))

    def seal(self, value: object, *, context: bytes, purpose: str = "state") -> Result[bytes, PersistenceError]:
        """Encode and seal a value for this context."""
        return self.codec.encode(value).bind(lambda data: self.seal_bytes(data, context=context, purpose=purpose))

    def open(self, data: bytes, *, context: bytes, purpose: str = "state") -> Result[object, PersistenceError]:
        """The value that was sealed for this context."""
        return self.open_bytes(data, context=context, purpose=purpose).bind(self.codec.decode)

    def seal_bytes(self, data: bytes, *, context: bytes, purpose: str = "state") -> Result[bytes, PersistenceError]:
        """Seal bytes that are encoded already."""
        check_bytes(data, "data")
        parts = compressed(data, self.compression, self._dictionaries(purpose).current)
        return self._seal(purpose, context).seal((*parts, digest(parts)), context)

    def open_bytes(
        self, data: bytes, *, context: bytes, purpose: str = "state", limit: int | None = None
    ) -> Result[bytes, PersistenceError]:
        """The bytes that were sealed, not decoded."""
        opened = self.opened_bytes(data, context, purpose, limit)
        return Success(opened) if isinstance(opened, bytes) else Failure(opened)

    def opened_bytes(
        self, data: bytes, context: bytes, purpose: str = "state", limit: int | None = None
    ) -> bytes | PersistenceError:
        """The same, or the error. Every read opens a head; a ``Result`` takes as long as a step of it."""
        check_optional(limit, "limit", check_size)
        check_bytes(data, "data")
        framed = self._seal(purpose, context).opened(data, context)
        if not isinstance(framed, bytes):
            return framed
        frame = verified(framed)
        if not isinstance(frame, memoryview):
            return frame
        most = self.codec.limits.max_bytes if limit is None else limit
        return decompressed(frame, most, self._dictionaries(purpose).known)

    def stages(self, context: bytes, purpose: str) -> tuple[Stage, ...]:
        """The stages behind the codec, in the order of sealing."""
        return (
            Compress(self.compression, self.codec.limits.max_bytes, self._dictionaries(purpose)),
            Checksum(),
            Encrypt(self.keyring, context, purpose),
        )

    def with_keyring(self, keyring: KeyRing | None) -> Sealer:
        """The same with another keyring."""
        return evolve(self, keyring=keyring)

    def for_tenant(self, tenant: str | None) -> Sealer:
        """The same, sealing with the data key of a tenant, where the keyring has such keys."""
        ring = self.keyring
        if tenant is None or not isinstance(ring, TenantRing):
            return self
        kid = ring.data.kid_of(tenant) or ""
        found = self._tenants.get(kid)
        if found is None:
            found = evolve(self, keyring=ring.for_tenant(tenant))
            if len(self._tenants) < MOST_TENANTS:
                self._tenants[kid] = found
        return found

    def with_dictionaries(self, dictionaries: Dictionaries) -> Sealer:
        """The same with other dictionaries."""
        return evolve(self, dictionaries=dictionaries)

    def _seal(self, purpose: str, context: bytes) -> Seal:
        check_instance(context, "context", bytes, "bytes")
        check_str(purpose, "purpose")
        seal = self._seals.get(purpose)
        if seal is None:
            seal = Seal(self.keyring, purpose)
            if len(self._seals) < MOST_PURPOSES:
                self._seals[purpose] = seal
        return seal

    def _dictionaries(self, purpose: str) -> Dictionaries:
        return self.dictionaries if purpose == "state" else _NONE
