"""How exceptions of users' code are logged: by frames and classes alone, unless whole tracebacks are wanted.

The text of an exception, the lines of source around it and the values of its frames may hold state, answers or keys.
File, line and function of each frame, and the class of each exception, tell where it broke without any of these.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from traceback import TracebackException
from types import TracebackType
from typing import Final

from attrs import define, field, frozen

__all__ = ["Tracebacks"]

#: Of the frames of one exception, as many at each end; what recursed too deep has thousands.
FRAMES_AT_AN_END: Final = 20
#: Exceptions of one chain or group, with all that is nested in it.
MOST_EXCEPTIONS: Final = 16
MOST_CHARACTERS: Final = 16 * 1024
#: With messages and lines of source there is more to say.
MOST_OF_WHOLE: Final = 64 * 1024
LONGEST_NAME: Final = 200
#: A name that is made from data must not begin a line of the log.
CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n"
CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n"


@frozen
class Tracebacks:
    """Logs exceptions. ``whole``: with their messages and lines of source, which may hold state."""

    whole: bool = False

    def log(
        self, logger: logging.Logger, error: BaseException, message: str, *args: object, level: int = logging.ERROR
    ) -> None:
        """Log the message, and below it the traceback of the error, its causes and the members of its groups."""
        if logger.isEnabledFor(level):
            logger.log(level, message + "\n%s", *args, self.text(error), stacklevel=2)  # noqa: G003 - lazy all the same

    def text(self, error: BaseException) -> str:
        """The traceback as text of bounded length."""
        return (self._whole(error) if self.whole else None) or _cut(_Outline().lines(error), MOST_CHARACTERS)

    @staticmethod
    def _whole(error: BaseException) -> str | None:
        try:
            told = TracebackException.from_exception(error, limit=-2 * FRAMES_AT_AN_END, compact=True)
            return _cut((text.removesuffix("\n") for text in told.format()), MOST_OF_WHOLE)
        except Exception:  # noqa: BLE001 - the user's class takes part in writing its text, and may fail at it
            return None


@define
class _Outline:
    """Writes one exception with what is chained to it and grouped in it."""

    _left: int = MOST_EXCEPTIONS
    _seen: set[int] = field(factory=set)

    def lines(self, error: BaseException, indent: str = "") -> Iterator[str]:
        chain = list(self._chain(error))
        for one, said in reversed(chain):
            yield f"{indent}Traceback (most recent call last):"
            yield from (indent + frame for frame in _frames(one.__traceback__))
            yield indent + _class_of(one)
            if isinstance(one, BaseExceptionGroup):
                yield from self._members(one, indent)
            if said:
                yield from (indent + line for line in said.split("\n"))

    def _chain(self, error: BaseException) -> Iterator[tuple[BaseException, str]]:
        """The error, what caused it, what caused that: each with what is said of it and the one before."""
        one: BaseException | None = error
        said = ""
        while one is not None and id(one) not in self._seen and self._left:
            self._seen.add(id(one))
            self._left -= 1
            yield one, said
            caused = one.__cause__ is not None or one.__suppress_context__
            said = CAUSE if caused else CONTEXT
            one = one.__cause__ if caused else one.__context__

    def _members(self, group: BaseExceptionGroup[BaseException], indent: str) -> Iterator[str]:
        count = len(group.exceptions)
        for number, member in enumerate(group.exceptions, start=1):
            if not self._left:
                yield f"{indent}  ... {count - number + 1} more in this group"
                return
            yield f"{indent}  --- {number} of {count}"
            yield from self.lines(member, f"{indent}  ")


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    frames = _walk(traceback)
    yield from map(_frame, islice(frames, FRAMES_AT_AN_END))
    count = 0
    last: deque[TracebackType] = deque(maxlen=FRAMES_AT_AN_END)
    for one in frames:
        count += 1
        last.append(one)
    if count > len(last):
        yield f"  ... {count - len(last)} frames more"
    yield from map(_frame, last)


def _walk(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _frame(one: TracebackType) -> str:
    code = one.tb_frame.f_code
    return f'  File "{_name(code.co_filename)}", line {one.tb_lineno}, in {_name(code.co_name)}'


def _class_of(error: BaseException) -> str:
    cls = type(error)
    return _name(cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}")


def _name(text: str) -> str:
    shown = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."
    return CONTROLS.sub("?", shown)


def _cut(lines: Iterator[str], most: int) -> str:
    """The lines as one text; whole lines from both ends where they are too much, since both tell the most."""
    text = "\n".join(lines)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters more\n{text[-half:]}"
