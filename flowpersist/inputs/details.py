"""What an ``AwaitInput`` takes beside its id, prompt and schema, and the checks of its texts and times."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, TypedDict, TypeVar, cast, get_type_hints

from returns.result import Failure

from flowpersist.backends.base import MAX_TEXT_BYTES, check_text
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_duration, check_flag, check_instance, check_moment, check_optional
from flowpersist.inputs.action import Action
from flowpersist.inputs.json_schema import check_json
from flowpersist.inputs.labels import Meaning, Risk
from flowpersist.inputs.people import Kind, Quorum
from flowpersist.inputs.schedule import Escalation, OnExpiry

__all__ = [
    "DETAILS",
    "MAX_PROMPT",
    "MAX_TITLE",
    "NO_DEFAULT",
    "CommonDetails",
    "Details",
    "check_id",
    "check_texts",
    "check_times",
    "own_text",
]

T = TypeVar("T")

#: Characters of the texts that people are shown.
MAX_PROMPT: Final = 64 * 1024
MAX_TITLE: Final = 4 * 1024
_KINDS: Final = {"prompt": str, "title": str | None, "parameters": Mapping | None, "shown": Mapping | None}
_MAPPING: Final = "a mapping or None"
_TAKES: Final = {"prompt": "a str", "title": "a str or None", "parameters": _MAPPING, "shown": _MAPPING}


class NoDefault(Enum):
    """The type of ``NO_DEFAULT``: None would be a default."""

    NO_DEFAULT = "no default"


NO_DEFAULT: Final = NoDefault.NO_DEFAULT


class CommonDetails(TypedDict, total=False):
    """The keyword arguments of an ``AwaitInput`` that every ready question takes too."""

    title: str | None
    parameters: Mapping[str, object] | None
    default: object
    timeout: timedelta | None
    deadline: datetime | None
    shown: Mapping[str, object] | None
    approve_on_expiry: bool
    on_expiry: OnExpiry | None
    reminders: Sequence[timedelta]
    escalation: Sequence[Escalation]
    risk: Risk | None
    priority: int | None
    meaning: Meaning | None
    metadata: Mapping[str, str | int | float | bool] | None
    ui: Mapping[str, Mapping[str, object]] | None
    redact: Sequence[str]
    checks: Sequence[str]
    assignees: Collection[str]
    groups: Collection[str]
    quorum: Quorum | int | Mapping[str, object] | None
    answerable_by: Collection[Kind]


class Details(CommonDetails, total=False):
    """All keyword arguments of an ``AwaitInput``; its docstring says what each means."""

    action: Action | None


#: Their names, also the inherited ones.
DETAILS: Final = tuple(get_type_hints(Details))


def own_text(given: T) -> T:
    """A text of a subclass, as template engines give them, as a plain one; anything else as it is."""
    return cast("T", str.__str__(given)) if isinstance(given, str) and type(given) is not str else given


def check_id(given: object) -> None:
    """Raise ``ConfigurationError`` unless it can be among the attributes of a record."""
    takes = f"a str of 1 to {MAX_TEXT_BYTES} bytes of UTF-8 without NUL"
    try:
        named = bool(check_text(given, "id"))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"Invalid id of an AwaitInput: expected {takes} ({error})", "id") from None
    if not named:
        raise ConfigurationError(f"Invalid id of an AwaitInput: expected {takes}, not an empty one", "id")


def check_texts(name: str, given: Mapping[str, Any]) -> None:
    """Raise ``ConfigurationError`` unless the texts and mappings of the question ``name`` are such."""
    for what, kind in _KINDS.items():
        if not isinstance(given[what], kind):
            message = f"Invalid {what} of {name!r}: expected {_TAKES[what]}, not {type(given[what]).__name__}"
            raise ConfigurationError(message, what)
    for what, text, most in (("prompt", given["prompt"], MAX_PROMPT), ("title", given["title"] or "", MAX_TITLE)):
        if len(text) > most or isinstance(check_json(text), Failure):
            message = f"Invalid {what} of {name!r}: expected at most {most} characters of Unicode"
            raise ConfigurationError(message, what)


def check_times(given: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless times, the flag and the action are such."""
    check_optional(given["timeout"], "timeout", check_duration)
    check_optional(given["deadline"], "deadline", check_moment)
    check_flag(given["approve_on_expiry"], "approve_on_expiry")
    check_instance(given["action"], "action", (Action, type(None)), "an Action or None")
