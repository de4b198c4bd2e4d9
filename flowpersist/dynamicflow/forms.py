"""The accepted forms of a step, reduced to one: a draft with a type, canonical fields and inner steps.

The functions raise ``FlowError``, which ``compile`` returns as a failure: they recurse as deep as the document is
nested, and each of them ends the compilation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NoReturn, cast, get_args

from attrs import define, field

from flowpersist.dynamicflow.document import MAX_STEPS, Document
from flowpersist.dynamicflow.ir import Kind
from flowpersist.errors import FlowError

__all__ = ["Draft", "drafts", "every"]

#: The fields of each type: the canonical name and its aliases. The first field implies the type if none is given.
_FIELDS: Final[Mapping[Kind, Mapping[str, tuple[str, ...]]]] = {
    "tool": {"tool": ("tool", "toolId"), "args": ("args", "input", "inputs", "with")},
    "switch": {
        "switch": ("switch",),
        "options": ("options",),
        "branches": ("branches", "cases"),
        "default": ("default",),
    },
    "filter": {"over": ("filter", "over"), "condition": ("condition",), "as": ("as",)},
    "map": {
        "over": ("map", "over"),
        "body": ("with", "body"),
        "as": ("as",),
        "concurrency": ("concurrency",),
        "parallel": ("parallel",),
        "continueOnError": ("continueOnError",),
    },
    "reduce": {
        "over": ("reduce", "over"),
        "initial": ("initial",),
        "body": ("with", "body"),
        "as": ("as",),
        "accumulator": ("accumulator",),
    },
    "loop": {
        "loop": ("loop",),
        "over": ("over",),
        "condition": ("condition",),
        "body": ("body", "with"),
        "as": ("as",),
        "maxIterations": ("maxIterations",),
    },
    "parallel": {"branches": ("parallel", "branches"), "until": ("until",)},
    "sequence": {"steps": ("sequence", "steps")},
    "conditional": {
        "condition": ("condition",),
        "if_true": ("if_true", "then"),
        "if_false": ("if_false", "else"),
    },
}
_COMMON: Final = frozenset({"id", "type", "output", "timeout", "retry", "onError", "description", "name", "metadata"})
#: The fields that imply the type, in the order in which they are tried; `condition` belongs to several types, so it is
#: the last.
_TELLING: Final[tuple[tuple[str, Kind], ...]] = (
    ("tool", "tool"),
    ("toolId", "tool"),
    ("switch", "switch"),
    ("filter", "filter"),
    ("map", "map"),
    ("reduce", "reduce"),
    ("loop", "loop"),
    ("parallel", "parallel"),
    ("sequence", "sequence"),
    ("condition", "conditional"),
)
_KINDS: Final = cast("tuple[Kind, ...]", get_args(Kind))
_TYPE_NAMES: Final[Mapping[str, Kind]] = {"if-then": "conditional", **{str(kind): kind for kind in _KINDS}}
#: The fields that hold a block: a step, or a list of steps.
_BLOCKS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "conditional": ("if_true", "if_false"),
    "switch": ("default",),
    "map": ("body",),
    "reduce": ("body",),
    "loop": ("body",),
    "sequence": ("steps",),
}


@define
class Draft:
    """A step with canonical fields and its blocks, before it has an id. ``where`` is its position, for errors."""

    kind: Kind
    where: str
    fields: Mapping[str, object]
    common: Mapping[str, object]
    blocks: dict[str, list[Draft]] = field(factory=dict)
    id: str = ""
    #: The step as the document has it.
    raw: Mapping[str, object] = field(factory=dict, repr=False)

    @property
    def label(self) -> str:
        """Its name in errors: its id, or its position in the document."""
        given = self.common.get("id")
        return given if isinstance(given, str) and given else self.where


def drafts(document: Document) -> list[Draft]:
    """Draft the outermost steps of a document in step form."""
    flow = document.data.get("flow")
    if not isinstance(flow, list):
        _refuse("Invalid document: expected a list of steps in 'flow'", document)
    if not flow:
        _refuse("the document has no steps: 'flow' needs at least one", document)
    found = _block(flow, "flow", document)
    count = sum(1 for _ in every(found))
    if count > MAX_STEPS:
        _refuse(f"the document has {count} steps, and at most {MAX_STEPS} are allowed: use map or split it", document)
    return found


def every(found: list[Draft]) -> Iterator[Draft]:
    """All drafts, outer before inner, in the order of the document."""
    for draft in found:
        yield draft
        for block in draft.blocks.values():
            yield from every(block)


def _block(raw: object, where: str, document: Document) -> list[Draft]:
    """A block as a list of steps; a single step is allowed too."""
    if raw is None:
        return []
    if isinstance(raw, Mapping):
        return [_draft(raw, where, document)]
    if not isinstance(raw, list):
        _refuse(f"{where} must be a step or a list of steps, not {type(raw).__name__}", document, where)
    return [_draft(item, f"{where}[{index}]", document) for index, item in enumerate(raw)]


def _draft(raw: object, where: str, document: Document) -> Draft:
    if not isinstance(raw, Mapping):
        _refuse(f"{where} must be a step, an object, not {type(raw).__name__}", document, where)
    label = raw["id"] if isinstance(raw.get("id"), str) and raw["id"] else where
    kind = _kind(raw, label, document)
    common = {name: raw[name] for name in _COMMON if name in raw}
    draft = Draft(kind, where, _canonical(raw, kind, label, document), common, raw=raw)
    _attach(draft, document)
    return draft


def _kind(raw: Mapping[str, object], label: str, document: Document) -> Kind:
    given = raw.get("type")
    if given is None:
        for name, kind in _TELLING:
            if name in raw:
                return kind
        known = ", ".join(name for name, _ in _TELLING)
        _refuse(f"step {label!r} has no 'type', and no field that implies one: {known}", document, label)
    if not isinstance(given, str) or given not in _TYPE_NAMES:
        known = ", ".join(sorted(_TYPE_NAMES))
        _refuse(f"step {label!r} has the unknown type {given!r}: expected one of {known}", document, label)
    return _TYPE_NAMES[given]


def _canonical(raw: Mapping[str, object], kind: Kind, label: str, document: Document) -> dict[str, object]:
    names = _FIELDS[kind]
    aliases = {alias: name for name, group in names.items() for alias in group}
    unknown = sorted(name for name in raw if name not in _COMMON and name not in aliases)
    if unknown:
        allowed = ", ".join(sorted(aliases))
        _refuse(f"step {label!r} ({kind}) has the unknown field {unknown[0]!r}: it takes {allowed}", document, label)
    fields: dict[str, object] = {}
    for alias, name in aliases.items():
        if alias in raw:
            if name in fields:
                _refuse(f"step {label!r} gives {name!r} twice: keep one of {', '.join(names[name])}", document, label)
            fields[name] = raw[alias]
    return fields


def _attach(draft: Draft, document: Document) -> None:
    """Draft the inner steps, by the names of their blocks."""
    for name in _BLOCKS.get(draft.kind, ()):
        if name in draft.fields:
            draft.blocks[name] = _block(draft.fields[name], f"{draft.where}.{name}", document)
    if draft.kind == "switch":
        for key, raw in _cases(draft, document).items():
            draft.blocks[f"case {key}"] = _block(raw, f"{draft.where}.{key}", document)
    if draft.kind == "parallel":
        for index, raw in enumerate(_branches(draft, document)):
            draft.blocks[f"[{index}]"] = _block(raw, f"{draft.where}[{index}]", document)
    if "onError" in draft.common:
        draft.blocks["onError"] = _block(draft.common["onError"], f"{draft.where}.onError", document)


def _cases(draft: Draft, document: Document) -> Mapping[str, object]:
    cases = draft.fields.get("branches")
    if not isinstance(cases, Mapping):
        _refuse(f"step {draft.label!r} needs 'branches': an object of steps by option", document, draft.label)
    return cases


def _branches(draft: Draft, document: Document) -> list[object]:
    branches = draft.fields.get("branches")
    if not isinstance(branches, list) or not branches:
        _refuse(f"step {draft.label!r} needs 'parallel': a list of steps, or of lists of steps", document, draft.label)
    return branches


def _refuse(message: str, document: Document, step: str | None = None) -> NoReturn:
    raise FlowError(message, document.name, step)
