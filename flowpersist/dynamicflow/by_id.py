"""The forms of a document in which a block names its steps by their ids, instead of holding them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs
from attrs import define, field, frozen

from flowpersist.dynamicflow.document import MAX_STEPS, Document
from flowpersist.dynamicflow.forms import Draft, Indexed, draft_step
from flowpersist.dynamicflow.problems import shown
from flowpersist.errors import FlowCode

__all__ = ["StepsById", "Written", "steps_in"]

#: The most levels of steps within steps, as many as the depth of the JSON allows where steps stand in their blocks.
_MAX_LEVELS: Final = 50


@frozen
class Written:
    """A step as the document has it: its fields, its position for errors, and its pointer."""

    raw: Mapping[str, object]
    where: str
    pointer: str


def steps_in(document: Document, field: str, what: str) -> dict[str, Written]:
    """The steps of a list of the document, by id. What can't be read is a problem, and is left out."""
    given = document.data.get(field)
    expected = f"a list of {what}s"
    if not isinstance(given, list) or not given:
        code: FlowCode = "missing-field" if given is None else "invalid-value" if given == [] else "wrong-type"
        message = f"the document has no steps: expected {expected} in {field!r}"
        document.problems.add("" if given is None else f"/{field}", code, message, expected=expected)
        return {}
    if len(given) > MAX_STEPS:
        message = f"the document has {len(given)} steps, and at most {MAX_STEPS} are allowed: split it"
        document.problems.add(f"/{field}", "limit", message)
        return {}
    found: dict[str, Written] = {}
    for index, raw in enumerate(given):
        where, pointer = f"{field}[{index}]", f"/{field}/{index}"
        name = raw.get("id") if isinstance(raw, Mapping) else None
        if not isinstance(raw, Mapping) or not isinstance(name, str) or not name:
            message = f"{where} must be an object with an 'id'"
            document.problems.add(pointer, "missing-field", message, expected="a step with an 'id'", step=where)
        elif name in found:
            message = f"two {what}s have the id {shown(name)}: give one of them another"
            document.problems.add(f"{pointer}/id", "duplicate-name", message, step=name)
        else:
            found[name] = Written(raw, where, pointer)
    return found


@define
class StepsById:
    """The steps of one document, each drafted once, in the block that names it or outermost.

    ``steps`` has them by id, ``what`` is their name in errors, and ``aliases`` are further names of fields.
    """

    document: Document
    steps: Mapping[str, Written]
    what: str
    aliases: Mapping[str, str] = field(factory=dict)
    drafted: dict[str, Draft] = field(factory=dict, init=False)
    #: By the id of a step within a block, the position of that block.
    held: dict[str, str] = field(factory=dict, init=False)
    #: The steps that are being drafted, from the outside in, with their levels.
    _open: dict[str, int] = field(factory=dict, init=False)

    def draft(self, name: str, level: int = 1) -> Draft:
        """The draft of a step, with the steps that its blocks name."""
        if name not in self.drafted:
            self._open[name] = level
            step, fields = self.steps[name], attrs.asdict(self.document, recurse=False)
            indexed = Indexed(**fields, within=self.within, aliases=self.aliases)
            self.drafted[name] = draft_step(step.raw, step.where, step.pointer, indexed)
            del self._open[name]
        return self.drafted[name]

    def within(self, name: str, where: str, pointer: str) -> Draft | None:
        """The draft of a step that a block names. A problem if it is in another block too, or in itself."""
        holder, level = next(reversed(self._open.items()))
        if name not in self.steps:
            near = self.document.problems.hint([name], self.steps)
            message = f"{where} names {name!r}, which is not a {self.what} of the document{near}"
            self._note(pointer, "unknown-name", message, holder)
            return None
        if name in self._open:
            chain = " -> ".join([*self._open][[*self._open].index(name) :])
            message = f"the steps {chain} -> {name} contain each other: remove one from its block"
            self._note(pointer, "cycle", message, name)
            return None
        if name in self.held:
            message = f"{self.what} {name!r} is in two blocks, {self.held[name]} and {where}: keep one"
            self._note(pointer, "duplicate-name", message, name)
            return None
        self.held[name] = where
        # At least as many as the levels between the two steps.
        level += 1 + where.removeprefix(self.steps[holder].where).count(".")
        if level > 2 * _MAX_LEVELS:  # Each of them takes some frames of Python's stack.
            self._too_deep(name)
            return None
        return self.draft(name, level)

    def outermost(self, names: Iterable[str]) -> list[Draft]:
        """The drafts of the outermost steps; none if steps within them are nested too deep."""
        found = [self.draft(name) for name in names]
        level, levels = found, 0
        while level:
            levels += 1
            if levels > _MAX_LEVELS:
                self._too_deep(level[0].label)
                return []
            level = [child for one in level for block in one.blocks.values() for child in block]
        return found

    def _too_deep(self, name: str) -> None:
        message = f"{self.what} {name!r} is nested deeper than {_MAX_LEVELS} levels of steps: flatten it"
        self._note(self.steps[name].pointer if name in self.steps else "", "limit", message, name)

    def _note(self, pointer: str, code: FlowCode, message: str, step: str) -> None:
        self.document.problems.add(pointer, code, message, step=step)
