"""The error of a flow that has failed and is parked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpersist.errors.base import FlowError

if TYPE_CHECKING:
    from flowpersist.errors.flow_problems import FlowProblem

__all__ = ["FlowParked"]


class FlowParked(FlowError):
    """A step of a run has failed, and the run is kept: ``runner.retry(run)`` goes on with it. ``run`` is its id."""

    code = "flow-parked"

    def __init__(
        self,
        message: str,
        document: str | None = None,
        step: str | None = None,
        reference: str | None = None,
        tool: str | None = None,
        problems: tuple[FlowProblem, ...] = (),
        run: str | None = None,
    ) -> None:
        super().__init__(message, document, step, reference, tool, problems)
        self.run = run

    def _members(self) -> dict[str, object]:
        return {**super()._members(), "run": self.run}
