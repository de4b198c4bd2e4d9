"""The operators and functions of expressions, each within the budget of its evaluation."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Final, TypeAlias, cast

from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.budgets import SLOW, Budget
from flowpersist.dynamicflow.views import listed, shown
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.inputs.json_schema import matches_pattern

__all__ = ["COMPARISONS", "FUNCTIONS", "MAX_NUMBER", "OPERATIONS", "same", "truth"]

#: Numbers beyond it come near to what a float can't hold.
MAX_NUMBER: Final = 1e300
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def truth(value: object) -> bool:
    """Whether a value counts as true."""
    if value is None or isinstance(value, bool | int | float | str | list | tuple | set | frozenset | Mapping):
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
    return "list" if isinstance(value, list | tuple | set | frozenset) else type(value)


def same(budget: Budget, left: object, right: object) -> Result[object, PersistenceError]:
    """Whether two values have equal JSON types and values at every level."""
    pairs = [(left, right)]
    while pairs:
        one, other = (listed(shown(value), budget) for value in pairs.pop())
        within = _parts(one, other, budget)
        if within is None:
            return Success(False)
        pairs.extend(within)
    return Success(True)


def _parts(one: object, other: object, budget: Budget) -> list[tuple[object, object]] | None:
    """The pairs that must be equal for two values to be equal; None if the values differ already."""
    if _kind(one) != _kind(other):
        budget.spend(1)
        return None
    if isinstance(one, str) and isinstance(other, str):
        budget.spend(1, len(one) if len(one) == len(other) else 0)
        return [] if one == other else None
    if not isinstance(one, Mapping | list | tuple):
        budget.spend(1)
        return [] if one == other else None
    if len(one) != len(cast("Sized", other)):
        budget.spend(1)
        return None
    # Counted before the pairs are made, since they are as many as the values.
    budget.spend(1 + len(one))
    if not isinstance(one, Mapping):
        return _undecided(zip(one, cast("list[object]", other), strict=True), budget)
    whole = cast("Mapping[object, object]", other)
    return _undecided(((one[key], whole[key]) for key in one), budget) if one.keys() == whole.keys() else None


def _undecided(pairs: Iterable[tuple[object, object]], budget: Budget) -> list[tuple[object, object]] | None:
    """The pairs that a shallow comparison does not decide; None if one pair differs."""
    left: list[tuple[object, object]] = []
    text = 0
    for one, other in pairs:
        if type(one) is not type(other) or type(one) not in _PLAIN:
            left.append((one, other))
        elif one != other:
            return None
        elif type(one) is str:
            text += len(one)
    budget.spend(0, text)
    return left


def _unfit(name: str, *values: object) -> Result[object, PersistenceError]:
    kinds = " and ".join(type(value).__name__ for value in values)
    return Failure(FlowError(f"{name} can't be applied to {kinds}"))


def _ordering(name: str, compare: Callable[[Any, Any], object]) -> Operator:
    def ordered(budget: Budget, left: object, right: object) -> Result[object, PersistenceError]:
        if _kind(left) == _kind(right) and _kind(left) in {"number", "text"}:
            budget.spend(1, len(left) if isinstance(left, str) else 0)
            return Success(compare(left, right))
        return _unfit(name, left, right)

    return ordered


def _textual(name: str, work: Callable[..., object], cost: int = 1) -> Operator:
    def applied(budget: Budget, *values: object) -> Result[object, PersistenceError]:
        if not all(isinstance(value, str) for value in values):
            return _unfit(name, *values)
        budget.spend(1, cost * sum(len(str(value)) for value in values))
        return Success(work(*values))

    return applied


def _contains(budget: Budget, whole: object, part: object) -> Result[object, PersistenceError]:
    if isinstance(whole, str) and isinstance(part, str):
        budget.spend(1, len(whole) + len(part))
        return Success(part in whole)
    if isinstance(whole, Mapping):
        budget.spend(1)
        return Success(isinstance(part, str) and part in whole)
    if not isinstance(whole, list | tuple | set | frozenset):
        return _unfit("contains", whole, part)
    for item in whole:
        equal = same(budget, item, part)
        if isinstance(equal, Failure) or equal.unwrap():
            return equal
    return Success(False)


def _length(_budget: Budget, value: object) -> Result[object, PersistenceError]:
    if isinstance(value, str | list | tuple | set | frozenset | Mapping):
        return Success(len(value))
    return _unfit("length", value)


def _is_empty(budget: Budget, value: object) -> Result[object, PersistenceError]:
    return Success(True) if value is None else _length(budget, value).map(lambda size: size == 0)


def _matches(budget: Budget, text: object, pattern: object) -> Result[object, PersistenceError]:
    if not isinstance(text, str) or not isinstance(pattern, str):
        return _unfit("matches", text, pattern)
    budget.spend(1, SLOW * (len(text) + len(pattern)))
    found = matches_pattern(pattern, text)
    return found.alt(lambda error: FlowError(f"matches: {error}"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(name: str, number: float) -> Result[object, PersistenceError]:
    return Success(number) if -MAX_NUMBER <= number <= MAX_NUMBER else _beyond(name, "the result of")


def _is_beyond(value: object) -> bool:
    return isinstance(value, int) and not -MAX_NUMBER <= value <= MAX_NUMBER


def _beyond(name: str, what: str) -> Result[object, PersistenceError]:
    return Failure(FlowError(f"{what} {name} is beyond {MAX_NUMBER:g}"))


def _arithmetic(name: str, compute: Callable[[Any, Any], Any]) -> Operator:
    def computed(budget: Budget, left: object, right: object) -> Result[object, PersistenceError]:
        if not _is_number(left) or not _is_number(right):
            return _unfit(name, left, right)
        budget.spend(1)
        # Checked before they are used: dividing numbers of a million digits takes minutes.
        if _is_beyond(left) or _is_beyond(right):
            return _beyond(name, "a number of")
        if name in {"/", "%"} and not right:
            return Failure(FlowError(f"{name} by 0 has no result: check the divisor first"))
        try:
            return _within(name, compute(left, right))
        except OverflowError:
            return _beyond(name, "the result of")

    return computed


def _divided(left: float, right: float) -> float:
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return left / right


def _remainder(left: float, right: float) -> float:
    if isinstance(left, int) and isinstance(right, int):
        return abs(left) % abs(right) * (-1 if left < 0 else 1)
    return math.fmod(left, right)


def _plus(budget: Budget, left: object, right: object) -> Result[object, PersistenceError]:
    """The sum of numbers, or the text of both where one is a text."""
    if _is_number(left) and _is_number(right):
        return _sum(budget, left, right)
    if not isinstance(left, str) and not isinstance(right, str):
        return _unfit("+", left, right)
    texts: list[str] = []
    for value in (left, right):
        if not isinstance(value, str | int | float):
            return _unfit("+", left, right)
        if _is_beyond(value):
            return _beyond("+", "a number of")
        texts.append(value if isinstance(value, str) else json.dumps(value))
    budget.spend(1, len(texts[0]) + len(texts[1]))
    return Success("".join(texts))


def _signed(name: str, negative: bool) -> Operator:  # noqa: FBT001 - of the table below
    def signed(_budget: Budget, value: object) -> Result[object, PersistenceError]:
        number = cast("float", value)
        return Success(-number if negative else number) if _is_number(value) else _unfit(name, value)

    return signed


Operator: TypeAlias = Callable[..., Result[object, PersistenceError]]

#: The name of each function: the number of its arguments, and the function.
FUNCTIONS: Final[dict[str, tuple[int, Operator]]] = {
    "contains": (2, _contains),
    "startsWith": (2, _textual("startsWith", str.startswith)),
    "endsWith": (2, _textual("endsWith", str.endswith)),
    "length": (1, _length),
    "exists": (1, lambda _budget, value: Success(value)),
    "isEmpty": (1, _is_empty),
    "lower": (1, _textual("lower", str.lower, SLOW)),
    "upper": (1, _textual("upper", str.upper, SLOW)),
    "matches": (2, _matches),
}
COMPARISONS: Final[dict[str, Operator]] = {
    "==": same,
    "!=": lambda budget, left, right: same(budget, left, right).map(operator.not_),
    ">=": _ordering(">=", operator.ge),
    "<=": _ordering("<=", operator.le),
    ">": _ordering(">", operator.gt),
    "<": _ordering("<", operator.lt),
}
_sum: Final = _arithmetic("+", operator.add)
OPERATIONS: Final[dict[str, Operator]] = {
    "+": _plus,
    "-": _arithmetic("-", operator.sub),
    "*": _arithmetic("*", operator.mul),
    "/": _arithmetic("/", _divided),
    "%": _arithmetic("%", _remainder),
    "sign -": _signed("-", negative=True),
    "sign +": _signed("+", negative=False),
    "!": lambda _budget, value: Success(not truth(value)),
    **COMPARISONS,
    **{name: work for name, (_, work) in FUNCTIONS.items()},
}
