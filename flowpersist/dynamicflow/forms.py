"""The accepted forms of a step, reduced to one: a draft with a type, canonical fields and inner steps.

What can't be read is a problem of the document, and the steps beside it are read all the same. The functions recurse as
deep as the document is nested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast, get_args

from attrs import define, field, frozen

from flowpersist.dynamicflow.document import MAX_STEPS, Document
from flowpersist.dynamicflow.functional import Spread, spread
from flowpersist.dynamicflow.ir import Kind, Place
from flowpersist.dynamicflow.problems import shown
from flowpersist.errors import FlowCode
from flowpersist.inputs.json_pointers import escaped

__all__ = ["Draft", "Indexed", "bounded", "draft_step", "drafts", "every", "unread"]

#: The fields of each type: the canonical name and its aliases. The first field implies the type if none is given.
_FIELDS: Final[Mapping[Kind, Mapping[str, tuple[str, ...]]]] = {
    "tool": {"tool": ("tool", "toolId"), "args": ("args", "input", "inputs", "with")},
    "switch": {
        "switch": ("switch",),
        "options": ("options",),
        "branches": ("branches", "cases"),
        "default": ("default",),
    },
    "filter": {
        "over": ("filter", "over"),
        "condition": ("condition",),
        "as": ("as",),
        "concurrency": ("concurrency",),
        "parallel": ("parallel",),
    },
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
    "delay": {"delay": ("delay",)},
    "flow": {"flow": ("flow",), "input": ("input",)},
    "expression": {"expression": ("expression",)},
    "llm": {"prompt": ("prompt",), "input": ("input",)},
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
    ("delay", "delay"),
    ("flow", "flow"),
    ("expression", "expression"),
    ("prompt", "llm"),
    ("condition", "conditional"),
)
#: The fields whose values are names.
_NAMING: Final = ("id", "output", "as", "accumulator")
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
    """A step with canonical fields and its blocks, before it has an id.

    ``where`` is its position, for errors. ``broken``: it could not be read, and its fields say nothing.
    """

    kind: Kind
    where: str
    fields: Mapping[str, object]
    common: Mapping[str, object]
    blocks: dict[str, list[Draft]] = field(factory=dict)
    id: str = ""
    #: The step as the document has it.
    raw: Mapping[str, object] = field(factory=dict, repr=False)
    place: Place = field(factory=Place, repr=False)
    broken: bool = False

    @property
    def label(self) -> str:
        """Its name in errors: its id, or its position in the document."""
        given = self.common.get("id")
        return given if isinstance(given, str) and given else self.where


@frozen
class Indexed(Document):
    """A document of a form in which a block may have the ids of steps instead of the steps.

    ``within`` gives the draft of a step that a block names, at this position and pointer. None: it can't. ``aliases``
    are further names of fields.
    """

    within: Callable[[str, str, str], Draft | None] = field(repr=False, eq=False, kw_only=True)
    aliases: Mapping[str, str] = field(repr=False, eq=False, kw_only=True)


def drafts(document: Document) -> list[Draft]:
    """Draft the outermost steps of a document in step form."""
    flow = document.data.get("flow")
    expected = "a list of steps"
    if not isinstance(flow, list):
        code: FlowCode = "wrong-type" if "flow" in document.data else "missing-field"
        message = "Invalid document: expected a list of steps in 'flow'"
        document.problems.add("/flow" if "flow" in document.data else "", code, message, expected=expected)
        return []
    if not flow:
        document.problems.add(
            "/flow", "invalid-value", "the document has no steps: 'flow' needs at least one", expected=expected
        )
    return bounded(_block(flow, "flow", "/flow", document), "/flow", document)


def bounded(found: list[Draft], pointer: str, document: Document) -> list[Draft]:
    """The drafts of a document; none if they are too many."""
    count = sum(1 for _ in every(found))
    if count > MAX_STEPS:
        message = f"the document has {count} steps, and at most {MAX_STEPS} are allowed: use map or split it"
        document.problems.add(pointer, "limit", message)
        return []
    return found


def every(found: list[Draft]) -> Iterator[Draft]:
    """All drafts, outer before inner, in the order of the document."""
    for draft in found:
        yield draft
        for block in draft.blocks.values():
            yield from every(block)


def unread(found: list[Draft]) -> frozenset[str]:
    """The names that steps which could not be read may set, so that references to them are not reported as well."""
    names: set[str] = set()
    pending: list[object] = [draft.raw for draft in every(found) if draft.broken]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            names |= {name for key in _NAMING if isinstance(name := value.get(key), str)}
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return frozenset(names)


def _block(raw: object, where: str, pointer: str, document: Document) -> list[Draft]:
    """A block as a list of steps; a single step is allowed too."""
    if raw is None:
        return []
    if isinstance(raw, Mapping) or (isinstance(raw, str) and isinstance(document, Indexed)):
        return _one(raw, where, pointer, document)
    if not isinstance(raw, list):
        expected = "a step or a list of steps"
        message = f"{where} must be {expected}, not {type(raw).__name__}"
        document.problems.add(pointer, "wrong-type", message, expected=expected, step=where)
        return []
    placed = ((item, f"{where}[{index}]", f"{pointer}/{index}") for index, item in enumerate(raw))
    return [draft for item, place, at in placed for draft in _one(item, place, at, document)]


def _one(raw: object, where: str, pointer: str, document: Document) -> list[Draft]:
    if isinstance(raw, Mapping):
        return [draft_step(raw, where, pointer, document)]
    if isinstance(raw, str) and isinstance(document, Indexed):
        draft = document.within(raw, where, pointer)
        return [] if draft is None else [draft]
    message = f"{where} must be a step, an object, not {type(raw).__name__}"
    document.problems.add(pointer, "wrong-type", message, expected="a step", step=where)
    return []


def draft_step(raw: Mapping[str, object], where: str, pointer: str, document: Document) -> Draft:
    """Draft a step, and the steps in it."""
    given = raw.get("id")
    label = given if isinstance(given, str) and given else where
    common = {name: raw[name] for name in _COMMON if name in raw}
    read = _read(raw, label, pointer, document)
    if read is None:
        return Draft("sequence", where, {}, common, raw=raw, place=Place(pointer), broken=True)
    kind, fields, written = read.kind, read.fields, read.written
    draft = Draft(kind, where, fields, common, raw=raw, place=Place(pointer, written))
    _attach(draft, document)
    return draft


def _read(raw: Mapping[str, object], label: str, pointer: str, document: Document) -> Spread | None:
    if "operation" in raw:
        return spread(raw, label, pointer, document.problems)
    kind = _kind(raw, label, pointer, document)
    return None if kind is None else Spread(kind, *_canonical(raw, kind, label, pointer, document))


def _kind(raw: Mapping[str, object], label: str, pointer: str, document: Document) -> Kind | None:
    given = raw.get("type")
    if given is None:
        for name, kind in _TELLING:
            if name in raw:
                return kind
        known = ", ".join(name for name, _ in _TELLING)
        near = document.problems.hint(raw, [name for name, _ in _TELLING])
        message = f"step {label!r} has no 'type', and no field that implies one: {known}{near}"
        document.problems.add(pointer, "unknown-type", message, expected=f"one of the fields {known}", step=label)
        return None
    if not isinstance(given, str) or given not in _TYPE_NAMES:
        known = ", ".join(sorted(_TYPE_NAMES))
        near = document.problems.hint([given] if isinstance(given, str) else [], _TYPE_NAMES)
        message = f"step {label!r} has the unknown type {shown(given)}: expected one of {known}{near}"
        document.problems.add(f"{pointer}/type", "unknown-type", message, expected=f"one of {known}", step=label)
        return None
    return _TYPE_NAMES[given]


def _canonical(
    raw: Mapping[str, object], kind: Kind, label: str, pointer: str, document: Document
) -> tuple[dict[str, object], dict[str, str]]:
    """The fields by their canonical names, and the names that they were written under."""
    names = _FIELDS[kind]
    aliases = {alias: name for name, group in names.items() for alias in group}
    if isinstance(document, Indexed):
        aliases |= {alias: aliases[name] for alias, name in document.aliases.items() if name in aliases}
    allowed = ", ".join(sorted(aliases))
    for strange in sorted(name for name in raw if name not in _COMMON and name not in aliases):
        near = document.problems.hint([strange], [*aliases, *_COMMON])
        message = f"step {label!r} ({kind}) has the unknown field {shown(strange)}{near}: it takes {allowed}"
        at = f"{pointer}/{escaped(strange)}"
        document.problems.add(at, "unknown-field", message, expected=f"one of {allowed}", step=label)
    fields: dict[str, object] = {}
    written: dict[str, str] = {}
    for alias, name in aliases.items():
        if alias not in raw:
            continue
        if name in fields:
            message = f"step {label!r} gives {name!r} twice: keep one of {', '.join(names[name])}"
            document.problems.add(f"{pointer}/{alias}", "duplicate-field", message, step=label)
        else:
            fields[name], written[name] = raw[alias], alias
    return fields, written


def _attach(draft: Draft, document: Document) -> None:
    """Draft the inner steps, by the names of their blocks."""
    for name in _BLOCKS.get(draft.kind, ()):
        if name in draft.fields:
            draft.blocks[name] = _block(draft.fields[name], f"{draft.where}.{name}", draft.place.at(name), document)
    if draft.kind == "switch":
        for key, raw in _cases(draft, document).items():
            at = f"{draft.place.at('branches')}/{escaped(key)}"
            draft.blocks[f"case {key}"] = _block(raw, f"{draft.where}.{key}", at, document)
    if draft.kind == "parallel":
        for index, raw in enumerate(_branches(draft, document)):
            at = f"{draft.place.at('branches')}/{index}"
            draft.blocks[f"[{index}]"] = _block(raw, f"{draft.where}[{index}]", at, document)
    if "onError" in draft.common:
        where = f"{draft.where}.onError"
        draft.blocks["onError"] = _block(draft.common["onError"], where, draft.place.at("onError"), document)


def _cases(draft: Draft, document: Document) -> Mapping[str, object]:
    cases = draft.fields.get("branches")
    if isinstance(cases, Mapping):
        return cases
    _lacking(draft, document, "an object of steps by option", "needs 'branches'")
    return {}


def _branches(draft: Draft, document: Document) -> list[object]:
    branches = draft.fields.get("branches")
    if isinstance(branches, list) and branches:
        return branches
    _lacking(draft, document, "a list of steps, or of lists of steps", "needs 'parallel'")
    return []


def _lacking(draft: Draft, document: Document, expected: str, what: str) -> None:
    given = "branches" in draft.fields
    pointer = draft.place.at("branches") if given else draft.place.pointer
    code: FlowCode = "wrong-type" if given else "missing-field"
    message = f"step {draft.label!r} {what}: {expected}"
    document.problems.add(pointer, code, message, expected=expected, step=draft.label)
