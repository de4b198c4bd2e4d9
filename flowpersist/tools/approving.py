"""``approve``: a tool whose calls wait for a person where a rule says so, and are then made exactly as approved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Generic, ParamSpec, TypeVar, Unpack, overload

from returns.result import Failure

from flowpersist.backends.base import check_text
from flowpersist.errors import ConfigurationError, SuspensionNotFound
from flowpersist.errors.arguments import check_callable, check_duration, check_instance, check_mapping, check_optional
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.answering_verbs import Reply, claim_unless
from flowpersist.hub.outcome import DEFAULT_LEASE, MISSING, or_raise
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.transactions import KeyLike
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.hub.worker import running
from flowpersist.inputs.action import Decision
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import By, Via
from flowpersist.inputs.tool_context import ToolContext
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.model import Status
from flowpersist.lifecycle.views import NewSuspension, Resumption, Suspension
from flowpersist.stores import Stores
from flowpersist.tools.approved import ApprovalNeeded, Rejected
from flowpersist.tools.calls import Call, Check, Rule, When, digest_of
from flowpersist.tools.described import AnyTool
from flowpersist.tools.factory import Options
from flowpersist.tools.recognizing import described
from flowpersist.tools.requests import Requests
from flowpersist.tools.standing import Approvals
from flowpersist.tools.terms import Terms, digest_of_question, version_of
from flowpersist.tools.waiting import Going, Waiting, metadata_of, of_another

__all__ = ["ApprovalOptions", "Guarded", "approve"]

P = ParamSpec("P")
T = TypeVar("T")
MOST_NAME_BYTES: Final = 200
#: Identical requests may end one after the other while one of them looks.
MOST_TURNS: Final = 16


class ApprovalOptions(Options, total=False):
    """What ``approve`` takes beside its own: the options of ``await_input.approval``."""

    allow: Sequence[Decision]
    explain_rejection: bool


class Guarded(Generic[P, T]):
    """A tool whose calls are approved. ``approve`` makes it; ``tool`` is the tool in its own form, guarded.

    Its verbs raise ``StorageError``, and where a record can't be opened ``IntegrityError`` or ``EncryptionError``.
    """

    def __init__(self, terms: Terms, hub: PersistenceHub, tenant: str | None, lease: timedelta) -> None:
        #: Under which its calls are made.
        self.terms = terms
        self.hub = hub
        self._tenant = tenant
        self._lease = lease
        self._requests = Requests(Stores(hub, tenant=tenant))
        #: The standing approvals that are asked before a person is.
        self.approvals = Approvals(hub, tenant=tenant)
        self.name = terms.tool.name
        self.description = terms.tool.description
        self.schema = terms.tool.schema
        self.version = terms.version
        self.policy = terms.policy
        #: The tool in its own form: a function, or of its ecosystem's class.
        self.tool: Any = terms.tool.guarded(self)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T | str | Rejected | ApprovalNeeded:
        """``call`` with Python's arguments."""
        return await self.call(self.terms.tool.given(args, kwargs))

    @discreet
    async def call(
        self,
        arguments: Mapping[str, object],
        *,
        requested_by: str | None = None,
        scope: str | None = None,
        extra: object = None,
    ) -> T | str | Rejected | ApprovalNeeded:
        """Make the call, if no approval is needed or there is one; else ask a person, or give what waits already.

        Gives the tool's result; ``ApprovalNeeded`` where it waits; ``Rejected``, or the text of a person's response,
        where that was decided since the same call was asked for before.

        - ``arguments``: JSON data.
        - ``requested_by``: who asks for it, such as an agent's name.
        - ``scope``: what for, such as a conversation's id. Identical requests of one scope share one wait.
        - ``extra``: what an ecosystem passes to its tools beside the arguments, such as a RunContext.

        Raises ``InputValidationError`` for arguments that break the schema, ``SuspensionBusy`` while the same call is
        being made, and what the tool raises.
        """
        check_mapping(arguments, "arguments")
        check_optional(requested_by, "requested_by", check_text)
        check_optional(scope, "scope", check_text)
        call = or_raise(self.terms.call(dict(arguments), requested_by, scope))
        if not await self.terms.rule.asks(call):
            return await self._directly(call, f"call-{self.hub.runtime.entropy(16).hex()}", extra)
        asked: T | str | Rejected | ApprovalNeeded = await self._asked(call, extra)
        return asked

    @discreet
    async def resume(
        self,
        key: KeyLike,
        *,
        answer: object = MISSING,
        by: By | None = None,
        shown_digest: str | None = None,
        via: Via | None = None,
        extra: object = None,
    ) -> T | str | Rejected | ApprovalNeeded:
        """Go on with a call that was decided, in any process that has the same tool.

        The approved call, as it was edited, is made under a lease: once it has been made, the approval is used up. What
        raises or dies before that is made again by the next one who resumes it, with the same ``ToolContext.key``.
        Where ``still_valid`` or the tool's version says that the approval no longer holds, it is asked anew, under
        another key: the result is ``ApprovalNeeded`` with ``stale``.

        - ``key``: the key, its text, or the suspension's id.
        - ``answer``: the decision, where it is given with this call.
        - ``by``: who decides.
        - ``shown_digest``: the digest of what was shown to who decides.
        - ``via``: how the decision came, for the audit trail.
        - ``extra``: as for ``call``.

        Raises ``StillWaiting`` where it is not decided, ``AlreadyResumed`` where the call was made, ``WaitSuperseded``
        for a key under which a stale approval was given, ``SuspensionBusy``, ``SuspensionExpired``,
        ``SuspensionCancelled``, ``KeyValidationError`` for another key than one of an approval of this tool,
        ``InputValidationError`` and ``QuestionChanged`` for the answer, and what the tool raises.
        """
        reply = Reply(answer, by, shown_digest, via)
        resumed: T | str | Rejected | ApprovalNeeded = await self._resumed(key, reply, extra)
        return resumed

    async def work(self, *, concurrency: int = 8, poll: timedelta = timedelta(seconds=1)) -> None:
        """Until cancelled, go on with this tool's calls that were decided, and with those whose process has died.

        - ``concurrency``: how many at a time.
        - ``poll``: how often it looks where the backend does not tell of changes.
        """

        async def handle(run: Resumption[Any]) -> object:
            return await self._go_on(run, None)

        criteria = Criteria(metadata=metadata_of(self.name, self._tenant))
        await self.hub.work(handle, criteria, concurrency=concurrency, lease=self._lease, poll=poll)

    # ------------------------------------------------------------------------------------------------------------ call

    async def _directly(self, call: Call, key: str, extra: object) -> T:
        made: T = await self._invoke(call, ToolContext(key, call.tool, call.tool, 1, key=key), extra)
        return made

    async def _invoke(self, call: Call, context: ToolContext, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        return await self.terms.tool.invoke(call.arguments, context, extra)

    async def _asked(self, call: Call, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        question = self.terms.question(call)
        data = question.to_data()
        timeless = {name: value for name, value in data.items() if name not in {"timeout", "deadline"}}
        request = digest_of({"call": call.digest, "by": call.requested_by, "scope": call.scope, "question": timeless})
        token = await self._requests.look(request)
        standing = None if token is None else await self._standing(token, call.requested_by)
        closed = standing is not None and standing.status.closed
        if standing is not None and not closed and standing.status is not Status.WAITING:
            return await self._resumed(standing.id, Reply(MISSING, call.requested_by), extra)
        use = await self.approvals.use(call)
        if use is not None and (standing is None or closed or await self._withdrawn(standing, use.by)):
            return await self._directly(call, use.key, extra)
        ended = token if closed else None
        for _ in range(MOST_TURNS):
            token = await self._requests.token(request, ended=ended, expires_in=question.timeout)
            new = await self._suspended(Waiting(call, question.id, digest_of_question(data), request, token), question)
            if new.status is Status.WAITING:
                return ApprovalNeeded(self.name, new)
            if not new.status.closed:
                return await self._resumed(new.id, Reply(MISSING, call.requested_by), extra)
            ended = token
        raise ConfigurationError(f"the approvals of {self.name!r} end as soon as they are asked for", "expires_in")

    async def _suspended(self, waiting: Waiting, question: AwaitInput[Any]) -> NewSuspension:
        return or_raise(
            await self.hub.suspend(
                waiting.content(),
                awaiting=question,
                metadata=metadata_of(self.name, self._tenant),
                tenant=self._tenant,
                idempotency_key=_idempotency(waiting.token),
                by=waiting.call.requested_by,
            )
        )

    async def _standing(self, token: str, by: str | None) -> Suspension | None:
        """What stands under a token; None where it is not made yet."""
        id_ = SuspensionId.derive(self.hub.defaults.namespace, self._tenant, _idempotency(token))
        found = await self.hub.inspect(id_, by=by)
        if isinstance(found, Failure) and isinstance(found.failure(), SuspensionNotFound):
            return None
        return or_raise(found)

    async def _withdrawn(self, standing: Suspension, by: str) -> bool:
        """Whether nobody will make the call under the request that waits: else it would be made twice."""
        cancelled = await self.hub.cancel(standing.id, f"approved by policy: {by}", by=by)
        if isinstance(cancelled, Failure):
            return False
        return cancelled.unwrap().status is Status.CANCELLED

    # ---------------------------------------------------------------------------------------------------------- resume

    async def _resumed(self, key: KeyLike, reply: Reply, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        async def refusal(suspension: Suspension) -> Any:  # noqa: ANN401 - an error, or None
            return of_another(suspension, self.name, self._tenant)

        async def claim() -> Any:  # noqa: ANN401 - an outcome
            return await claim_unless(self.hub, refusal, key, reply, lease=self._lease)

        async with running(self.hub, claim, self._lease) as claimed:
            return await self._go_on(or_raise(claimed), extra)

    async def _go_on(self, run: Resumption[Any], extra: object) -> Any:  # noqa: ANN401 - the tool's own
        waiting = or_raise(Waiting.of(run.state))

        async def invoke(call: Call, context: ToolContext) -> Any:  # noqa: ANN401 - the tool's own
            return await self._invoke(call, context, extra)

        result = await Going(self.hub, self.terms, run, invoke).on(waiting)
        if not isinstance(result, ApprovalNeeded):
            await self._requests.forget(waiting.request, waiting.token)
        return result


def _idempotency(token: str) -> str:
    return f"approval:{token}"


@overload
def approve(  # type: ignore[overload-overlap]  # a function is an object too
    tool: Callable[P, Awaitable[T]],
    *,
    hub: PersistenceHub | RaisingHub,
    when: When = True,
    still_valid: Check | None = None,
    policy: str | None = None,
    version: str | None = None,
    prompt: str | None = None,
    name: str | None = None,
    description: str | None = None,
    schema: Mapping[str, object] | None = None,
    tenant: str | None = None,
    lease: timedelta = DEFAULT_LEASE,
    **options: Unpack[ApprovalOptions],
) -> Guarded[P, T]: ...


@overload
def approve(
    tool: object,
    *,
    hub: PersistenceHub | RaisingHub,
    when: When = True,
    still_valid: Check | None = None,
    policy: str | None = None,
    version: str | None = None,
    prompt: str | None = None,
    name: str | None = None,
    description: str | None = None,
    schema: Mapping[str, object] | None = None,
    tenant: str | None = None,
    lease: timedelta = DEFAULT_LEASE,
    **options: Unpack[ApprovalOptions],
) -> Guarded[..., Any]: ...


def approve(
    tool: Any,
    *,
    hub: PersistenceHub | RaisingHub,
    when: When = True,
    still_valid: Check | None = None,
    policy: str | None = None,
    version: str | None = None,
    prompt: str | None = None,
    name: str | None = None,
    description: str | None = None,
    schema: Mapping[str, object] | None = None,
    tenant: str | None = None,
    lease: timedelta = DEFAULT_LEASE,
    **options: Unpack[ApprovalOptions],
) -> Guarded[..., Any]:
    """Guard a tool: a call that ``when`` matches waits until a person has approved exactly that call.

    - ``tool``: an async function, what ``@tool`` made, or a tool of the OpenAI Agents SDK, LangChain or pydantic-ai.
    - ``hub``: where calls wait, and where standing approvals are kept.
    - ``when``: which calls need an approval: a function of a ``Call``, plain or async, that gives a bool; a JSON Schema
      of their arguments; True (all) or False (none). Where it raises, or gives anything but False, a person is asked.
    - ``still_valid``: a function of the approved ``Call`` that is asked before it is made; unless it gives True, the
      approval is stale and asked anew.
    - ``policy``: the version of the policy that asks. An approval under another one is stale.
    - ``version``: the tool's version, likewise; None: a digest of its name, description and schema, which does not
      change with its code.
    - ``prompt``: what a person is asked; ``$name`` is the argument of that name.
    - ``name``, ``description``, ``schema``: of a plain function, in the place of those that it has.
    - ``tenant``: whose the approvals are.
    - ``lease``: how long a call that was approved stays with a process that has died.
    - ``options``: those of ``await_input.approval``, such as ``expires_in`` and ``allow``.

    Raises ``ConfigurationError`` and ``TypeError`` for what can't be asked.
    """
    check_instance(hub, "hub", (PersistenceHub, RaisingHub), "a PersistenceHub or a RaisingHub")
    check_optional(still_valid, "still_valid", check_callable)
    for what, text in (("policy", policy), ("version", version), ("name", name), ("tenant", tenant)):
        check_optional(text, what, check_text)
    check_optional(prompt, "prompt", _check_str)
    check_optional(description, "description", _check_str)
    check_optional(schema, "schema", check_mapping)
    check_duration(lease, "lease")
    known: AnyTool = described(tool, name, description, schema)
    check_text(known.name, "name")
    if not known.name or len(known.name.encode()) > MOST_NAME_BYTES:
        raise ConfigurationError(f"Invalid name: expected 1 to {MOST_NAME_BYTES} bytes of UTF-8", "name")
    opened = hub.hub if isinstance(hub, RaisingHub) else hub
    tracebacks = opened.suspensions.tracebacks
    terms = Terms(
        tool=known,
        version=version_of(known) if version is None else version,
        policy=policy,
        rule=Rule(when, tracebacks),
        still_valid=still_valid,
        prompt=prompt,
        options=dict(options),
        tracebacks=tracebacks,
    )
    return Guarded(terms, opened, tenant, lease)


def _check_str(value: object, name: str) -> None:
    check_instance(value, name, str, "a str")
