"""``await_input``: ready questions with their schemas and texts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Unpack

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_items, check_mapping, check_optional
from flowpersist.inputs.action import Action, Decision
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.details import CommonDetails
from flowpersist.inputs.people import quorum_of
from flowpersist.tools.schemas import array, decision, options, record, rows, without_none

__all__ = ["AwaitInputFactory", "Options", "await_input"]

_VERDICTS: Final = ("approve", "reject")


class Options(CommonDetails, total=False):
    """What every ready question takes beside its own: the keyword arguments of ``AwaitInput``, and these.

    - ``id``: its name; left out: that of the kind of question.
    - ``expires_in``: how long it waits from the pause on; the same as ``timeout``.
    - ``of``: the groups and subjects whose votes a ``quorum`` counts.
    """

    id: str
    expires_in: timedelta | None
    of: Collection[str]


class AwaitInputFactory:
    """Makes questions of the usual kinds; ``await_input`` is one. All raise ``ConfigurationError`` as ``AwaitInput``
    does.
    """

    def text(
        self,
        prompt: str,
        *,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | None = None,
        **more: Unpack[Options],
    ) -> AwaitInput[Any]:
        """A text.

        - ``prompt``: what a person is asked.
        - ``min_length``, ``max_length``: in characters.
        - ``pattern``: a regular expression that is found in it.
        - ``more``: see ``Options``.
        """
        schema = without_none(type="string", minLength=min_length, maxLength=max_length, pattern=pattern)
        return _made("text", prompt, schema, more)

    def confirmation(self, prompt: str, **more: Unpack[Options]) -> AwaitInput[Any]:
        """Yes or no.

        - ``prompt``: what a person is asked.
        - ``more``: see ``Options``.
        """
        return _made("confirmation", prompt, {"type": "boolean"}, more)

    def number(
        self,
        prompt: str,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        whole: bool = False,
        **more: Unpack[Options],
    ) -> AwaitInput[Any]:
        """A number.

        - ``prompt``: what a person is asked.
        - ``minimum``, ``maximum``: the bounds, themselves included.
        - ``whole``: an integer.
        - ``more``: see ``Options``.
        """
        schema = without_none(type="integer" if whole else "number", minimum=minimum, maximum=maximum)
        return _made("number", prompt, schema, more)

    def date(self, prompt: str, **more: Unpack[Options]) -> AwaitInput[Any]:
        """A date, as in 2027-01-31.

        - ``prompt``: what a person is asked.
        - ``more``: see ``Options``.
        """
        return _made("date", prompt, {"type": "string", "format": "date"}, more)

    def moment(self, prompt: str, **more: Unpack[Options]) -> AwaitInput[Any]:
        """A date and time with its offset, as in 2027-01-31T17:00:00+01:00.

        - ``prompt``: what a person is asked.
        - ``more``: see ``Options``.
        """
        return _made("moment", prompt, {"type": "string", "format": "date-time"}, more)

    def choice(
        self, prompt: str, choices: Mapping[str, str] | Iterable[str], **more: Unpack[Options]
    ) -> AwaitInput[Any]:
        """One of several texts.

        - ``prompt``: what a person is asked.
        - ``choices``: the texts; a mapping gives each its label.
        - ``more``: see ``Options``.
        """
        return _made("choice", prompt, options(choices, "choices"), more)

    def choices(
        self,
        prompt: str,
        choices: Mapping[str, str] | Iterable[str],
        *,
        at_least: int | None = None,
        at_most: int | None = None,
        **more: Unpack[Options],
    ) -> AwaitInput[Any]:
        """Several of several texts.

        - ``prompt``: what a person is asked.
        - ``choices``: the texts; a mapping gives each its label.
        - ``at_least``, ``at_most``: how many.
        - ``more``: see ``Options``.
        """
        one = options(choices, "choices")
        # In a list the labels stand as MCP has them.
        items = {"anyOf": one["oneOf"]} if "oneOf" in one else one
        return _made("choices", prompt, array(items, at_least, at_most), more)

    def form(self, prompt: str, schema: Any, **more: Unpack[Options]) -> AwaitInput[Any]:  # noqa: ANN401 - a type or a schema
        """Several fields.

        - ``prompt``: what a person is asked.
        - ``schema``: a JSON Schema of an object, or a type, as ``AwaitInput`` takes it.
        - ``more``: see ``Options``.
        """
        return _made("form", prompt, schema, more)

    def approval(
        self,
        prompt: str,
        action: Action | None = None,
        *,
        allow: Sequence[Decision] = ("approve", "edit", "reject", "respond"),
        explain_rejection: bool = False,
        **more: Unpack[Options],
    ) -> AwaitInput[Any]:
        """A decision on a call: the answer is ``{"decision": …, "comment": …}``. ``action.decided(answer)`` gives the
        call that was approved.

        - ``prompt``: what a person is asked.
        - ``action``: the call; None: something that is not a call, which can't be edited.
        - ``allow``: the decisions that a person may take. An edit has ``arguments``, which replace those of the call,
          or ``patch``, a JSON Patch of them. A response is a ``comment`` in the place of the tool's result.
        - ``explain_rejection``: whether a rejection needs a comment.
        - ``more``: see ``Options``.
        """
        check_items(allow, "allow", "decisions")
        allowed: list[Decision] = [one for one in allow if action is not None or one != "edit"]
        schema = decision(allowed, None if action is None else action.schema, explained=explain_rejection)
        return _made("approval", prompt, schema, more, action=action)

    def document_review(
        self, prompt: str, document: Mapping[str, object] | None = None, **more: Unpack[Options]
    ) -> AwaitInput[Any]:
        """A verdict on a document: ``{"verdict": "approve" | "changes" | "reject", "comment": …, "remarks": […]}``.

        - ``prompt``: what a person is asked.
        - ``document``: what is shown: its text, or where it is; None: the prompt says it.
        - ``more``: see ``Options``.
        """
        check_optional(document, "document", check_mapping)
        remark = record({"place": {"type": "string"}, "text": {"type": "string", "minLength": 1}}, ["text"])
        schema = record(
            {
                "verdict": options({"approve": "Approve", "changes": "Ask for changes", "reject": "Reject"}),
                "comment": {"type": "string"},
                "remarks": {"type": "array", "items": remark, "maxItems": 1000},
            },
            ["verdict"],
        )
        return _made(
            "document_review", prompt, schema, more, shown=None if document is None else {"document": dict(document)}
        )

    def data_entry(
        self, prompt: str, schema: Mapping[str, object], data: Mapping[str, object], **more: Unpack[Options]
    ) -> AwaitInput[Any]:
        """Data that is shown to be corrected: the answer is all of it.

        - ``prompt``: what a person is asked.
        - ``schema``: a JSON Schema of an object.
        - ``data``: what is there, which need not fit the schema yet.
        - ``more``: see ``Options``.
        """
        check_mapping(schema, "schema")
        check_mapping(data, "data")
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        filled = {
            name: {**one, "default": data[name]} if isinstance(one, Mapping) and name in data else one
            for name, one in known.items()
        }
        return _made("data_entry", prompt, {**schema, "properties": filled}, more, shown={"data": dict(data)})

    def file(
        self,
        prompt: str,
        *,
        media_types: Iterable[str] | None = None,
        max_size: int | None = None,
        **more: Unpack[Options],
    ) -> AwaitInput[Any]:
        """A file by reference: ``{"name", "media_type", "size", "digest"}``, where the digest is ``sha256:`` and 64
        hexadecimal digits. Where the bytes are is the application's to know.

        - ``prompt``: what a person is asked.
        - ``media_types``: those that are taken, such as ``application/pdf``.
        - ``max_size``: in bytes.
        - ``more``: see ``Options``.
        """
        kind = {"type": "string"} if media_types is None else options(media_types, "media_types")
        fields = {
            "name": {"type": "string", "minLength": 1, "maxLength": 255},
            "media_type": kind,
            "size": without_none(type="integer", minimum=0, maximum=max_size),
            "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        }
        return _made("file", prompt, record(fields, list(fields)), more)

    def rating(self, prompt: str, *, lowest: int = 1, highest: int = 5, **more: Unpack[Options]) -> AwaitInput[Any]:
        """A whole number of a scale.

        - ``prompt``: what a person is asked.
        - ``lowest``, ``highest``: its ends.
        - ``more``: see ``Options``.
        """
        if not lowest < highest:
            raise ConfigurationError("Invalid highest: expected a number over lowest", "highest")
        return _made("rating", prompt, {"type": "integer", "minimum": lowest, "maximum": highest}, more)

    def table(
        self,
        prompt: str,
        rows_by_key: Mapping[str, Mapping[str, object]],
        *,
        decisions: Sequence[str] = _VERDICTS,
        **more: Unpack[Options],
    ) -> AwaitInput[Any]:
        """A decision on each row: ``{key: {"decision": …, "comment": …}}``.

        - ``prompt``: what a person is asked.
        - ``rows_by_key``: what is shown of each row.
        - ``decisions``: those that a person may take.
        - ``more``: see ``Options``.
        """
        check_mapping(rows_by_key, "rows_by_key")
        if not rows_by_key:
            raise ConfigurationError("Invalid rows_by_key: expected at least one row", "rows_by_key")
        options(decisions, "decisions")
        shown = {key: dict(row) for key, row in rows_by_key.items()}
        return _made("table", prompt, rows(list(rows_by_key), decisions), more, shown={"rows": shown})

    def checkpoint(self, prompt: str, state: Mapping[str, object], **more: Unpack[Options]) -> AwaitInput[Any]:
        """A stop to look at a run: ``{"action": "continue" | "abort", "note": …}``.

        - ``prompt``: what a person is asked.
        - ``state``: what is shown of the run.
        - ``more``: see ``Options``.
        """
        check_mapping(state, "state")
        schema = record({"action": options(["continue", "abort"]), "note": {"type": "string"}}, ["action"])
        return _made("checkpoint", prompt, schema, more, shown={"state": dict(state)})


def _made(
    kind: str,
    prompt: str,
    schema: Any,  # noqa: ANN401 - a type or a schema
    more: Options,
    *,
    shown: Mapping[str, object] | None = None,
    action: Action | None = None,
) -> AwaitInput[Any]:
    details: dict[str, Any] = {**more, "action": action}
    name = details.pop("id", kind)
    if "expires_in" in details:
        if details.get("timeout") is not None:
            raise ConfigurationError("Invalid timeout: expected either expires_in or timeout", "timeout")
        details["timeout"] = details.pop("expires_in")
    if "of" in details:
        details["quorum"] = quorum_of(details.get("quorum"), details.pop("of"))
    if shown is not None:
        details["shown"] = {**(more.get("shown") or {}), **shown}
    made: AwaitInput[Any] = AwaitInput(name, prompt, schema, **details)
    return made


#: Makes the usual questions.
await_input: Final = AwaitInputFactory()
