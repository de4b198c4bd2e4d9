"""The flows that were compiled last, so that a long document is not compiled again for each answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field
from returns.result import Result, Success

from flowpersist.dynamicflow.compile import compile_soon
from flowpersist.dynamicflow.nested import Library

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.errors import PersistenceError

__all__ = ["CompiledFlows"]

#: How many flows, and how many steps they have together at most, are remembered.
MOST_FLOWS: Final = 128
MOST_STEPS: Final = 20_000


@define
class CompiledFlows:
    """Flows by the hash of their documents, those that were used last."""

    _flows: OrderedDict[str, Flow] = field(factory=OrderedDict, init=False, repr=False)
    _steps: int = field(default=0, init=False)

    async def of(
        self, document: Mapping[str, Any], hash: str, registered: Mapping[str, Any] = MappingProxyType({})
    ) -> Result[Flow, PersistenceError]:
        """The flow of a document that was compiled to this hash before, with the documents of registered flows by id.

        Documents that differ only in descriptions have one hash, so the documents are compared too.
        """
        known = self._flows.get(hash)
        if known is not None and known.document == document and known.flows == registered:
            self._flows.move_to_end(hash)
            return Success(known)
        compiled = await compile_soon(document, Library(registered))
        if isinstance(compiled, Success):
            self.add(compiled.unwrap())
        return compiled

    def add(self, flow: Flow) -> None:
        """Remember a flow, and forget those that were not used for longest."""
        before = self._flows.pop(flow.hash, None)
        self._steps += len(flow.nodes) - (0 if before is None else len(before.nodes))
        self._flows[flow.hash] = flow
        while len(self._flows) > 1 and (len(self._flows) > MOST_FLOWS or self._steps > MOST_STEPS):
            self._steps -= len(self._flows.popitem(last=False)[1].nodes)
