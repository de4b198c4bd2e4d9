"""The data of events as JSON text of a bounded size, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from flowpersist.dynamicflow.budgets import Size
from flowpersist.dynamicflow.events import EventType, StoredEvent
from flowpersist.dynamicflow.plain import PLAIN, WALK_ERRORS, finished, walk
from flowpersist.errors import IntegrityError

if TYPE_CHECKING:
    from flowpersist.hub.event_log import Batch
    from flowpersist.inputs.await_input import AwaitInput

__all__ = ["MAX_FIELD", "OMITTED", "as_json", "event_text", "questions", "stored_events"]

#: The most characters of one field of an event's data as JSON, and the most values in it.
MAX_FIELD: Final = 16 * 1024
_MOST: Final = Size(4096, MAX_FIELD)
#: The field that names those that are left out since they are larger, or have no form in JSON.
OMITTED: Final = "omitted"
#: Of a pause, the questions that are told one by one, and the characters of each one's text.
_QUESTIONS: Final = 20
_PROMPT: Final = 300
#: What json raises for values that it can't write, or that somebody changes meanwhile.
_JSON_ERRORS: Final = (TypeError, ValueError, RuntimeError)


def as_json(data: Mapping[str, object]) -> str:
    """The data as a JSON object. What is too large, or has no form in JSON, is left out and named in ``omitted``."""
    texts = {name: _field(value) for name, value in data.items()}
    kept = [f"{json.dumps(name)}:{text}" for name, text in texts.items() if text is not None]
    omitted = [name for name, text in texts.items() if text is None]
    return "{" + ",".join([*kept, f'"{OMITTED}":{json.dumps(omitted)}'] if omitted else kept) + "}"


def _field(value: object) -> str | None:
    try:
        text = json.dumps(finished(walk(value, form=PLAIN, most=_MOST)).value, allow_nan=False, separators=(",", ":"))
    except (*WALK_ERRORS, *_JSON_ERRORS):
        return None
    return text if len(text) <= MAX_FIELD else None


def event_text(kind: EventType, at: datetime, data: Mapping[str, object]) -> str:
    """An event as the log stores it."""
    return f'{{"type":{json.dumps(kind)},"time":{json.dumps(at.isoformat())},"data":{as_json(data)}}}'


def stored_events(batch: Batch) -> list[StoredEvent]:
    """The events of a batch. ``IntegrityError`` for one that is not as it was stored."""
    try:
        found = cast("Any", json.loads(cast("str", batch.value)))
        events = [
            StoredEvent(number, datetime.fromisoformat(one["time"]), one["type"], one["data"])
            for number, one in enumerate(found, start=batch.first)
        ]
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise _damaged(batch) from error
    whole = all(one.type in get_args(EventType) and isinstance(one.data, dict) and one.time.tzinfo for one in events)
    if len(events) != batch.count or not whole:
        raise _damaged(batch)
    return events


def _damaged(batch: Batch) -> IntegrityError:
    return IntegrityError(f"the events from {batch.first} are not as they were stored: restore them from a backup")


def questions(asked: Iterable[tuple[str, AwaitInput[Any] | None]]) -> dict[str, object]:
    """What is told of open questions, by the paths of their steps: no keys, and of many the first ones."""
    listed = [(step, one) for step, one in asked if one is not None and not step.startswith("$")]
    waits = [
        {"step": step, "awaiting": {"id": one.id, "title": _short(one.title), "prompt": _short(one.prompt)}}
        for step, one in listed[:_QUESTIONS]
    ]
    return {"waits": waits}


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _PROMPT else f"{text[: _PROMPT - 1]}…"
