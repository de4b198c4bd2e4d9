"""From drafts to nodes: check every field, parse every expression, and name every block by its ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from flowpersist.dynamicflow.decisions import condition_of, selector_of
from flowpersist.dynamicflow.delays import problem_of
from flowpersist.dynamicflow.document import Document
from flowpersist.dynamicflow.fields import Fields
from flowpersist.dynamicflow.forms import Draft
from flowpersist.dynamicflow.ir import (
    Conditional,
    Delay,
    Evaluate,
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
    SubFlow,
    Switch,
    ToolCall,
)
from flowpersist.dynamicflow.naming import check_name
from flowpersist.dynamicflow.problems import shown
from flowpersist.dynamicflow.references import is_reference
from flowpersist.dynamicflow.tools import CHOOSER
from flowpersist.inputs.json_pointers import escaped

__all__ = ["MAX_CONCURRENCY", "MAX_ITERATIONS", "MAX_TIMEOUT", "PARALLEL", "build"]

#: The iterations of a map that run at once if it gives no number; waiting ones don't count.
PARALLEL: Final = 32
#: The most times that a loop runs its body if it sets no bound.
MAX_ITERATIONS: Final = 1_000
MAX_CONCURRENCY: Final = 10_000
_MAX_RETRIES: Final = 100
_MAX_BOUND: Final = 1_000_000
#: In milliseconds, about 300 years: the longest time that timedelta and deadlines support.
MAX_TIMEOUT: Final = 10**13
#: In milliseconds: a run keeps its lease while it pauses before an attempt.
_MAX_DELAY: Final = 60 * 60 * 1000
_RETRY_FIELDS: Final = ("attempts", "delay", "backoff", "maxDelay", "on")
_BACKOFFS: Final = {"exponential": 2.0, "fixed": 1.0}


def build(draft: Draft, document: Document) -> Node:
    """Build the node of one draft. A field that can't be read gets a value that stands for it."""
    building = Fields(draft, document)
    nothing: Operation = Sequence(())
    operation = nothing if draft.broken else building.tried(lambda: _BUILDERS[draft.kind](building), nothing)
    description = draft.common.get("description")
    return Node(
        id=draft.id,
        operation=operation,
        output=_output(building),
        timeout=building.tried(lambda: _timeout(building), None),
        retry=building.tried(lambda: _retry(building), Retry()),
        on_error=building.block("onError"),
        description=description if isinstance(description, str) else None,
        place=draft.place,
    )


def _output(building: Fields) -> str | None:
    value = building.draft.common.get("output")
    return None if value is None else check_name(value, "output", building.draft, building.document, building.draft.id)


def _timeout(building: Fields) -> float | None:
    """Convert milliseconds to seconds."""
    value = building.draft.common.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_TIMEOUT:
        expected = f"a number of milliseconds over 0 and at most {MAX_TIMEOUT}"
        building.refuse("timeout", f"'timeout' must be {expected}", expected)
    return value / 1000


def _retry(building: Fields) -> Retry:
    given = building.draft.common.get("retry")
    if not isinstance(given, Mapping):
        return Retry(building.whole(given or 0, "retry", 0, _MAX_RETRIES))
    unknown = sorted(set(given) - set(_RETRY_FIELDS))
    known = ", ".join(_RETRY_FIELDS)
    for strange in unknown:
        near = building.document.problems.hint([strange], _RETRY_FIELDS)
        message = f"'retry' has the unknown field {shown(strange)}{near}: it takes {known}"
        building.report(f"retry/{escaped(strange)}", message, f"one of {known}", "unknown-field")
    factor = given.get("backoff", "exponential")
    if not isinstance(factor, str) or factor not in _BACKOFFS:
        expected = "'exponential' or 'fixed'"
        building.report("retry/backoff", f"Invalid 'retry.backoff': expected {expected}", expected)
        factor = "exponential"
    pause = building.tried(lambda: building.seconds(given.get("delay", 0), "retry.delay", _MAX_DELAY), 0.0)
    longest = given.get("maxDelay", _MAX_DELAY)
    return Retry(
        attempts=building.tried(lambda: building.whole(given.get("attempts"), "retry.attempts", 0, _MAX_RETRIES), 0),
        delay=pause if "delay" in given else None,
        factor=_BACKOFFS[factor],
        longest=building.tried(lambda: building.seconds(longest, "retry.maxDelay", _MAX_DELAY), 0.0),
        on=building.tried(lambda: _classes(building, given.get("on", [])), frozenset()),
    )


def _classes(building: Fields, given: object) -> frozenset[str]:
    if not isinstance(given, list) or not all(isinstance(name, str) and name for name in given):
        expected = "a list of names of error classes, such as 'TimeoutError'"
        building.refuse("retry/on", f"Invalid 'retry.on': expected {expected}", expected)
    return frozenset(given)


def _tool(building: Fields) -> Operation:
    building.needed("tool", "tool")
    tool = building.tool_id(building.draft.fields["tool"], "tool") if "tool" in building.draft.fields else ""
    return ToolCall(tool, building.arguments(building.draft.fields.get("args"), "args"))


def _conditional(building: Fields) -> Operation:
    return Conditional(condition_of(building), building.block("if_true"), building.block("if_false"))


def _switch(building: Fields) -> Operation:
    building.needed("switch", "switch")
    default = building.block("default") if "default" in building.draft.fields else None
    cases = {name: building.block(f"case {name}") for name in building.cases}
    return Switch(selector_of(building, frozenset(cases)), cases, default)


def _filter(building: Fields) -> Operation:
    over, condition = building.needed("over", "filter"), condition_of(building)
    return Filter(over, condition, building.name("as", "item"), _concurrency(building))


def _map(building: Fields) -> Operation:
    return Map(
        building.needed("over", "map"),
        building.needed_block("body", "with"),
        building.name("as", "item"),
        _concurrency(building),
        building.flag("continueOnError"),
        building.draft.raw.get("type") == "flatMap",
    )


def _concurrency(building: Fields) -> int:
    parallel = building.flag("parallel")
    return building.number("concurrency", PARALLEL if parallel else 1, 1, MAX_CONCURRENCY)


def _reduce(building: Fields) -> Operation:
    return Reduce(
        building.needed("over", "reduce"),
        building.needed("initial", "initial"),
        building.needed_block("body", "with"),
        building.name("as", "item"),
        building.name("accumulator", "acc"),
    )


def _loop(building: Fields) -> Operation:
    kind = building.draft.fields.get("loop", "while" if "condition" in building.draft.fields else "for")
    # Not a set, since it may hold any value, also an unhashable one.
    if kind not in ("for", "while"):
        message = f"Invalid 'loop': expected 'for' or 'while', got {shown(kind)}"
        building.report("loop", message, "'for' or 'while'")
    return Loop(
        building.needed("over", "over") if kind == "for" else None,
        condition_of(building) if kind == "while" else None,
        building.needed_block("body", "body"),
        building.name("as", "item"),
        building.number("maxIterations", MAX_ITERATIONS, 1, _MAX_BOUND),
    )


def _parallel(building: Fields) -> Operation:
    names = [name for name in building.draft.blocks if name.startswith("[")]
    needed = building.tried(lambda: _needed(building, len(names)), None) if names else None
    return Parallel(tuple(building.block(name) for name in names), needed)


def _needed(building: Fields, branches: int) -> int | None:
    """How many branches must finish; None: all."""
    until = building.draft.fields.get("until", "all")
    if isinstance(until, Mapping) and set(until) == {"count"}:
        return building.whole(until["count"], "until.count", 1, branches)
    if until not in ("all", "any"):
        expected = "'all', 'any' or {\"count\": n}"
        building.refuse("until", f"Invalid 'until': expected {expected}", expected)
    return None if until == "all" else 1


def _expression(building: Fields) -> Operation:
    return Evaluate(building.condition("expression"))


def _llm(building: Fields) -> Operation:
    prompt = building.needed("prompt", "prompt")
    if not isinstance(prompt, str) or not prompt:
        if "prompt" in building.draft.fields:
            message = f"Invalid 'prompt': expected a text, got {shown(prompt)}"
            building.report("prompt", message, "a text", "wrong-type")
        prompt = "?"
    return ToolCall(CHOOSER, building.draft.fields.get("input", "$previousOutput"), prompt)


def _sequence(building: Fields) -> Operation:
    return Sequence(building.needed_block("steps", "sequence"))


def _delay(building: Fields) -> Operation:
    given = building.needed("delay", "delay")
    if not isinstance(given, Mapping) or len(given) != 1 or not set(given) <= {"seconds", "until"}:
        if "delay" in building.draft.fields:
            expected = '{"seconds": n} or {"until": time}'
            building.refuse(
                "delay", f"Invalid 'delay': expected {expected}, got {shown(given)}", expected, "wrong-type"
            )
        return Delay(0, None)
    for name, value in given.items():
        takes = None if is_reference(value) else problem_of(name, value)
        if takes is not None:
            message = f"Invalid 'delay.{name}': expected {takes}, got {shown(value)}"
            building.report(f"delay/{name}", message, takes)
    return Delay(given.get("seconds"), given.get("until"))


def _flow(building: Fields) -> Operation:
    source = building.needed("flow", "flow")
    if not isinstance(source, str | Mapping):
        if "flow" in building.draft.fields:
            expected = "a document, or the id of a registered flow"
            message = f"Invalid 'flow': expected {expected}, got {shown(source)}"
            building.report("flow", message, expected, "wrong-type")
        return Sequence(())
    return SubFlow(None, building.draft.fields.get("input", {}), source if isinstance(source, str) else None)


_BUILDERS: Final[Mapping[Kind, Callable[[Fields], Operation]]] = {
    "tool": _tool,
    "conditional": _conditional,
    "switch": _switch,
    "filter": _filter,
    "map": _map,
    "reduce": _reduce,
    "loop": _loop,
    "parallel": _parallel,
    "sequence": _sequence,
    "expression": _expression,
    "llm": _llm,
    "delay": _delay,
    "flow": _flow,
}
