"""The base of all errors, and the two that concern settings and flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from flowpersist.errors.flow_problems import FlowProblem

__all__ = ["ConfigurationError", "FlowDeadlinePassed", "FlowError", "PersistenceError"]

#: What an RFC 9457 document of ours holds.
type_prefix = "urn:flowpersist:error:"


class PersistenceError(Exception):
    """The base of everything that flowpersist returns as a failure.

    ``code`` is a stable machine-readable name, ``http_status`` what a web route answers with.
    """

    code: ClassVar[str] = "persistence-error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *details: object) -> None:
        super().__init__(message, *details)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def to_problem(self) -> dict[str, object]:
        """The error as a problem document (RFC 9457): type, title, status, detail, and what the class adds."""
        problem: dict[str, object] = {
            "type": type_prefix + self.code,
            "title": type(self).__name__,
            "status": self.http_status,
            "detail": self.message,
        }
        problem.update({name: value for name, value in self._members().items() if value is not None})
        return problem

    def _members(self) -> dict[str, object]:
        return {}


class ConfigurationError(PersistenceError, ValueError):
    """A setting or an argument makes no sense; the message names it and the way to mend it.

    It is raised, not returned, and is a ``ValueError``: the program must be mended, not the call repeated.
    """

    code = "configuration"

    def __init__(self, message: str, setting: str | None = None) -> None:
        super().__init__(message, setting)
        self.setting = setting

    def _members(self) -> dict[str, object]:
        return {"setting": self.setting}


class FlowError(PersistenceError):
    """A DynamicFlow document can't be compiled or run: names document, step, reference and tool, where known.

    ``problems`` has all problems of a document that can't be compiled, or that the runner's tools don't fit; the other
    names are those of the first one.
    """

    code = "flow"
    http_status = 422

    def __init__(
        self,
        message: str,
        document: str | None = None,
        step: str | None = None,
        reference: str | None = None,
        tool: str | None = None,
        problems: tuple[FlowProblem, ...] = (),
    ) -> None:
        # The message spells the problems out, so they need not stand in the error's own text as well.
        super().__init__(message, document, step, reference, tool)
        self.document = document
        self.step = step
        self.reference = reference
        self.tool = tool
        self.problems = problems

    def _members(self) -> dict[str, object]:
        named = {"document": self.document, "step": self.step, "reference": self.reference, "tool": self.tool}
        return {**named, "problems": [problem.to_data() for problem in self.problems] or None}


class FlowDeadlinePassed(FlowError):
    """A run has not ended by its deadline, or within the ``timeout`` of its document: it has ended as failed."""

    code = "flow-deadline-passed"
