"""The methods of ``AwaitInput`` that give it in other ecosystems' forms, and read what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self, cast

from returns.result import Result

from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import check_items, check_mapping, check_moment, check_optional, check_str
from flowpersist.inputs.action import Decision
from flowpersist.inputs.forms import answers, people, slack, tools
from flowpersist.inputs.forms.calls import ToolCall, read_call
from flowpersist.inputs.forms.narrowing import Narrowed
from flowpersist.inputs.forms.people import LangchainForm
from flowpersist.inputs.forms.question import Question
from flowpersist.inputs.forms.tools import Strict

__all__ = ["Forms"]


class Forms:
    """A question's forms. All are JSON data of the caller's own; ``ConfigurationError`` where a form can't carry it."""

    __slots__ = ()

    def narrowed(self, provider: Literal["openai", "anthropic", "google"]) -> Narrowed:
        """``parameters`` within what a provider's strict form takes, and what was changed for that.

        - ``provider``: whose.
        """
        return tools.narrowed(_of(self), provider)

    def to_openai(
        self, *, strict: Strict = "auto", api: Literal["responses", "chat"] = "responses", name: str | None = None
    ) -> dict[str, Any]:
        """A function tool of OpenAI.

        - ``strict``: ``auto``: strict if ``parameters`` can be; True: ``ConfigurationError`` if not; False: never.
        - ``api``: ``responses``, or ``chat`` for chat completions.
        - ``name``: of the tool; None: ``id``.
        """
        check_optional(name, "name", check_str)
        return tools.openai_tool(_of(self), strict, api, name)

    def to_anthropic(self, *, strict: Strict = "auto", name: str | None = None) -> dict[str, Any]:
        """A custom tool of Anthropic.

        - ``strict``: as ``to_openai`` takes it.
        - ``name``: of the tool; None: ``id``.
        """
        check_optional(name, "name", check_str)
        return tools.anthropic_tool(_of(self), strict, name)

    def to_google(self, *, name: str | None = None) -> dict[str, Any]:
        """A function declaration of Gemini.

        - ``name``: of the function; None: ``id``.
        """
        check_optional(name, "name", check_str)
        return tools.google_tool(_of(self), name)

    def to_mcp(self, *, name: str | None = None) -> dict[str, Any]:
        """A tool of MCP, version 2026-07-28.

        - ``name``: of the tool; None: ``id``.
        """
        check_optional(name, "name", check_str)
        return tools.mcp_tool(_of(self), name)

    def to_mcp_elicitation(self, *, url: str | None = None) -> dict[str, Any]:
        """The parameters of MCP's ``elicitation/create``: a form if the answer's schema is flat, else a URL.

        - ``url``: the page of the question. None: ``ConfigurationError`` where a form can't carry it.
        """
        check_optional(url, "url", check_str)
        return people.elicitation(_masked(self), url)

    def to_agui(self, interrupt_id: str, *, tool_call_id: str | None = None) -> dict[str, Any]:
        """An interrupt of AG-UI, for the ``interrupts`` of a ``RUN_FINISHED`` event.

        - ``interrupt_id``: the name by which it is resumed; not the key.
        - ``tool_call_id``: the call that it is about.
        """
        check_str(interrupt_id, "interrupt_id")
        check_optional(tool_call_id, "tool_call_id", check_str)
        return people.agui_interrupt(_masked(self), interrupt_id, tool_call_id)

    def to_a2a(self, task_id: str, context_id: str, message_id: str, *, at: datetime | None = None) -> dict[str, Any]:
        """A ``TaskStatusUpdateEvent`` of A2A, in its JSON form: the task needs input.

        - ``task_id``, ``context_id``: of the task.
        - ``message_id``: of the message that asks.
        - ``at``: when.
        """
        for what, text in (("task_id", task_id), ("context_id", context_id), ("message_id", message_id)):
            check_str(text, what)
        check_optional(at, "at", check_moment)
        return people.a2a_event(_masked(self), task_id, context_id, message_id, at)

    def to_langchain(
        self,
        *,
        form: LangchainForm = "batched",
        allowed: tuple[Decision, ...] = ("approve", "edit", "reject", "respond"),
        tool_call_id: str | None = None,
    ) -> dict[str, Any]:
        """What LangChain's human-in-the-loop middleware interrupts with.

        - ``form``: ``batched`` (``HITLRequest``), ``per_call`` (``ToolApprovalRequest``), or ``inbox``, the older form
          of Agent Inbox.
        - ``allowed``: the decisions that a person may take.
        - ``tool_call_id``: of the call, for ``per_call``.
        """
        check_optional(tool_call_id, "tool_call_id", check_str)
        check_items(allowed, "allowed", "decisions")
        return people.langchain_request(_of(self), form, tuple(allowed), tool_call_id)

    def to_pydantic_ai(self, tool_call_id: str) -> dict[str, Any]:
        """A ``DeferredToolRequests`` of pydantic-ai, as its ``TypeAdapter`` reads it.

        - ``tool_call_id``: of the call.
        """
        check_str(tool_call_id, "tool_call_id")
        return people.pydantic_ai_requests(_of(self), tool_call_id)

    def to_strands(self, interrupt_id: str, *, name: str | None = None) -> dict[str, Any]:
        """The fields of an ``Interrupt`` of Strands.

        - ``interrupt_id``: of the interrupt; not the key.
        - ``name``: of the interrupt; None: ``id``.
        """
        check_str(interrupt_id, "interrupt_id")
        check_optional(name, "name", check_str)
        return people.strands_interrupt(_masked(self), interrupt_id, name)

    def to_adk(self, interrupt_id: str) -> dict[str, Any]:
        """A ``RequestInput`` of Google's Agent Development Kit.

        - ``interrupt_id``: of the interrupt; not the key.
        """
        check_str(interrupt_id, "interrupt_id")
        return people.adk_request(_masked(self), interrupt_id)

    def to_slack(self, reference: str, *, url: str | None = None) -> dict[str, Any]:
        """``text`` and ``blocks`` of a Slack message: buttons for yes and no or up to five choices, else a link.

        - ``reference``: your own name of the question, which comes back with the answer; not the key.
        - ``url``: the page of the question. None: ``ConfigurationError`` where buttons can't carry it.
        """
        check_optional(url, "url", check_str)
        return slack.slack_message(_masked(self), reference, url)

    def to_form(self) -> dict[str, Any]:
        """Title, prompt, what is shown, and the fields of the answer with their widgets and HTML attributes."""
        return people.html_form(_of(self))

    def from_openai(self, call: object, *, name: str | None = None) -> Result[ToolCall[Self], PersistenceError]:
        """A call of the tool, of either API; ``InputValidationError`` where it is not one.

        - ``call``: a mapping, or an object of the SDK.
        - ``name``: as ``to_openai`` was given it.
        """
        return read_call(self, "openai", call, name)

    def from_anthropic(self, call: object, *, name: str | None = None) -> Result[ToolCall[Self], PersistenceError]:
        """A ``tool_use`` block.

        - ``call``: a mapping, or an object of the SDK.
        - ``name``: as ``to_anthropic`` was given it.
        """
        return read_call(self, "anthropic", call, name)

    def from_google(self, call: object, *, name: str | None = None) -> Result[ToolCall[Self], PersistenceError]:
        """A function call of Gemini, or the part that holds it.

        - ``call``: a mapping, or an object of the SDK.
        - ``name``: as ``to_google`` was given it.
        """
        return read_call(self, "google", call, name)

    def from_mcp(self, call: object, *, name: str | None = None) -> Result[ToolCall[Self], PersistenceError]:
        """A ``tools/call`` request, or its parameters.

        - ``call``: a mapping, or an object of the SDK.
        - ``name``: as ``to_mcp`` was given it.
        """
        return read_call(self, "mcp", call, name)

    def from_langchain(self, call: object, *, name: str | None = None) -> Result[ToolCall[Self], PersistenceError]:
        """A tool call of a LangChain message.

        - ``call``: an item of ``AIMessage.tool_calls``.
        - ``name``: of the tool; None: ``id``.
        """
        return read_call(self, "langchain", call, name)

    def from_pydantic_ai(self, call: object, *, name: str | None = None) -> Result[ToolCall[Self], PersistenceError]:
        """A ``ToolCallPart`` of pydantic-ai.

        - ``call``: the part.
        - ``name``: of the tool; None: ``id``.
        """
        return read_call(self, "pydantic_ai", call, name)

    def from_mcp_elicitation(self, result: object) -> Result[answers.Reply, PersistenceError]:
        """The result of an elicitation by a form.

        - ``result``: a mapping, or an object of the SDK.
        """
        return answers.from_elicitation(_of(self), result)

    def from_agui(self, entry: object, interrupt_id: str) -> Result[answers.Reply, PersistenceError]:
        """One entry of ``resume``.

        - ``entry``: a mapping, or an object of the SDK.
        - ``interrupt_id``: the one that ``to_agui`` was given.
        """
        check_str(interrupt_id, "interrupt_id")
        return answers.from_agui(interrupt_id, entry)

    def from_strands(self, content: object, interrupt_id: str) -> Result[answers.Reply, PersistenceError]:
        """A content block that answers an interrupt.

        - ``content``: ``{"interruptResponse": {"interruptId": …, "response": …}}``.
        - ``interrupt_id``: the one that ``to_strands`` was given.
        """
        check_str(interrupt_id, "interrupt_id")
        return answers.from_strands(interrupt_id, content)

    def from_adk(self, response: object) -> Result[answers.Reply, PersistenceError]:
        """The response to a ``RequestInput``; a ``ToolConfirmation`` decides about the question's action.

        - ``response``: JSON data, or ``{"response": JSON text}``, as ADK's client wraps it.
        """
        return answers.from_adk(_of(self), response)

    def from_form(self, data: Mapping[str, object]) -> Result[object, PersistenceError]:
        """The answer that a form was sent with; the hub checks it against the schema.

        - ``data``: texts by the names of the fields, lists of them where several may be chosen.
        """
        check_mapping(data, "data")
        return answers.from_html(_of(self), data)


def _of(forms: Forms) -> Question:
    return cast("Question", forms)


def _masked(forms: Forms) -> Question:
    """The question for where it is told of, and not answered under the hub's own eyes."""
    return cast("Question", cast("Any", forms).masked())
