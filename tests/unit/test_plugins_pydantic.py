"""pydantic's URLs and secrets: they come back, and a secret is written only where it is encrypted."""

from __future__ import annotations

import pydantic
import pytest
from pydantic_core import MultiHostUrl, Url
from returns.result import Success

from flowpersist import AwaitInput, Codec, KeyRing, RaisingHub, Sealer, TypeRegistry
from flowpersist.errors import MalformedPayload, UnsupportedType
from flowpersist.integrations import pydantic as plugin


class Model(pydantic.BaseModel):
    url: pydantic.HttpUrl
    token: pydantic.SecretStr | None = None


TYPES = plugin.register(TypeRegistry(Model))
SECRET = "the secret itself"
SECRETS = [pydantic.SecretStr(SECRET), pydantic.SecretBytes(SECRET.encode())]


@pytest.mark.parametrize(
    "one",
    [
        pydantic.AnyUrl("http://a.b/c d?e#f"),
        pydantic.HttpUrl("https://ex\u00e4mple.org"),
        pydantic.FileUrl("file:///a/b"),
        pydantic.PostgresDsn("postgresql://u:p@h:1,i:2/db"),
        pydantic.RedisDsn("redis://localhost"),
        pydantic.MongoDsn("mongodb://a,b/c"),
        Url("ftp://a.b"),
        MultiHostUrl("x://a,b"),
        Model(url="http://a.b"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_urls_come_back(one):
    codec = Codec(TYPES)
    copy = codec.decode(codec.encode([one, one]).unwrap()).unwrap()
    assert copy == [one, one]
    assert copy[0] is copy[1]
    assert type(copy[0]) is type(one)


@pytest.mark.parametrize(
    "one", [pydantic.SecretStr(SECRET), pydantic.SecretBytes(SECRET.encode())], ids=["str", "bytes"]
)
def test_a_secret_is_kept_under_a_keyring_alone(one):
    value = {"at": [one, Model(url="http://a.b", token=SECRET)]}
    error = Codec(TYPES).encode(value).failure()
    assert isinstance(error, UnsupportedType)
    assert error.path == "state['at'][0]"
    assert "keyring" in str(error)
    assert SECRET not in str(error)
    assert any("keyring" in problem.remedy for problem in Codec(TYPES).check(value))
    plain, sealed = (Sealer(codec=Codec(TYPES), keyring=ring) for ring in (None, KeyRing.generate()))
    assert isinstance(plain.seal(value, context=b"x").failure(), UnsupportedType)
    data = sealed.seal(value, context=b"x").unwrap()
    assert SECRET.encode() not in data
    assert sealed.open(data, context=b"x").unwrap() == value
    assert isinstance(sealed.with_keyring(None).seal(value, context=b"x").failure(), UnsupportedType)
    assert isinstance(plain.with_keyring(KeyRing.generate()).seal(value, context=b"x"), Success)
    codec = Codec(TYPES, encrypted=True)
    assert codec.decode(codec.encode(value).unwrap()).unwrap() == value


async def test_a_hub_keeps_secrets_with_a_keyring_and_refuses_them_without():
    state = Model(url="http://a.b", token=SECRET)
    waits = AwaitInput(id="ok", prompt="OK?", schema=bool)
    async with RaisingHub.open("memory://", keyring=KeyRing.generate(), types=TYPES) as hub:
        run = await hub.resume((await hub.suspend(state, awaiting=waits)).key, True, expect=Model)
        assert run.state == state
    async with RaisingHub.open("memory://", keyring=None, types=TYPES) as hub:
        with pytest.raises(UnsupportedType, match="keyring"):
            await hub.suspend(state, awaiting=waits)


def test_bytes_that_hold_another_class_are_refused():
    one = Codec(TYPES, encrypted=True)
    data = one.encode(pydantic.SecretStr("abc")).unwrap().replace(b"\xa3abc", b"\xc4\x01a")
    assert isinstance(one.decode(data).failure(), MalformedPayload)
    data = one.encode(pydantic.HttpUrl("http://a.b")).unwrap().replace(b"http://a.b", b"htxp://a.b")
    assert isinstance(one.decode(data).failure(), MalformedPayload)
