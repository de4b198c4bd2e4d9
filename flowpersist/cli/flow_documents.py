"""``flow``: look at a document before it runs, and draw it, or a stored run of it. Nothing is run or written."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flowpersist.cli.exits import Exit
from flowpersist.cli.flow_files import document_of, flows_option, load_flows
from flowpersist.cli.inputs import found_in, load_tools, read_key
from flowpersist.cli.session import Command, Store, note, store_options, with_hub
from flowpersist.dynamicflow import check, compile, draw  # noqa: A004 - the word for it
from flowpersist.dynamicflow.drawing import kind_of, progress_of
from flowpersist.dynamicflow.ir import Flow, blocks_of
from flowpersist.dynamicflow.stored_runs import StoredRun, stored_run
from flowpersist.errors import ConfigurationError
from flowpersist.hub.outcome import or_raise

if TYPE_CHECKING:
    from flowpersist.errors import FlowProblem
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["flow"]

#: Seconds that graphviz may take.
PATIENCE: Final = 60
document_argument = click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group()
def flow() -> None:
    """Check, show and draw flow documents, and look at, draw and retry the runs of the store."""


@flow.command(cls=Command)
@document_argument
@click.option(
    "--tools",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="The flow's tools: what the steps pass to them is checked too; repeat it.",
)
@flows_option
@store_options
def validate(*, store: Store, document: Path, tools: tuple[str, ...], flows: tuple[str, ...]) -> None:
    """List everything that is wrong with a DOCUMENT, each with its place (a JSON pointer) and a code.

    Exits with 4 if anything but a warning is found.
    """
    loaded: list[Any] | None = load_tools(tools) if tools else None
    problems = check(document_of(document), tools=loaded, flows=load_flows(flows))
    valid = all(one.severity == "warning" for one in problems)
    lines = [_line(one) for one in problems] or ["no problems found"]
    store.show({"valid": valid, "problems": [one.to_data() for one in problems]}, lines)
    if not valid:
        click.get_current_context().exit(Exit.INVALID_INPUT)


def _line(problem: FlowProblem) -> str:
    place = problem.pointer or "document"
    return f"{place}: {problem.severity} {problem.code}: {problem.message}"


@flow.command(cls=Command)
@document_argument
@flows_option
@store_options
def show(*, store: Store, document: Path, flows: tuple[str, ...]) -> None:
    """Show what a DOCUMENT compiles to: its steps, the tools that they call, and its hash."""
    compiled = _document(document, flows)
    steps = [
        {
            "id": node.id,
            "kind": kind_of(node),
            "description": node.description,
            "blocks": {label: list(block) for label, block in blocks_of(node) if block},
        }
        for node in compiled.nodes.values()
    ]
    data = {
        "name": compiled.name,
        "version": compiled.version,
        "hash": compiled.hash,
        "entry": compiled.entry,
        "tools": sorted(compiled.tools),
        "steps": steps,
        "edges": [{"source": one.source, "target": one.target, "label": one.label} for one in compiled.edges],
    }
    head = [
        f"{compiled.name} {compiled.version}",
        f"hash: {compiled.hash}",
        f"tools: {', '.join(sorted(compiled.tools))}",
    ]
    store.show(data, [*head, "", *_outline(compiled)])


def _outline(compiled: Flow) -> Iterator[str]:
    """The steps in order, those within others further in."""
    waiting = [(step, 0, "") for step in reversed(compiled.steps)]
    while waiting:
        step, depth, label = waiting.pop()
        node = compiled.nodes[step]
        told = f": {node.description}" if node.description else ""
        yield f"{'  ' * depth}{f'{label} ' if label else ''}{step} ({kind_of(node)}){told}"
        inner = [(each, depth + 1, name) for name, block in blocks_of(node) for each in block]
        waiting += reversed(inner)


@flow.command(cls=Command)
@click.argument("drawn", metavar="FILE|RUN")
@click.option(
    "--format",
    "form",
    type=click.Choice(("mermaid", "dot", "svg")),
    default="mermaid",
    show_default=True,
    help="svg needs the command dot of graphviz.",
)
@click.option("--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write it to this file.")
@flows_option
@store_options
def graph(*, store: Store, drawn: str, form: str, output: Path | None, flows: tuple[str, ...]) -> None:
    """Draw a document, or a stored run: done steps are green, running ones blue, waiting ones yellow, failed ones red.

    A RUN is an id, a key, or the name that the run was started with. A file of that name comes first.
    """
    found, progress = (_document(Path(drawn), flows), None) if Path(drawn).is_file() else _stored(store, drawn)
    text = draw(found, "mermaid" if form == "mermaid" else "dot", progress)
    if form == "svg":
        text = _svg(text)
    if output is None:
        store.show({"format": form, "drawing": text, "progress": progress or {}}, [text.rstrip("\n")])
    else:
        output.write_text(text, encoding="utf-8")
        note(f"wrote {output}")


def _document(path: Path, flows: tuple[str, ...]) -> Flow:
    return or_raise(compile(document_of(path), load_flows(flows)))


def _stored(store: Store, run: str) -> tuple[Flow, dict[str, str]]:
    async def verb(hub: PersistenceHub) -> StoredRun:
        return or_raise(await stored_run(hub, found_in(hub, read_key(run))))

    seen = with_hub(store, verb)
    return seen.flow, dict(progress_of(seen.flow, seen.state["frame"]))


def _svg(text: str) -> str:
    program = shutil.which("dot")
    if program is None:
        message = "svg needs graphviz, and its command dot is not on the PATH: install graphviz, or use --format dot"
        raise ConfigurationError(message, "--format")
    try:
        made = subprocess.run(  # noqa: S603 - a fixed program; the text is its input
            [program, "-Tsvg"], input=text, capture_output=True, encoding="utf-8", timeout=PATIENCE, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        message = f"graphviz drew nothing ({type(error).__name__}): use --format dot and draw the text elsewhere"
        raise ConfigurationError(message, "--format") from error
    return made.stdout
