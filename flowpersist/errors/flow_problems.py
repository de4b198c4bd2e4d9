"""What is wrong at one place of a flow document, in a form that a program or a model can act on."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["FlowCode", "FlowProblem"]

#: What kind of problem it is. docs/reference/dynamicflow.md has a line for each.
FlowCode: TypeAlias = Literal[
    "not-json",
    "limit",
    "unsupported",
    "missing-field",
    "unknown-field",
    "duplicate-field",
    "wrong-type",
    "invalid-value",
    "unknown-type",
    "invalid-name",
    "duplicate-name",
    "invalid-expression",
    "invalid-reference",
    "unknown-name",
    "not-visible",
    "cycle",
    "unreachable",
    "invalid-question",
    "unknown-tool",
    "invalid-arguments",
    "mismatch",
]


class FlowProblem(NamedTuple):
    """One problem of a flow document.

    ``pointer`` (RFC 6901) is its place in the document as it was written, ``code`` its kind, ``message`` says what is
    wrong and what to do, and ``expected`` what may stand there. ``step``, ``reference`` and ``tool`` name what it
    concerns. A document with only warnings compiles.
    """

    pointer: str
    code: FlowCode
    message: str
    expected: str | None = None
    step: str | None = None
    reference: str | None = None
    tool: str | None = None
    severity: Literal["error", "warning"] = "error"

    def to_data(self) -> dict[str, object]:
        """The problem as JSON data, without what is not known."""
        return {name: value for name, value in self._asdict().items() if value is not None}
