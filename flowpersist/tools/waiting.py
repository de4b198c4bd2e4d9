"""The suspension of a call that waits for an approval: its state, and how it goes on once it is decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import KeyValidationError, MalformedPayload, PersistenceError, SerializationError
from flowpersist.hub.outcome import or_raise
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.inputs.tool_context import ToolContext
from flowpersist.lifecycle.views import Resumption, Suspension, Wait
from flowpersist.tools.approved import ApprovalNeeded, Rejected
from flowpersist.tools.calls import Call
from flowpersist.tools.terms import Decided, Stale, Terms, digest_of_question

__all__ = ["KIND", "Waiting", "metadata_of", "of_another"]

KIND: Final = "approval"
VERSION: Final = 1


def metadata_of(tool: str, tenant: str | None) -> dict[str, str]:
    """What marks the suspensions of one tool's approvals, those of a tenant or those without one."""
    return {"kind": KIND, "tool": tool, "tenant": tenant or ""}


def of_another(suspension: Suspension, tool: str, tenant: str | None) -> PersistenceError | None:
    """The error where a suspension is no approval of this tool and tenant."""
    metadata, id_ = suspension.metadata, suspension.id
    if metadata.get("kind") != KIND:
        return KeyValidationError(f"Invalid key: expected one of an approval, not of suspension {id_}")
    if metadata.get("tool") != tool:
        named = f"{id_} is an approval of {metadata.get('tool')!r}: resume it with that"
        return KeyValidationError(f"Invalid key: expected one of an approval of {tool!r}, and {named}")
    if suspension.tenant != tenant:
        return KeyValidationError(f"Invalid key: expected one of the tenant of {tool!r}, and {id_} is another's")
    return None


@frozen
class Waiting:
    """The state of a suspension: the call that is asked for, and the digest of what is shown.

    ``request`` and ``token`` are those of the record by which identical requests find it.
    """

    call: Call
    wait: str
    shown: str
    request: str
    token: str

    def content(self) -> dict[str, Any]:
        """As it is stored."""
        named = {"wait": self.wait, "shown": self.shown, "request": self.request, "token": self.token}
        return {"format": VERSION, "call": self.call.to_data(), **named}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Result[Waiting, PersistenceError]:
        """What ``content`` gave."""
        try:
            fields = dict(content)
            if fields.pop("format") == VERSION:
                return Success(cls(**{**fields, "call": Call(**fields["call"])}))
        except (TypeError, KeyError, ValueError):
            pass
        return Failure(MalformedPayload("Invalid state of a suspension: expected a call that waits for an approval"))


@frozen
class Going:
    """Goes on with one claimed run. ``invoke`` calls the tool."""

    hub: PersistenceHub
    terms: Terms
    run: Resumption[Any]
    invoke: Callable[[Call, ToolContext], Awaitable[Any]] = field(repr=False)

    async def on(self, waiting: Waiting) -> Any:  # noqa: ANN401 - the tool's own
        """Make the approved call, ask anew, or tell of the rejection."""
        asked, by = waiting.call, self.run.answered_by
        decision = await self.terms.settled(asked, self.run.answer, by, self._otherwise(waiting))
        if isinstance(decision, Stale):
            return await self._anew(waiting, decision)
        if decision.call is None:
            await self._complete(decision)
            said = Rejected(asked.tool, self.run.suspension.id, decision.comment, by)
            return decision.comment or "" if decision.decision == "respond" else said
        return await self._made(decision, decision.call)

    def _otherwise(self, waiting: Waiting) -> str | None:
        """Why the answer is to another question than the state's, of which the record's head has a copy."""
        wait = next((one for one in self.run.suspension.waits if one.name == waiting.wait), None)
        if wait is not None and _digests(wait) <= {waiting.shown}:
            return None
        return "another question was answered than the one about this call"

    async def _made(self, decision: Decided, call: Call) -> Any:  # noqa: ANN401 - the tool's own
        id_ = self.run.suspension.id
        key = f"{id_}/{self.run.sequence}"
        result = await self.invoke(call, ToolContext(str(id_), call.tool, call.tool, self.run.attempt, key=key))
        await self._complete(decision, result)
        return result

    async def _complete(self, decision: Decided, result: object = None) -> None:
        call = decision.call
        outcome: dict[str, object] = {
            "decision": decision.decision,
            "by": self.run.answered_by,
            "comment": decision.comment,
            "arguments": None if call is None else dict(call.arguments),
        }
        completed = await self.hub.complete(self.run, {**outcome, "result": result})
        if isinstance(completed, Failure) and isinstance(completed.failure(), SerializationError):
            # The call was made: what can't be stored must not leave the approval to be used again.
            completed = await self.hub.complete(self.run, {**outcome, "unstored": type(result).__qualname__})
        or_raise(completed)

    async def _anew(self, waiting: Waiting, stale: Stale) -> ApprovalNeeded:
        call = evolve(waiting.call, version=self.terms.version, policy=self.terms.policy)
        question = self.terms.question(call, stale)
        state = evolve(waiting, call=call, wait=question.id, shown=digest_of_question(question.to_data()))
        names = {wait.name for wait in self.run.suspension.waits}
        asked = await self.hub.suspend_next(self.run, state.content(), awaiting=question, superseded=names)
        return ApprovalNeeded(call.tool, or_raise(asked), stale.reason)


def _digests(wait: Wait) -> set[str | None]:
    return {wait.digest, wait.answered_digest}
