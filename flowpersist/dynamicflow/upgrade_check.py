"""Whether the runs that are stored could continue with a runner's tools, migrations and documents; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.apart import whole
from flowpersist.dynamicflow.checking import misfit
from flowpersist.dynamicflow.compile import compile_soon
from flowpersist.dynamicflow.compiled import CompiledFlows
from flowpersist.dynamicflow.document import Source, check_source
from flowpersist.dynamicflow.journal import replay
from flowpersist.dynamicflow.state import State
from flowpersist.errors import ConfigurationError, MalformedPayload, PersistenceError
from flowpersist.errors.arguments import check_items

if TYPE_CHECKING:
    from flowpersist.backends.base import Scalar
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.dynamicflow.migrations import Migrations
    from flowpersist.dynamicflow.nested import Library
    from flowpersist.dynamicflow.tools import Toolbox
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.upgrade_check import RunCheck

__all__ = ["ChecksRuns"]


class ChecksRuns:
    """The part of a ``FlowRunner`` that ``Maintenance.check_upgrade`` asks."""

    toolbox: Toolbox
    migrations: Migrations
    _library: Library

    async def run_check(self, documents: Iterable[Source] = ()) -> Outcome[RunCheck]:
        """A function that says of the metadata and the state of a run, and of the steps that were kept since, why it
        could not continue, or None.

        - ``documents``: those that runs would be resumed with, at most one of each flow's name. Runs of other flows
          continue with their own documents.

        ``FlowError`` where one can't be compiled, or calls what this runner does not have.
        """
        check_items(documents, "documents", "documents")
        targets: dict[str, Flow] = {}
        for document in documents:
            check_source(document, "documents")
            compiled = await compile_soon(document, self._library)
            if not isinstance(compiled, Success):
                return Failure(compiled.failure())
            flow = compiled.unwrap()
            unfit = misfit(flow, self.toolbox)
            if unfit is not None:
                return Failure(unfit)
            if flow.name in targets:
                message = f"two documents are of the flow {flow.name!r}: pass the one that runs are resumed with"
                raise ConfigurationError(message, "documents")
            targets[flow.name] = flow
        return Success(_Check(self.toolbox, self.migrations, targets).problem)


class _Check:
    def __init__(self, toolbox: Toolbox, migrations: Migrations, targets: Mapping[str, Flow]) -> None:
        self._toolbox = toolbox
        self._migrations = migrations
        self._targets = targets
        self._compiled = CompiledFlows()

    async def problem(
        self, metadata: Mapping[str, Scalar], value: object, kept: Sequence[object]
    ) -> PersistenceError | None:
        replayed = (await whole(value)).bind(lambda state: _replayed(state, kept))
        if not isinstance(replayed, Success):
            return replayed.failure()
        flow = await self._flow(metadata, replayed.unwrap())
        if not isinstance(flow, Success):
            return flow.failure()
        return self._toolbox.missing(flow.unwrap())

    async def _flow(self, metadata: Mapping[str, Scalar], state: State) -> Result[Flow, PersistenceError]:
        target = self._targets.get(str(metadata.get("flow")))
        if target is None:
            return await self._compiled.of(state["document"], state["flow"]["hash"], state.get("flows", {}))
        return self._migrations.apply(state, target).map(lambda _: target)


def _replayed(state: State, kept: Sequence[object]) -> Result[State, PersistenceError]:
    """The state from which a run would go on: with the steps that were kept since it was stored."""
    try:
        for _ in replay(state["frame"], kept):
            pass
    except (AttributeError, KeyError, TypeError, ValueError):
        message = "the steps that were kept beside the run's state can't be put into it: another release wrote them"
        return Failure(MalformedPayload(message))
    return Success(state)
