"""Audit entries as JSON data: what the command prints, and what stands in exports and receipts."""

from __future__ import annotations

from datetime import datetime

from flowpersist.inputs.people import Principal, principal_data
from flowpersist.lifecycle.history import AnswerEntry, AuditEntry, WaitEntry

__all__ = ["entry_data"]


def entry_data(entry: AuditEntry, *, values: bool = True) -> dict[str, object]:
    """An entry as JSON data; ``values``: with the answers that it has."""
    return {
        "number": entry.number,
        "id": entry.id,
        "at": _moment(entry.at),
        "verb": entry.verb,
        "suspension": str(entry.suspension),
        "tenant": entry.tenant,
        "status": str(entry.status),
        "sequence": entry.sequence,
        "fence": entry.fence,
        "attempt": entry.attempt,
        "by": _principal(entry.by),
        "reason": entry.reason,
        "error": entry.error,
        "refusal": entry.refusal,
        "waits": [_wait_data(one, values=values) for one in entry.waits],
        "more": entry.more,
        "removed": entry.removed,
        "previous": entry.previous,
        "mac": entry.mac,
        "kid": entry.kid,
    }


def _principal(who: Principal | None) -> dict[str, object] | None:
    return None if who is None else principal_data(who)


def _wait_data(wait: WaitEntry, *, values: bool) -> dict[str, object]:
    return {
        "name": wait.name,
        "change": wait.change,
        "at": _moment(wait.at),
        "question": wait.question,
        "shown": wait.shown,
        "tool": wait.tool,
        "version": wait.version,
        "policy": wait.policy,
        "deadline": _moment(wait.deadline),
        "decision": wait.decision,
        "meaning": wait.meaning,
        "schema": wait.schema,
        "selfApproval": wait.self_approval,
        "votes": None if wait.votes is None else {"cast": wait.votes[0], "needed": wait.votes[1]},
        "answer": None if wait.answer is None else _answer_data(wait.answer, values=values),
    }


def _answer_data(answer: AnswerEntry, *, values: bool) -> dict[str, object]:
    came = {"channel": answer.channel, "delivery": answer.delivery}
    given = {"value": answer.value} if answer.kept and values else {}
    return {"digest": answer.digest, "answerId": answer.answer_id, "replaced": answer.replaced, **came, **given}


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
