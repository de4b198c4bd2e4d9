"""A key service without a service: a master key in a keyring wraps, and a file keeps what was wrapped."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from flowpersist.errors import ConfigurationError, TamperedEnvelope, UnknownKey
from flowpersist.errors.arguments import check_callable, check_instance
from flowpersist.keys.crypto import aes_gcm_decrypt, aes_gcm_encrypt, hkdf_expand
from flowpersist.keys.key_file import alone, replace_file
from flowpersist.keys.keyring import KeyRing
from flowpersist.keys.tenant_keys import WrappedKey
from flowpersist.keys.text_file import text_of

__all__ = ["LocalKeyService", "WrappedKeyFile"]

T = TypeVar("T")
_INFO: Final = b"flowpersist/v1/wrap"
_NONCE: Final = 12
_FORMAT: Final = "flowpersist wrapped keys 1"
#: The most bytes of a file: a million keys.
_MOST: Final = 256 * 1024 * 1024


class LocalKeyService:
    """Wraps with the primary key of a keyring (AES-256-GCM), and unwraps with any of its keys.

    - ``ring``: the master keys. Not those that seal the store.
    - ``entropy``: random bytes.
    """

    def __init__(self, ring: KeyRing, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        check_instance(ring, "ring", KeyRing, "a KeyRing")
        check_callable(entropy, "entropy")
        self._ring, self._entropy = ring, entropy

    async def wrap(self, key: bytes, *, context: bytes) -> bytes:
        """See ``KeyService``: the length and id of the master key, a nonce, ciphertext and tag."""
        kid, nonce = self._ring.primary, self._entropy(_NONCE)
        sealed = aes_gcm_encrypt(self._master(kid), nonce, key, context)
        return len(kid).to_bytes(1, "big") + kid.encode() + nonce + sealed

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        """See ``KeyService``."""
        end = 1 + wrapped[0] if wrapped else 1
        kid, sealed = wrapped[1:end].decode("ascii", "replace"), wrapped[end + _NONCE :]
        nonce = wrapped[end : end + _NONCE]
        key = aes_gcm_decrypt(self._master(kid), nonce, sealed, context) if len(nonce) == _NONCE else None
        if key is None:
            message = "a wrapped data key was altered, or is of another tenant; restore the file of wrapped keys"
            raise TamperedEnvelope(message)
        return key

    def _master(self, kid: str) -> bytes:
        key = self._ring.keys.get(kid)
        if key is None or key.root is None:
            raise UnknownKey(f"a data key is wrapped with master key {kid!r}, which the keyring lacks; add it")
        return hkdf_expand(key.root, _INFO)

    def __repr__(self) -> str:
        return f"<LocalKeyService of {self._ring!r}>"


class WrappedKeyFile:
    """Wrapped keys in a file of JSON, which each change replaces in one step. For tens of thousands of tenants.

    Keep it away from the database and from its backups, and let backups of it expire: a shredded tenant is readable
    with an old copy of it.

    - ``path``: the file; it is made with the first key.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_instance(path, "path", (str, os.PathLike), "a path")
        self.path = Path(path)

    async def of_tenant(self, tenant: str) -> Sequence[WrappedKey]:
        """See ``WrappedKeyStore``."""
        keys = await asyncio.to_thread(self._read)
        return [one for one in keys if one.tenant == tenant]

    async def tenant_of(self, kid: str) -> str | None:
        """See ``WrappedKeyStore``."""
        keys = await asyncio.to_thread(self._read)
        return next((one.tenant for one in keys if one.kid == kid), None)

    async def add(self, key: WrappedKey, *, after: str | None) -> bool:
        """See ``WrappedKeyStore``."""

        def changed(keys: list[WrappedKey]) -> tuple[list[WrappedKey], bool]:
            newest = next((one.kid for one in keys if one.tenant == key.tenant), None)
            return ([key, *keys], True) if newest == after else (keys, False)

        return await asyncio.to_thread(self._changed, changed)

    async def destroy(self, tenant: str) -> int:
        """See ``WrappedKeyStore``."""

        def changed(keys: list[WrappedKey]) -> tuple[list[WrappedKey], int]:
            left = [one for one in keys if one.tenant != tenant]
            return left, len(keys) - len(left)

        return await asyncio.to_thread(self._changed, changed)

    def _changed(self, change: Callable[[list[WrappedKey]], tuple[list[WrappedKey], T]]) -> T:
        path = Path(os.path.realpath(self.path))
        with alone(path.parent):
            before = self._read()
            after, result = change(before)
            if after != before:
                keys = [[one.kid, one.tenant, base64.b64encode(one.wrapped).decode()] for one in after]
                replace_file(path, json.dumps({_FORMAT: keys}))
        return result

    def _read(self) -> list[WrappedKey]:
        try:
            data: Any = json.loads(text_of(self.path, most=_MOST))[_FORMAT]
            return [WrappedKey(kid, tenant, base64.b64decode(wrapped)) for kid, tenant, wrapped in data]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            message = f"the file of wrapped keys {os.fspath(self.path)!r} can't be read; restore it from a backup"
            raise ConfigurationError(message, "keyring") from None
