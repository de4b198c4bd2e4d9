"""What a frame keeps of its step's attempts and times: whole microseconds since 1970, by the store's clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flowpersist.dynamicflow.state import Frame

__all__ = ["attempts_of", "began", "ended", "is_new", "moment_of", "tried_again"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def _stamp(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(frame: Mapping[str, int], name: str) -> datetime | None:
    """When the step began or ended; None if it has not."""
    return _EPOCH + frame[name] * _MICROSECOND if name in frame else None


def is_new(frame: Frame) -> bool:
    """Whether the step has not begun, or not since it is done again."""
    return "began" not in frame


def began(frame: Frame, now: datetime) -> None:
    """Note that the step begins, if it has not begun before."""
    frame.setdefault("began", _stamp(now))


def ended(frame: Frame, now: datetime) -> dict[str, int]:
    """What stays of the history of a step that ends now; nothing for an iteration, which has none."""
    if "began" not in frame:
        return {}
    attempts = attempts_of(frame)
    told = {"began": frame["began"], "ended": _stamp(now)}
    return told if attempts == 1 else {**told, "attempts": attempts}


def attempts_of(frame: Mapping[str, int]) -> int:
    """How many attempts were made of the step, the present one included, also those before a retry of the run."""
    if "ended" in frame and "result" in frame:
        return frame.get("attempts", 1)
    runs = "began" in frame and "error" not in frame
    return frame.get("tried", 0) + frame.get("failures", 0) + runs


def tried_again(frame: Mapping[str, int], *, same: bool = False) -> dict[str, int]:
    """What a frame keeps whose step is done again: its attempts are counted on, so that each has a key of its own.

    ``same``: the attempt that was made last goes on.
    """
    attempts = int(attempts_of(frame) or "result" in frame) - same
    return {"tried": attempts} if attempts > 0 else {}
