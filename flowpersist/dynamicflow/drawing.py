"""Pictures of flows as texts that other programs draw, in Mermaid or DOT, with the progress of a stored run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from flowpersist.dynamicflow.ir import START, Flow, Node, ToolCall
from flowpersist.errors.arguments import check_choice, check_instance, check_mapping, check_optional

if TYPE_CHECKING:
    from flowpersist.dynamicflow.state import Frame

__all__ = ["FORMATS", "Progress", "draw", "kind_of", "progress_of"]

#: How far a step has come. One that has not begun has none.
Progress: TypeAlias = Literal["done", "running", "waiting", "failed"]
#: What a step has come to that runs several times, as its iterations have: the first of these that any of them has.
_ORDER: Final[tuple[Progress, ...]] = ("failed", "waiting", "running", "done")
_COLOURS: Final[Mapping[Progress, tuple[str, str]]] = {
    "done": ("#d9f2d9", "#2e7d32"),
    "running": ("#d9e8fb", "#1565c0"),
    "waiting": ("#fff2cc", "#b7791f"),
    "failed": ("#fbdada", "#c62828"),
}
FORMATS: Final = ("mermaid", "dot")
#: The characters of a line of a label.
_LONGEST: Final = 60
#: What Mermaid reads as itself within quotes, besides letters and digits.
_PLAIN: Final = frozenset(" .,_-$/:=!?+*")


def draw(flow: Flow, format: str = "mermaid", progress: Mapping[str, str] | None = None) -> str:
    """A picture of a flow as text.

    - ``flow``: what ``compile`` gave.
    - ``format``: ``mermaid``, which many wikis and forges show, or ``dot``, which graphviz draws.
    - ``progress``: ``done``, ``running``, ``waiting`` or ``failed`` by the ids of steps, to be coloured in.

    Raises ``ConfigurationError`` for another format.
    """
    check_instance(flow, "flow", Flow, "a Flow, which compile gives")
    check_choice(format, "format", FORMATS)
    check_optional(progress, "progress", check_mapping)
    known: dict[str, Progress] = {
        step: mark for step, one in (progress or {}).items() for mark in _ORDER if mark == one and step in flow.nodes
    }
    lines = _mermaid(flow, known) if format == "mermaid" else _dot(flow, known)
    return "\n".join(lines) + "\n"


def kind_of(node: Node) -> str:
    """The kind of a step: the tool that it calls, or the name of its operation."""
    operation = node.operation
    return operation.tool if isinstance(operation, ToolCall) else type(operation).__name__.lower()


def progress_of(flow: Flow, frame: Frame) -> dict[str, Progress]:
    """How far each step has come, by the outermost frame of a run's stored state."""
    seen: dict[str, set[Progress]] = {}
    frames: list[Any] = [frame]
    while frames:
        outer = frames.pop()
        if not isinstance(outer, Mapping):
            continue
        sub, steps = outer.get("sub"), outer.get("steps")
        for name, inner in sub.items() if isinstance(sub, Mapping) else ():
            frames.append(inner)
            if name in flow.nodes:
                seen.setdefault(name, set()).add(_progress(inner))
        for name in steps if isinstance(steps, Mapping) else ():
            if name in flow.nodes:
                seen.setdefault(name, set()).add("done")
    return {step: next(one for one in _ORDER if one in found) for step, found in seen.items()}


def _progress(frame: object) -> Progress:
    if not isinstance(frame, Mapping):
        return "running"
    if "result" in frame:
        return "done"
    if "error" in frame:
        return "failed"
    return "waiting" if frame.get("waiting") or "asked" in frame else "running"


def _edges(flow: Flow) -> Iterator[tuple[str, str, str]]:
    """Source, target and label, with the beginning."""
    if not any(edge.source == START for edge in flow.edges):
        yield START, flow.entry, ""
    for edge in flow.edges:
        yield edge.source, edge.target, "" if edge.label == "next" else edge.label


def _names(flow: Flow) -> dict[str, str]:
    """A name for each step that any program takes: ids may hold anything."""
    return {START: "start", **{step: f"n{number}" for number, step in enumerate(flow.nodes)}}


def _label(node: Node, escaped: Callable[[str], str], newline: str) -> str:
    kind = kind_of(node)
    lines = (node.id, *((kind,) if kind != node.id else ()), *((node.description,) if node.description else ()))
    return newline.join(escaped(_short(line)) for line in lines)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _mermaid(flow: Flow, progress: Mapping[str, Progress]) -> Iterator[str]:
    names = _names(flow)
    yield "flowchart TD"
    yield '  start(["start"])'
    for step, node in flow.nodes.items():
        opening, closing = _MERMAID_SHAPES.get(type(node.operation).__name__, ("[", "]"))
        yield f'  {names[step]}{opening}"{_label(node, _for_mermaid, "<br/>")}"{closing}'
    for source, target, label in _edges(flow):
        arrow = f' -- "{_for_mermaid(_short(label))}" --> ' if label else " --> "
        yield f"  {names[source]}{arrow}{names[target]}"
    for one in dict.fromkeys(progress.values()):
        fill, line = _COLOURS[one]
        yield f"  classDef {one} fill:{fill},stroke:{line},color:#1a1a1a"
        yield f"  class {','.join(names[step] for step, its in progress.items() if its == one)} {one}"


_MERMAID_SHAPES: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("Conditional", "Switch"), ("{", "}")),
    **dict.fromkeys(("Parallel", "Map", "Reduce", "Loop", "Sequence"), ("[[", "]]")),
    "Delay": ("([", "])"),
}


def _for_mermaid(text: str) -> str:
    # By its number a character is itself, whatever Mermaid or HTML would make of it.
    return "".join(one if one.isalnum() or one in _PLAIN else f"#{ord(one)};" for one in _writable(text))


def _dot(flow: Flow, progress: Mapping[str, Progress]) -> Iterator[str]:
    names = _names(flow)
    yield f"digraph {_quoted(_for_dot(flow.name))} {{"
    yield "  node [shape=box, style=filled, fillcolor=white, color=black];"
    yield '  start [label="start", shape=oval];'
    for step, node in flow.nodes.items():
        shape = _DOT_SHAPES.get(type(node.operation).__name__)
        given = [f"label={_quoted(_label(node, _for_dot, _NEWLINE))}"]
        given += [f"shape={shape}"] if shape else []
        if step in progress:
            fill, line = _COLOURS[progress[step]]
            given += [f'fillcolor="{fill}"', f'color="{line}"']
        yield f"  {names[step]} [{', '.join(given)}];"
    for source, target, label in _edges(flow):
        named = f" [label={_quoted(_for_dot(_short(label)))}]" if label else ""
        yield f"  {names[source]} -> {names[target]}{named};"
    yield "}"


#: As DOT writes it within a label.
_NEWLINE: Final = r"\n"
_DOT_SHAPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("Conditional", "Switch"), "diamond"),
    **dict.fromkeys(("Parallel", "Map", "Reduce", "Loop", "Sequence"), "folder"),
    "Delay": "oval",
}


def _quoted(text: str) -> str:
    return f'"{text}"'


def _for_dot(text: str) -> str:
    # graphviz also reads HTML's entities in a label.
    return _writable(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _writable(text: str) -> str:
    return "".join(one if one.isprintable() else "\ufffd" for one in text)
