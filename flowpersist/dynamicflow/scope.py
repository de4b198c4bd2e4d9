"""Names while a flow runs: variables and steps' results in nested scopes, and the lookup of references.

A container that runs its steps once, one after another, exports its variables and results to the enclosing scope. A
branch or an iteration keeps its variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, field, frozen
from returns.result import Failure, Result

from flowpersist.dynamicflow import references
from flowpersist.dynamicflow.answered import beside, parts_of
from flowpersist.dynamicflow.later import needs, now
from flowpersist.dynamicflow.naming import RUN
from flowpersist.errors import FlowError, PersistenceError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.outcomes import Done
    from flowpersist.dynamicflow.references import Reference

__all__ = ["Resolver", "Scope"]

_MISSING: Final = object()
#: A value, the path below it that is still to be followed, and the facts of an answer.
_Base: TypeAlias = tuple[object, tuple[str | int, ...], object]


@define
class Scope:
    """The names of one block, and the enclosing scope."""

    parent: Scope | None = None
    variables: dict[str, object] = field(factory=dict)
    steps: dict[str, object] = field(factory=dict)

    def find(self, name: str) -> tuple[object, bool, object] | None:
        """The innermost value of a name, whether it is a step's result, and the facts of an answer. None: the name does
        not exist.
        """
        scope: Scope | None = self
        while scope is not None:
            for names, is_step in ((scope.variables, False), (scope.steps, True)):
                if name in names:
                    return now(names[name]), is_step, now(names.get(beside(name)))
            scope = scope.parent
        return None

    def keys(self, name: str) -> Iterator[str]:
        """The keys of what has to be read for a name."""
        scope: Scope | None = self
        while scope is not None:
            for names in (scope.variables, scope.steps):
                yield from needs(names.get(name))
                yield from needs(names.get(beside(name)))
            scope = scope.parent


@frozen
class Resolver:
    """Finds the values of references for one step: the run's input and facts, the last step's result, and the names."""

    document: str
    step: str
    input: object
    previous: Done
    scope: Scope
    run: Mapping[str, object] = field(factory=dict)

    def __call__(self, reference: Reference) -> Result[object, PersistenceError]:
        """The value, or ``FlowError`` with the step and the reference."""
        base, path, _ = self._base(reference)
        if base is _MISSING:
            return Failure(self._error(f"{reference} is neither a variable nor a step that has run", reference))
        return references.follow(base, path).lash(lambda error: Failure(self._error(str(error), reference)))

    def given(self, reference: Reference) -> object:
        """The facts of the answer, or of the list with answers, that a reference leads to; None for anything else."""
        _, path, given = self._base(reference)
        return None if path else given

    def _base(self, reference: Reference) -> _Base:
        root, path = reference.root, reference.path
        if root == "input":
            return now(self.input, path), path, None
        if root == RUN:
            return self.run, path, None
        if root == "previousOutput":
            last = parts_of(self.previous.value, self.previous.given, path)
            return self._short(path, last) if reference.short else last
        return self._named(root, path)

    def _short(self, path: tuple[str | int, ...], last: _Base) -> _Base:
        """A field of the step before, or the name in scope where it has no such field."""
        if last[1] == path and isinstance(references.follow(self.previous.value, path[:1]), Failure):
            named = self._named(str(path[0]), path[1:])
            if named[0] is not _MISSING:
                return named
        return last

    def _named(self, root: str, path: tuple[str | int, ...]) -> _Base:
        found = self.scope.find(root)
        if found is None:
            return _MISSING, path, None
        value, is_step, given = found
        # `$step.output` is the step's result; a field `output` of that result is `$step.output.output`.
        return parts_of(value, given, path[1:] if is_step and path[:1] == ("output",) else path)

    def _error(self, message: str, reference: Reference) -> FlowError:
        return FlowError(f"step {self.step!r}: {message}", self.document, self.step, str(reference))
