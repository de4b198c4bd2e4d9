"""The problems of one document, gathered while it is compiled, so that all of them are reported at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Final, Literal

from attrs import define, field

from flowpersist.errors import FlowCode, FlowError, FlowProblem

__all__ = ["MAX_PROBLEMS", "Problems", "problem", "raised", "shown"]

#: The most problems that are gathered; a document with more of them is refused without the rest.
MAX_PROBLEMS: Final = 100
#: The most of them that the message of the error spells out.
_SPELT_OUT: Final = 5
#: The most problems with a hint, since each is compared with all the names that are known.
_HINTED: Final = 20
_MAX_MESSAGE: Final = 2_000


@define
class Problems:
    """What was found so far, in the order in which it was found."""

    document: str
    found: list[FlowProblem] = field(factory=list)
    _known: set[tuple[str, str, str]] = field(factory=set)

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        return len(self.found) >= MAX_PROBLEMS

    def add(
        self,
        pointer: str,
        code: FlowCode,
        message: str,
        *,
        expected: str | None = None,
        step: str | None = None,
        reference: str | None = None,
        tool: str | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Keep a problem, unless there are too many already."""
        self.keep(FlowProblem(pointer, code, message[:_MAX_MESSAGE], expected, step, reference, tool, severity))

    def keep(self, one: FlowProblem) -> None:
        """The same for one that is made already."""
        if not self.full and one[:3] not in self._known:
            self._known.add(one[:3])
            self.found.append(one)

    def hint(self, names: Iterable[str], known: Collection[str]) -> str:
        """A question that names the known name that one of these is probably meant to be; empty if there is none."""
        for name in () if len(self.found) >= _HINTED else names:
            # Names of any length come in, and comparing them takes the product of their lengths.
            near = get_close_matches(name[:100], known, n=1)
            if near:
                return f" (did you mean {near[0]!r}?)"
        return ""

    def error(self) -> FlowError | None:
        """The error that holds them all; None if none of them is more than a warning."""
        errors = tuple(one for one in self.found if one.severity == "error")
        return raised(errors, self.document) if errors else None

    def refuse(self) -> None:
        """Raise that error, if there is one."""
        error = self.error()
        if error is not None:
            raise error


def raised(errors: tuple[FlowProblem, ...], document: str) -> FlowError:
    """The error that holds these problems, at least one."""
    first = errors[0]
    texts = [one.message for one in errors[:_SPELT_OUT]]
    if len(errors) > _SPELT_OUT:
        texts.append(f"and {len(errors) - _SPELT_OUT} more problems")
    return FlowError("; ".join(texts)[:_MAX_MESSAGE], document, first.step, first.reference, first.tool, errors)


def problem(
    message: str,
    document: str,
    step: str | None = None,
    *,
    pointer: str,
    code: FlowCode,
    expected: str | None = None,
) -> FlowError:
    """An error with one problem."""
    return raised((FlowProblem(pointer, code, message, expected, step),), document)


class _Short(Repr):
    """A short text of any value."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist = 2, 4, 4
        self.maxstring, self.maxlong, self.maxother = 100, 60, 60


_SHORT: Final = _Short()


def shown(value: object) -> str:
    """A value of the document in a message, cut where it is long."""
    return _SHORT.repr(value)
