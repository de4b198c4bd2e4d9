"""JSON Schema: checking JSON data against one.

Draft 2020-12 unless ``$schema`` names another. Patterns run on an engine that is linear in the text, no reference
outside the schema is followed, and sizes are bounded before anything is validated: schemas come from documents that are
not trusted.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

import jsonschema_rs
from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.schema_costs import SchemaCostError, depth_limit

__all__ = ["JsonSchema", "check_json", "escaped", "matches_pattern"]

MAX_NODES: Final = 10_000
MAX_DEPTH: Final = 64
MAX_TEXT: Final = 256 * 1024
MAX_PROBLEMS: Final = 100
#: Of an int: below what Python itself refuses to write as text.
MAX_BITS: Final = 4096
MAX_SHOWN_POINTER: Final = 200
_canonical: Final = json.JSONEncoder(sort_keys=True).encode
#: Stands in messages where the value would: an answer may be personal.
MASK: Final = "the value"


def check_json(
    value: object, *, what: str = "the answer", max_depth: int = MAX_DEPTH
) -> Result[object, PersistenceError]:
    """Whether a value is JSON data within the limits: str keys, finite numbers, no lone surrogates, bounded size and
    depth.
    """
    problems = list(islice(_json_problems(value, max_depth), 1))
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


def _json_problems(value: object, max_depth: int) -> Iterator[Problem]:
    """The first problem of each branch, without recursion."""
    stack: list[tuple[_Trail, object, int]] = [(None, value, 0)]
    nodes = text = 0
    while stack:
        trail, item, depth = stack.pop()
        nodes += 1
        text += len(item) if isinstance(item, str) else 0
        if nodes > MAX_NODES or text > MAX_TEXT or depth > max_depth:
            limits = f"{MAX_NODES} values, {MAX_TEXT} characters, {max_depth} levels"
            yield Problem(_pointer(trail), f"is over the limits ({limits})")
            return
        problem = _scalar_problem(item)
        if problem is not None:
            yield Problem(_pointer(trail), problem)
        elif type(item) is list:
            stack.extend(((trail, n), part, depth + 1) for n, part in enumerate(item[: MAX_NODES + 1]))
        elif type(item) is dict:
            text += sum(len(key) for key in item if isinstance(key, str))
            bad_key = next((True for key in item if not isinstance(key, str) or not _encodable(key)), False)
            if bad_key:
                yield Problem(_pointer(trail), "has a key that is no text")
            else:
                stack.extend(((trail, key), part, depth + 1) for key, part in islice(item.items(), MAX_NODES + 1))


def _scalar_problem(item: object) -> str | None:
    if type(item) in {dict, list, bool} or item is None:
        return None
    if type(item) is int:
        return None if item.bit_length() <= MAX_BITS else f"is a number of more than {MAX_BITS} bits"
    if type(item) is float:
        return None if math.isfinite(item) else "is no finite number"
    if type(item) is str:
        return None if _encodable(item) else "holds a lone surrogate"
    return f"is of the class {type(item).__name__}, which JSON does not have"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(key: str) -> str:
    """A token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


@frozen(eq=False)
class JsonSchema:
    """A schema that was compiled; ``of`` gives it, from a small cache."""

    _validator: Any
    _max_depth: int

    @classmethod
    def of(cls, schema: Mapping[str, object], *, what: str = "the schema") -> JsonSchema:
        """Compile; ``ConfigurationError`` names the place and the problem."""
        plain = dict(schema)
        match check_json(plain, what=what):
            case Failure(InputValidationError() as error):
                problem = error.problems[0]
                message = f"{what} is not usable: at {problem.pointer or 'its root'} it {problem.message}"
                raise ConfigurationError(message, "schema")
        return _compiled(_canonical(plain), what)

    def check(self, value: object, *, what: str = "the answer") -> Result[object, PersistenceError]:
        """The value, or ``InputValidationError`` with every problem (at most 100), each with its JSON pointer."""
        return check_json(value, what=what, max_depth=self._max_depth).bind(
            lambda plain: self.validate(plain, what=what)
        )

    def validate(self, value: object, *, what: str) -> Result[object, PersistenceError]:
        """The same for what is JSON data by construction: of any size, since its maker bounds it."""
        errors = islice(self._validator.iter_errors(value), MAX_PROBLEMS)
        problems = [Problem("".join(f"/{escaped(str(part))}" for part in e.instance_path), e.message) for e in errors]
        return Failure(_invalid(what, problems)) if problems else Success(value)


@functools.lru_cache(maxsize=256)
def _compiled(text: str, what: str) -> JsonSchema:
    try:
        limit = depth_limit(json.loads(text), MAX_DEPTH)
    except SchemaCostError as error:
        raise ConfigurationError(f"{what} is not usable: {error}", "schema") from None
    try:
        validator = jsonschema_rs.validator_for(
            json.loads(text),
            validate_formats=True,
            retriever=_refuse,
            mask=MASK,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except jsonschema_rs.ValidationError as error:
        place = "/".join(str(part) for part in error.instance_path) or "its root"
        raise ConfigurationError(f"{what} is no JSON Schema: at {place}: {error.message}", "schema") from None
    except jsonschema_rs.ReferencingError as error:
        raise ConfigurationError(f"{what} has a reference that does not resolve: {error}", "schema") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{what} is no usable JSON Schema ({type(error).__name__})", "schema") from None
    return JsonSchema(validator, limit)


def _refuse(uri: str) -> Any:  # noqa: ANN401 - the validator's protocol
    del uri
    msg = "a schema may refer to itself only"
    raise ValueError(msg)


def _shown(pointer: str) -> str:
    return pointer[:MAX_SHOWN_POINTER] or "(root)"


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
        problem = Problem("", "is no pattern of the linear engine (no look-around, no back-references)")
        return Failure(_invalid("the pattern", [problem]))
    within = check_json(text, what="the text")
    return within.map(lambda _: isinstance(schema.check(text), Success))
