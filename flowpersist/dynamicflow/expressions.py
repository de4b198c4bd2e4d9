"""Conditions: parsed and evaluated here, without Python's ``eval``, within bounds on size, depth and work.

From the loosest: ``|| or``, ``&& and``, ``! not``, then one of ``== === != !== > >= < <=``, then references, numbers,
strings, ``true false null``, parentheses and functions. A value counts as true unless it is null, false, 0, empty text,
or an empty list or mapping. ``==`` and ``===`` are the same: equal in JSON type and value (1 equals 1.0, and is not
true). ``<`` and its like compare numbers with numbers and texts with texts. ``&&`` and ``||`` look at their right side
only where the left does not decide.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.references import REFERENCE_PATTERN, Reference, Resolve, parse_reference
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.schemas import matches_pattern

__all__ = ["Expression", "evaluate", "parse"]

MAX_LENGTH: Final = 4096
MAX_DEPTH: Final = 40
MAX_COMPARED: Final = 10_000
MAX_NUMBER: Final = 1e300

_TOKEN: Final = re.compile(
    rf"""\s*(?:
      (?P<reference>{REFERENCE_PATTERN})
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{{1,3}})?)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<word>[A-Za-z_]\w*)
    | (?P<operator>===|!==|==|!=|>=|<=|&&|\|\||[><!(),])
    )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_SYNONYMS: Final = {"and": "&&", "or": "||", "not": "!", "===": "==", "!==": "!="}
_CONSTANTS: Final[dict[str, object]] = {"true": True, "false": False, "null": None}


@frozen
class Literal:
    """A number, text, true, false or null."""

    value: object


@frozen
class Call:
    """An operator or function, and what it works on."""

    name: str
    arguments: tuple[Node, ...]


Node: TypeAlias = Literal | Reference | Call


@frozen
class Expression:
    """A parsed expression, with the references that it holds in the order of reading."""

    text: str
    root: Node = field(repr=False)
    references: tuple[Reference, ...] = field(repr=False)


def parse(text: object) -> Result[Expression, PersistenceError]:
    """Parse; a ``FlowError`` says what was expected and where."""
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        return Failure(FlowError(f"a condition is a text of at most {MAX_LENGTH} characters"))
    try:
        parser = _Parser(text, _tokens(text))
        root = parser.whole()
    except _SyntaxError as error:
        shown = text if len(text) <= 80 else text[:80] + "…"  # noqa: PLR2004
        return Failure(FlowError(f"the condition {shown!r} can't be read: {error}"))
    return Success(Expression(text, root, tuple(parser.references)))


class _SyntaxError(Exception):
    """What is wrong with the text."""


@frozen
class _Token:
    kind: str
    text: str
    at: int


def _number(token: _Token) -> int | float:
    number = float(token.text) if set(token.text) & set(".eE") else int(token.text)
    if abs(number) > MAX_NUMBER:
        msg = f"the number at character {token.at + 1} is beyond {MAX_NUMBER:g}"
        raise _SyntaxError(msg)
    return number


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            msg = f"unexpected text at character {position + 1}"
            raise _SyntaxError(msg)
        tokens.append(_Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
        position = found.end()
    return tokens


@define
class _Parser:
    """Recursive descent, whose depth is bounded by ``MAX_DEPTH``."""

    text: str
    tokens: list[_Token]
    references: list[Reference] = field(factory=list)
    _next: int = 0
    _depth: int = 0

    def whole(self) -> Node:
        node = self.either()
        if self._next < len(self.tokens):
            token = self.tokens[self._next]
            msg = f"{token.text!r} at character {token.at + 1} does not belong there"
            raise _SyntaxError(msg)
        return node

    def either(self) -> Node:
        return self.joined("||", lambda: self.joined("&&", self.negated))

    def joined(self, symbol: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self.take(symbol):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Call(symbol, tuple(parts))

    def negated(self) -> Node:
        count = 0
        while self.take("!"):
            count += 1
        node = self.compared()
        if not count:
            return node
        once = Call("!", (node,))
        return once if count % 2 else Call("!", (once,))

    def compared(self) -> Node:
        left = self.primary()
        for symbol in _COMPARISONS:
            if self.take(symbol):
                return Call(symbol, (left, self.primary()))
        return left

    def primary(self) -> Node:
        if self._next >= len(self.tokens):
            msg = "it ends where a value was expected"
            raise _SyntaxError(msg)
        token = self.tokens[self._next]
        self._next += 1
        if token.text == "(" and token.kind == "operator":
            return self.nested()
        return self.valued(token)

    def nested(self) -> Node:
        self.deeper()
        node = self.either()
        self.need(")")
        self._depth -= 1
        return node

    def deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            msg = f"it is nested more than {MAX_DEPTH} levels deep"
            raise _SyntaxError(msg)

    def valued(self, token: _Token) -> Node:
        if token.kind == "reference":
            reference = parse_reference(token.text)
            if isinstance(reference, Failure):
                raise _SyntaxError(str(reference.failure()))
            self.references.append(reference.unwrap())
            return reference.unwrap()
        if token.kind == "number":
            return Literal(_number(token))
        if token.kind == "string":
            return Literal(re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), token.text[1:-1]))
        if token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        return self.called(token)

    def called(self, token: _Token) -> Node:
        if token.kind != "word" or token.text not in _FUNCTIONS:
            known = ", ".join(_FUNCTIONS)
            msg = f"{token.text!r} at character {token.at + 1} is no value and no function (there are {known})"
            raise _SyntaxError(msg)
        self.need("(")
        self.deeper()
        arguments = [self.either()]
        while self.take(","):
            arguments.append(self.either())
        self.need(")")
        self._depth -= 1
        wanted = _FUNCTIONS[token.text][0]
        if len(arguments) != wanted:
            msg = f"{token.text} takes {wanted} values, not {len(arguments)}"
            raise _SyntaxError(msg)
        return Call(token.text, tuple(arguments))

    def take(self, symbol: str) -> bool:
        if self._next >= len(self.tokens):
            return False
        token = self.tokens[self._next]
        if token.kind in {"string", "reference"} or _SYNONYMS.get(token.text, token.text) != symbol:
            return False
        self._next += 1
        return True

    def need(self, symbol: str) -> None:
        if not self.take(symbol):
            msg = f"{symbol!r} is missing"
            raise _SyntaxError(msg)


def evaluate(expression: Expression, resolve: Resolve) -> Result[object, PersistenceError]:
    """The value of an expression. A ``FlowError`` names the operator and the types that do not go together."""
    return _value(expression.root, resolve)


def _value(node: Node, resolve: Resolve) -> Result[object, PersistenceError]:
    if isinstance(node, Literal):
        return Success(node.value)
    if isinstance(node, Reference):
        return resolve(node)
    if node.name in {"&&", "||"}:
        return _joined(node, resolve)
    if node.name == "exists":
        return _exists(node, resolve)
    values: list[object] = []
    for argument in node.arguments:
        value = _value(argument, resolve)
        if isinstance(value, Failure):
            return value
        values.append(value.unwrap())
    return _OPERATIONS[node.name](*values)


def _joined(node: Call, resolve: Resolve) -> Result[object, PersistenceError]:
    deciding = node.name == "||"
    for argument in node.arguments:
        value = _value(argument, resolve)
        if isinstance(value, Failure):
            return value
        if truth(value.unwrap()) is deciding:
            return Success(deciding)
    return Success(not deciding)


def _exists(node: Call, resolve: Resolve) -> Result[object, PersistenceError]:
    """Whether a reference resolves, and not to null: what can't resolve is no error here."""
    value = _value(node.arguments[0], resolve)
    return Success(isinstance(value, Success) and value.unwrap() is not None)


def truth(value: object) -> bool:
    """Whether a value counts as true."""
    if value is None or isinstance(value, bool | int | float | str | list | tuple | Mapping):
        return bool(value)
    return True


def _kind(value: object) -> object:
    if isinstance(value, bool) or value is None:
        return type(value)
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "mapping"
    return "list" if isinstance(value, list | tuple) else type(value)


def same(left: object, right: object) -> Result[bool, PersistenceError]:
    """Equality of JSON type and value, all the way down, within a bound on work."""
    pairs = [(left, right)]
    for _ in range(MAX_COMPARED):
        if not pairs:
            return Success(True)
        within = _parts(*pairs.pop())
        if within is None:
            return Success(False)
        pairs.extend(within)
    return Failure(FlowError(f"== compares at most {MAX_COMPARED} values: compare a smaller part"))


def _parts(one: object, other: object) -> list[tuple[object, object]] | None:
    """The pairs that must be equal for two values to be; None where they differ already."""
    if _kind(one) != _kind(other):
        return None
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [(one[key], other[key]) for key in one] if one.keys() == other.keys() else None
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(zip(one, other, strict=True)) if len(one) == len(other) else None
    return [] if one == other else None


def _unfit(name: str, *values: object) -> Result[object, PersistenceError]:
    kinds = " and ".join(type(value).__name__ for value in values)
    return Failure(FlowError(f"{name} does not go with {kinds}"))


def _ordering(name: str, compare: Callable[[Any, Any], object]) -> Operation:
    def ordered(left: object, right: object) -> Result[object, PersistenceError]:
        if _kind(left) == _kind(right) and _kind(left) in {"number", "text"}:
            return Success(compare(left, right))
        return _unfit(name, left, right)

    return ordered


def _textual(name: str, work: Callable[..., object]) -> Operation:
    def applied(*values: object) -> Result[object, PersistenceError]:
        return Success(work(*values)) if all(isinstance(value, str) for value in values) else _unfit(name, *values)

    return applied


def _contains(whole: object, part: object) -> Result[object, PersistenceError]:
    if isinstance(whole, str) and isinstance(part, str):
        return Success(part in whole)
    if isinstance(whole, Mapping):
        return Success(isinstance(part, str) and part in whole)
    if not isinstance(whole, list | tuple):
        return _unfit("contains", whole, part)
    for item in whole:
        equal = same(item, part)
        if isinstance(equal, Failure) or equal.unwrap():
            return equal
    return Success(False)


def _length(value: object) -> Result[object, PersistenceError]:
    return Success(len(value)) if isinstance(value, str | list | tuple | Mapping) else _unfit("length", value)


def _is_empty(value: object) -> Result[object, PersistenceError]:
    return Success(True) if value is None else _length(value).map(lambda size: size == 0)


def _matches(text: object, pattern: object) -> Result[object, PersistenceError]:
    if not isinstance(text, str) or not isinstance(pattern, str):
        return _unfit("matches", text, pattern)
    found = matches_pattern(pattern, text)
    return found.alt(lambda error: FlowError(f"matches: {error}"))


Operation: TypeAlias = Callable[..., Result[object, PersistenceError]]

#: Name to the number of values it takes and what it does.
_FUNCTIONS: Final[dict[str, tuple[int, Operation]]] = {
    "contains": (2, _contains),
    "startsWith": (2, _textual("startsWith", str.startswith)),
    "endsWith": (2, _textual("endsWith", str.endswith)),
    "length": (1, _length),
    "exists": (1, Success),
    "isEmpty": (1, _is_empty),
    "lower": (1, _textual("lower", str.lower)),
    "upper": (1, _textual("upper", str.upper)),
    "matches": (2, _matches),
}
_COMPARISONS: Final[dict[str, Operation]] = {
    "==": same,
    "!=": lambda left, right: same(left, right).map(operator.not_),
    ">=": _ordering(">=", operator.ge),
    "<=": _ordering("<=", operator.le),
    ">": _ordering(">", operator.gt),
    "<": _ordering("<", operator.lt),
}
_OPERATIONS: Final[dict[str, Operation]] = {
    "!": lambda value: Success(not truth(value)),
    **_COMPARISONS,
    **{name: work for name, (_, work) in _FUNCTIONS.items()},
}
