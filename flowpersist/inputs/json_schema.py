"""JSON Schema: checking JSON data against one.

Draft 2020-12 unless ``$schema`` names another. Patterns run on an engine that is linear in the text, no reference
outside the schema is followed, and sizes are bounded before anything is validated: schemas come from documents that are
not trusted.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias, cast

import jsonschema_rs
from attrs import define, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.schema_costs import MAX_WORK, Costs, Measure, SchemaCostError, costs_of
from flowpersist.inputs.schema_problems import certain_problems, first_problem, problems_of

__all__ = ["JsonSchema", "OwnSchema", "check_json", "matches_pattern"]

MAX_NODES: Final = 10_000
MAX_DEPTH: Final = 64
MAX_TEXT: Final = 256 * 1024
#: Of an int: below what Python itself refuses to write as text.
MAX_BITS: Final = 4096
MAX_SHOWN: Final = 200
#: Integers of more than 64 bits in a schema, whose own schema may ask whether they are all different.
MAX_BIG: Final = 50
#: Bytes that a pattern may compile to, and the steps that a character then takes at worst, as measured.
PATTERN_STEPS: Final = (
    (2 << 10, 6.0),
    (4 << 10, 12.0),
    (8 << 10, 24.0),
    (16 << 10, 45.0),
    (64 << 10, 150.0),
    (256 << 10, 800.0),
    (1 << 20, 3_500.0),
)
MAX_PATTERNS: Final = 500
MAX_PATTERNS_SIZE: Final = 4 << 20
_canonical: Final = json.JSONEncoder(sort_keys=True).encode
#: Stands in messages where the value would: an answer may be personal.
MASK: Final = "the value"


def check_json(
    value: object,
    *,
    what: str = "the answer",
    max_depth: int = MAX_DEPTH,
    max_text: int | None = MAX_TEXT,
    measure: Measure | None = None,
) -> Result[object, PersistenceError]:
    """Whether a value is JSON data within the limits: str keys, finite numbers, no lone surrogates, bounded size and
    depth. ``max_text``: characters of all texts together, None where the caller bounds them. What it is made of goes
    into ``measure``.
    """
    most = sys.maxsize if max_text is None else max_text
    problems = list(islice(_json_problems(value, max_depth, most, Measure() if measure is None else measure), 1))
    if problems:
        return Failure(_invalid(what, problems))
    return Success(value)


#: The way from the root, backwards. A pointer for every value would repeat a long key as often as it has values below.
_Trail: TypeAlias = tuple[Any, str | int] | None


def _pointer(trail: _Trail) -> str:
    tokens: list[str] = []
    while trail is not None:
        trail, token = trail
        tokens.append("/" + escaped(str(token)))
    return "".join(reversed(tokens))


def _json_problems(value: object, max_depth: int, max_text: int, measure: Measure) -> Iterator[Problem]:
    """The first problem of each branch, without recursion."""
    stack: list[tuple[_Trail, object, int]] = [(None, value, 0)]
    nodes = text = 0
    while stack:
        trail, item, depth = stack.pop()
        nodes += 1
        text += len(item) if isinstance(item, str) else 0
        if nodes > MAX_NODES or text > max_text or depth > max_depth:
            limits = f"{MAX_NODES} values, {max_text} characters, {max_depth} levels"
            yield Problem(_pointer(trail), f"is over the limits ({limits})")
            return
        measure.add(depth, item)
        problem = _scalar_problem(item)
        if problem is not None:
            yield Problem(_pointer(trail), problem)
        elif type(item) is list:
            stack.extend(((trail, n), part, depth + 1) for n, part in enumerate(item[: MAX_NODES + 1]))
        elif type(item) is dict:
            text += sum(len(key) for key in item if isinstance(key, str))
            bad_key = next((True for key in item if not isinstance(key, str) or not _encodable(key)), False)
            if bad_key:
                yield Problem(_pointer(trail), "has a key that is not a string")
            else:
                stack.extend(((trail, key), part, depth + 1) for key, part in islice(item.items(), MAX_NODES + 1))


def _scalar_problem(item: object) -> str | None:
    if type(item) in {dict, list, bool} or item is None:
        return None
    if type(item) is int:
        return None if item.bit_length() <= MAX_BITS else f"is a number of more than {MAX_BITS} bits"
    if type(item) is float:
        return None if math.isfinite(item) else "is not a finite number"
    if type(item) is str:
        return None if _encodable(item) else "holds a lone surrogate"
    return f"is of the class {type(item).__name__[:100]}, which JSON can't represent"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@frozen(eq=False)
class JsonSchema:
    """A schema that was compiled; ``of`` gives it, from a small cache."""

    _validator: Any
    _costs: Costs

    @classmethod
    def of(cls, schema: Mapping[str, object], *, what: str = "the schema") -> JsonSchema:
        """Compile; ``ConfigurationError`` names the place and the problem."""
        plain, measure = dict(schema), Measure()
        match check_json(plain, what=what, measure=measure):
            case Failure(InputValidationError() as error):
                problem = error.problems[0]
                message = f"{what} is not usable: at {problem.pointer[:MAX_SHOWN] or 'its root'} it {problem.message}"
                raise ConfigurationError(message, "schema")
        if measure.big > MAX_BIG:
            raise ConfigurationError(f"{what} is not usable: it has over {MAX_BIG} integers of over 64 bits", "schema")
        return _compiled(_canonical(plain), what)

    @classmethod
    def stored(cls, schema: object) -> JsonSchema:
        """The same for a schema that was decoded from bytes: if it was compiled before, it is not checked again."""
        try:
            return _of_text(_canonical(schema))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"the schema is not JSON data ({type(error).__name__})", "schema") from None

    def check(
        self, value: object, *, what: str = "the answer", max_text: int | None = MAX_TEXT
    ) -> Result[object, PersistenceError]:
        """The value, or ``InputValidationError`` with its problems (at most 100), each with its JSON pointer.

        Of what is large only some may be named.
        """
        return self.within(value, what=what, max_text=max_text).bind(lambda plain: self.validate(plain, what=what))

    def within(self, value: object, *, what: str, max_text: int | None = MAX_TEXT) -> Result[object, PersistenceError]:
        """Whether the value is JSON data that this schema can be asked about within the bounds."""
        measure = Measure()
        checked = check_json(value, what=what, max_depth=self._costs.max_depth, max_text=max_text, measure=measure)
        if isinstance(checked, Success) and self._costs.work(measure) > MAX_WORK:
            return Failure(_invalid(what, [Problem("", "is too large to be checked against its schema")]))
        return checked

    def validate(self, value: object, *, what: str) -> Result[object, PersistenceError]:
        """The same for what is JSON data by construction: of any size, since its maker bounds it."""
        if self._costs.max_depth < MAX_DEPTH and _is_deeper(value, self._costs.max_depth):
            return Failure(_invalid(what, [Problem("", "is nested too deeply to be checked against its schema")]))
        if self.fits(value):
            return Success(value)
        return Failure(_invalid(what, problems_of(self._validator, self._costs, value)))

    def certain(self, value: object, unknown: Collection[tuple[str, ...]]) -> list[Problem]:
        """The problems of a value of which some parts are not known yet, by the tokens of their pointers: only those
        that it has whatever stands there. Of a value that is too large to be looked at, none.
        """
        return [] if self.fits(value) else certain_problems(self._validator, self._costs, value, unknown)

    def fits(self, value: object) -> bool:
        """Whether it is valid."""
        return cast("bool", self._validator.is_valid(value))


@frozen(eq=False)
class OwnSchema:
    """A schema of the library's own, which takes work in proportion to an instance, so that no costs are computed."""

    _validator: Any

    @classmethod
    def of(cls, schema: Mapping[str, object]) -> OwnSchema:
        """Compile it."""
        return cls(jsonschema_rs.validator_for(dict(schema), retriever=_refuse, mask=MASK))

    def first_problem(self, value: object) -> Problem | None:
        """The first problem of JSON data within bounds; None if it is valid."""
        return None if self._validator.is_valid(value) else first_problem(self._validator, value)


def _is_deeper(value: object, most: int) -> bool:
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > most:
            return True
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
        pending.extend((part, depth + 1) for part in inner)
    return False


@functools.lru_cache(maxsize=256)
def _of_text(text: str) -> JsonSchema:
    schema = json.loads(text)
    if not isinstance(schema, dict):
        raise ConfigurationError("the schema is not an object", "schema")
    return JsonSchema.of(schema)


@functools.lru_cache(maxsize=256)
def _compiled(text: str, what: str) -> JsonSchema:
    try:
        costs = costs_of(json.loads(text), MAX_DEPTH, PatternWeights().weigh)
    except SchemaCostError as error:
        raise ConfigurationError(f"{what} is not usable: {error}", "schema") from None
    try:
        validator = jsonschema_rs.validator_for(
            json.loads(text),
            validate_formats=True,
            retriever=_refuse,
            mask=MASK,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_STEPS[-1][0]),
        )
    except jsonschema_rs.ValidationError as error:
        place = "/".join(str(part) for part in error.instance_path)[:MAX_SHOWN] or "its root"
        message = f"{what} is not a valid JSON Schema: at {place}: {error.message[:MAX_SHOWN]}"
        raise ConfigurationError(message, "schema") from None
    except jsonschema_rs.ReferencingError as error:
        message = f"{what} has a reference that does not resolve: {str(error)[:MAX_SHOWN]}"
        raise ConfigurationError(message, "schema") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{what} is not a usable JSON Schema ({type(error).__name__})", "schema") from None
    return JsonSchema(validator, costs)


@define
class PatternWeights:
    """What a schema's patterns cost for each character that they are tried on, by the size that they compile to.

    The engine takes time in proportion to both; where its cache of states does not help, one character takes as many
    steps as there are states.
    """

    _room: int = MAX_PATTERNS_SIZE
    _count: int = 0

    def weigh(self, pattern: str) -> float:
        """Steps for a character. One that does not compile costs nothing: the validator refuses it."""
        size, steps = _short_weight(pattern) if len(pattern) <= MAX_SHOWN else _weight(pattern)
        self._room -= size
        self._count += 1
        if self._room < 0 or self._count > MAX_PATTERNS:
            limits = f"at most {MAX_PATTERNS}, of {MAX_PATTERNS_SIZE} bytes compiled"
            msg = f"its patterns are too many or too large: {limits}"
            raise SchemaCostError(msg)
        return steps


def _weight(pattern: str) -> tuple[int, float]:
    return next(((size, steps) for size, steps in PATTERN_STEPS if _compiles(pattern, size)), (0, 0.0))


_short_weight = functools.lru_cache(maxsize=1024)(_weight)


def _compiles(pattern: str, size: int) -> bool:
    try:
        options = jsonschema_rs.RegexOptions(size_limit=size)
        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True


def _refuse(uri: str) -> Any:  # noqa: ANN401 - the validator's protocol
    del uri
    msg = "a schema may refer to itself only"
    raise ValueError(msg)


def _shown(pointer: str) -> str:
    return pointer[:MAX_SHOWN] or "(root)"


def _invalid(what: str, problems: list[Problem]) -> PersistenceError:
    shown = "; ".join(f"{_shown(problem.pointer)}: {problem.message}" for problem in problems[:5])
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""  # noqa: PLR2004
    return InputValidationError(f"{what} does not fit its schema: {shown}{more}", problems)


def matches_pattern(pattern: str, text: str) -> Result[bool, PersistenceError]:
    """Whether the pattern is found in the text, in time linear in the text; ``InputValidationError`` for a bad
    pattern, and for a text over the limits.
    """
    try:
        schema = JsonSchema.of({"type": "string", "pattern": pattern}, what="the pattern")
    except ConfigurationError:
        problem = Problem("", "is not a supported pattern (no look-around, no back-references), or is too large")
        return Failure(_invalid("the pattern", [problem]))
    return schema.within(text, what="the text").map(lambda _: schema.fits(text))
