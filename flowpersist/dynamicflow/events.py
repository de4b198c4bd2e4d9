"""The events of a run, for callers that stream it or read them later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, TypeAlias

from attrs import field, frozen

__all__ = ["Emit", "EventType", "FlowEvent", "StoredEvent", "nothing"]

EventType: TypeAlias = Literal[
    "flow-start",
    "flow-resumed",
    "flow-progress",
    "map-progress",
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
    map-progress          node, path, done, items: at each walk's beginning, then for
                          each hundredth of the items
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


@frozen
class StoredEvent:
    """One event of a stored run. ``sequence`` counts a run's events from 1, without gaps, over pauses and processes;
    ``time`` is the store's.

    ``data`` is JSON data, and holds no key. Its fields are those of a FlowEvent, with these differences: a field whose
    JSON has more than 16 Ki characters or 4,096 values, or that has no form in JSON, is left out, and ``omitted`` names
    it; a wait in ``flow-suspended`` has ``step`` and ``awaiting`` (id, title, prompt of at most 300 characters), of the
    first 20, and ``open`` counts them all; ``flow-error`` has ``parked``: whether the run can be retried.
    """

    sequence: int
    time: datetime
    type: EventType
    data: Mapping[str, object] = field(repr=False)


def nothing(kind: EventType, data: Mapping[str, object]) -> None:
    """Ignore the event."""
