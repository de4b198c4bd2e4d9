"""A state goes through releases whose classes declare other fields: what is to be kept aside is never lost."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import attrs
import msgspec
import pydantic
from hypothesis import event, given, settings
from hypothesis import strategies as st
from returns.result import Failure

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import UnknownType

#: 10,000 take a quarter of an hour.
HISTORIES = int(os.environ.get("FLOWPERSIST_RELEASES", "100"))
NAMES = tuple("abcde")
#: Classes without a __dict__: what they do not declare has no place.
PLACELESS = ("struct", "slots")


def made(kind: str, names: list[str]) -> Any:
    """A class of a release, with these fields, of which each has a default."""
    match kind:
        case "dataclass":
            cls: Any = dataclasses.make_dataclass("Thing", [(name, Any, 0) for name in names])
        case "attrs" | "slots":
            cls = attrs.make_class("Thing", {name: attrs.field(default=0) for name in names}, slots=kind == "slots")
        case "pydantic" | "open":
            config = pydantic.ConfigDict(extra="allow" if kind == "open" else "ignore")
            cls = pydantic.create_model("Thing", __config__=config, **dict.fromkeys(names, (Any, 0)))
        case "struct" | "open struct":
            cls = msgspec.defstruct("Thing", [(name, Any, 0) for name in names], dict=kind == "open struct")
        case _:
            # What was an attribute is a method in a release that lacks it.
            cls = type("Thing", (), {name: lambda self: self for name in NAMES if name not in names})
    return cls


def codec_of(kind: str, cls: type, unknown_fields: str) -> Codec:
    types = TypeRegistry()
    types.register(cls, name="thing", attributes=kind == "attributes", fields="tolerant", unknown_fields=unknown_fields)
    return Codec(types, verify=True)


def filled(cls: Any, kind: str, names: list[str], number: int) -> Any:
    given = {name: [number, name] for name in names[: 1 + number % len(names)]}
    if kind != "attributes":
        return cls(**given)
    one = cls()
    vars(one).update(dict.fromkeys(names, 0) | given)
    return one


FIELDS = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
KINDS = ("dataclass", "attrs", "slots", "pydantic", "open", "struct", "open struct", "attributes")


@given(
    st.sampled_from(KINDS),
    FIELDS,
    st.lists(st.tuples(FIELDS, st.sampled_from(["keep", "keep", "drop"])), min_size=1, max_size=4),
    st.sampled_from([1, 3, 40]),
    st.booleans(),
)
@settings(max_examples=HISTORIES, deadline=None)
def test_what_is_kept_aside_comes_back(kind, names, releases, count, is_cyclic):
    first = made(kind, names)
    objects = [filled(first, kind, names, number) for number in range(count)]
    if is_cyclic:
        setattr(objects[0], names[0], objects)
    expected = [{name: getattr(one, name) for name in names} for one in objects]
    given = [getattr(one, "model_fields_set", None) for one in objects]
    data = codec_of(kind, first, "keep").encode(objects).unwrap()
    kept = set(names)
    for fields, unknown_fields in releases:
        codec = codec_of(kind, made(kind, fields), unknown_fields)
        result = codec.decode(data)
        if isinstance(result, Failure):
            assert isinstance(result.failure(), UnknownType)
            assert kind in PLACELESS
            event("refused")
            return
        data = codec.encode(result.unwrap()).unwrap()
        kept = kept.intersection(fields) if unknown_fields == "drop" and kind != "open struct" else kept
    last = codec_of(kind, first, "drop" if kind in PLACELESS else "keep").decode(data)
    copies: Any = last.unwrap()
    for copy, values, names_given in zip(copies, expected, given, strict=True):
        for name in kept:
            value = getattr(copy, name)
            assert value is copies if values[name] is objects else value == values[name]
            assert names_given is None or (name in copy.model_fields_set) == (name in names_given)
