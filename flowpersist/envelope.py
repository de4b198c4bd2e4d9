"""``Sealer``: a value to a sealed envelope and back, by the codec and the stages.

Byte for byte it is the stages composed by hand. What was sealed under one context and purpose opens under no other; the
purpose also says which subkey is used.
"""

from __future__ import annotations

from attrs import evolve, field, frozen
from returns.result import Result

from flowpersist.codec import Codec
from flowpersist.errors import PersistenceError
from flowpersist.keyring import KeyRing
from flowpersist.stages import Checksum, Compress, Encrypt, Stage, apply_all, revert_all
from flowpersist.stages.compress import Compression

__all__ = ["Sealer"]


@frozen
class Sealer:
    """Values to sealed bytes. Without a keyring they are stored plain, with checksums only."""

    codec: Codec = field(factory=Codec)
    compression: Compression = "auto"
    keyring: KeyRing | None = None

    def seal(self, value: object, *, context: bytes, purpose: str = "state") -> Result[bytes, PersistenceError]:
        """Encode and seal a value for this context."""
        return self.codec.encode(value).bind(lambda data: self.seal_bytes(data, context=context, purpose=purpose))

    def open(self, data: bytes, *, context: bytes, purpose: str = "state") -> Result[object, PersistenceError]:
        """The value that was sealed for this context."""
        return self.open_bytes(data, context=context, purpose=purpose).bind(self.codec.decode)

    def seal_bytes(self, data: bytes, *, context: bytes, purpose: str = "state") -> Result[bytes, PersistenceError]:
        """Seal bytes that are encoded already."""
        return apply_all(data, self.stages(context, purpose))

    def open_bytes(self, data: bytes, *, context: bytes, purpose: str = "state") -> Result[bytes, PersistenceError]:
        """The bytes that were sealed, not decoded."""
        return revert_all(data, self.stages(context, purpose))

    def stages(self, context: bytes, purpose: str) -> tuple[Stage, ...]:
        """The stages behind the codec, in the order of sealing."""
        return (
            Compress(self.compression, self.codec.limits.max_bytes),
            Checksum(),
            Encrypt(self.keyring, context, purpose),
        )

    def with_keyring(self, keyring: KeyRing | None) -> Sealer:
        """The same with another keyring."""
        return evolve(self, keyring=keyring)
