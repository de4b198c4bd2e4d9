"""What ``@tool`` made, guarded: in a flow the run itself waits for the approval, outside it is as a function."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import MalformedPayload, PersistenceError
from flowpersist.hub.outcome import attempt, or_raise
from flowpersist.inputs.guarding import Approved, Asking, Refused, Responded, Settled
from flowpersist.inputs.tool_context import ToolContext
from flowpersist.tools.calls import Call
from flowpersist.tools.described import Arguments, FunctionTool, Guard
from flowpersist.tools.terms import Decided, Stale, digest_of_question

__all__ = ["FlowTool"]


@frozen(eq=False)
class FlowTool(FunctionTool):
    """A ``Tool`` of DynamicFlow. ``own`` is it."""

    own: Any

    @classmethod
    def of(cls, own: Any) -> FlowTool:  # noqa: ANN401 - a Tool: this layer does not know its class
        """The tool as it describes itself."""
        return cls(own.id, own.description, own.input_schema, own.function, own.signature, own)

    async def invoke(self, arguments: Arguments, context: ToolContext, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        """See ``AnyTool``."""
        del extra
        return await self.own.call(or_raise(self.own.check_input(arguments)), context)

    def guarded(self, guard: Guard) -> Any:  # noqa: ANN401 - a Tool
        """See ``AnyTool``."""
        return self.own.guarded_by(FlowGuard(self, guard))


@frozen(eq=False)
class FlowGuard:
    """See ``ToolGuard``."""

    tool: FlowTool
    guard: Guard

    async def begin(self, arguments: Mapping[str, object], *, scope: str) -> Result[Asking | None, PersistenceError]:
        """See ``ToolGuard``."""
        made = self.guard.terms.call(arguments, None, scope)
        if isinstance(made, Failure):
            return Failure(made.failure())
        call = made.unwrap()
        if not await self.guard.terms.rule.asks(call):
            return Success(None)
        used = await attempt(self.guard.approvals.use(call))
        if isinstance(used, Failure):
            return Failure(used.failure())
        if used.unwrap() is not None:
            return Success(None)
        asking = self._asking(call)
        return Failure(asking.failure()) if isinstance(asking, Failure) else Success(asking.unwrap())

    async def settle(
        self, content: Mapping[str, Any], answer: object, *, by: str | None, digest: str | None
    ) -> Result[Settled, PersistenceError]:
        """See ``ToolGuard``."""
        terms = self.guard.terms
        try:
            asked, shown = Call(**content["call"]), content["shown"]
        except (TypeError, KeyError):
            return Failure(MalformedPayload("the state of a flow holds no call that waits for an approval"))
        otherwise = "another question was answered" if digest not in {None, shown} else None
        decision = await terms.settled(asked, answer, by, otherwise)
        return self._anew(asked, decision) if isinstance(decision, Stale) else Success(_settled(decision))

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        """See ``ToolGuard``."""
        return self.guard.call(self.tool.given(args, kwargs))

    def rehearsed(self) -> FlowGuard:
        """See ``ToolGuard``."""
        return _RehearsedGuard(self.tool, self.guard)

    def _anew(self, asked: Call, stale: Stale) -> Result[Settled, PersistenceError]:
        terms = self.guard.terms
        asking = self._asking(evolve(asked, version=terms.version, policy=terms.policy), stale)
        return Failure(asking.failure()) if isinstance(asking, Failure) else Success(asking.unwrap())

    def _asking(self, call: Call, stale: Stale | None = None) -> Result[Asking, PersistenceError]:
        try:
            question = self.guard.terms.question(call, stale)
        except PersistenceError as error:
            return Failure(error)
        return Success(Asking(question, {"call": call.to_data(), "shown": digest_of_question(question.to_data())}))


@frozen(eq=False)
class _RehearsedGuard(FlowGuard):
    """See ``ToolGuard.rehearsed``."""

    async def begin(self, arguments: Mapping[str, object], *, scope: str) -> Result[Asking | None, PersistenceError]:
        """See ``ToolGuard``."""
        made = self.guard.terms.call(arguments, None, scope)
        asking = made if isinstance(made, Failure) else self._asking(made.unwrap())
        return Failure(asking.failure()) if isinstance(asking, Failure) else Success(asking.unwrap())

    async def settle(
        self, content: Mapping[str, Any], answer: object, *, by: str | None, digest: str | None
    ) -> Result[Settled, PersistenceError]:
        """See ``ToolGuard``."""
        del by, digest
        decided = self.guard.terms.decided(Call(**content["call"]), answer)
        return Failure(decided.failure()) if isinstance(decided, Failure) else Success(_settled(decided.unwrap()))


def _settled(decision: Decided) -> Settled:
    if decision.call is not None:
        return Approved(decision.call.arguments)
    return Responded(decision.comment or "") if decision.decision == "respond" else Refused(decision.comment)
