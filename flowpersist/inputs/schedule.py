"""When people are reminded of a question, to whom it is escalated, and what its deadline does.

Reminders are offsets before the deadline. An escalation is a ladder of steps. A step is reached some time after the
pause, or when the deadline passes with ``on_expiry="escalate"``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NoReturn, Protocol, TypeAlias, cast

from attrs import field, frozen

from flowpersist.backends.base import MAX_TEXT_BYTES, check_text
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_duration, check_optional

__all__ = ["Escalation", "OnExpiry", "check_schedule", "lacks_deadline", "schedule_data", "schedule_fields"]

OnExpiry: TypeAlias = Literal["default", "expire", "escalate"]
ON_EXPIRY: Final = ("default", "expire", "escalate")
MAX_REMINDERS: Final = 16
MAX_STEPS: Final = 16
MAX_TARGETS: Final = 100
#: The longest offset or pause: a hundred years.
LONGEST: Final = timedelta(days=36525)
MICROSECOND: Final = timedelta(microseconds=1)


@frozen(kw_only=True)
class Escalation:
    """One step of the ladder.

    - ``to``: the subjects or groups that it goes to: 1 to 100 names of at most 512 bytes.
    - ``after``: how long after the pause it is reached; None: when the deadline passes.
    - ``timeout``: how long the wait stays open at least once the step is reached: an earlier deadline moves to then.
    """

    to: tuple[str, ...] = field()
    after: timedelta | None = None
    timeout: timedelta | None = None

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "to", _targets(self.to))
        check_optional(self.after, "after", _check_length)
        check_optional(self.timeout, "timeout", _check_length)


def _targets(given: object) -> tuple[str, ...]:
    takes = f"a sequence of 1 to {MAX_TARGETS} distinct names, each a str of 1 to {MAX_TEXT_BYTES} bytes"
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"Invalid to of an Escalation: expected {takes}, not {type(given).__name__}")
    names = [str.__str__(name) if isinstance(name, str) else name for name in given]
    try:
        named = [check_text(name, "a name in to") for name in names]
    except ValueError as error:
        raise ConfigurationError(f"Invalid to of an Escalation: expected {takes} ({error})", "to") from None
    if not 0 < len(named) <= MAX_TARGETS or "" in named or len(set(named)) < len(named):
        raise ConfigurationError(f"Invalid to of an Escalation: expected {takes}", "to")
    return tuple(named)


def _check_length(given: object, name: str) -> None:
    check_duration(given, name)
    if cast("timedelta", given) > LONGEST:
        raise ConfigurationError(f"Invalid {name}: expected at most {LONGEST.days} days", name)


def check_schedule(name: str, given: Mapping[str, Any], *, has_default: bool) -> None:
    """Raise ``TypeError`` or ``ConfigurationError`` unless the reminders, the ladder and ``on_expiry`` of the question
    ``name`` make sense together.
    """
    _check_reminders(name, given["reminders"])
    _check_ladder(name, given["escalation"])
    _check_outcome(name, given["on_expiry"], given["escalation"], has_default=has_default)


def _check_reminders(name: str, reminders: object) -> None:
    if not isinstance(reminders, tuple | list):
        msg = f"Invalid reminders of {name!r}: expected a tuple of timedeltas, not {type(reminders).__name__}"
        raise TypeError(msg)
    for offset in reminders:
        _check_length(offset, "reminders")
    if len(reminders) > MAX_REMINDERS or len(set(reminders)) < len(reminders):
        takes = f"expected at most {MAX_REMINDERS} different offsets before the deadline"
        _refuse("reminders", name, takes)


def _check_ladder(name: str, ladder: object) -> None:
    if not isinstance(ladder, tuple | list) or not all(isinstance(step, Escalation) for step in ladder):
        got = type(ladder).__name__ if not isinstance(ladder, tuple | list) else "other items"
        msg = f"Invalid escalation of {name!r}: expected a tuple of Escalations, not {got}"
        raise TypeError(msg)
    if len(ladder) > MAX_STEPS:
        _refuse("escalation", name, f"expected at most {MAX_STEPS} steps, not {len(ladder)}")
    timed = [step.after for step in ladder if step.after is not None]
    if timed and len(timed) < len(ladder):
        _refuse("escalation", name, "expected after in all of its steps or in none")
    if any(after >= following for after, following in itertools.pairwise(timed)):
        _refuse("escalation", name, "expected steps in the order of their after, each later than the one before")


def _check_outcome(name: str, outcome: object, ladder: Sequence[Escalation], *, has_default: bool) -> None:
    if outcome is not None and outcome not in ON_EXPIRY:
        _refuse("on_expiry", name, f"expected one of {', '.join(ON_EXPIRY)}, or None")
    if outcome == "default" and not has_default:
        _refuse("on_expiry", name, "'default' needs a default: give one, or leave on_expiry out")
    if outcome == "expire" and has_default:
        _refuse("on_expiry", name, "'expire' takes no default: leave the default out, or use on_expiry='default'")
    if outcome == "escalate" and (not ladder or any(step.timeout is None for step in ladder)):
        _refuse("on_expiry", name, "'escalate' needs an escalation whose steps all have a timeout")
    if outcome != "escalate" and any(step.after is None for step in ladder):
        _refuse("escalation", name, "expected after in each step, or on_expiry='escalate'")


def _refuse(what: str, name: str, why: str) -> NoReturn:
    raise ConfigurationError(f"Invalid {what} of {name!r}: {why}", what)


class Scheduled(Protocol):
    """What is asked of an ``AwaitInput`` here."""

    @property
    def timeout(self) -> timedelta | None: ...

    @property
    def deadline(self) -> datetime | None: ...

    @property
    def reminders(self) -> Sequence[timedelta]: ...

    @property
    def escalation(self) -> Sequence[Escalation]: ...


def lacks_deadline(awaiting: Scheduled) -> str | None:
    """The argument that counts from a deadline, where the question has none of its own; else None."""
    if awaiting.timeout is not None or awaiting.deadline is not None:
        return None
    if awaiting.reminders:
        return "reminders"
    return "escalation" if awaiting.escalation and awaiting.escalation[0].after is None else None


def schedule_data(given: Mapping[str, Any]) -> dict[str, object]:
    """The arguments as JSON data, durations in microseconds, the earliest reminder first; what was left out is not in
    it.
    """
    data: dict[str, object] = {
        "on_expiry": given["on_expiry"],
        "reminders": sorted((offset // MICROSECOND for offset in given["reminders"]), reverse=True),
        "escalation": [_step_data(step) for step in given["escalation"]],
    }
    return {name: value for name, value in data.items() if value}


def _step_data(step: Escalation) -> dict[str, object]:
    times = {"after": step.after, "timeout": step.timeout}
    return {"to": list(step.to), **{name: at // MICROSECOND for name, at in times.items() if at is not None}}


def schedule_fields(data: Mapping[str, Any], unit: timedelta = MICROSECOND) -> dict[str, Any]:
    """The arguments in JSON data whose durations are counted in ``unit``. ``TypeError`` or ``ConfigurationError`` where
    it is not that.
    """
    fields: dict[str, Any] = {}
    if data.get("reminders") is not None:
        fields["reminders"] = tuple(_duration(offset, "reminders", unit) for offset in _items(data, "reminders"))
    if data.get("escalation") is not None:
        fields["escalation"] = tuple(_step(step, unit) for step in _items(data, "escalation"))
    return fields


def _items(data: Mapping[str, Any], name: str) -> Sequence[object]:
    if not isinstance(data[name], list | tuple):
        raise TypeError(f"Invalid {name}: expected an array, not {type(data[name]).__name__}")
    return cast("Sequence[object]", data[name])


def _duration(given: object, name: str, unit: timedelta) -> timedelta:
    if type(given) is not int:
        raise TypeError(f"Invalid {name}: expected a whole number, not {type(given).__name__}")
    if not 0 < given <= LONGEST // unit:
        raise ConfigurationError(f"Invalid {name}: expected a duration of up to {LONGEST.days} days", name)
    return given * unit


def _step(given: object, unit: timedelta) -> Escalation:
    if not isinstance(given, Mapping) or not set(given) <= {"to", "after", "timeout"} or "to" not in given:
        raise TypeError("Invalid escalation: expected objects with to, and optionally after and timeout")
    times = {name: _duration(given[name], name, unit) for name in ("after", "timeout") if given.get(name) is not None}
    return Escalation(to=_items(given, "to"), **times)  # type: ignore[arg-type]  # it is checked there
