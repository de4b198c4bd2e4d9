"""Where a retried run goes on: pure changes of a parked run's state.

A run that has failed keeps the frames of the steps that have finished and of those that were in progress. Going on from
the failed steps removes their errors; going on from an earlier step removes its frame, those of the steps that follow
it, and what the steps around it have failed with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from attrs import define, evolve, field

from flowpersist.dynamicflow.answered import beside
from flowpersist.dynamicflow.history import tried_again
from flowpersist.dynamicflow.ir import blocks_of
from flowpersist.dynamicflow.nested import flow_within
from flowpersist.dynamicflow.parking import FAILED
from flowpersist.dynamicflow.state import CHECKED, Frame, State, is_within, kept_frame, path_to
from flowpersist.errors import FlowError

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Block, Flow, Node

__all__ = ["Rewound", "rewound"]

#: The name by which ``edit`` replaces the run's input.
INPUT: Final = "input"
#: What a step that is tried again drops of its frame.
_OF_AN_ATTEMPT: Final = ("error", "failures", "waiting", "put_off", "asked", "ended", "attempts", "tried")


@define
class Rewound:
    """The state to go on from, and the paths of the steps whose frames were removed: what they asked is asked anew."""

    state: State = field(repr=False)
    dropped: list[str] = field(factory=list)

    def drops(self, path: str) -> bool:
        """Whether the step with this path was removed, or is within one that was."""
        return any(is_within(path, removed) for removed in self.dropped)


def rewound(state: State, flow: Flow, from_step: str | None, edit: Mapping[str, object]) -> Rewound:
    """The state for a retry; raises ``FlowError`` for a path or a name that the run does not have."""
    # Frames only are changed: values stay the objects that they are.
    frame = kept_frame(state["frame"])
    made = Rewound({**state, "frame": frame})
    made.state.pop(FAILED, None)
    if from_step is not None:
        _Path(flow, from_step, made).remove(frame)
    _mend(flow, frame, anew=bool(edit))
    for name, value in edit.items():
        _replace(flow, made.state, name, value)
    return made


def _mend(flow: Flow, frame: Frame, *, anew: bool) -> None:
    """Let the failed steps within a frame be tried again, and approvals be asked again if ``anew``."""
    for name, inner in frame.get("sub", {}).items():
        node = flow.nodes.get(name)
        # The error of a step with onError stays: that is what failed last, and is tried again.
        handled = node is not None and node.on_error
        _mend(flow if node is None else flow_within(flow, node), inner, anew=anew)
        if "error" in inner and "result" not in inner and not handled:
            _begin_again(inner, *(("approved",) if anew else ()))


def _begin_again(frame: Frame, *also: str) -> None:
    """Let a step that has failed be tried again, with as many attempts as at first."""
    # One that holds others goes on with the same attempt: those that were interrupted in it keep their keys.
    counted = tried_again(frame, same=bool(frame.get("sub")))
    for one in (*_OF_AN_ATTEMPT, *also):
        frame.pop(one, None)
    frame.update(counted)


@define
class _Path:
    """The path of the step to go on from, followed through the frames."""

    flow: Flow
    path: str
    made: Rewound

    def remove(self, frame: Frame) -> None:
        """Remove the step's frame, and those of all that follow it, at every level of the path."""
        self.follow(frame, "", [self.flow.steps])

    def follow(self, frame: Frame, around: str, blocks: list[Block]) -> None:
        """The same below a frame, which holds steps of these blocks."""
        within: dict[str, Frame] = frame.get("sub", {})
        # What an edge has decided is no step, although it has a frame.
        there = (name for name in within if ">" not in name)
        name = next((name for name in there if is_within(self.path, path_to(around, name))), None)
        if name is None:
            self._refuse("is not a step that has begun")
        self._drop_after(within, around, name, blocks)
        inner, path = within[name], path_to(around, name)
        if path == self.path:
            self._drop(within, around, name, blocks)
            return
        if "result" in inner:
            self._refuse(f"is within {path!r}, which has finished: go on from {path!r}")
        # An iteration or branch has the blocks of its step.
        node = self.flow.nodes.get(name)
        if node is None or not node.on_error:
            _begin_again(inner)
        if node is not None and (flow := flow_within(self.flow, node)) is not self.flow:
            evolve(self, flow=flow).follow(inner, path, [flow.steps])
        else:
            self.follow(inner, path, blocks if node is None else [block for _, block in blocks_of(node)])

    def _drop_after(self, within: dict[str, Frame], around: str, name: str, blocks: list[Block]) -> None:
        block = next((block for block in blocks if name in block), ())
        for later in _followers(self.flow, block, name):
            if later in within:
                self._drop(within, around, later, blocks)

    def _drop(self, within: dict[str, Frame], around: str, name: str, blocks: list[Block]) -> None:
        """Let a step, an iteration or a branch begin anew, with its attempts counted on."""
        self.made.dropped.append(path_to(around, name))
        dropped = within.pop(name)
        for edge in [one for one in within if one.startswith(f"{name}>")]:
            self.made.dropped.append(path_to(around, edge))
            del within[edge]
        if name in self.flow.nodes:
            again: Frame = {**tried_again(dropped)}
        else:
            # An iteration has no attempts of its own.
            inner = dropped.get("sub", {})
            steps = {one: tried_again(inner.get(one, {"result": None})) for block in blocks for one in block}
            again = {"sub": {one: frame for one, frame in steps.items() if frame}}
        if again:
            within[name] = again

    def _refuse(self, why: str) -> NoReturn:
        raise FlowError(f"Invalid from_step: {self.path!r} {why}", self.flow.name, self.path)


def _followers(flow: Flow, block: Block, name: str) -> set[str]:
    """The steps of a block that run after one of them."""
    after: dict[str, list[str]] = {}
    for edge in flow.edges:
        if edge.source in block and edge.target in block:
            after.setdefault(edge.source, []).append(edge.target)
    found, pending = set[str](), [name]
    while pending:
        for one in after.get(pending.pop(), ()):
            if one not in found:
                found.add(one)
                pending.append(one)
    return found


def _replace(flow: Flow, state: State, name: str, value: object) -> None:
    """Replace the run's input, the result of a step that has begun, or a variable that steps have set."""
    if name == INPUT:
        state["input"] = value
        state.pop(CHECKED, None)
        return
    replaced = False
    for path, frame, node, own in list(_steps(flow, state["frame"], "")):
        if path == name:
            frame.clear()
            frame["result"] = value
            replaced = True
        elif "result" in frame and own and node.output == name:
            frame["result"] = value
            frame.pop("tool", None)
            frame.pop("given", None)
            replaced = True
        elif "result" in frame and own and name in frame.get("variables", {}):
            frame["variables"] = {**frame["variables"], name: value}
            frame["variables"].pop(beside(name), None)
            replaced = True
    if not replaced:
        message = (
            f"Invalid edit: {name!r} is neither 'input', nor a step that has begun, nor a variable that has a value"
        )
        raise FlowError(message, flow.name, None, name)


def _steps(
    flow: Flow, frame: Frame, around: str, *, own: bool = True
) -> Iterator[tuple[str, dict[str, Any], Node, bool]]:
    """The frames of the steps that have begun, with their paths, and whether they are outside of sub-flows, which have
    variables of their own.
    """
    for name, inner in frame.get("sub", {}).items():
        path = path_to(around, name)
        node = flow.nodes.get(name)
        if node is not None:
            yield path, inner, node, own
        if "result" not in inner:
            further = flow if node is None else flow_within(flow, node)
            yield from _steps(further, inner, path, own=own and further is flow)
