"""Conditions: parsed and evaluated here, without Python's ``eval``, within bounds on size, depth and work.

From the lowest precedence: ``|| or``, ``&& and``, ``! not``, then one of ``== === != !== > >= < <= in`` or ``not in``,
``+ -``, ``* / %``, a sign, then references, numbers, strings, ``true false null``, parentheses and functions. A value
counts as true unless it is null, false, 0, empty text, or an empty list or mapping. ``==`` and ``===`` are the same:
equal in JSON type and value (1 equals 1.0, and is not true). ``<`` and the like compare numbers with numbers and texts
with texts. ``&&`` and ``||`` evaluate their right side only if the left side does not decide.

``+`` adds numbers, and joins a text with a text, number, true or false. ``/`` of integers is an integer where it comes
out even, ``%`` has the sign of the left number, as in JavaScript.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from attrs import define, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.budgets import Budget, OverBudgetError
from flowpersist.dynamicflow.operations import COMPARISONS, FUNCTIONS, MAX_NUMBER, OPERATIONS, truth
from flowpersist.dynamicflow.references import REFERENCE_PATTERN, Reference, Resolve, parse_reference
from flowpersist.dynamicflow.views import shown
from flowpersist.errors import FlowError, PersistenceError

__all__ = ["MAX_TOGETHER", "Expression", "Room", "evaluate", "parse", "truth"]

MAX_LENGTH: Final = 4096
MAX_DEPTH: Final = 40
#: The most characters of all expressions of one document.
MAX_TOGETHER: Final = 128 * 1024

_TOKEN: Final = re.compile(
    rf"""\s*(?:
      (?P<reference>{REFERENCE_PATTERN})
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{{1,3}})?)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<operator>===|!==|==|!=|>=|<=|&&|\|\||[><!(),+\-*/%])
    )""",
    re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_SYNONYMS: Final = {"and": "&&", "or": "||", "not": "!", "===": "==", "!==": "!="}
_VALUES: Final = frozenset({"reference", "string", "number"})
_SUMS: Final[frozenset[str | None]] = frozenset({"+", "-"})
_PRODUCTS: Final[frozenset[str | None]] = frozenset({"*", "/", "%"})
_CONSTANTS: Final[dict[str, object]] = {"true": True, "false": False, "null": None}


@frozen
class Literal:
    """A number, text, true, false or null."""

    value: object


@frozen
class Call:
    """An operator or function with its operands."""

    name: str
    arguments: tuple[Term, ...]


@frozen
class Chain:
    """Operators of one precedence from left to right: a first operand, and further ones with their operators."""

    first: Term
    rest: tuple[tuple[str, Term], ...]


Term: TypeAlias = Literal | Reference | Call | Chain


@frozen
class Expression:
    """A parsed expression, with its references in the order of the text."""

    text: str
    root: Term = field(repr=False)
    references: tuple[Reference, ...] = field(repr=False)


@define
class Room:
    """How many characters the further expressions of a document may have."""

    characters: int = MAX_TOGETHER

    def take(self, text: str) -> bool:
        """Whether there is room for one more expression, which then takes it."""
        self.characters -= len(text)
        return self.characters >= 0


def parse(text: object, room: Room | None = None) -> Result[Expression, PersistenceError]:
    """Parse an expression; a ``FlowError`` says what was expected and where. ``room`` is that of its document."""
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        return Failure(FlowError(f"Invalid condition: expected a string of at most {MAX_LENGTH} characters"))
    if room is not None and not room.take(text):
        message = f"the document's expressions have more than {MAX_TOGETHER} characters together: split the document"
        return Failure(FlowError(message))
    try:
        parser = _Parser(text, _tokens(text))
        root = parser.whole()
    except _SyntaxError as error:
        shown = text if len(text) <= 80 else text[:80] + "…"  # noqa: PLR2004
        return Failure(FlowError(f"the condition {shown!r} can't be read: {error}"))
    return Success(Expression(text, root, tuple(parser.references)))


class _SyntaxError(Exception):
    """What is wrong with the text."""


class _Token(NamedTuple):
    """A part of the text. ``symbol`` is the operator or word that it is, a synonym by its main name, None of values."""

    kind: str
    text: str
    at: int
    symbol: str | None


def _number(token: _Token) -> int | float:
    number = int(token.text) if token.text.isdecimal() else float(token.text)
    if abs(number) > MAX_NUMBER:
        msg = f"the number at character {token.at + 1} is beyond {MAX_NUMBER:g}"
        raise _SyntaxError(msg)
    return number


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        kind = None if found is None else found.lastgroup
        if found is None or kind is None:
            msg = f"unexpected text at character {position + 1}"
            raise _SyntaxError(msg)
        written = found[kind]
        symbol = None if kind in _VALUES else _SYNONYMS.get(written, written)
        tokens.append(_Token(kind, written, found.start(kind), symbol))
        position = found.end()
    tokens.append(_Token("end", "", end, None))
    return tokens


@define
class _Parser:
    """A recursive-descent parser, whose depth is bounded by ``MAX_DEPTH``. The last token is the end."""

    text: str
    tokens: list[_Token]
    references: list[Reference] = field(factory=list)
    _next: int = 0
    _depth: int = 0

    def whole(self) -> Term:
        node = self.either()
        token = self.tokens[self._next]
        if token.kind != "end":
            msg = f"unexpected {token.text!r} at character {token.at + 1}"
            raise _SyntaxError(msg)
        return node

    def either(self) -> Term:
        return self.joined("||", self.both)

    def both(self) -> Term:
        return self.joined("&&", self.negated)

    def joined(self, symbol: str, part: Callable[[], Term]) -> Term:
        first = part()
        if self.tokens[self._next].symbol != symbol:
            return first
        parts = [first]
        while self.take(symbol):
            parts.append(part())
        return Call(symbol, tuple(parts))

    def negated(self) -> Term:
        count = 0
        while self.take("!"):
            count += 1
        node = self.compared()
        if not count:
            return node
        once = Call("!", (node,))
        return once if count % 2 else Call("!", (once,))

    def compared(self) -> Term:
        left = self.sum()
        symbol = self.tokens[self._next].symbol
        if symbol in COMPARISONS:
            self._next += 1
            return Call(symbol, (left, self.sum()))
        if self.take("in"):
            return Call("contains", (self.sum(), left))
        if self.take_not_in():
            return Call("!", (Call("contains", (self.sum(), left)),))
        return left

    def take_not_in(self) -> bool:
        """Whether ``not in`` follows. A ``not`` alone can't follow a value."""
        if not self.take("!"):
            return False
        self.need("in")
        return True

    def sum(self) -> Term:
        return self.chained(_SUMS, self.product)

    def product(self) -> Term:
        return self.chained(_PRODUCTS, self.signed)

    def chained(self, symbols: frozenset[str | None], part: Callable[[], Term]) -> Term:
        first = part()
        rest: list[tuple[str, Term]] = []
        while (symbol := self.tokens[self._next].symbol) in symbols and symbol is not None:
            self._next += 1
            rest.append((symbol, part()))
        return Chain(first, tuple(rest)) if rest else first

    def signed(self) -> Term:
        negative, signs = False, 0
        while (symbol := self.tokens[self._next].symbol) in _SUMS:
            negative, signs = negative is not (symbol == "-"), signs + 1
            self._next += 1
        node = self.primary()
        if not signs:
            return node
        if isinstance(node, Literal) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return Literal(-node.value if negative else node.value)
        return Call("sign -" if negative else "sign +", (node,))

    def primary(self) -> Term:
        token = self.tokens[self._next]
        if token.kind == "end":
            msg = "unexpected end, expected a value"
            raise _SyntaxError(msg)
        self._next += 1
        return self.nested() if token.symbol == "(" else self.valued(token)

    def nested(self) -> Term:
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

    def valued(self, token: _Token) -> Term:
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

    def called(self, token: _Token) -> Term:
        if token.kind != "word" or token.text not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            msg = f"unknown name {token.text!r} at character {token.at + 1}: the functions are {known}"
            raise _SyntaxError(msg)
        self.need("(")
        self.deeper()
        arguments = [self.either()]
        while self.take(","):
            arguments.append(self.either())
        self.need(")")
        self._depth -= 1
        wanted = FUNCTIONS[token.text][0]
        if len(arguments) != wanted:
            msg = f"{token.text} takes {wanted} values, not {len(arguments)}"
            raise _SyntaxError(msg)
        return Call(token.text, tuple(arguments))

    def take(self, symbol: str) -> bool:
        if self.tokens[self._next].symbol != symbol:
            return False
        self._next += 1
        return True

    def need(self, symbol: str) -> None:
        if not self.take(symbol):
            msg = f"{symbol!r} is missing"
            raise _SyntaxError(msg)


def evaluate(
    expression: Expression, resolve: Resolve, budget: Budget | None = None
) -> Result[object, PersistenceError]:
    """The value of an expression. A ``FlowError`` names the operator and the incompatible types.

    All of its comparisons and searches share one budget.
    """
    if isinstance(expression.root, Reference):
        # The value itself, of whatever class.
        return resolve(expression.root)
    try:
        return _value(expression.root, resolve, Budget() if budget is None else budget)
    except OverBudgetError as error:
        return Failure(FlowError(f"the expression {error}: compare a smaller part, or let a tool decide"))


def _value(node: Term, resolve: Resolve, budget: Budget) -> Result[object, PersistenceError]:
    match node:
        case Literal():
            return Success(node.value)
        case Reference():
            return resolve(node).map(shown)
        case Chain():
            return _chained(node, resolve, budget)
        case Call():
            return _called(node, resolve, budget)


def _called(node: Call, resolve: Resolve, budget: Budget) -> Result[object, PersistenceError]:
    if node.name in {"&&", "||"}:
        return _joined(node, resolve, budget)
    if node.name == "exists":
        return _exists(node, resolve, budget)
    values: list[object] = []
    for argument in node.arguments:
        value = _value(argument, resolve, budget)
        if isinstance(value, Failure):
            return value
        values.append(value.unwrap())
    return OPERATIONS[node.name](budget, *values)


def _chained(node: Chain, resolve: Resolve, budget: Budget) -> Result[object, PersistenceError]:
    found = _value(node.first, resolve, budget)
    for symbol, operand in node.rest:
        if isinstance(found, Failure):
            return found
        right = _value(operand, resolve, budget)
        if isinstance(right, Failure):
            return right
        found = OPERATIONS[symbol](budget, found.unwrap(), right.unwrap())
    return found


def _joined(node: Call, resolve: Resolve, budget: Budget) -> Result[object, PersistenceError]:
    deciding = node.name == "||"
    for argument in node.arguments:
        value = _value(argument, resolve, budget)
        if isinstance(value, Failure):
            return value
        if truth(value.unwrap()) is deciding:
            return Success(deciding)
    return Success(not deciding)


def _exists(node: Call, resolve: Resolve, budget: Budget) -> Result[object, PersistenceError]:
    """Whether a reference resolves to a value other than null; an unresolvable one is not an error here."""
    value = _value(node.arguments[0], resolve, budget)
    return Success(isinstance(value, Success) and value.unwrap() is not None)
