"""Values of pydantic and msgspec that are no models come back as they were."""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import msgspec.msgpack
import pydantic
import pydantic_core
import pytest

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import MalformedPayload, UnsupportedType
from flowpersist.integrations import msgspec as of_msgspec
from flowpersist.integrations import pydantic as of_pydantic


class ShopUrl(pydantic.HttpUrl):
    """A URL of the user's own class."""


class Order(pydantic.BaseModel):
    link: pydantic.HttpUrl
    count: int
    at: datetime

    @pydantic.field_validator("count")
    @classmethod
    def _few(cls, count: int) -> int:
        if count > 5:
            raise ValueError("too many")
        if count < 0:
            raise pydantic_core.PydanticCustomError("negative", "less than nothing", {"count": count})
        return count


def errors(**fields: Any) -> pydantic.ValidationError:
    with pytest.raises(pydantic.ValidationError) as caught:
        Order.model_validate(fields)
    return caught.value


ORDER = Order(link="https://shop.example/7", count=1, at="2026-11-28T12:00:00+02:00")
VALUES: list[Any] = [
    pydantic.AnyUrl("foo://host/path?q=1#f"),
    pydantic.HttpUrl("http://Exämple.com:80/a b"),
    ShopUrl("https://shop.example"),
    pydantic.PostgresDsn("postgresql://u:p@h1:1,h2:2/db"),
    pydantic.RedisDsn("redis://localhost"),
    pydantic_core.Url("https://a.example/x"),
    pydantic_core.MultiHostUrl("mongodb://a:1,b:2/c"),
    pydantic.ByteSize(1024),
    pydantic.NameEmail("Ana", "ana@example.com"),
    ORDER,
    msgspec.UNSET,
    msgspec.NODEFAULT,
    msgspec.msgpack.Ext(3, b"data"),
]
TYPES = of_msgspec.register(of_pydantic.register(TypeRegistry.tree(Order)))


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_values_come_back_as_they_were(number):
    value = VALUES[number]
    copy = Codec(TYPES).decode(Codec(TYPES).encode([value, value]).unwrap()).unwrap()
    assert type(copy[0]) is type(value)
    assert copy[0] == value
    assert getattr(copy[0], "link", None) == getattr(value, "link", None)
    assert copy[0] is copy[1]


def test_raw_bytes_of_msgspec_come_back():
    copy = Codec(TYPES).decode(Codec(TYPES).encode(msgspec.Raw(b"[1]")).unwrap()).unwrap()
    assert type(copy) is msgspec.Raw
    assert bytes(copy) == b"[1]"


@pytest.mark.parametrize(
    "error",
    [errors(link="no", count="x", at=[]), errors(link="http://a", count=7, at="x"), errors()],
    ids=["wrong", "refused by a validator", "missing"],
)
def test_a_validation_error_comes_back(error):
    copy = Codec(TYPES).decode(Codec(TYPES).encode({"error": error}).unwrap()).unwrap()["error"]
    assert type(copy) is pydantic.ValidationError
    assert str(copy) == str(error)
    assert [{**one, "ctx": str(one.get("ctx"))} for one in copy.errors()] == [
        {**one, "ctx": str(one.get("ctx"))} for one in error.errors()
    ]


def test_a_validation_error_that_would_not_come_back_is_refused():
    error = Codec(TYPES).encode(errors(link="http://a", count=-1, at=1)).failure()
    assert isinstance(error, UnsupportedType)


def test_errors_of_msgspec_come_back():
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert("x", int)
    copy = Codec(TYPES).decode(Codec(TYPES).encode(caught.value).unwrap()).unwrap()
    assert (type(copy), copy.args) == (msgspec.ValidationError, caught.value.args)


SECRETS = [pydantic.SecretStr("a-secret"), pydantic.SecretBytes(b"a-secret")]


@pytest.mark.parametrize("secret", SECRETS, ids=["str", "bytes"])
def test_secrets_are_kept_only_where_they_are_encrypted(secret):
    error = Codec(TYPES).encode({"key": secret}).failure()
    assert isinstance(error, UnsupportedType)
    assert "keyring" in error.message
    assert "a-secret" not in error.message
    codec = Codec(TYPES, encrypted=True)
    copy = codec.decode(codec.encode({"key": secret}).unwrap()).unwrap()["key"]
    assert copy == secret
    assert "a-secret" not in repr(copy)


def test_without_a_registry_the_error_names_it():
    for value, name in ((VALUES[0], "pydantic"), (VALUES[5], "pydantic"), (msgspec.UNSET, "msgspec")):
        line = f"from flowpersist.integrations import {name}; {name}.register(types)"
        assert line in Codec().encode(value).failure().message


def test_registering_again_changes_nothing():
    count = len(TYPES)
    of_msgspec.register(of_pydantic.register(TYPES))
    assert len(TYPES) == count


def test_bytes_that_are_no_url_are_malformed():
    types = TypeRegistry()
    types.register(ShopUrl, encode=lambda _: "no url", decode=str, name=f"{__name__}.ShopUrl")
    data = Codec(types).encode(VALUES[2]).unwrap()
    assert isinstance(Codec(TYPES).decode(data).failure(), MalformedPayload)


REGISTRIES = (
    *("numpy", "pandas", "arrow", "langchain", "openai", "anthropic", "pydantic_ai", "openai_agents", "mcp"),
    *("google_genai", "pydantic", "msgspec", "dateutil", "pytz", "sqlmodel"),
)


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_ready_registry_is_called_twice_and_merged_with_itself(name):
    register = import_module(f"flowpersist.integrations.{name}").register
    types = register(TypeRegistry())
    count = len(types)
    register(types)
    assert len(types) == len(types | register(TypeRegistry())) == count


def test_every_ready_registry_is_tested():
    place = Path(import_module("flowpersist.integrations").__file__).parent
    # Vault keeps keys, and has no classes of values.
    assert {file.stem for file in place.glob("[a-z]*.py")} - {"vault"} == set(REGISTRIES)
