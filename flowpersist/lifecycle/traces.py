"""A trace of approvals, made of a suspension's audit trail, in the form that ``agentack check`` reads: JSON Lines of
https://pypi.org/project/agentack/ 0.6.3, schema version 2.

A question is an action that is proposed and for which an approval is requested, under an id of its own each time that
it is asked. The action is named by the tool (or the question) and by the digest of what was shown, so an action that is
executed is exactly the one that was approved. A call that was edited is another action: the one that was asked about is
blocked, and the edited one is proposed, requested and approved by the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from attrs import define, field, frozen

from flowpersist.lifecycle.history import AuditEntry, WaitEntry

__all__ = ["approval_trace"]

VERSION: Final = 2
#: The verbs with which whoever holds the run says that it has acted on what was approved.
_ACTED: Final = frozenset({"complete", "suspend_next", "checkpoint", "fail", "park"})
_CLAIMS: Final = frozenset({"claim", "retry"})
_DENIED: Final = frozenset({"reject", "respond"})
#: An approval holds until it is used. Without a time the checker would take five minutes.
_NEVER: Final = "9999-12-31T23:59:59Z"
_ENDED: Final = frozenset({"expired", "superseded", "closed"})


@frozen
class _Asked:
    """An approval that was requested: its ids, its action, and what was decided of it (None: nothing)."""

    id: str
    action: dict[str, object]
    allowed: bool | None = None
    delivered: bool = False


@define
class _Tracer:
    """What is open of the trace, by wait."""

    session: str
    asked: dict[str, _Asked] = field(factory=dict)

    def told(self, entry: AuditEntry) -> Iterator[dict[str, Any]]:
        """The events of one entry."""
        if entry.refusal is not None:
            return
        if entry.verb in _ACTED:
            # Before what it asks next, which can have the same name.
            yield from self._acted(entry.at)
        for wait in entry.waits:
            yield from self._wait(entry, wait)
        if entry.verb in _CLAIMS or entry.verb == "resume":
            self.asked = {
                name: one if one.allowed is None else _Asked(one.id, one.action, one.allowed, True)
                for name, one in self.asked.items()
            }
        if entry.verb == "resume":
            yield from self._acted(entry.at)
        if entry.status.closed and entry.status != "parked":
            for name in [*self.asked]:
                yield from self._given_up(entry.at, self.asked.pop(name), str(entry.status))
            yield self._event("session_end", entry.at, reason=str(entry.status))

    def _acted(self, at: datetime) -> Iterator[dict[str, Any]]:
        for name in [name for name, one in self.asked.items() if one.delivered]:
            yield self._done(at, self.asked.pop(name))

    def _wait(self, entry: AuditEntry, wait: WaitEntry) -> Iterator[dict[str, Any]]:
        open_ = self.asked.get(wait.name)
        if wait.change == "opened":
            yield from self._request(wait.at, _Asked(f"{entry.id}/{wait.name}", _action(wait)), wait.name)
        elif open_ is not None and open_.allowed is None and wait.change == "answered":
            yield from self._decide(entry, wait, open_)
        elif open_ is not None and open_.allowed is None and wait.change in _ENDED:
            yield from self._given_up(wait.at, self.asked.pop(wait.name), wait.change)

    def _request(self, at: datetime, asked: _Asked, name: str) -> Iterator[dict[str, Any]]:
        self.asked[name] = asked
        yield self._event("action_proposed", at, action_id=asked.id, action=asked.action)
        yield self._event("approval_requested", at, action_id=asked.id, approval_id=_of(asked), action=asked.action)

    def _decide(self, entry: AuditEntry, wait: WaitEntry, asked: _Asked) -> Iterator[dict[str, Any]]:
        if wait.decision == "edit":
            yield from self._given_up(wait.at, asked, "edited")
            edited = None if wait.answer is None else wait.answer.digest
            parameters = {**_parameters(asked), "edited": edited}
            other = _Asked(f"{entry.id}/{wait.name}", {**asked.action, "parameters": parameters})
            yield from self._request(wait.at, other, wait.name)
            asked = other
        allowed = wait.decision not in _DENIED
        self.asked[wait.name] = _Asked(asked.id, asked.action, allowed)
        yield self._decision(wait.at, asked, allowed=allowed)

    def _done(self, at: datetime, asked: _Asked) -> dict[str, Any]:
        if asked.allowed:
            return self._event("action_executed", at, action_id=asked.id, approval_id=_of(asked), action=asked.action)
        return self._event("action_blocked", at, action_id=asked.id, approval_id=_of(asked), reason="denied")

    def _given_up(self, at: datetime, asked: _Asked, reason: str) -> Iterator[dict[str, Any]]:
        """What nobody has decided counts as denied."""
        if asked.allowed is None:
            yield self._decision(at, asked, allowed=False)
        yield self._event("action_blocked", at, action_id=asked.id, approval_id=_of(asked), reason=reason)

    def _decision(self, at: datetime, asked: _Asked, *, allowed: bool) -> dict[str, Any]:
        until = {"expires_at": _NEVER} if allowed else {}
        decision = "allow" if allowed else "deny"
        return self._event(
            "approval_decision", at, action_id=asked.id, approval_id=_of(asked), decision=decision, **until
        )

    def _event(self, kind: str, at: datetime, **members: object) -> dict[str, Any]:
        base = {"schema_version": VERSION, "type": kind, "timestamp": at.isoformat(), "session_id": self.session}
        return {**base, **members}


def approval_trace(entries: Sequence[AuditEntry]) -> Iterator[dict[str, Any]]:
    """The events of the trail of one suspension, each as JSON data, in order.

    It ends with ``session_end`` where the suspension has ended. A trace without it is incomplete for the checker; one
    whose entries leave out some of their waits has none. Refused verbs have no event.
    """
    if not entries:
        return
    tracer = _Tracer(str(entries[0].suspension))
    whole = not any(one.more for one in entries)
    for entry in entries:
        for event in tracer.told(entry):
            if whole or event["type"] != "session_end":
                yield event


def _action(wait: WaitEntry) -> dict[str, object]:
    named = {"question": wait.question, "shown": wait.shown, "version": wait.version, "policy": wait.policy}
    parameters = {name: value for name, value in named.items() if value is not None}
    return {"tool": wait.tool or wait.question, "operation": "call" if wait.tool else "ask", "parameters": parameters}


def _parameters(asked: _Asked) -> dict[str, object]:
    found = asked.action["parameters"]
    return dict(found) if isinstance(found, dict) else {}


def _of(asked: _Asked) -> str:
    return f"{asked.id}/approval"
