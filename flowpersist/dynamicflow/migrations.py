"""Moving a run from one document to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.ir import Flow
from flowpersist.dynamicflow.outcomes import RAISED
from flowpersist.dynamicflow.state import State, check_state
from flowpersist.errors import ConfigurationError, FlowError, PersistenceError
from flowpersist.errors.arguments import check_callable, check_instance, check_items, check_str

__all__ = ["Migration", "Migrations"]


@frozen
class Migration:
    """From the document of one hash to that of another. ``transform`` is a pure function of the run's state.

    It moves the frames to the new document's steps; the runner replaces the document itself.
    """

    from_hash: str
    to_hash: str
    transform: Callable[[State], State] = field(repr=False)

    def __attrs_post_init__(self) -> None:
        check_str(self.from_hash, "from_hash")
        check_str(self.to_hash, "to_hash")
        check_callable(self.transform, "transform")


@frozen
class Migrations:
    """The migrations that a runner knows."""

    known: dict[tuple[str, str], Migration]

    @classmethod
    def of(cls, migrations: Iterable[Migration]) -> Migrations:
        """Collect migrations; ``ConfigurationError`` if two have the same pair of documents."""
        known: dict[tuple[str, str], Migration] = {}
        check_items(migrations, "migrations", "Migrations")
        for migration in migrations:
            check_instance(migration, "migrations", Migration, "Migrations")
            pair = (migration.from_hash, migration.to_hash)
            if pair in known:
                msg = f"two migrations are registered from {pair[0]} to {pair[1]}: keep one"
                raise ConfigurationError(msg, "migrations")
            known[pair] = migration
        return cls(known)

    def refusal(self, current: object, flow: Flow) -> FlowError | None:
        """The error if a run of the current document can't continue with this one; None if it can."""
        if current == flow.hash or (str(current), flow.hash) in self.known:
            return None
        return FlowError(
            f"the run was started with another document ({current}), without a migration to {flow.hash}: "
            "resume without a document, or register a Migration",
            flow.name,
        )

    def apply(self, state: State, flow: Flow) -> Result[State, PersistenceError]:
        """Convert the state to another document."""
        current = state["flow"]["hash"]
        refusal = self.refusal(current, flow)
        if refusal is not None:
            return Failure(refusal)
        if current == flow.hash:
            # The two may still differ in what only describes them.
            return Success(_under(state, flow))
        try:
            moved = self.known[current, flow.hash].transform(state)
        except RAISED as error:  # The user's code may raise anything, which refuses the document.
            failure = FlowError(f"the migration to {flow.hash} failed: {type(error).__name__}: {error}", flow.name)
            failure.__cause__ = error
            return Failure(failure)
        return check_state(moved).map(lambda found: _under(found, flow))


def _under(state: State, flow: Flow) -> State:
    named = {"name": flow.name, "version": flow.version, "hash": flow.hash}
    kept = {name: value for name, value in state.items() if name != "flows"}
    flows = {"flows": dict(flow.flows)} if flow.flows else {}
    return {**kept, **flows, "flow": named, "document": dict(flow.document)}
