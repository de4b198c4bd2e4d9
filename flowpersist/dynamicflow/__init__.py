"""DynamicFlow: documents that are compiled once and then run step by step, across pauses, processes and crashes."""

from __future__ import annotations

from flowpersist.dynamicflow.checking import check
from flowpersist.dynamicflow.compile import compile  # noqa: A004 - the word for it
from flowpersist.dynamicflow.drawing import draw
from flowpersist.dynamicflow.dry_runs import DryQuestion, DryRun, dry_run
from flowpersist.dynamicflow.events import FlowEvent, StoredEvent
from flowpersist.dynamicflow.inspecting import RunInspection, StepInspection
from flowpersist.dynamicflow.ir import Edge, Flow, Node
from flowpersist.dynamicflow.migrations import Migration
from flowpersist.dynamicflow.results import Accepted, Completed, FlowOutcome, Suspended, Wait
from flowpersist.dynamicflow.runner import FlowRunner
from flowpersist.dynamicflow.schema import document_schema
from flowpersist.dynamicflow.stand_ins import DryCall
from flowpersist.dynamicflow.tools import Join, Tool, tool
from flowpersist.inputs.tool_context import Cancellation, ToolContext

__all__ = [
    "Accepted",
    "Cancellation",
    "Completed",
    "DryCall",
    "DryQuestion",
    "DryRun",
    "Edge",
    "Flow",
    "FlowEvent",
    "FlowOutcome",
    "FlowRunner",
    "Join",
    "Migration",
    "Node",
    "RunInspection",
    "StepInspection",
    "StoredEvent",
    "Suspended",
    "Tool",
    "ToolContext",
    "Wait",
    "check",
    "compile",
    "document_schema",
    "draw",
    "dry_run",
    "tool",
]
