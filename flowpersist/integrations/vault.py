"""HashiCorp Vault, or OpenBao, as the key service of ``TenantKeys``: its transit engine wraps data keys.

The requests are those of https://developer.hashicorp.com/vault/api-docs/secret/transit: ``encrypt`` and ``decrypt`` of
a named key (AES-256-GCM), with the context as ``associated_data``. Vault keeps the key and its versions; to rotate it,
rotate it there.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import quote

from flowpersist.errors import BackendUnavailable, TamperedEnvelope
from flowpersist.errors.arguments import check_str
from flowpersist.integrations._packages import modules

__all__ = ["VaultKeyService"]

_NAME = "key service"
_CLIENT_ERROR = 400
_SERVER_ERROR = 500


class VaultKeyService:
    """A ``KeyService`` over Vault's transit engine; needs the extra ``vault``. Close it with ``close``.

    - ``url``: Vault's address, such as ``https://vault:8200``.
    - ``token``: one that may encrypt and decrypt with the key, and nothing else.
    - ``key``: the name of the key, of type ``aes256-gcm96``.
    - ``mount``: where the engine is.
    """

    def __init__(self, url: str, token: str, key: str, *, mount: str = "transit") -> None:
        for name, value in (("url", url), ("token", token), ("key", key), ("mount", mount)):
            check_str(value, name)
        (httpx,) = modules("vault", "httpx")
        self._client: Any = httpx.AsyncClient(base_url=url, headers={"X-Vault-Token": token})
        self._place = "/v1/{mount}/{{verb}}/{key}".format(mount=quote(mount), key=quote(key, safe=""))

    async def wrap(self, key: bytes, *, context: bytes) -> bytes:
        """See ``KeyService``: Vault's own text, with the version of the key in it."""
        given = await self._asked("encrypt", {"plaintext": _text(key), "associated_data": _text(context)})
        return str(given["ciphertext"]).encode()

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        """See ``KeyService``. ``TamperedEnvelope`` where Vault refuses it."""
        body = {"ciphertext": wrapped.decode("ascii", "replace"), "associated_data": _text(context)}
        given = await self._asked("decrypt", body)
        try:
            return base64.b64decode(given["plaintext"], validate=True)
        except (binascii.Error, TypeError, KeyError) as error:
            raise BackendUnavailable("the key service gave no key", _NAME, retryable=False) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _asked(self, verb: str, body: dict[str, str]) -> dict[str, Any]:
        reply = await self._client.post(self._place.format(verb=verb), json=body)
        if reply.status_code == _CLIENT_ERROR and verb == "decrypt":
            message = "the key service refuses a wrapped data key: it was altered, or is of another tenant or key"
            raise TamperedEnvelope(message)
        if reply.status_code >= _CLIENT_ERROR:
            message = f"the key service answers {reply.status_code}: check its token, policy and key"
            raise BackendUnavailable(message, _NAME, retryable=reply.status_code >= _SERVER_ERROR)
        found: dict[str, Any] = reply.json()["data"]
        return found

    def __repr__(self) -> str:
        return "<VaultKeyService>"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
