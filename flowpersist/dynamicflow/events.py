"""The events of a run, for callers that stream it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from attrs import field, frozen

__all__ = ["Emit", "EventType", "FlowEvent", "nothing"]

EventType: TypeAlias = Literal[
    "flow-start",
    "flow-resumed",
    "flow-progress",
    "flow-suspended",
    "flow-complete",
    "flow-error",
    "node-start",
    "node-complete",
    "node-error",
    "tool-start",
    "tool-output",
    "tool-error",
]

#: Called with an event's type and data. It must not block and must not raise.
Emit: TypeAlias = Callable[[EventType, Mapping[str, object]], None]


@frozen
class FlowEvent:
    """One event of a run. ``data`` is confidential: it holds results, and the keys as tokens.

    ====================  ==========================================================
    flow-start            run, flow
    flow-resumed          run, flow, answered (the paths whose answers have come)
    flow-progress         step, total (of the outermost steps), node
    flow-suspended        run, waits: each with step, key, awaiting; due; accepted (bool);
                          running (bool): the waits are open, other steps still run
    flow-complete         run, result, outputs
    flow-error            error
    node-start            node, path
    node-complete         node, path, result
    node-error            node, path, error
    tool-start            tool, node, path, attempt
    tool-output           tool, node, path, output
    tool-error            tool, node, path, attempt, error
    ====================  ==========================================================
    """

    type: EventType
    data: Mapping[str, object] = field(repr=False)


def nothing(kind: EventType, data: Mapping[str, object]) -> None:
    """Ignore the event."""
