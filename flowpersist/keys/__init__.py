"""Keys that resume a suspension, keys that seal a record, and the cryptographic primitives.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.keys.key_file import KeyFile
from flowpersist.keys.keyring import KeyProvider, KeyRing, KeyUpdates
from flowpersist.keys.local_service import LocalKeyService, WrappedKeyFile
from flowpersist.keys.signed_note import NoteSigner, NoteVerifier
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey, generate_key
from flowpersist.keys.tenant_keys import KeyService, TenantKeys, WrappedKey, WrappedKeyStore

__all__ = [
    "KeyFile",
    "KeyProvider",
    "KeyRing",
    "KeyService",
    "KeyUpdates",
    "LocalKeyService",
    "NoteSigner",
    "NoteVerifier",
    "SuspensionId",
    "SuspensionKey",
    "TenantKeys",
    "WrappedKey",
    "WrappedKeyFile",
    "WrappedKeyStore",
    "generate_key",
]
