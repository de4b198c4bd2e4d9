"""Documents in flat form: all steps in one list, whose blocks are lists of ids, and the ids of the outermost steps.

It is what a language model can be made to emit by a schema without recursion. ``steps`` are the steps, ``rootIds`` the
outermost ones in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowpersist.dynamicflow.by_id import StepsById, steps_in
from flowpersist.dynamicflow.document import Document
from flowpersist.dynamicflow.forms import Draft, bounded
from flowpersist.dynamicflow.problems import shown
from flowpersist.errors import FlowCode

__all__ = ["flat_drafts"]

#: The fields with ids, by the fields whose steps they name.
_ALIASES: Final[Mapping[str, str]] = {
    "bodyIds": "body",
    "withId": "with",
    "ifTrueIds": "if_true",
    "ifFalseIds": "if_false",
    "parallelIds": "parallel",
    "branchIds": "branches",
}


def flat_drafts(document: Document) -> list[Draft]:
    """Draft the outermost steps. What can't be read is a problem of the document, and is left out."""
    steps = StepsById(document, steps_in(document, "steps", "step"), "step", _ALIASES)
    for name in steps.steps:
        steps.draft(name)
    roots = _roots(document, steps)
    for name, step in steps.steps.items():
        if name not in roots and name not in steps.held:
            message = f"step {name!r} never runs: name it in 'rootIds' or in a block, or remove it"
            document.problems.add(step.pointer, "unreachable", message, step=name)
    return bounded(steps.outermost(roots), "/steps", document)


def _roots(document: Document, steps: StepsById) -> list[str]:
    given = document.data.get("rootIds")
    expected = "a list of the ids of the outermost steps"
    if not isinstance(given, list) or not given:
        code: FlowCode = "missing-field" if given is None else "invalid-value" if given == [] else "wrong-type"
        message = f"Invalid document: expected {expected} in 'rootIds'"
        document.problems.add("" if given is None else "/rootIds", code, message, expected=expected)
        return []
    found: dict[str, None] = {}
    for index, name in enumerate(given):
        problem = _problem(name, found, steps)
        if problem is None:
            found[name] = None
        else:
            step = name if isinstance(name, str) else None
            document.problems.add(f"/rootIds/{index}", problem[0], problem[1], step=step)
    return list(found)


def _problem(name: object, found: Mapping[str, None], steps: StepsById) -> tuple[FlowCode, str] | None:
    if not isinstance(name, str):
        return ("wrong-type", f"'rootIds' has {shown(name)}: expected the id of a step")
    if name not in steps.steps:
        near = steps.document.problems.hint([name], steps.steps)
        return ("unknown-name", f"'rootIds' names {shown(name)}, which is not a step of the document{near}")
    if name in steps.held:
        return ("duplicate-name", f"'rootIds' names {name!r}, which runs within {steps.held[name]}: keep one")
    if name in found:
        return ("duplicate-name", f"'rootIds' names {name!r} twice: keep one")
    return None
