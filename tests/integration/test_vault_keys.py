"""Vault's transit engine as the key service: against a process that speaks its protocol."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, KeyRing, Maintenance, or_raise
from flowpersist.errors import BackendUnavailable, KeyDestroyed, TamperedEnvelope
from flowpersist.integrations.vault import VaultKeyService
from flowpersist.keys import KeyService, TenantKeys, WrappedKeyFile
from flowpersist.testing.hubs import open_test_hub

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
#: Speaks /v1/transit/encrypt and /decrypt of one key; the file "mode" says how it behaves.
SERVER = """
import base64, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY, MODE = AESGCM(bytes(32)), Path(sys.argv[1])

class Transit(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mode = MODE.read_text()
        if mode == "slow":
            time.sleep(20)
        status, data = self.answered(body) if mode != "down" else (503, None)
        reply = json.dumps({"data": data} if data else {"errors": ["plaintext secret words"]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def answered(self, body):
        if self.headers["X-Vault-Token"] != "t0ken":
            return 403, None
        bound = base64.b64decode(body["associated_data"])
        _, _, engine, verb, name = self.path.split("/")
        if (engine, name) != ("transit", "flows"):
            return 404, None
        if verb == "encrypt":
            nonce = os.urandom(12)
            sealed = nonce + KEY.encrypt(nonce, base64.b64decode(body["plaintext"]), bound)
            return 200, {"ciphertext": "vault:v1:" + base64.b64encode(sealed).decode()}
        try:
            sealed = base64.b64decode(body["ciphertext"].removeprefix("vault:v1:"))
            return 200, {"plaintext": base64.b64encode(KEY.decrypt(sealed[:12], sealed[12:], bound)).decode()}
        except (InvalidTag, ValueError):
            return 400, None

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Transit)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def mode(tmp_path):
    found = tmp_path / "mode"
    found.write_text("up")
    return found


@pytest.fixture
def url(mode):
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(mode)], stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.communicate()


async def test_data_keys_are_wrapped_by_vault(url, mode, tmp_path):
    service = VaultKeyService(url, "t0ken", "flows")
    assert isinstance(service, KeyService)
    store = WrappedKeyFile(tmp_path / "wrapped.json")
    keys = TenantKeys(KeyRing.generate(), service, store)
    async with open_test_hub(keyring=keys) as hub:
        new = or_raise(await hub.suspend("s", awaiting=CONFIRM, tenant="acme"))
        mode.write_text("down")
        error = (await hub.suspend("s", awaiting=CONFIRM, tenant="bolt")).failure()
        assert (type(error), error.retryable) == (BackendUnavailable, True)
        assert "secret words" not in str(error)
        assert or_raise(await hub.resume(new.key, True)).state == "s"
        mode.write_text("up")
        new = or_raise(await hub.suspend("s", awaiting=CONFIRM, tenant="bolt"))
        or_raise(await Maintenance(hub).shred("bolt"))
        assert isinstance((await hub.inspect(new.id)).failure(), KeyDestroyed)
    assert "vault:v1:" not in (tmp_path / "wrapped.json").read_text()
    await service.close()


async def test_what_vault_refuses_is_told_apart(url, mode):
    service = VaultKeyService(url, "t0ken", "flows")
    wrapped = await service.wrap(b"k" * 32, context=b"acme")
    assert wrapped.startswith(b"vault:v1:")
    assert await service.unwrap(wrapped, context=b"acme") == b"k" * 32
    for bad, context in ((wrapped, b"bolt"), (wrapped[:-4] + b"AAAA", b"acme"), (b"\xff", b"acme")):
        with pytest.raises(TamperedEnvelope):
            await service.unwrap(bad, context=context)
    await service.close()
    for token, key, retryable in (("other", "flows", False), ("t0ken", "none", False)):
        other = VaultKeyService(url, token, key)
        with pytest.raises(BackendUnavailable) as caught:
            await other.wrap(b"k" * 32, context=b"acme")
        assert caught.value.retryable is retryable
        await other.close()
    assert "t0ken" not in repr(service)


async def test_a_slow_vault_is_given_up_in_time(url, mode, tmp_path):
    service = VaultKeyService(url, "t0ken", "flows")
    keys = TenantKeys(
        KeyRing.generate(), service, WrappedKeyFile(tmp_path / "wrapped.json"), timeout=timedelta(milliseconds=100)
    )
    mode.write_text("slow")
    async with open_test_hub(keyring=keys) as hub:
        began = time.monotonic()
        error = (await hub.suspend("s", awaiting=CONFIRM, tenant="acme")).failure()
        assert (type(error), error.retryable) == (BackendUnavailable, True)
        assert time.monotonic() - began < 10
        or_raise(await hub.suspend("nobody's", awaiting=CONFIRM))
    await service.close()
