"""Tools of other ecosystems as ``approve`` sees them. Each stays of its own class, with its name and schema.

A model is told in words what waits or was rejected, and its faulty arguments in the way its ecosystem has for that.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from flowpersist.errors import ConfigurationError, InputValidationError, Problem
from flowpersist.inputs.tool_context import ToolContext
from flowpersist.tools.approved import ApprovalNeeded, Rejected
from flowpersist.tools.described import Arguments, Guard, named_only

__all__ = ["LangChainTool", "OpenAIAgentsTool", "PydanticAITool"]

#: Characters of the JSON text of a model's arguments.
MOST_TEXT = 1024 * 1024


@frozen(eq=False)
class NativeTool:
    """What the ecosystems' tools share. ``own`` is the ecosystem's object."""

    name: str
    description: str
    schema: Mapping[str, object] = field(repr=False)
    own: Any = field(repr=False)

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
        """See ``AnyTool``."""
        return named_only(args, kwargs, self.name)

    def completed(self, arguments: Arguments) -> dict[str, object]:
        """See ``AnyTool``. The ecosystem fills in its defaults itself."""
        return dict(arguments)


class OpenAIAgentsTool(NativeTool):
    """A ``FunctionTool`` of the OpenAI Agents SDK."""

    @classmethod
    def of(cls, own: Any) -> OpenAIAgentsTool:  # noqa: ANN401 - the SDK's
        """The tool as it describes itself."""
        return cls(own.name, own.description, own.params_json_schema, own)

    async def invoke(self, arguments: Arguments, context: ToolContext, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        """See ``AnyTool``. ``extra`` is the SDK's ``ToolContext``; None: one without a context."""
        text = json.dumps(dict(arguments), ensure_ascii=False)
        if extra is None:
            from agents.tool_context import ToolContext as Theirs  # noqa: PLC0415 - whoever has its tool has the SDK

            extra = Theirs(None, tool_name=self.name, tool_call_id=context.key, tool_arguments=text)
        return await self.own.on_invoke_tool(extra, text)

    def guarded(self, guard: Guard) -> Any:  # noqa: ANN401 - of the SDK's class
        """See ``AnyTool``."""

        async def on_invoke_tool(context: Any, text: str) -> object:  # noqa: ANN401 - the SDK's
            try:
                return told(await guard.call(parsed(text, self.name), extra=context))
            except InputValidationError as error:
                return str(error)

        made = copy.copy(self.own)
        made.on_invoke_tool = on_invoke_tool
        return made


class LangChainTool(NativeTool):
    """A ``BaseTool`` of LangChain."""

    @classmethod
    def of(cls, own: Any) -> LangChainTool:  # noqa: ANN401 - LangChain's
        """The tool as it describes itself."""
        shown = own.tool_call_schema
        return cls(own.name, own.description, shown if isinstance(shown, dict) else shown.model_json_schema(), own)

    async def invoke(self, arguments: Arguments, context: ToolContext, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        """See ``AnyTool``. ``extra`` is a ``RunnableConfig``, or None."""
        del context
        return await self.own.ainvoke(dict(arguments), extra)

    def guarded(self, guard: Guard) -> Any:  # noqa: ANN401 - a StructuredTool
        """See ``AnyTool``."""
        from langchain_core.tools import StructuredTool, ToolException  # noqa: PLC0415 - whoever has its tool has it

        async def call(**kwargs: Any) -> object:  # noqa: ANN401 - the tool's own
            try:
                return told(await guard.call(self.given((), kwargs)))
            except InputValidationError as error:
                raise ToolException(str(error)) from error

        own = self.own
        if isinstance(own, StructuredTool):
            return own.model_copy(update={"coroutine": call, "func": None, "response_format": "content"})
        kept = {
            name: getattr(own, name) for name in ("return_direct", "tags", "metadata", "handle_tool_error", "extras")
        }
        schema = own.args_schema if own.args_schema is not None else own.get_input_schema()
        return StructuredTool(
            name=own.name, description=own.description, args_schema=schema, coroutine=call, func=None, **kept
        )


class PydanticAITool(NativeTool):
    """A ``Tool`` of pydantic-ai."""

    @classmethod
    def of(cls, own: Any) -> PydanticAITool:  # noqa: ANN401 - pydantic-ai's
        """The tool as it describes itself."""
        return cls(own.name, own.description or "", own.function_schema.json_schema, own)

    async def invoke(self, arguments: Arguments, context: ToolContext, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        """See ``AnyTool``. ``extra`` is the ``RunContext``, which a tool may take."""
        del context
        schema = self.own.function_schema
        if extra is None and schema.takes_ctx:
            message = f"Invalid extra: expected the RunContext that the tool {self.name!r} takes: resume(key, extra=…)"
            raise ConfigurationError(message, "extra")
        return await schema.call(schema.validator.validate_json(json.dumps(dict(arguments))), extra)

    def guarded(self, guard: Guard) -> Any:  # noqa: ANN401 - of pydantic-ai's class
        """See ``AnyTool``."""
        from pydantic_ai import ModelRetry, Tool  # noqa: PLC0415 - whoever has its tool has it

        async def call(context: Any, **kwargs: Any) -> object:  # noqa: ANN401 - the tool's own
            try:
                return told(await guard.call(self.given((), kwargs), extra=context))
            except InputValidationError as error:
                raise ModelRetry(str(error)) from error

        made = copy.copy(self.own)
        plain = Tool.from_schema(call, self.name, self.own.description, dict(self.schema), takes_ctx=True)
        made.function, made.function_schema, made.takes_ctx = plain.function, plain.function_schema, True
        # Its own validator took what the schema's class made; the guarded call takes JSON data.
        made.args_validator = None
        return made


def told(value: object) -> object:
    """A result as the model gets it."""
    return str(value) if isinstance(value, ApprovalNeeded | Rejected) else value


def parsed(text: str, name: str) -> dict[str, object]:
    """A model's arguments from their JSON text."""
    try:
        found = json.loads(text or "{}") if len(text) <= MOST_TEXT else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        problem = Problem("", f"must be a JSON object of at most {MOST_TEXT} characters")
        raise InputValidationError(f"the arguments of {name!r} {problem.message}", [problem])
    return found
