"""The terms under which calls of one tool are approved: what is asked, of which calls, and what an answer allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, field, frozen
from returns.result import Failure, Result

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.action import Action
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_schema import JsonSchema
from flowpersist.lifecycle.shown import digest_text, shown_digest
from flowpersist.tools.calls import Call, Check, Rule, digest_of, said
from flowpersist.tools.described import AnyTool
from flowpersist.tools.factory import await_input

__all__ = ["Decided", "Stale", "Terms", "digest_of_question", "version_of"]

#: Characters of the digest that stands for a version.
_DIGITS: Final = 16


def version_of(tool: AnyTool) -> str:
    """A version of a tool without one: the digest of its name, description and schema. It knows nothing of its code."""
    shown = {"name": tool.name, "description": tool.description, "schema": dict(tool.schema)}
    return f"schema-{digest_of(shown).removeprefix('sha256:')[:_DIGITS]}"


@frozen
class Stale:
    """Why an approval no longer holds, and which it was."""

    reason: str
    by: str | None = None
    arguments: Mapping[str, object] | None = field(default=None, repr=False)

    def shown(self) -> dict[str, object]:
        """What a person is shown of it."""
        named = {"reason": self.reason, "approved_by": self.by, "arguments": self.arguments}
        return {name: value for name, value in named.items() if value is not None}


@frozen
class Decided:
    """What an answer says: the call that it approves; or the ``comment``, in the place of a result or of a rejection.

    ``decision`` is approve, edit, reject or respond.
    """

    decision: str
    call: Call | None = None
    comment: str | None = field(default=None, repr=False)


@frozen
class Terms:
    """``prompt`` may hold ``$name`` for an argument; ``options`` are those of ``await_input.approval``."""

    tool: AnyTool
    version: str
    policy: str | None
    rule: Rule
    still_valid: Check | None
    prompt: str | None
    options: Mapping[str, Any]
    tracebacks: Tracebacks

    def __attrs_post_init__(self) -> None:
        # What can't be asked is refused before a call is made.
        JsonSchema.of(self.tool.schema, what=f"the schema of {self.tool.name!r}")
        await_input.approval("", Action(self.tool.name, {}, self.version, self.policy), **self._named)

    def call(
        self, arguments: Mapping[str, object], requested_by: str | None, scope: str | None
    ) -> Result[Call, PersistenceError]:
        """A call with these arguments and the others' defaults; ``InputValidationError`` names what does not fit."""
        given = self.tool.completed(arguments)
        checked = JsonSchema.of(self.tool.schema).check(given, what=f"the arguments of {self.tool.name!r}")
        named = (self.version, self.policy, requested_by, scope)
        return checked.map(lambda _: Call(self.tool.name, given, *named))

    @property
    def wait(self) -> str:
        """The id of the question, which names the wait."""
        named: str = self._named["id"]
        return named

    @property
    def _named(self) -> dict[str, Any]:
        return {"id": self.tool.name, **self.options}

    def question(self, call: Call, stale: Stale | None = None) -> AwaitInput[Any]:
        """What a person is asked. Raises ``InputValidationError`` where the prompt names a missing argument, and where
        the arguments are too large to be shown.
        """
        texts = AwaitInput(
            id="prompt",
            prompt=f"Call {self.tool.name.replace('$', '$$')}?" if self.prompt is None else self.prompt,
            title=self.options.get("title"),
            parameters=self.tool.schema,
        )
        filled = or_raise(texts.fill(call.arguments))
        told = {
            "requested_by": call.requested_by,
            "scope": call.scope,
            "stale": None if stale is None else stale.shown(),
        }
        shown = {**(self.options.get("shown") or {}), **{name: one for name, one in told.items() if one is not None}}
        more = {**self._named, "title": filled.title, "shown": shown or None}
        try:
            return await_input.approval(filled.prompt, self.action(call), **more)
        except ConfigurationError as error:
            # The terms were tried when they were made, so that it is the call's arguments.
            problem = Problem("", f"can't be shown to a person: {error}")
            message = f"the arguments of {call.tool!r} {problem.message}"
            raise InputValidationError(message, [problem]) from None

    def action(self, call: Call) -> Action:
        """The call as it is shown and decided."""
        return Action(call.tool, call.arguments, call.version, call.policy, self.tool.schema)

    def decided(self, call: Call, answer: object) -> Result[Decided, PersistenceError]:
        """What an answer says of a call that was asked under these terms."""
        given = answer if isinstance(answer, Mapping) else {}
        named, comment = given.get("decision"), given.get("comment")
        said_so = comment if isinstance(comment, str) else None

        def made(action: Action | None) -> Decided:
            if action is not None:
                return Decided(named or "approve", evolve(call, arguments=action.arguments), said_so)
            return Decided("respond" if named == "respond" else "reject", None, said_so)

        return self.action(call).decided(answer).map(made)

    async def settled(self, asked: Call, answer: object, by: str | None, otherwise: str | None) -> Decided | Stale:
        """What an answer leads to: what it decides, or why the approval that it gives no longer holds.

        ``otherwise``: why it is an answer to another question; None where it is not.
        """
        decided = self.decided(asked, answer)
        if isinstance(decided, Failure):
            return Stale("the edit does not fit the tool's schema", by)
        decision = decided.unwrap()
        if decision.call is None:
            return decision
        reason = otherwise or await self.stale(asked, decision.call)
        return decision if reason is None else Stale(reason, by, decision.call.arguments)

    async def stale(self, asked: Call, approved: Call) -> str | None:
        """Why an approval no longer holds; None where it does."""
        if asked.version != self.version:
            return f"the tool's version is {self.version}, and {asked.version} was approved"
        if asked.policy != self.policy:
            return f"the policy is {self.policy}, and it was approved under {asked.policy}"
        if self.still_valid is None:
            return None
        told = await said(self.still_valid, approved, "still_valid", self.tracebacks)
        if told is True:
            return None
        return "the precondition is no longer met" if told is False else f"the precondition {told}"


def digest_of_question(data: Mapping[str, object]) -> str:
    """The digest of what is shown, as the wait has it; the question is given as data."""
    return digest_text(shown_digest(data))
