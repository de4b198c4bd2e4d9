"""Why an instance is not valid: at most a hundred problems, for a bounded amount of work.

A validator makes all the errors of an instance at once, each with copies of what is wrong and of what was expected:
9,000 items against an enumeration of 2,000 take seconds and gigabytes. So an instance whose errors might cost that much
is looked at in pieces, as many as there is room for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

from attrs import frozen

from flowpersist.errors import Problem
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.schema_costs import Costs, Measure

__all__ = ["MAX_PROBLEMS", "certain_problems", "first_problem", "measured", "problems_of"]

MAX_PROBLEMS: Final = 100
MAX_MESSAGE: Final = 300
#: Characters of all pointers: a long key may lead to every problem.
MAX_POINTERS: Final = 256 * 1024
#: Steps, of 25 ns, for the errors of an instance as a whole, and of its pieces together.
MAX_WORK: Final = 800_000
MAX_WORK_IN_PIECES: Final = 2 * MAX_WORK
#: Values that are looked at as a whole, values in a piece, and pieces.
MAX_VALUES: Final = 20_000
MAX_PIECE: Final = 256
MAX_PIECES: Final = 2_000
#: How deep pieces are looked for.
MAX_DEPTH: Final = 64
#: Where no more can be said within the bounds.
SOMEWHERE: Final = Problem("", "does not fit (the value or its schema is too large to report where)")
_Path: TypeAlias = tuple[str | int, ...]
#: The keywords that look at a container's keys or length only, and not at the values in it.
_OF_SHAPE: Final = frozenset(
    {
        "additionalProperties",
        "maxItems",
        "maxProperties",
        "minItems",
        "minProperties",
        "propertyNames",
        "required",
        "type",
    }
)
#: The keywords whose schemas are applied, or not, for what a value holds elsewhere.
_IF_ELSEWHERE: Final = frozenset({"then", "else", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties"})


def measured(value: object) -> Measure:
    """What a value is made of, as far as it matters: of one that is over the limit, more than the limit."""
    measure = Measure()
    pending: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while pending and seen <= MAX_VALUES:
        item, depth = pending.pop()
        seen += 1
        measure.add(depth, item)
        if isinstance(item, dict):
            pending.extend((part, depth + 1) for part in item.values())
        elif isinstance(item, list):
            pending.extend((part, depth + 1) for part in item)
    return measure


def problems_of(validator: Any, costs: Costs, value: object) -> list[Problem]:  # noqa: ANN401 - of jsonschema-rs
    """The problems of an instance that is not valid, at least one."""
    return list(_bounded(_found(validator, costs, value))) or [_first(validator, costs, value)]


def certain_problems(
    validator: Any,  # noqa: ANN401 - of jsonschema-rs
    costs: Costs,
    value: object,
    unknown: Collection[tuple[str, ...]],
) -> list[Problem]:
    """The problems of an instance that do not depend on the parts at these paths. None if it is too large."""
    measure = measured(value)
    if measure.size > MAX_VALUES or costs.error_work(measure) > MAX_WORK:
        return []
    around = {path[:length] for path in unknown for length in range(len(path))}
    within = frozenset(unknown)

    def is_certain(error: Any) -> bool:  # noqa: ANN401 - an error of jsonschema-rs
        path = tuple(str(token) for token in error.instance_path)
        if any(path[:length] in within for length in range(len(path) + 1)):
            return False
        if unknown and not _IF_ELSEWHERE.isdisjoint(error.schema_path):
            return False
        return path not in around or error.kind.name in _OF_SHAPE

    certain = (error for error in validator.iter_errors(value) if is_certain(error))
    return list(_bounded(_problem(error, tuple(error.instance_path)) for error in certain))


def _first(validator: Any, costs: Costs, value: object) -> Problem:  # noqa: ANN401 - as above
    """The first problem alone, where it holds no others."""
    return first_problem(validator, value) if costs.graph.flat else SOMEWHERE


def first_problem(validator: Any, value: object) -> Problem:  # noqa: ANN401 - of jsonschema-rs
    """The first problem of an instance that is not valid."""
    try:
        validator.validate(value)
    except ValueError as error:
        return _problem(error, tuple(getattr(error, "instance_path", ())))
    return SOMEWHERE


def _found(validator: Any, costs: Costs, value: object) -> Iterator[Problem]:  # noqa: ANN401 - as above
    measure = measured(value)
    if measure.size <= MAX_VALUES and costs.error_work(measure) <= MAX_WORK:
        yield from (_problem(error, tuple(error.instance_path)) for error in validator.iter_errors(value))
    elif costs.graph.local:
        yield from _in_pieces(validator, costs, value)


def _in_pieces(validator: Any, costs: Costs, value: object) -> Iterator[Problem]:  # noqa: ANN401 - as above
    room: float = MAX_WORK_IN_PIECES
    most = max(1, min(MAX_PIECE, int(MAX_WORK / 4 / costs.error_steps)))
    for piece in islice(_pieces(value, most, 0), MAX_PIECES):
        if validator.is_valid(piece.value):
            continue
        room -= costs.error_work(measured(piece.value))
        if room < 0:
            return
        yield from piece.problems(validator)


def _bounded(problems: Iterator[Problem]) -> Iterator[Problem]:
    size = 0
    for problem in islice(problems, MAX_PROBLEMS):
        size += len(problem.pointer)
        if size > MAX_POINTERS:
            return
        yield problem


def _problem(error: Any, path: _Path) -> Problem:  # noqa: ANN401 - an error of jsonschema-rs
    message = str(getattr(error, "message", SOMEWHERE.message))
    return Problem(
        "".join(f"/{escaped(str(token))}" for token in path),
        message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
    )


@frozen
class _Piece:
    """An instance that is cut down to some children of one container; what holds that container holds nothing else.

    ``places`` are the containers on the way: where a list's first item really stands, None for a mapping.
    """

    value: object
    places: tuple[int | None, ...]

    def problems(self, validator: Any) -> Iterator[Problem]:  # noqa: ANN401 - as above
        """Those below the children: what is said of a container that was cut down says nothing of the whole."""
        for error in validator.iter_errors(self.value):
            path: _Path = tuple(error.instance_path)
            if len(path) >= len(self.places):
                yield _problem(error, self._whole(path))

    def _whole(self, path: _Path) -> _Path:
        moved = (
            token if place is None or not isinstance(token, int) else token + place
            for token, place in zip(path, self.places, strict=False)
        )
        return (*moved, *path[len(self.places) :])


def _pieces(value: object, most: int, depth: int) -> Iterator[_Piece]:
    """The children of a container, as many together as are small enough; the children of those that are not."""
    if isinstance(value, dict):
        items: Iterator[tuple[Any, object]] = iter(value.items())
    elif isinstance(value, list) and depth <= MAX_DEPTH:
        items = enumerate(value)
    else:
        return
    group: list[tuple[Any, object]] = []
    size = 0
    for key, child in items:
        own = _size(child, most)
        if group and size + own > most:
            yield _piece(group, of_dict=isinstance(value, dict))
            group, size = [], 0
        if own <= most:
            group.append((key, child))
            size += own
            continue
        for inner in _pieces(child, most, depth + 1):
            outer = _piece([(key, inner.value)], of_dict=isinstance(value, dict))
            yield _Piece(outer.value, outer.places + inner.places)
    if group:
        yield _piece(group, of_dict=isinstance(value, dict))


def _piece(group: list[tuple[Any, object]], *, of_dict: bool) -> _Piece:
    if of_dict:
        return _Piece(dict(group), (None,))
    return _Piece([child for _, child in group], (group[0][0],))


def _size(value: object, most: int) -> int:
    """How many values there are, counted up to one more than ``most``."""
    pending, size = [value], 0
    while pending and size <= most:
        item = pending.pop()
        size += 1
        if isinstance(item, dict):
            pending.extend(islice(item.values(), most + 1))
        elif isinstance(item, list):
            pending.extend(item[: most + 1])
    return size
