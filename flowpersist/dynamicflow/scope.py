"""What names mean while a flow runs: variables and steps' results, scope in scope, and how a reference finds its value.

A container that runs its steps once, one after another, hands its variables and results out to the scope around it. A
branch or an iteration keeps its variables to itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen
from returns.result import Failure, Result

from flowpersist.dynamicflow import references
from flowpersist.errors import FlowError, PersistenceError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.references import Reference

__all__ = ["Resolver", "Scope"]

_MISSING: Final = object()


@define
class Scope:
    """The names of one block, and the scope around it."""

    parent: Scope | None = None
    variables: dict[str, object] = field(factory=dict)
    steps: dict[str, object] = field(factory=dict)

    def find(self, name: str) -> tuple[object, bool] | None:
        """The value of the innermost name, and whether it is a step's result. None: there is no such name."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.variables:
                return scope.variables[name], False
            if name in scope.steps:
                return scope.steps[name], True
            scope = scope.parent
        return None


@frozen
class Resolver:
    """Gives a reference its value, as one step sees it: the run's input, the result of the step before, and the
    names.
    """

    document: str
    step: str
    input: object
    previous: object
    scope: Scope

    def __call__(self, reference: Reference) -> Result[object, PersistenceError]:
        """The value, or ``FlowError`` with the step and the reference."""
        base, path = self._base(reference)
        if base is _MISSING:
            return Failure(self._error(f"{reference} is neither a variable nor a step that has run", reference))
        return references.follow(base, path).lash(lambda error: Failure(self._error(str(error), reference)))

    def _base(self, reference: Reference) -> tuple[object, tuple[str | int, ...]]:
        root, path = reference.root, reference.path
        if root == "input":
            return self.input, path
        if root == "previousOutput":
            return self.previous, path
        found = self.scope.find(root)
        if found is None:
            return _MISSING, path
        value, is_step = found
        # `$step.output` is the step's result: of a result that has a field `output`, this is `$step.output.output`.
        return value, path[1:] if is_step and path[:1] == ("output",) else path

    def _error(self, message: str, reference: Reference) -> FlowError:
        return FlowError(f"step {self.step!r}: {message}", self.document, self.step, str(reference))
