from __future__ import annotations

import enum
import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from returns.result import Failure, Success

from flowpersist.dynamicflow import expressions
from flowpersist.dynamicflow.references import (
    Reference,
    fill_text,
    follow,
    parse_reference,
    resolve_all,
)
from flowpersist.errors import FlowError


@attrs.define
class Order:
    id: int
    lines: list[str]

    def total(self) -> int:
        return 7


VALUES = {
    "n": 3,
    "name": "Ann",
    "none": None,
    "empty": [],
    "yes": True,
    "items": [{"price": 10}, {"price": 2.5}],
    "order": Order(7, ["a"]),
    "step-1": {"output": {"0": "zero"}},
    "odd": {"a.b": 1, "it's": 2, "日本": 3, "": 4, "größe": 5},
}


def resolve(reference):
    if reference.root not in VALUES:
        return Failure(FlowError(f"no {reference.root}"))
    return follow(VALUES[reference.root], reference.path)


def evaluate(text):
    return expressions.parse(text).bind(lambda parsed: expressions.evaluate(parsed, resolve))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$n", 3),
        ("$n == 3", True),
        ("$n === 3.0", True),
        ("$n != 3", False),
        ("$n !== 4", True),
        ("$yes == 1", False),
        ("1 == true", False),
        ("$none == null", True),
        ("$n > 2 && $n <= 3", True),
        ("$n < 2 || $n >= 3", True),
        ("not $n > 2", False),
        ("!($n > 2) or $yes", True),
        ("!!$n", True),
        ("!!!$n", False),
        ("$yes or $missing", True),
        ("false and $missing", False),
        ("true or false and false", True),
        ("(true or false) and false", False),
        ("$name < 'Bob'", True),
        ('"say \\"hi\\"" == \'say "hi"\'', True),
        ("'it\\'s\\n' == \"it's\\n\"", True),
        ("$items.1.price", 2.5),
        ("$items[0].price == 1e1", True),
        ("-1 < 0", True),
        ("$order.id", 7),
        ("$step-1.output.0", "zero"),
        ("contains($name, 'nn')", True),
        ("contains($items, $items.0)", True),
        ("contains($items, 1)", False),
        ("contains($items.0, 'price')", True),
        ("startsWith($name, 'A')", True),
        ("endsWith($name, 'A')", False),
        ("length($items)", 2),
        ("exists($name)", True),
        ("exists($none)", False),
        ("exists($missing.field)", False),
        ("isEmpty($empty)", True),
        ("isEmpty($none)", True),
        ("isEmpty($name)", False),
        ("upper($name) == 'ANN' and lower($name) == 'ann'", True),
        ("matches($name, '^A.n$')", True),
        ("$items == $items", True),
        ("$items == $empty", False),
        ("$items.0 == $items.1", False),
        ("$order == $order", True),
        ("$order or false", True),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 2 - 3", 5),
        ("$n-1", Failure),
        ("$n - 1", 2),
        ("$n -1", 2),
        ("-$n + 1", -2),
        ("- -$n", 3),
        ("+$n", 3),
        ("-(2 - 5)", 3),
        ("2 * -3", -6),
        ("6 / 3", 2),
        ("7 / 2", 3.5),
        ("9007199254740993 / 1", 9007199254740993),
        ("7 % 3", 1),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-7.5 % 2", -1.5),
        ("$items.0.price + $items.1.price > 12", True),
        ("1 + 1 == 2 and 2 < 1 + 2", True),
        ("'Dear ' + $name + '!'", "Dear Ann!"),
        ("'no. ' + $n", "no. 3"),
        ("1 + 2 + 'a'", "3a"),
        ("'a' + 1.5 + $yes", "a1.5true"),
        ("2 in $items", False),
        ("$items.0 in $items", True),
        ("'nn' in $name", True),
        ("'price' in $items.0", True),
        ("'x' not in $name", True),
        ("not 'x' in $name", True),
        ("$n + 1 in $empty", False),
        ("'in' in 'inside'", True),
        ("$odd['a.b']", 1),
        ('$odd["a.b"] + 1', 2),
        ("$odd['it\\'s'] == 2", True),
        ("$odd.日本 == 3", True),
        ("$odd['']", 4),
        ("$odd.größe", 5),
    ],
)
def test_values(text, value):
    if value is Failure:
        # A hyphen within a name belongs to it.
        assert "no n-1" in str(evaluate(text).failure())
    else:
        assert evaluate(text) == Success(value)
        assert type(evaluate(text).unwrap()) is type(value)


@given(
    st.recursive(
        st.integers(-50, 50).map(lambda number: (str(number) if number >= 0 else f"({number})", number)),
        lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
            lambda one: (
                f"({one[0][0]} {one[1]} {one[2][0]})",
                {"+": one[0][1] + one[2][1], "-": one[0][1] - one[2][1], "*": one[0][1] * one[2][1]}[one[1]],
            )
        ),
        max_leaves=12,
    )
)
def test_whole_numbers_are_computed_exactly(made):
    text, value = made
    assert evaluate(text) == Success(value)


@given(st.lists(st.tuples(st.sampled_from("+-*/%"), st.integers(1, 9)), max_size=30), st.integers(-9, 9))
def test_operators_of_one_precedence_go_from_left_to_right(rest, first):
    text = f"{first} " + " ".join(f"{symbol} {number}" for symbol, number in rest)
    groups = [[first]]
    for symbol, number in rest:
        if symbol in "+-":
            groups.append([number if symbol == "+" else -number])
        elif symbol == "*":
            groups[-1][0] *= number
        elif symbol == "/":
            left = groups[-1][0]
            groups[-1][0] = left // number if isinstance(left, int) and left % number == 0 else left / number
        else:
            groups[-1][0] = math.fmod(groups[-1][0], number)
    # A sum of floats depends on its order by the last digit.
    assert evaluate(text).unwrap() == pytest.approx(sum(one[0] for one in groups), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "()",
        "1 2",
        "1 < 2 < 3",
        "== 1",
        "$n ==",
        "and",
        "name",
        "__import__('os')",
        "print(1)",
        "length()",
        "length(1, 2)",
        "length 1",
        "'open",
        "$",
        "$n; $n",
        "$n = 3",
        "lambda: 1",
        "1 +",
        "* 2",
        "1 not 2",
        "1 not in",
        "$n['open",
        "$n[open]",
        "- " * 3000 + "1",
        "(" * 60 + "1" + ")" * 60,
        "length(" * 60 + "1" + ")" * 60,
        "1 or " * 2000 + "1",
        "\ud800",
        None,
        7,
    ],
)
def test_what_can_not_be_read_is_a_failure(text):
    assert isinstance(expressions.parse(text).failure(), FlowError)


@pytest.mark.parametrize(
    "text",
    [
        "$n < 'x'",
        "$none > 1",
        "$yes < false",
        "length($n)",
        "contains($n, 1)",
        "startsWith($n, 'x')",
        "matches($n, 'x')",
        "matches($name, '(')",
        "$missing",
        "!$missing",
        "$order.total",
        "$order.__class__",
        "$name.upper",
        "$items.7",
        "$items.price",
        "1 / 0",
        "1 % 0",
        "1.5 % 0",
        "$yes + 1",
        "$none + 'a'",
        "$empty + $empty",
        "'a' - 'b'",
        "-$name",
        "+$yes",
        "1e200 * 1e200",
        "1 in 2",
        "1 in 'a'",
        "$odd['missing']",
    ],
)
def test_what_does_not_go_together_is_a_failure_that_says_so(text):
    failure = evaluate(text).failure()
    assert isinstance(failure, FlowError)
    assert str(failure)


def test_comparing_cycles_ends():
    one: list[object] = []
    one.append(one)
    other: list[object] = []
    other.append(other)
    values = {"one": one, "other": other}
    compared = expressions.parse("$one == $other").bind(
        lambda parsed: expressions.evaluate(parsed, lambda reference: Success(values[reference.root]))
    )
    assert isinstance(compared.failure(), FlowError)


def test_references_are_listed_in_order():
    parsed = expressions.parse("$b.c == 1 and exists($a) or $.x").unwrap()
    assert [str(reference) for reference in parsed.references] == ["$b.c", "$a", "$previousOutput.x"]


@given(st.text())
def test_arbitrary_text_never_raises(text):
    for result in (expressions.parse(text), parse_reference(text), fill_text(text, resolve)):
        assert isinstance(result, Success | Failure)


@given(
    st.lists(st.sampled_from(["$n", "(", ")", "and", "!", "==", "<", "'x'", "1", "length", ",", "true"]), max_size=30)
)
def test_arbitrary_tokens_never_raise(tokens):
    result = evaluate(" ".join(tokens))
    assert isinstance(result, Success | Failure)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("$a", Reference("a")),
        ("$a.b.0.c", Reference("a", ("b", 0, "c"))),
        ("$a[0].b", Reference("a", (0, "b"))),
        ("$.field.x", Reference("previousOutput", ("field", "x"))),
        ("$step-1.output", Reference("step-1", ("output",))),
        ("$a['b.c'][0]", Reference("a", ("b.c", 0))),
        ('$a["it\'s"].d', Reference("a", ("it's", "d"))),
        ("$a['\\'\\\\']", Reference("a", ("'\\",))),
        ("$a.日本.x", Reference("a", ("日本", "x"))),
        ("$.größe", Reference("previousOutput", ("größe",))),
        ("$a['0']", Reference("a", ("0",))),
    ],
)
def test_references(text, reference):
    assert parse_reference(text) == Success(reference)


@pytest.mark.parametrize("text", ["$", "$5", "$a..b", "$a.", "a", "$a b", "$" + "a" * 600])
def test_what_is_no_reference(text):
    assert isinstance(parse_reference(text).failure(), FlowError)


def test_references_resolve_wherever_they_stand_to_the_values_themselves():
    resolved = resolve_all({"a": ["$order", {"b": "$n"}], "c": "$$n", "d": "text $n", "e": 5, "f": ("$yes",)}, resolve)
    value = resolved.unwrap()
    assert value == {"a": [VALUES["order"], {"b": 3}], "c": "$n", "d": "text $n", "e": 5, "f": [True]}
    assert value["a"][0] is VALUES["order"]
    assert isinstance(resolve_all({"a": ["$missing"]}, resolve).failure(), FlowError)
    assert isinstance(resolve_all("$no reference", resolve).failure(), FlowError)


def test_arguments_are_bounded():
    loop: list[object] = []
    loop.append(loop)
    assert "limits" in str(resolve_all(loop, resolve).failure())


def test_references_in_arguments_are_listed():
    found = []

    def note(reference):
        found.append(reference)
        return Success(None)

    assert resolve_all({"a": "$x.y", "b": ["$z", "$$not", 1]}, note).unwrap() == {"a": None, "b": [None, "$not", 1]}
    assert [str(reference) for reference in found] == ["$x.y", "$z"]


def test_text_is_filled():
    assert fill_text("Ship $order.id to $name, $$5, all $items?", resolve).unwrap() == (
        'Ship 7 to Ann, $5, all [{"price": 10}, {"price": 2.5}]?'
    )
    assert fill_text("costs $ 5", resolve) == Success("costs $ 5")
    assert fill_text("$order", resolve).unwrap() == '{"id": 7, "lines": ["a"]}'
    assert isinstance(fill_text("Dear $missing", resolve).failure(), FlowError)


class Status(enum.StrEnum):
    OPEN = "open"


def test_a_text_of_an_enumeration_is_a_text():
    parsed = expressions.parse("$s == 'open' and $s < 'p'").unwrap()
    assert expressions.evaluate(parsed, lambda _: Success(Status.OPEN)) == Success(True)


@pytest.mark.parametrize("text", ["1e999", "9" * 400])
def test_a_number_that_json_can_not_hold_is_refused(text):
    assert "beyond" in str(expressions.parse(text).failure())


def test_a_text_too_long_to_match_is_a_failure_and_not_false():
    parsed = expressions.parse("matches($s, 'a')").unwrap()
    found = expressions.evaluate(parsed, lambda _: Success("b" * 300_000 + "a"))
    assert isinstance(found.failure(), FlowError)
