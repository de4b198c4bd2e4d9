"""The stored state of a suspended run: plain dicts and lists, so that any release can read it. Only results, variables
and the input hold values of other classes, those that the hub's codec takes.

::

    {"format": 1, "flow": {"name", "version", "hash"}, "document": {…}, "input": …, "frame": FRAME}

Once the run has paused, ``checked`` says that its input is within the limits, so that no later leg counts its values
again. That of a parked run also has ``failed``, the error with which it failed.

``flows`` has the documents of the registered flows that the document runs, by id, if it runs any. A frame is the
position in one step, iteration or branch; the outermost is the run's. A field without content is
absent::

    result      it is done, with this result; tool: whose result it is, where passed on unchanged
    given       of a done one whose result is an answer: who gave it and when; of a list, by item
    steps       of a done one: the results of the steps within it, by id; "ID.given" beside one as above
    variables   of a done one that runs in its surroundings' scope: the variables that it set
    sub         of one in progress: the frames within it, by step id, or by "[index]" of an iteration or branch
    asked       of a guarded tool: the call that waits for an approval; approved: the approved arguments; begun: the
                arguments of a call that needs no approval
    asks, asking, memo, links    of a tool that asks: see ``asking``
    waiting     it awaits an answer, under its path as the wait's name
    put_off     its wait has this size, and did not fit yet beside the open ones
    branch      which branch was taken; of an edge, which has a frame named "source>target" where a tool decides its
                condition: whether it was taken
    failures    how many attempts have failed; error: all have, with this error, and onError has its turn
    began, ended    when the step's first attempt began, and when it finished or failed (microseconds since 1970)
    attempts    of a done one: how many were made, where not one; tried: of one in progress, how many before a retry
    won         of a parallel that needs some branches: the numbers of those that have finished, the first one first
    next, value, results    of a reduce or loop: the next index, the accumulator, the results so far; giver, givers:
                who gave the accumulator or these results, where they are answers

A finished step needs no inner frames, so they are removed. Of large results and a large input, ``apart`` tells how they
are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.ir import Flow
from flowpersist.errors import FlowDeadlinePassed, FlowError, PersistenceError

__all__ = [
    "CHECKED",
    "FORMAT",
    "Frame",
    "State",
    "check_state",
    "error_of",
    "failure_of",
    "is_finished",
    "is_within",
    "kept_frame",
    "new_state",
    "path_to",
    "sub_frame",
]

FORMAT: Final = 1
#: The field that says that the input is within the limits.
CHECKED: Final = "checked"

#: The fields of a frame that steps append to.
_GROWING: Final = frozenset({"results", "givers", "won"})

# Any type is allowed here: documents, tools' results, answers.
State: TypeAlias = dict[str, Any]
Frame: TypeAlias = dict[str, Any]


def new_state(flow: Flow, value: object) -> State:
    """The state of a run that has not begun. The same flow and input give an equal state."""
    return {
        "format": FORMAT,
        "flow": {"name": flow.name, "version": flow.version, "hash": flow.hash},
        "document": dict(flow.document),
        **({"flows": dict(flow.flows)} if flow.flows else {}),
        "input": value,
        "frame": {},
    }


def check_state(value: object) -> Result[State, PersistenceError]:
    """Check that this is the state of a run, in the format of this release."""
    if not isinstance(value, dict) or "format" not in value:
        return Failure(
            FlowError("this suspension does not belong to a flow: resume it with the hub of the code that created it")
        )
    if value["format"] != FORMAT:
        message = (
            f"the run's state has the format {value['format']!r}, and this release reads {FORMAT}: upgrade flowpersist"
        )
        return Failure(FlowError(message))
    if not isinstance(value.get("flows", {}), Mapping):
        return Failure(FlowError("the run's state lacks the documents of its flows: a migration has damaged it"))
    if not isinstance(value.get("document"), Mapping) or not isinstance(value.get("frame"), dict):
        return Failure(FlowError("the run's state lacks its document or its position: a migration has damaged it"))
    return Success(cast("State", value))


def sub_frame(frame: Frame, name: str) -> Frame:
    """The inner frame of that name, created if it is missing."""
    within: dict[str, Frame] = frame.setdefault("sub", {})
    return within.setdefault(name, {})


def path_to(around: str, name: str) -> str:
    """The path of a step, or of an "[index]" of an iteration or branch, within the step at another path."""
    return around + name if name.startswith("[") or not around else f"{around}.{name}"


def is_within(path: str, outer: str) -> bool:
    """Whether a path is that of a step, an iteration or a branch, or of what is within it."""
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def is_finished(frame: Frame) -> bool:
    """Whether its step, iteration or branch is done."""
    return "result" in frame or "apart" in frame


def kept_frame(frame: Frame) -> Frame:
    """A frame as it is now. A finished one does not change any more, so it is not copied."""
    if "result" in frame:
        return frame
    kept = {name: list(part) if name in _GROWING else part for name, part in frame.items()}
    if "sub" in frame:
        kept["sub"] = {name: kept_frame(inner) for name, inner in frame["sub"].items()}
    return kept


def failure_of(error: FlowError) -> dict[str, str | None]:
    """An error as data. Its texts may quote foreign text with lone surrogates, which can't be stored, so these are
    escaped.
    """
    fields = {name: getattr(error, name) for name in ("message", "document", "step", "reference", "tool")}
    if isinstance(error, FlowDeadlinePassed):
        fields["code"] = error.code
    return {name: None if text is None else _whole(text) for name, text in fields.items()}


def _whole(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def error_of(data: Mapping[str, Any]) -> FlowError:
    """The error from ``failure_of``'s data."""
    kind = FlowDeadlinePassed if data.get("code") == FlowDeadlinePassed.code else FlowError
    return kind(data["message"], data["document"], data["step"], data["reference"], data["tool"])
