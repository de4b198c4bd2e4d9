"""What a dry run gives in the place of real outputs and answers: a recording, checked against the flow and its tools.

::

    {"steps":   {"each[2].charge": …, "charge": …},    outputs, by the paths or the ids of steps
     "tools":   {"charge_card": …},                    outputs, by the ids of tools
     "answers": {"asked[0].ok": …, "ok": …,            answers, by the paths or the ids of steps
                 "charge.limit": …}}                   of a question that a tool asks by itself, both ids
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from attrs import define, field
from returns.result import Failure, Result, Success

from flowpersist.dynamicflow.budgets import MAX_TEXT
from flowpersist.dynamicflow.deciders import deciders
from flowpersist.dynamicflow.ir import Node, tools_of
from flowpersist.dynamicflow.nested import inner_flows
from flowpersist.dynamicflow.problems import shown
from flowpersist.dynamicflow.tools import AWAIT_INPUT, Tool, Toolbox
from flowpersist.errors import InputValidationError, PersistenceError, Problem
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_pointers import escaped
from flowpersist.inputs.json_schema import check_json

if TYPE_CHECKING:
    from flowpersist.dynamicflow.ir import Flow

__all__ = ["Recorded", "Recording", "nodes_by_id", "step_in", "unnumbered"]

#: Where a recorded value was found.
Recorded: TypeAlias = Literal["path", "step", "tool"]
_SECTIONS: Final = ("steps", "tools", "answers")
#: The number of an iteration or of a branch in a path.
_NUMBER: Final = re.compile(r"\[\d+\]", re.ASCII)
#: The most problems that are named.
_MAX_PROBLEMS: Final = 100


def nodes_by_id(flow: Flow) -> dict[str, list[Node]]:
    """The steps of a flow and of its sub-flows, by their ids: one id may stand in several flows."""
    found: dict[str, list[Node]] = {}
    pending, known = [flow], {flow.hash}
    while pending:
        looked = pending.pop()
        nodes = looked.nodes
        for node in (*nodes.values(), *deciders(looked.graph)):
            found.setdefault(node.id, []).append(node)
        inner = [one for _, _, one in inner_flows(nodes.values()) if one.hash not in known]
        known.update(one.hash for one in inner)
        pending.extend(inner)
    return found


def step_in(path: str) -> str:
    """The id of the step at a path."""
    return unnumbered(path).rpartition(".")[2]


def unnumbered(path: str) -> str:
    """A path without the numbers of iterations and branches."""
    return _NUMBER.sub("", path)


@define
class Recording:
    """A recording, and which of its entries were used."""

    sections: Mapping[str, Mapping[str, object]] = field(repr=False)
    used: set[tuple[str, str]] = field(factory=set, init=False)

    @classmethod
    def of(
        cls, given: Mapping[str, object], nodes: Mapping[str, list[Node]], toolbox: Toolbox
    ) -> Result[Recording, PersistenceError]:
        """Check a recording. Failure: ``InputValidationError``, whose problems have the places in the recording."""
        problems = [*_misnamed(given), *_problems(given, nodes, toolbox)][:_MAX_PROBLEMS]
        if problems:
            return Failure(_refusal(problems))
        return Success(cls({name: _section(given, name) for name in _SECTIONS}))

    def output(self, path: str, step: str, tool: str) -> tuple[object, Recorded] | None:
        """The recorded output of a call: by its path, else by its step, else by its tool."""
        by_step = self._found("steps", path, "path") or self._found("steps", step, "step")
        return by_step or self._found("tools", tool, "tool")

    def answer(self, path: str, step: str) -> tuple[object, Recorded] | None:
        """The recorded answer to a question: by its path, else by its step."""
        return self._found("answers", path, "path") or self._found("answers", step, "step")

    def misfit(self, path: str, step: str, error: PersistenceError) -> PersistenceError:
        """The error for a recorded answer that is refused, with its place in the recording."""
        if not isinstance(error, InputValidationError):
            return error
        key = path if path in self.sections["answers"] else step
        at = f"/answers/{escaped(key)}"
        made = _refusal([Problem(at + one.pointer, one.message) for one in error.problems])
        made.__cause__ = error
        return made

    def unused(self) -> tuple[str, ...]:
        """The entries that nothing has asked for, by their pointers."""
        there = [(name, key) for name, section in self.sections.items() for key in section]
        return tuple(f"/{name}/{escaped(key)}" for name, key in there if (name, key) not in self.used)

    def _found(self, section: str, key: str, by: Recorded) -> tuple[object, Recorded] | None:
        if key not in self.sections[section]:
            return None
        self.used.add((section, key))
        return self.sections[section][key], by


def _refusal(problems: list[Problem]) -> InputValidationError:
    told = "; ".join(f"{one.pointer}: {one.message}" for one in problems[:5])
    return InputValidationError(f"the recording does not fit the flow: {told}", problems)


def _section(given: Mapping[str, object], name: str) -> Mapping[str, object]:
    section = given.get(name)
    return section if isinstance(section, Mapping) else {}


def _misnamed(given: Mapping[str, object]) -> Iterable[Problem]:
    known = ", ".join(_SECTIONS)
    for name, section in given.items():
        if name not in _SECTIONS:
            yield Problem(f"/{escaped(str(name))}", f"is not known: a recording has {known}")
        elif not isinstance(section, Mapping):
            yield Problem(f"/{name}", f"is of class {type(section).__name__}: expected an object of values by name")


def _problems(given: Mapping[str, object], nodes: Mapping[str, list[Node]], toolbox: Toolbox) -> Iterable[Problem]:
    called = {tool for group in nodes.values() for node in group for tool, _ in tools_of(node)}
    for name in ("steps", "answers"):
        for key, value in _section(given, name).items():
            said = _strange(key, value) or _of_step(name, key, value, nodes, toolbox)
            if said is not None:
                yield Problem(f"/{name}/{escaped(str(key))}", said)
    for key, value in _section(given, "tools").items():
        tool = toolbox.get(str(key))
        said = _strange(key, value) or _misfit_of(tool, value)
        if key not in called and key not in {toolbox.name_of(one) for one in called}:
            said = f"names {shown(key)}, a tool that the flow does not call"
        if said is not None:
            yield Problem(f"/tools/{escaped(str(key))}", said)


def _of_step(section: str, key: str, value: object, nodes: Mapping[str, list[Node]], toolbox: Toolbox) -> str | None:
    """What is wrong with an entry by a step's path or id."""
    ids = unnumbered(key).split(".")
    # The id of a question may have dots itself.
    splits = range(1, len(ids)) if section == "answers" else ()
    if any(".".join(ids[at:]) in _own_questions(ids[:at], nodes, toolbox) for at in splits):
        return None
    strange = next((each for each in ids if each not in nodes), None)
    if strange is not None:
        return f"names {shown(strange)}, which is not a step of the flow"
    names = [tool for node in nodes[ids[-1]] for tool, _ in tools_of(node)]
    tools = [toolbox.get(name) for name in names]
    if section == "answers":
        asks = AWAIT_INPUT in names or any(isinstance(tool, AwaitInput) or _guarded(tool) for tool in tools)
        own = "".join(f", or answer its question {ids[-1]}.{one}" for one in _own_questions(ids, nodes, toolbox))
        said = f"is an answer, and the step {ids[-1]!r} asks nothing: use 'steps' for its output{own}"
        return None if asks else said
    calls = [tool for tool in tools if isinstance(tool, Tool)]
    if not calls:
        more = ": use 'answers'" if names else ""
        return f"is an output, and the step {ids[-1]!r} calls no tool{more}"
    return _misfit(calls, value)


def _own_questions(ids: list[str], nodes: Mapping[str, list[Node]], toolbox: Toolbox) -> tuple[str, ...]:
    """The ids of what the tool of a step may ask by itself, the step being the last one of a path."""
    found = nodes.get(ids[-1], ()) if ids and all(each in nodes for each in ids) else ()
    tools = [toolbox.get(name) for node in found for name, _ in tools_of(node)]
    return tuple(dict.fromkeys(one.id for tool in tools if isinstance(tool, Tool) for one in tool.asks))


def _strange(key: object, value: object) -> str | None:
    """Why an entry is no JSON data within the limits."""
    checked = check_json({key: value}, what="the entry", max_text=MAX_TEXT)
    return str(checked.failure()) if isinstance(checked, Failure) else None


def _misfit_of(tool: object, value: object) -> str | None:
    return _misfit([tool], value) if isinstance(tool, Tool) else "is not a tool that gives an output"


def _guarded(tool: object) -> bool:
    return isinstance(tool, Tool) and tool.guard is not None


def _misfit(tools: Iterable[Any], value: object) -> str | None:
    """Why a value is no output of any of these tools."""
    checks = [tool.check_output(value) for tool in tools]
    failures = [check.failure() for check in checks if isinstance(check, Failure)]
    return str(failures[0]) if len(failures) == len(checks) else None
