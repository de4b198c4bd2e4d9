"""The command's output: the library's values as JSON data, and as text for a person."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Final

from flowpersist.cli.layout import ago, field, indented, moment, table
from flowpersist.lifecycle.model import WaitStatus

if TYPE_CHECKING:
    from flowpersist.inputs.await_input import AwaitInput
    from flowpersist.lifecycle.receipts import Receipt
    from flowpersist.lifecycle.views import Suspension, Wait
    from flowpersist.lifecycle.voting import Tally

__all__ = [
    "LISTED",
    "as_json",
    "as_text",
    "awaiting_data",
    "listed_row",
    "receipt_data",
    "suspension_data",
    "suspension_lines",
]

#: The columns of a list.
LISTED: Final = ("ID", "STATUS", "AGE", "DEADLINE", "WAITS")
#: More waits than this are shown as rows of a table.
MOST_WHOLE: Final = 5


def as_json(data: object, *, indent: int | None = 2) -> str:
    """JSON text for people and scripts; values without a JSON form (a date in a result) are shown as their ``str``."""
    return json.dumps(data, indent=indent, ensure_ascii=False, default=str)


def as_text(data: object) -> str:
    """A value for a person or a shell's variable: a text as it is, any other as JSON."""
    return data if isinstance(data, str) else as_json(data)


def suspension_data(suspension: Suspension) -> dict[str, object]:
    """A suspension as JSON data."""
    return {
        "id": str(suspension.id),
        "status": str(suspension.status),
        "waits": [wait_data(wait) for wait in suspension.waits],
        "sequence": suspension.sequence,
        "attempt": suspension.attempt,
        "until": suspension.until,
        "metadata": dict(suspension.metadata),
        "tenant": suspension.tenant,
        "createdAt": moment(suspension.created_at),
        "updatedAt": moment(suspension.updated_at),
        "deadline": moment(suspension.deadline),
        "closedAt": moment(suspension.closed_at),
        "reason": suspension.reason,
        "error": suspension.error,
    }


def wait_data(wait: Wait) -> dict[str, object]:
    """One wait of a suspension as JSON data."""
    return {
        "name": wait.name,
        "status": str(wait.status),
        "deadline": moment(wait.deadline),
        "answeredBy": wait.answered_by,
        "answeredAt": moment(wait.answered_at),
        "digest": wait.digest,
        "answeredDigest": wait.answered_digest,
        "level": wait.level,
        "escalatedTo": list(wait.escalated_to),
        "nextReminder": moment(wait.next_reminder),
        "nextEscalation": moment(wait.next_escalation),
        "awaiting": awaiting_data(wait.awaiting),
        **_people(wait),
    }


def _people(wait: Wait) -> dict[str, object]:
    """Who may answer a wait, and the votes, where the question says so."""
    asked = wait.awaiting
    named = {} if asked is None else {"assignees": list(asked.assignees), "groups": list(asked.groups)}
    votes = {} if wait.tally is None else {"quorum": tally_data(wait.tally)}
    return {**{name: names for name, names in named.items() if names}, **votes}


def tally_data(tally: Tally) -> dict[str, object]:
    """How a quorum stands, as JSON data."""
    votes = [{"by": vote.by, "decision": vote.decision, "at": moment(vote.at)} for vote in tally.votes]
    return {"needed": tally.needed, "missing": tally.missing, "of": list(tally.of), "veto": tally.veto, "votes": votes}


def tally_text(tally: Tally) -> str:
    """How a quorum stands, in one line."""
    votes = ", ".join(f"{vote.by}: {vote.decision or 'answered'}" for vote in tally.votes) or "no votes"
    missing = f", {tally.missing} more needed" if tally.missing else ""
    of = f" of {', '.join(tally.of)}" if tally.missing and tally.of else ""
    return f"{votes} ({tally.needed} must agree{missing}{of})"


def awaiting_data(awaiting: AwaitInput[object] | None) -> dict[str, object] | None:
    """An AwaitInput: id, title, prompt, the answer's JSON Schema, and the data that is shown with it."""
    if awaiting is None:
        return None
    return {
        "id": awaiting.id,
        "title": awaiting.title,
        "prompt": awaiting.prompt,
        "schema": awaiting.json_schema,
        "shown": awaiting.shown,
        "action": None if awaiting.action is None else awaiting.action.to_data(),
    }


def receipt_data(receipt: Receipt) -> dict[str, object]:
    """A receipt as JSON data."""
    return {
        "outcome": receipt.outcome,
        "id": str(receipt.suspension_id),
        "wait": receipt.wait,
        "at": moment(receipt.at),
        "by": receipt.by,
        "answerId": receipt.answer_id,
        "digest": receipt.digest,
        **({} if receipt.tally is None else {"quorum": tally_data(receipt.tally)}),
    }


def listed_row(suspension: Suspension, now: datetime) -> tuple[str, ...]:
    """A suspension as a row of ``LISTED``: ages and deadlines as durations from the store's present."""
    return (
        str(suspension.id),
        str(suspension.status),
        ago(now - suspension.created_at),
        _until(suspension.deadline, now),
        "; ".join(_asked(wait) for wait in suspension.open_waits) or "-",
    )


def _until(deadline: datetime | None, now: datetime) -> str:
    if deadline is None:
        return "-"
    return f"in {ago(deadline - now)}" if deadline > now else f"{ago(now - deadline)} ago"


def _asked(wait: Wait) -> str:
    return wait.name if wait.awaiting is None else f"{wait.name}: {wait.awaiting.prompt}"


def suspension_lines(suspension: Suspension, width: int | None, own: str | None = None) -> list[str]:
    """A suspension for a person. Of many waits only ``own``, the one that was named by its key, is shown in full."""
    facts = {
        "id": str(suspension.id),
        "status": str(suspension.status),
        "created": moment(suspension.created_at),
        "updated": moment(suspension.updated_at),
        "closed": moment(suspension.closed_at),
        "tenant": suspension.tenant,
        "reason": suspension.reason,
        "error": suspension.error,
        **{f"metadata {name}": str(value) for name, value in suspension.metadata.items()},
    }
    lines = [line for name, value in facts.items() if value is not None for line in field(name, value, width)]
    whole = [w for w in suspension.waits if len(suspension.waits) <= MOST_WHOLE or w.name == own]
    for wait in whole:
        lines += ["", *_wait_lines(wait, width)]
    rest = [wait for wait in suspension.waits if wait not in whole]
    if rest:
        rows = [("WAIT", "STATUS", "PROMPT"), *((w.name, _standing(w), _prompt(w)) for w in rest)]
        lines += ["", *table(rows, width)]
    return lines


def _prompt(wait: Wait) -> str:
    return "-" if wait.awaiting is None else wait.awaiting.prompt


def _wait_lines(wait: Wait, width: int | None) -> list[str]:
    lines = indented(f"wait {wait.name}: {_standing(wait)}", "  ", width, first="")
    if wait.awaiting is None:
        return lines
    lines += indented(wait.awaiting.prompt, "  ", width)
    for line in _scheduled(wait):
        lines += indented(line, "  ", width)
    may = [*wait.awaiting.assignees, *(f"members of {group}" for group in wait.awaiting.groups)]
    if may:
        lines += indented(f"may answer: {', '.join(may)}", "  ", width)
    if wait.tally is not None:
        lines += indented(f"votes: {tally_text(wait.tally)}", "  ", width)
    if wait.status is WaitStatus.OPEN:
        lines += indented(f"answer: {json.dumps(wait.awaiting.json_schema, ensure_ascii=False)}", "  ", width)
    return lines


def _scheduled(wait: Wait) -> list[str]:
    facts = {
        "escalated to": ", ".join(wait.escalated_to) or None,
        "next reminder": moment(wait.next_reminder),
        "next escalation": moment(wait.next_escalation),
    }
    return [f"{name}: {value}" for name, value in facts.items() if value is not None]


def _standing(wait: Wait) -> str:
    if wait.answered_at is not None:
        return f"{wait.status} by {wait.answered_by or 'an unnamed user'} at {moment(wait.answered_at)}"
    until = "" if wait.deadline is None else f", until {moment(wait.deadline)}"
    return f"{wait.status}{until}"
