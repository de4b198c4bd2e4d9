"""What the command shows: the library's values as JSON data, and as text for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from flowpersist.lifecycle.model import WaitStatus

if TYPE_CHECKING:
    from flowpersist.awaiting import AwaitInput
    from flowpersist.keys import SuspensionKey
    from flowpersist.lifecycle.views import Receipt, Suspension, Wait

__all__ = ["as_json", "awaiting_data", "moment", "receipt_data", "suspension_data", "suspension_lines", "table"]


def as_json(data: object) -> str:
    """JSON text for people and scripts; what JSON has no form for (a date in a result) is shown as its ``str``."""
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)


def suspension_data(suspension: Suspension, keys: Mapping[str, SuspensionKey] | None = None) -> dict[str, object]:
    """A suspension as JSON data; with keys where they were asked for."""
    data: dict[str, object] = {
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
    return data if keys is None else {**data, "keys": {name: str(key) for name, key in keys.items()}}


def wait_data(wait: Wait) -> dict[str, object]:
    """One wait of a suspension as JSON data."""
    return {
        "name": wait.name,
        "status": str(wait.status),
        "deadline": moment(wait.deadline),
        "answeredBy": wait.answered_by,
        "answeredAt": moment(wait.answered_at),
        "awaiting": awaiting_data(wait.awaiting),
    }


def awaiting_data(awaiting: AwaitInput[object] | None) -> dict[str, object] | None:
    """What a person is asked: id, title, prompt, the answer's JSON Schema and what is shown beside it."""
    if awaiting is None:
        return None
    return {
        "id": awaiting.id,
        "title": awaiting.title,
        "prompt": awaiting.prompt,
        "schema": awaiting.json_schema,
        "shown": awaiting.shown,
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
    }


def moment(value: datetime | None) -> str | None:
    """A time in ISO 8601, UTC."""
    return None if value is None else value.isoformat()


def suspension_lines(suspension: Suspension, keys: Mapping[str, SuspensionKey] | None = None) -> list[str]:
    """A suspension as a person reads it."""
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
    lines = [f"{name + ':':<10} {value}" for name, value in facts.items() if value is not None]
    for wait in suspension.waits:
        lines += ["", *_wait_lines(wait, None if keys is None else keys.get(wait.name))]
    return lines


def _wait_lines(wait: Wait, key: SuspensionKey | None) -> list[str]:
    lines = [f"wait {wait.name}: {_standing(wait)}"]
    if wait.awaiting is not None:
        lines.append(f"  {wait.awaiting.prompt}")
        if wait.status is WaitStatus.OPEN:
            lines.append(f"  answer: {json.dumps(wait.awaiting.json_schema, ensure_ascii=False)}")
    return lines if key is None else [*lines, f"  key: {key}"]


def _standing(wait: Wait) -> str:
    if wait.answered_at is not None:
        return f"{wait.status} by {wait.answered_by or 'somebody unnamed'} at {moment(wait.answered_at)}"
    until = "" if wait.deadline is None else f", until {moment(wait.deadline)}"
    return f"{wait.status}{until}"


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows in columns, each as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
