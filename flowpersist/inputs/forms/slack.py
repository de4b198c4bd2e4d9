"""A question as blocks of a Slack message.

Limits: Slack's reference of Block Kit, as slack-sdk 3.48 checks them. A key never stands in a message: ``reference`` is
the sender's own name of the question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.errors.arguments import check_str, out_of_range
from flowpersist.inputs.forms.fields import Field, fields_of, is_flat
from flowpersist.inputs.forms.question import Question
from flowpersist.keys.suspension_key import SuspensionKey

__all__ = ["from_slack", "slack_message"]

HEADER: Final = 150
SECTION: Final = 3000
BUTTON: Final = 75
VALUE: Final = 2000
BUTTONS: Final = 5
REFERENCE: Final = 500
ACTION: Final = "flowpersist_answer"
LINK: Final = "flowpersist_open"


def slack_message(asked: Question, reference: str, url: str | None) -> dict[str, Any]:
    """``text`` and ``blocks``: buttons where the answer is one of a few, else a button that opens a URL."""
    check_str(reference, "reference")
    if not 0 < len(reference) <= REFERENCE:
        out_of_range("reference", f"1 to {REFERENCE} characters", len(reference))
    if isinstance(SuspensionKey.parse(reference), Success):
        raise ConfigurationError(
            "Invalid reference: a key must not stand in a message; pass a name of your own", "reference"
        )
    blocks: list[dict[str, Any]] = []
    if asked.title is not None:
        blocks.append({"type": "header", "text": _plain(asked.title, HEADER)})
    blocks.append({"type": "section", "text": _plain(asked.prompt, SECTION)})
    if asked.shown is not None:
        blocks.append(
            {"type": "section", "text": _plain(json.dumps(asked.shown, ensure_ascii=False, indent=1), SECTION)}
        )
    choices = _choices(asked, reference)
    if not choices:
        if url is None:
            raise ConfigurationError(
                f"the answer to {asked.id!r} has no buttons: pass url=, the page of its form", "url"
            )
        choices = [{"type": "button", "action_id": LINK, "text": _plain("Answer", BUTTON), "url": url}]
    return {"text": _cut(asked.prompt, SECTION), "blocks": [*blocks, {"type": "actions", "elements": choices}]}


def _choices(asked: Question, reference: str) -> list[dict[str, Any]]:
    fields = fields_of(asked.json_schema)
    options = _options(fields[0]) if not is_flat(asked.json_schema) else ()
    values = [json.dumps({"ref": reference, "answer": value}, ensure_ascii=False) for value, _ in options]
    if len(options) > BUTTONS or any(len(value) > VALUE for value in values):
        return []
    return [
        {"type": "button", "action_id": f"{ACTION}_{at}", "text": _plain(label, BUTTON), "value": value}
        for at, ((_, label), value) in enumerate(zip(options, values, strict=True))
    ]


def _options(one: Field) -> tuple[tuple[object, str], ...]:
    return ((True, "Yes"), (False, "No")) if one.kind == "boolean" else one.options


def from_slack(payload: Mapping[str, Any]) -> Result[tuple[str, object], PersistenceError]:
    """The reference and the answer of a ``block_actions`` payload, whose signature the caller has checked."""
    for action in payload.get("actions", ()):
        if isinstance(action, Mapping) and str(action.get("action_id", "")).startswith(ACTION):
            try:
                value = json.loads(action.get("value", ""))
                return Success((str(value["ref"]), value["answer"]))
            except (ValueError, TypeError, KeyError, RecursionError):
                break
    problem = Problem("/actions", "has no answer of a message that flowpersist made")
    return Failure(InputValidationError(f"the Slack payload is not valid: /actions {problem.message}", [problem]))


def _plain(text: str, most: int) -> dict[str, Any]:
    # Not mrkdwn: a prompt holds a model's words, and must not mention people or draw links.
    return {"type": "plain_text", "text": _cut(text, most) or " ", "emoji": False}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
