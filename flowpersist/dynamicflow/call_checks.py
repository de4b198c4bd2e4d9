"""What can be known of the calls of tools before a run: arguments that do not fit, and results that can't be passed on.

References in arguments stand for values that are not known yet, except where they are the whole result of a tool, or a
part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field, frozen
from returns.result import Failure

from flowpersist.dynamicflow import references
from flowpersist.dynamicflow.deciders import deciders
from flowpersist.dynamicflow.fitting import ANYTHING, Schema, below, misfit, types_of
from flowpersist.dynamicflow.ir import Flow, Node, ToolCall, passing, tools_of
from flowpersist.dynamicflow.nested import copied, inner_flows
from flowpersist.dynamicflow.problems import Problems
from flowpersist.dynamicflow.questions import question_of
from flowpersist.dynamicflow.references import Reference
from flowpersist.dynamicflow.tools import AWAIT_INPUT, CHOOSER, Tool, Toolbox, takes_of
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.json_schema import JsonSchema

__all__ = ["check_calls"]

_OBJECT: Final[Schema] = {"type": "object"}


@frozen
class _Taken:
    """What a tool takes: the schema of its arguments, and the names of its fields; None: any."""

    schema: Schema
    fields: tuple[str, ...] | None


def _taken(tool: Tool | AwaitInput[Any]) -> _Taken:
    schema = tool.input_schema if isinstance(tool, Tool) else tool.parameters or _OBJECT
    return _Taken(schema, takes_of(tool))


def check_calls(flow: Flow, toolbox: Toolbox, problems: Problems) -> None:
    """Note what is wrong with the calls of tools."""
    checker = _Checker(flow, toolbox, problems)
    for node in flow.nodes.values():
        if isinstance(node.operation, ToolCall):
            checker.call(node, node.operation)
        else:
            checker.decision(node)
    for node in deciders(flow.graph):
        checker.decision(node)
    for node, operation, inner in inner_flows(flow.nodes.values()):
        found = Problems(inner.name)
        check_calls(inner, toolbox, found)
        if operation.name is None:
            copied(found.found, node.place.at("flow"), problems)
        for one in found.found if operation.name is not None else ():
            message = f"step {node.id!r}: the flow {operation.name!r}: {one.message}"
            problems.add(node.place.at("flow"), one.code, message, step=node.id, tool=one.tool, severity=one.severity)
    for source, target in passing(flow.steps, flow.nodes, flow.graph):
        checker.passed_on(flow.nodes[source], flow.nodes[target])


@define
class _Checker:
    flow: Flow
    toolbox: Toolbox
    problems: Problems
    _makers: dict[str, str | None] = field(init=False)
    _schemas: dict[str, JsonSchema] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        """By name, the step whose result it is; None where several steps set it."""
        self._makers = {}
        for node in self.flow.nodes.values():
            for name in {node.id, node.output or node.id}:
                self._makers[name] = None if name in self._makers else node.id

    def call(self, node: Node, operation: ToolCall) -> None:
        """Check the tool, and the arguments that the document gives it."""
        tool = self.toolbox.get(operation.tool)
        if tool is None:
            if operation.tool != AWAIT_INPUT:
                self._unknown(node, operation.tool, "tool" if operation.prompt is None else "prompt")
            return
        if operation.prompt is not None:
            # The runner makes the arguments.
            return
        taken = _taken(tool)
        if isinstance(operation.arguments, Mapping):
            arguments = _Arguments.of(operation.arguments)
            self._literals(node, tool.id, taken, arguments)
            for path, reference in arguments.references.items():
                self._reference(node, tool.id, taken, path, reference)

    def decision(self, node: Node) -> None:
        """Check the tool that decides a condition or a choice."""
        for name, written in tools_of(node):
            if name != AWAIT_INPUT and self.toolbox.get(name) is None:
                self._unknown(node, name, written)

    def _unknown(self, node: Node, name: str, written: str) -> None:
        known = ", ".join(sorted(self.toolbox.tools)) or "none"
        if name == CHOOSER and written != "tool":
            what = f"pass FlowRunner(chooser=…), or register a tool with the id {CHOOSER!r}"
            said = f"its prompt needs a tool that answers it: {what} (registered: {known})"
        else:
            near = self.problems.hint([name], self.toolbox.tools)
            said = f"the tool {name!r} is not registered with this runner{near} (registered: {known})"
        message, expected = f"step {node.id!r}: {said}", f"one of {known}"[:1000]
        self.problems.add(node.place.at(written), "unknown-tool", message, expected=expected, step=node.id, tool=name)

    def _literals(self, node: Node, tool: str, taken: _Taken, arguments: _Arguments) -> None:
        if not taken.schema or self.problems.full:
            return
        for one in self._schema(tool, taken).certain(arguments.value, arguments.references):
            shown = f"{one.pointer or '(root)'}: {one.message}"
            message = f"step {node.id!r}: the input of {tool!r} does not fit its schema: {shown}"
            at = f"{node.place.at('args')}{one.pointer}"
            self.problems.add(at, "invalid-arguments", message, expected=one.message, step=node.id, tool=tool)

    def _schema(self, tool: str, taken: _Taken) -> JsonSchema:
        if tool not in self._schemas:
            self._schemas[tool] = JsonSchema.of(taken.schema, what=f"the input schema of {tool!r}")
        return self._schemas[tool]

    def _reference(self, node: Node, tool: str, taken: _Taken, path: tuple[str, ...], reference: Reference) -> None:
        known = self._result_of(self._makers.get(reference.root))
        if known is None:
            return
        source, schema = known
        inner = reference.path[1:] if reference.path[:1] == ("output",) else reference.path
        found, lost = below(schema, schema, inner)
        at = node.place.at("args") + "".join(f"/{escaped(token)}" for token in path)
        if lost is not None and inner == reference.path:
            message = f"step {node.id!r}: {reference} has no value, since {source} has no {lost!r} in its output schema"
            expected = f"a field of {source}"
            self.problems.add(at, "mismatch", message, expected=expected, step=node.id, reference=str(reference))
            return
        wanted, _ = below(taken.schema, taken.schema, path)
        why = misfit(found, schema, wanted, taken.schema)
        if why is not None:
            message = f"step {node.id!r}: {reference} does not fit the input of {tool!r}: {why}"
            self.problems.add(at, "mismatch", message, step=node.id, reference=str(reference), tool=tool)

    def _result_of(self, name: str | None) -> tuple[str, Schema] | None:
        """What a step calls, and the schema of what it returns; None if that is not certain."""
        node = None if name is None else self.flow.nodes[name]
        if node is None or node.on_error or not isinstance(node.operation, ToolCall):
            return None
        tool = self.toolbox.get(node.operation.tool)
        if tool is None and node.operation.tool == AWAIT_INPUT:
            tool = question_of(node)
        if tool is None:
            return None
        schema = tool.output_schema if isinstance(tool, Tool) else tool.json_schema
        return f"the result of {node.id!r}, by {node.operation.tool!r},", schema

    def passed_on(self, source: Node, target: Node) -> None:
        """Check a result that the next step gets unchanged."""
        operation = target.operation
        if not isinstance(operation, ToolCall) or operation.arguments is not None:
            return
        tool = self.toolbox.get(operation.tool)
        known = self._result_of(source.id)
        if tool is None or known is None or not isinstance(source.operation, ToolCall):
            return
        taken = _taken(tool)
        if taken.fields == () or self.toolbox.join(source.operation.tool, operation.tool) is not None:
            return
        what, schema = known
        why = _unfit(schema, taken)
        if why is not None:
            message = (
                f"step {target.id!r}: {what} does not fit the input of {operation.tool!r}: {why}; "
                "give the step 'args', or register a Join"
            )
            self.problems.add(target.place.pointer, "mismatch", message, step=target.id, tool=operation.tool)


def _unfit(schema: Schema, taken: _Taken) -> str | None:
    """Why whatever a tool returns can't be the input of the next one, for each JSON type that it may have."""
    whys: list[str] = []
    for kind in sorted(types_of(schema, schema)):
        why = _unfit_as(kind, schema, taken)
        if why is None:
            return None
        whys.append(why)
    return whys[0] if whys else None


def _unfit_as(kind: str, schema: Schema, taken: _Taken) -> str | None:
    if kind == "null":
        required = taken.schema.get("required")
        return f"it is null, and {required[0]!r} is required" if isinstance(required, list) and required else None
    if kind == "object":
        return misfit(schema, schema, taken.schema, taken.schema) if types_of(schema, schema) == {"object"} else None
    if taken.fields is None or len(taken.fields) != 1:
        return f"it is {kind}, and an object is expected"
    wanted, _ = below(taken.schema, taken.schema, taken.fields)
    if types_of(wanted, taken.schema).isdisjoint({kind}):
        return f"it is {kind}, and {' or '.join(sorted(types_of(wanted, taken.schema) or ANYTHING))} is expected"
    return None


@frozen
class _Arguments:
    """Arguments with null in the place of each reference, and the references by the tokens of their pointers."""

    value: Any
    references: Mapping[tuple[str, ...], Reference]

    @classmethod
    def of(cls, arguments: Mapping[str, object]) -> _Arguments:
        found: dict[tuple[str, ...], Reference] = {}
        return cls(_without(arguments, (), found), found)


def _without(value: object, path: tuple[str, ...], found: dict[tuple[str, ...], Reference]) -> object:
    if isinstance(value, Mapping):
        return {key: _without(item, (*path, key), found) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, (*path, str(at)), found) for at, item in enumerate(value)]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value.startswith("$$"):
        return value[1:]
    parsed = references.parse_reference(value)
    if not isinstance(parsed, Failure):
        found[path] = parsed.unwrap()
    return None
