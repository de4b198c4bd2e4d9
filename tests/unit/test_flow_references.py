from __future__ import annotations

import dataclasses

import pydantic
import pytest
from returns.result import Success

from flowpersist.dynamicflow.references import Reference, fill_text, follow, parse_reference, resolve_all
from flowpersist.errors import FlowError


@dataclasses.dataclass
class Point:
    x: int


class Person(pydantic.BaseModel):
    name: str


def spelled(reference):
    return Success(f"<{reference}>")


def test_two_references_may_be_joined_by_a_hyphen():
    assert fill_text("$from-$to, $first-class-", spelled) == Success("<$from>-<$to>, <$first-class>-")


def test_a_full_stop_ends_a_reference():
    assert fill_text("Ship $order.id.", spelled) == Success("Ship <$order.id>.")


def test_a_number_with_leading_zeros_is_a_key():
    reference = parse_reference("$a.007").unwrap()
    assert reference == Reference("a", ("007",))
    assert follow({"007": "Bond"}, reference.path) == Success("Bond")


def test_a_number_finds_an_item_of_a_list_and_a_key_of_a_mapping():
    assert follow([["a"]], (0, 0)) == Success("a")
    assert follow({"0": "a"}, (0,)) == Success("a")
    assert follow({0: "a"}, (0,)) == Success("a")


def test_an_index_of_thousands_of_digits_is_no_exception():
    text = "$a." + "1" * 5000
    assert fill_text(text, spelled).unwrap().startswith("<$a.111111111>")
    assert isinstance(parse_reference(text).failure(), FlowError)


def test_declared_fields_are_read():
    assert follow(Point(3), ("x",)) == Success(3)
    assert follow(Person(name="Ann"), ("name",)) == Success("Ann")


@pytest.mark.parametrize("path", [("__class__",), ("__dict__", "x"), ("real",), (0,)])
@pytest.mark.parametrize("value", [Point(3), Person(name="Ann"), 7, "text", [], {}])
def test_nothing_else_is_read(value, path):
    assert isinstance(follow(value, path).failure(), FlowError)


def test_too_many_arguments_are_refused():
    assert "limits" in str(resolve_all([1] * 100_001, spelled).failure())


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$o.amountを払う", "<$o.amount>を払う"),
        ("$o.日本 ", "<$o.日本> "),
        ("$o.größe.", "<$o.größe>."),
        ("$o['a b'] und", '<$o["a b"]> und'),
        ('$o["a.b"][0]!', '<$o["a.b"].0>!'),
        ("$o[x]", "<$o>[x]"),
        ("$amount円", "<$amount>円"),
    ],
)
def test_a_reference_in_a_text_ends_with_its_word(text, filled):
    assert fill_text(text, spelled) == Success(filled)


@pytest.mark.parametrize("path", [("a", 0, "b.c"), ("日本",), ("it's", ""), ('"', "\\"), ("007", "x-y"), ("-",)])
def test_a_reference_as_text_is_read_as_the_same(path):
    reference = Reference("root", path)
    assert parse_reference(str(reference)) == Success(reference)
