"""From drafts to nodes: check every field, parse every expression, and name every block by its ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from attrs import frozen
from returns.result import Failure

from flowpersist.dynamicflow import expressions
from flowpersist.dynamicflow.document import Document
from flowpersist.dynamicflow.expressions import Expression
from flowpersist.dynamicflow.forms import Draft
from flowpersist.dynamicflow.ir import (
    Block,
    Conditional,
    Filter,
    Kind,
    Loop,
    Map,
    Node,
    Operation,
    Parallel,
    Reduce,
    Retry,
    Sequence,
    Switch,
    ToolCall,
)
from flowpersist.dynamicflow.naming import check_name
from flowpersist.errors import FlowError

__all__ = ["MAX_ITERATIONS", "PARALLEL", "build"]

#: The iterations of a map that run at once if it gives no number; waiting ones don't count.
PARALLEL: Final = 32
#: The most times that a loop runs its body if it sets no bound.
MAX_ITERATIONS: Final = 1_000
_MAX_CONCURRENCY: Final = 10_000
_MAX_RETRIES: Final = 100
_MAX_BOUND: Final = 1_000_000
#: In milliseconds, about 300 years: the longest time that timedelta and deadlines support.
_MAX_TIMEOUT: Final = 10**13
_MAX_TOOL_BYTES: Final = 128
#: In milliseconds: a run keeps its lease while it pauses before an attempt.
_MAX_DELAY: Final = 60 * 60 * 1000
_RETRY_FIELDS: Final = ("attempts", "delay", "backoff", "maxDelay", "on")
_BACKOFFS: Final = {"exponential": 2.0, "fixed": 1.0}


@frozen
class _Building:
    """One draft with its document, and methods to read its fields or refuse them."""

    draft: Draft
    document: Document

    def refuse(self, message: str, reference: str | None = None) -> NoReturn:
        raise FlowError(f"step {self.draft.id!r}: {message}", self.document.name, self.draft.id, reference)

    def block(self, name: str) -> Block:
        return tuple(child.id for child in self.draft.blocks.get(name, ()))

    def needed_block(self, name: str, written: str) -> Block:
        block = self.block(name)
        if not block:
            self.refuse(f"needs {written!r}: a step, or a list of steps")
        return block

    def needed(self, name: str, written: str) -> object:
        if name not in self.draft.fields:
            self.refuse(f"needs {written!r}")
        return self.draft.fields[name]

    def name(self, field: str, default: str) -> str:
        return check_name(self.draft.fields.get(field, default), f"{field!r}", self.draft, self.document)

    def condition(self, written: str = "condition") -> Expression:
        return self.expression(self.needed(written, written), written)

    def expression(self, value: object, written: str) -> Expression:
        if isinstance(value, Mapping):
            value = self._expression_of(value, written)
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(value, str):
            self.refuse(f"{written!r} must be an expression, a string, not {type(value).__name__}")
        parsed = expressions.parse(value)
        if isinstance(parsed, Failure):
            self.refuse(f"{written!r} can't be read: {parsed.failure()}")
        return parsed.unwrap()

    def _expression_of(self, value: Mapping[str, object], written: str) -> object:
        kind = value.get("type", "expression")
        if kind != "expression":
            self.refuse(f"{written!r} of type {kind!r} is not supported in this release: write an expression")
        return value.get("expression")

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self.draft.fields.get(name, default)
        return self.whole(value, name, least, most)

    def seconds(self, value: object, written: str, most: int) -> float:
        """Milliseconds of the document as seconds."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            self.refuse(f"Invalid {written!r}: expected a number of milliseconds from 0 to {most}, got {value!r}")
        return value / 1000

    def flag(self, name: str) -> bool:
        value = self.draft.fields.get(name, False)
        if not isinstance(value, bool):
            self.refuse(f"Invalid {name!r}: expected true or false, got {value!r}")
        return value

    def whole(self, value: object, written: str, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(f"Invalid {written!r}: expected a whole number from {least} to {most}, got {value!r}")
        return value


def build(draft: Draft, document: Document) -> Node:
    """Build the node of one draft. Raises ``FlowError``."""
    building = _Building(draft, document)
    operation = _BUILDERS[draft.kind](building)
    description = draft.common.get("description")
    return Node(
        id=draft.id,
        operation=operation,
        output=_output(building),
        timeout=_timeout(building),
        retry=_retry(building),
        on_error=building.block("onError"),
        description=description if isinstance(description, str) else None,
    )


def _output(building: _Building) -> str | None:
    value = building.draft.common.get("output")
    return None if value is None else check_name(value, "'output'", building.draft, building.document)


def _timeout(building: _Building) -> float | None:
    """Convert milliseconds to seconds."""
    value = building.draft.common.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_TIMEOUT:
        building.refuse(f"'timeout' must be a number of milliseconds over 0 and at most {_MAX_TIMEOUT}")
    return value / 1000


def _retry(building: _Building) -> Retry:
    given = building.draft.common.get("retry")
    if not isinstance(given, Mapping):
        return Retry(building.whole(given or 0, "retry", 0, _MAX_RETRIES))
    unknown = sorted(set(given) - set(_RETRY_FIELDS))
    if unknown:
        building.refuse(f"'retry' has the unknown field {unknown[0]!r}: it takes {', '.join(_RETRY_FIELDS)}")
    factor = given.get("backoff", "exponential")
    if not isinstance(factor, str) or factor not in _BACKOFFS:
        building.refuse("Invalid 'retry.backoff': expected 'exponential' or 'fixed'")
    return Retry(
        attempts=building.whole(given.get("attempts"), "retry.attempts", 0, _MAX_RETRIES),
        delay=building.seconds(given["delay"], "retry.delay", _MAX_DELAY) if "delay" in given else None,
        factor=_BACKOFFS[factor],
        longest=building.seconds(given.get("maxDelay", _MAX_DELAY), "retry.maxDelay", _MAX_DELAY),
        on=_classes(building, given.get("on", [])),
    )


def _classes(building: _Building, given: object) -> frozenset[str]:
    if not isinstance(given, list) or not all(isinstance(name, str) and name for name in given):
        building.refuse("Invalid 'retry.on': expected a list of names of error classes, such as 'TimeoutError'")
    return frozenset(given)


def _tool(building: _Building) -> Operation:
    tool = building.needed("tool", "tool")
    arguments = building.draft.fields.get("args")
    if not isinstance(tool, str) or not _is_tool_id(tool):
        building.refuse(
            f"Invalid 'tool': expected the id of a tool, of at most {_MAX_TOOL_BYTES} printable bytes, got {tool!r}"
        )
    if arguments is not None and not isinstance(arguments, Mapping) and not _is_reference(arguments):
        building.refuse("'args' must be an object, or a reference to one")
    return ToolCall(tool, arguments)


def _is_tool_id(value: str) -> bool:
    return bool(value) and value.isprintable() and len(value.encode()) <= _MAX_TOOL_BYTES


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith("$") and not value.startswith("$$")


def _conditional(building: _Building) -> Operation:
    return Conditional(building.condition(), building.block("if_true"), building.block("if_false"))


def _switch(building: _Building) -> Operation:
    selector = building.needed("switch", "switch")
    if isinstance(selector, str) and isinstance(expressions.parse(selector), Failure):
        building.refuse("a 'switch' by a prompt is not supported in this release: write an expression")
    cases = {
        name.removeprefix("case "): building.block(name) for name in building.draft.blocks if name.startswith("case ")
    }
    default = building.block("default") if "default" in building.draft.fields else None
    _check_options(building, frozenset(cases))
    return Switch(building.expression(selector, "switch"), cases, default)


def _check_options(building: _Building, cases: frozenset[str]) -> None:
    options = building.draft.fields.get("options")
    if options is None:
        return
    if not isinstance(options, list):
        building.refuse("'options' must be a list of ids, or of objects with an 'id'")
    ids = {str(option.get("id") if isinstance(option, Mapping) else option) for option in options}
    strange = sorted(cases - ids)
    if strange:
        building.refuse(f"the branch {strange[0]!r} is not one of the options {', '.join(sorted(ids))}")


def _filter(building: _Building) -> Operation:
    return Filter(building.needed("over", "filter"), building.condition(), building.name("as", "item"))


def _map(building: _Building) -> Operation:
    return Map(
        building.needed("over", "map"),
        building.needed_block("body", "with"),
        building.name("as", "item"),
        _concurrency(building),
        building.flag("continueOnError"),
    )


def _concurrency(building: _Building) -> int:
    parallel = building.flag("parallel")
    return building.number("concurrency", PARALLEL if parallel else 1, 1, _MAX_CONCURRENCY)


def _reduce(building: _Building) -> Operation:
    return Reduce(
        building.needed("over", "reduce"),
        building.needed("initial", "initial"),
        building.needed_block("body", "with"),
        building.name("as", "item"),
        building.name("accumulator", "acc"),
    )


def _loop(building: _Building) -> Operation:
    kind = building.draft.fields.get("loop", "while" if "condition" in building.draft.fields else "for")
    # Not a set, since it may hold any value, also an unhashable one.
    if kind not in ("for", "while"):
        building.refuse(f"Invalid 'loop': expected 'for' or 'while', got {kind!r}")
    return Loop(
        building.needed("over", "over") if kind == "for" else None,
        building.condition() if kind == "while" else None,
        building.needed_block("body", "body"),
        building.name("as", "item"),
        building.number("maxIterations", MAX_ITERATIONS, 1, _MAX_BOUND),
    )


def _parallel(building: _Building) -> Operation:
    names = [name for name in building.draft.blocks if name.startswith("[")]
    return Parallel(tuple(building.block(name) for name in names), _needed(building, len(names)))


def _needed(building: _Building, branches: int) -> int | None:
    """How many branches must finish; None: all."""
    until = building.draft.fields.get("until", "all")
    if isinstance(until, Mapping) and set(until) == {"count"}:
        return building.whole(until["count"], "until.count", 1, branches)
    if until not in ("all", "any"):
        building.refuse("Invalid 'until': expected 'all', 'any' or {\"count\": n}")
    return None if until == "all" else 1


def _sequence(building: _Building) -> Operation:
    return Sequence(building.needed_block("steps", "sequence"))


_BUILDERS: Final[Mapping[Kind, Callable[[_Building], Operation]]] = {
    "tool": _tool,
    "conditional": _conditional,
    "switch": _switch,
    "filter": _filter,
    "map": _map,
    "reduce": _reduce,
    "loop": _loop,
    "parallel": _parallel,
    "sequence": _sequence,
}
