"""What agents keep of each model SDK comes back as it was, by the registry of flowpersist.integrations."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from flowpersist import RaisingHub
from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import ConfigurationError, UnsupportedType
from sdk_messages import ARGUMENTS, SDKS


def registered(name: str) -> TypeRegistry:
    return add(TypeRegistry(), name)


def add(types: TypeRegistry, name: str) -> TypeRegistry:
    return importlib.import_module(f"flowpersist.integrations.{name}").register(types, **ARGUMENTS.get(name, {}))


@pytest.fixture(scope="module", params=SDKS)
def sdk(request):
    return request.param


@pytest.fixture(scope="module")
def messages(sdk):
    return SDKS[sdk]()


@pytest.fixture(scope="module")
def codec(sdk, messages):
    return Codec(registered(sdk))


def facts(one: Any) -> Any:
    """What must be as it was: the class, and all that a program can see."""
    return type(one), next((see(one) for applies, see in VIEWS if applies(one)), one)


def is_item(one: Any) -> bool:
    """Whether it is a dataclass of values; an agent comes back as itself."""
    return dataclasses.is_dataclass(one) and type(one).__module__ != "agents.agent"


def seen(one: Any) -> Any:
    fields = {name: getattr(one, name) for name in vars(one) if not name.endswith("_ref")}
    return list(fields), facts(fields), "agent" in fields or repr(one)


VIEWS: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = [
    (
        lambda one: isinstance(one, BaseModel),
        lambda one: (one.model_dump_json(), one.model_fields_set, one.__pydantic_extra__, list(vars(one))),
    ),
    (lambda one: isinstance(one, BaseException), lambda one: (one.args, str(one), facts(vars(one)))),
    (is_item, seen),
    (
        lambda one: hasattr(one, "status_code"),
        lambda one: (one.status_code, one.content, one.headers.get("x-request-id"), facts(one.request)),
    ),
    (lambda one: hasattr(one, "method") and hasattr(one, "url"), lambda one: (one.method, one.url)),
    (lambda one: isinstance(one, list | tuple), lambda one: list(map(facts, one))),
    (lambda one: isinstance(one, dict), lambda one: {key: facts(value) for key, value in one.items()}),
]


def test_messages_come_back_as_they_were(messages, codec):
    assert codec.check(messages) == ()
    data = codec.encode(messages).unwrap()
    copy = codec.decode(data).unwrap()
    assert len(copy) == len(messages) > 5
    for one, other in zip(messages, copy, strict=True):
        assert facts(other) == facts(one)
    assert codec.encode(copy).unwrap() == data


def test_a_message_in_two_places_is_one_again(messages, codec):
    one = next(one for one in messages if not isinstance(one, dict))
    copy = codec.decode(codec.encode({"last": one, "all": [one]}).unwrap()).unwrap()
    assert copy["last"] is copy["all"][0]


async def test_a_hub_keeps_them_while_a_person_is_asked(messages, sdk):
    async with RaisingHub.open("memory://", keyring=None, types=registered(sdk)) as hub:
        new = await hub.suspend({"messages": messages})
        run = await hub.claim(new.key)
        assert facts(run.state["messages"]) == facts(messages)


def test_no_credentials_are_kept(messages, codec):
    assert b"a-secret-key" not in codec.encode(messages).unwrap()


def test_without_the_registry_the_error_names_it(messages, sdk):
    error = Codec().encode(messages).failure()
    assert isinstance(error, UnsupportedType)
    line = f"from flowpersist.integrations import {sdk}; {sdk}.register(types)"
    assert error.problems[0].remedy == f"register it: {line}"
    assert line in error.message


def test_a_release_with_other_optional_fields_strands_no_run():
    ai = importlib.import_module("langchain_core.messages").AIMessage
    name = f"{ai.__module__}.{ai.__qualname__}"
    fields = {field: (Any, None) for field in ai.model_fields if field != "usage_metadata"}
    earlier = create_model("AIMessage", **fields, gone=(Any, 1))
    types = TypeRegistry()
    types.register(earlier, name=name)
    data = Codec(types).encode([earlier(content="done", tool_calls=[], gone=2)]).unwrap()
    (copy,) = Codec(registered("langchain")).decode(data).unwrap()
    assert type(copy) is ai
    assert (copy.content, copy.usage_metadata, copy.model_fields_set) == ("done", None, {"content", "tool_calls"})


def test_a_body_in_untrusted_bytes_is_not_decompressed():
    import httpx2  # noqa: PLC0415 - or its forerunner

    body = gzip.compress(bytes(2**24))
    as_it_came = TypeRegistry()
    as_it_came.register(httpx2.Request, encode=lambda one: (one.method, str(one.url)), decode=str)
    parts = (
        200,
        [("Content-Encoding", "gzip"), ("x-request-id", "r")],
        body,
        httpx2.Request("GET", "https://a.example"),
    )
    as_it_came.register(httpx2.Response, encode=lambda _: parts, decode=str)
    data = Codec(as_it_came).encode(httpx2.Response(200)).unwrap()
    copy = Codec(registered("openai")).decode(data).unwrap()
    assert copy.content == body
    assert dict(copy.headers).get("x-request-id") == "r"


def test_registering_again_changes_nothing(sdk):
    types = registered(sdk)
    count = len(types)
    assert add(types, sdk) is types
    assert len(types) == count


def test_registries_go_together():
    messages = [make() for make in SDKS.values()]
    types = TypeRegistry()
    for name in SDKS:
        add(types, name)
    assert Codec(types).check(messages) == ()


def test_a_missing_package_names_the_extra(sdk, monkeypatch):
    integration = importlib.import_module(f"flowpersist.integrations.{sdk}")

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("flowpersist.integrations._packages.import_module", absent)
    extra = re.escape(f"pip install 'flowpersist[{sdk.replace('_', '-')}]'")
    with pytest.raises(ConfigurationError, match=extra):
        integration.register(TypeRegistry())
