"""How the outermost steps of a document in graph form run: each as soon as those that it follows have their results.

An edge is settled once its source has finished or was left out: it is taken where the source has finished and its
condition holds. A node whose edges are all settled runs if one of them is taken, and is left out otherwise.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from attrs import define, evolve, field

from flowpersist.dynamicflow.answered import beside, bring, named
from flowpersist.dynamicflow.branches import Branches, Verdict
from flowpersist.dynamicflow.deciding import is_held
from flowpersist.dynamicflow.ir import START, Conditional, Decision, Node
from flowpersist.dynamicflow.outcomes import PENDING, Done, Failed, Pending, StepOutcome
from flowpersist.dynamicflow.plain import WALK_ERRORS, walk_problem
from flowpersist.dynamicflow.scope import Scope
from flowpersist.dynamicflow.state import is_finished, path_to, sub_frame
from flowpersist.dynamicflow.values import holds
from flowpersist.errors import FlowError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context, StepPosition
    from flowpersist.dynamicflow.ir import Graph, Link

__all__ = ["run_graph"]


async def run_graph(context: Context, graph: Graph, place: StepPosition) -> StepOutcome:
    """Run all nodes that can run; gives the result of the only node without a successor, or those of several by id."""
    branches = Branches()
    walk = _Walk(context, graph, place, branches)
    context.fans.add(walk.revive)
    try:
        walk.begin()
        ended = await branches.verdict()
    finally:
        context.fans.discard(walk.revive)
    if ended is not None and ended.failed is not None:
        return ended.failed
    return PENDING if walk.waiting else await walk.result()


@define(eq=False)
class _Walk:
    """One walk over a graph; ``place`` is where it stands, whose scope takes the results of all nodes."""

    context: Context
    graph: Graph
    place: StepPosition
    branches: Branches
    #: The nodes that wait for an answer.
    waiting: set[str] = field(factory=set, init=False)
    results: dict[str, Done] = field(factory=dict, init=False)
    _into: dict[str, list[Link]] = field(factory=dict, init=False)
    _out_of: dict[str, list[Link]] = field(factory=dict, init=False)
    #: How many edges into a node are not settled yet.
    _unsettled: dict[str, int] = field(factory=dict, init=False)
    #: The sources of the edges into a node that are taken.
    _taken: dict[str, set[str]] = field(factory=dict, init=False)
    _ranks: dict[str, int] = field(factory=dict, init=False)
    #: By node, a bit for each node before it.
    _before: dict[str, int] = field(factory=lambda: {START: 0}, init=False)
    #: The values of the variables that several nodes set, by the rank of the node.
    _shared: dict[str, dict[int, object]] = field(factory=dict, init=False)
    #: By the names of the decisions that tools are making, the edges that depend on them.
    _undecided: dict[str, list[Link]] = field(factory=dict, init=False)
    #: How many nodes run now, and tools that decide; set when an answer has come, or when none does.
    _busy: int = field(default=0, init=False)
    _come_or_over: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        for link in self.graph.links:
            self._out_of.setdefault(link.source, []).append(link)
            self._into.setdefault(link.target, []).append(link)
        for rank, name in enumerate(self.context.flow.steps):
            self._ranks[name] = rank
            self._unsettled[name] = len(self._into[name])
            self._taken[name] = set()
            self._before[name] = 0
            for link in self._into[name]:
                self._before[name] |= self._up_to(link.source)

    def _up_to(self, name: str) -> int:
        """A bit for a node and each one before it."""
        return self._before[name] | (1 << self._ranks[name] if name != START else 0)

    def begin(self) -> None:
        """Run the nodes that come first."""
        self._busy += 1
        self.branches.start(self._begun())

    async def _begun(self) -> Verdict | None:
        return self._continued(self.settled(START, came=True))

    def _continued(self, ready: list[str] | Failed) -> Verdict | None:
        """Go on with these nodes, after what has made them ready."""
        if isinstance(ready, Failed):
            return Verdict(ready)
        self.go_on(ready)
        self._rest()
        return None

    def go_on(self, names: Iterable[str]) -> None:
        """Run these nodes, and those that follow them, at once."""
        for name in names:
            self._busy += 1
            self.branches.start(self._follow(name))

    def revive(self) -> None:
        """Let the nodes go on whose answers have come, unless no node runs: then another walk visits them."""
        self._come_or_over.set()

    async def _follow(self, first: str) -> Verdict | None:
        name: str | None = first
        while name is not None:
            await self.context.pace()
            outcome = await self._run(name)
            if isinstance(outcome, Failed):
                return Verdict(outcome)
            if isinstance(outcome, Pending):
                if not await self._has_come(name):
                    return None
                continue
            self.results[name] = outcome
            ready = self.settled(name, came=True)
            if isinstance(ready, Failed):
                return Verdict(ready)
            self.go_on(ready[1:])
            name = ready[0] if ready else None
        self._rest()
        return None

    async def _has_come(self, name: str) -> bool:
        """Wait for an answer to a node as long as others run; whether one has come."""
        self.waiting.add(name)
        self._rest()
        while self._busy:
            if self.context.has_come(path_to(self.place.path, name)):
                self.waiting.discard(name)
                self._busy += 1
                return True
            self._come_or_over.clear()
            await self._come_or_over.wait()
        return False

    def _rest(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._come_or_over.set()

    async def _run(self, name: str) -> StepOutcome:
        known = self._is_finished(name)
        scope = Scope(self._scope(self._before[name]))
        around = evolve(self.place, scope=scope)
        outcome = await self.context.step(self.context.flow.nodes[name], around, self._given(name))
        if isinstance(outcome, Done):
            bring(self.place.scope.steps, scope.steps)
            for variable, value in scope.variables.items():
                if variable.partition(".")[0] in self.graph.shared:
                    self._shared.setdefault(variable, {})[self._ranks[name]] = value
                else:
                    self.place.scope.variables[variable] = value
            if not known and not self.place.path:
                told = {"step": len(self.results) + 1, "total": len(self._ranks), "node": name}
                self.context.emit("flow-progress", told)
        return outcome

    def _is_finished(self, name: str) -> bool:
        return is_finished(sub_frame(self.place.frame, name))

    def _scope(self, before: int) -> Scope:
        """The names for a node that has these nodes before it: of a variable that several of them set, the last value.

        Other nodes may set it at the same time, so that the values can't stand in the common scope.
        """
        seen: dict[str, object] = {}
        for variable in self.graph.shared:
            values, given = self._shared.get(variable, {}), self._shared.get(beside(variable), {})
            rank = max((rank for rank in values if before >> rank & 1), default=None)
            if rank is not None:
                seen |= named(variable, values[rank], given.get(rank))
        return Scope(self.place.scope, seen)

    def _given(self, name: str) -> Done:
        """The input of a node: its predecessor's result, or those of several by id; the run's input without one."""
        sources = list(dict.fromkeys(link.source for link in self._into[name] if link.source != START))
        came = [source for source in sources if source in self._taken[name]]
        if len(sources) > 1:
            return Done({source: self.results[source].value for source in came})
        return self.results[came[0]] if came else self.place.previous

    def settled(self, source: str, *, came: bool) -> list[str] | Failed:
        """Settle the edges of a node that has finished or is left out; gives the nodes that can run now, or the failure
        of a condition. Edges that a tool decides are settled once it has.
        """
        return self._settle((link, came) for link in self._out_of.get(source, ()))

    def _settle(self, links: Iterable[tuple[Link, bool]]) -> list[str] | Failed:
        ready: list[str] = []
        ended = deque(links)
        while ended:
            link, came = ended.popleft()
            taken = came and self._holds(link)
            if isinstance(taken, Failed):
                return taken
            if isinstance(taken, Pending):
                self._ask(link)
                continue
            if taken:
                self._taken[link.target].add(link.source)
            self._unsettled[link.target] -= 1
            if self._unsettled[link.target]:
                continue
            if self._taken[link.target]:
                ready.append(link.target)
            else:
                ended.extend((further, False) for further in self._out_of.get(link.target, ()))
        return ready

    def _holds(self, link: Link) -> bool | Failed | Pending:
        """Whether an edge is taken; PENDING where a tool is to decide. One to a finished node was, which is not decided
        again.
        """
        if link.condition is None or self._is_finished(link.target):
            return True
        if isinstance(link.condition, Decision):
            branch = sub_frame(self.place.frame, link.asked).get("branch")
            return PENDING if branch is None else bool(branch == "true")
        held = holds(self.context, self._blamed(link), link.condition, self._around(link))
        return _of_edge(link, held) if isinstance(held, Failed) else held

    def _blamed(self, link: Link) -> Node:
        return self.context.flow.nodes[link.target if link.source == START else link.source]

    def _around(self, link: Link) -> StepPosition:
        """Where the condition of an edge is decided: after its source."""
        previous = self.place.previous if link.source == START else self.results[link.source]
        return evolve(self.place, scope=self._scope(self._up_to(link.source)), previous=previous)

    def _ask(self, link: Link) -> None:
        """Let a tool decide an edge, beside the nodes that run; once for all edges with the same decision."""
        waiting = self._undecided.setdefault(link.asked, [])
        waiting.append(link)
        if len(waiting) == 1:
            self._busy += 1
            self.branches.start(self._decided(link))

    async def _decided(self, link: Link) -> Verdict | None:
        decision = cast("Decision", link.condition)
        # Without what is said of the source itself: its timeout, its attempts and its onError.
        node = Node(self._blamed(link).id, Conditional(decision, (), ()))
        path, trail = (path_to(outer, link.asked) for outer in (self.place.path, self.place.trail))
        place = evolve(self._around(link), frame=sub_frame(self.place.frame, link.asked), path=path, trail=trail)
        while True:
            held = await is_held(self.context, node, decision, place, 1)
            if isinstance(held, Failed):
                return Verdict(_of_edge(link, held))
            if not isinstance(held, Pending):
                break
            if not await self._has_come(link.asked):
                return None
        unkept = await self._keep(node, place, held=held)
        if unkept is not None:
            return Verdict(unkept)
        return self._continued(self._settle((one, True) for one in self._undecided.pop(link.asked)))

    async def _keep(self, node: Node, place: StepPosition, *, held: bool) -> Failed | None:
        """Keep what a tool has decided, so that it is not asked again."""
        kept = {"branch": "true" if held else "false"}
        place.frame.clear()
        place.frame.update(kept)
        self.context.settled(place.path)
        if self.context.journal is None:
            return None
        self.context.journal.note(place.path, kept, whole=True)
        error = await self.context.journal.finished()
        return None if error is None else self.context.blamed(node, error)

    async def result(self) -> StepOutcome:
        """The result of the graph."""
        last = [name for name in self._ranks if name not in self._out_of]
        if len(last) == 1:
            return self.results.get(last[0], Done(None))
        value = {name: self.results[name].value for name in last if name in self.results}
        try:
            await self.context.walked(value)
        except WALK_ERRORS as error:
            message = f"the results of the nodes without a successor together {walk_problem(error)}"
            return Failed(FlowError(message, self.context.flow.name))
        return Done(value)


def _of_edge(link: Link, failed: Failed) -> Failed:
    error = failed.error
    message = f"the edge from {link.source!r} to {link.target!r}: {error.message}"
    made = FlowError(message, error.document, error.step, error.reference, error.tool)
    made.__cause__ = error.__cause__
    return Failed(made)
