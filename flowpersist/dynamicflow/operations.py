"""The operators and functions of expressions, each within the budget of its evaluation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Final, TypeAlias, cast

from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.budgets import SLOW, Budget
from flowpersist.errors import FlowError, PersistenceError
from flowpersist.inputs.json_schema import matches_pattern

__all__ = ["COMPARISONS", "FUNCTIONS", "OPERATIONS", "same", "truth"]


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


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


def same(budget: Budget, left: object, right: object) -> Result[object, PersistenceError]:
    """Whether two values have equal JSON types and values at every level."""
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
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
    if not isinstance(whole, list | tuple):
        return _unfit("contains", whole, part)
    for item in whole:
        equal = same(budget, item, part)
        if isinstance(equal, Failure) or equal.unwrap():
            return equal
    return Success(False)


def _length(_budget: Budget, value: object) -> Result[object, PersistenceError]:
    return Success(len(value)) if isinstance(value, str | list | tuple | Mapping) else _unfit("length", value)


def _is_empty(budget: Budget, value: object) -> Result[object, PersistenceError]:
    return Success(True) if value is None else _length(budget, value).map(lambda size: size == 0)


def _matches(budget: Budget, text: object, pattern: object) -> Result[object, PersistenceError]:
    if not isinstance(text, str) or not isinstance(pattern, str):
        return _unfit("matches", text, pattern)
    budget.spend(1, SLOW * (len(text) + len(pattern)))
    found = matches_pattern(pattern, text)
    return found.alt(lambda error: FlowError(f"matches: {error}"))


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
OPERATIONS: Final[dict[str, Operator]] = {
    "!": lambda _budget, value: Success(not truth(value)),
    **COMPARISONS,
    **{name: work for name, (_, work) in FUNCTIONS.items()},
}
