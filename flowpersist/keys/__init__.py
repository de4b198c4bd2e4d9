"""Keys that resume a suspension, keys that seal a record, and the cryptographic primitives.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.keys.keyring import KeyProvider, KeyRing
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey, generate_key

__all__ = ["KeyProvider", "KeyRing", "SuspensionId", "SuspensionKey", "generate_key"]
