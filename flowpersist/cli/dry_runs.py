"""``flow dry-run``: what a document would call and ask, with recorded or made outputs. Nothing is run or stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowpersist.cli.exits import exit_of
from flowpersist.cli.flow_documents import document_argument
from flowpersist.cli.flow_files import document_of, flows_option, load_flows
from flowpersist.cli.flows import input_options, input_value
from flowpersist.cli.inputs import json_file, load_tools
from flowpersist.cli.layout import one_line, table, terminal_width
from flowpersist.cli.session import Command, Store, awaited, store_options
from flowpersist.cli.views import as_text
from flowpersist.dynamicflow import dry_run
from flowpersist.dynamicflow.plain import plain
from flowpersist.hub.outcome import or_raise

if TYPE_CHECKING:
    from flowpersist.dynamicflow import DryQuestion, DryRun

__all__ = ["rehearse"]

CALLED = ("STEP", "TOOL", "ARGUMENTS", "OUTPUT", "FROM")
ASKED = ("QUESTION", "ASKED BY", "PROMPT", "ANSWER", "FROM")
#: The most characters of a value in a table.
SHORT = 60


@click.command("dry-run", cls=Command)
@document_argument
@input_options
@click.option(
    "--recording",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file with outputs ('steps' by path or id, 'tools' by id) and 'answers' (by path or id).",
)
@click.option("--by", help="Who asks for the run; '$run.by' in the document.")
@click.option(
    "--tools",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="The flow's tools, of which only the schemas are used; without them each tool may take and give anything.",
)
@flows_option
@store_options
def rehearse(
    *,
    store: Store,
    document: Path,
    fields: tuple[str, ...],
    input_file: str | None,
    recording: Path | None,
    by: str | None,
    tools: tuple[str, ...],
    flows: tuple[str, ...],
) -> None:
    """Show what a DOCUMENT would call and ask. No tool is called, nothing is stored, and delays pass at once.

    Outputs and answers come from the recording, else from the schemas. Exits with 1 if the flow fails.
    """
    value = input_value(fields, input_file)
    recorded = None if recording is None else json_file(str(recording), "--recording")
    if recorded is not None and not isinstance(recorded, Mapping):
        raise click.BadParameter("must hold a JSON object", param_hint="--recording")
    loaded: list[Any] | None = load_tools(tools) if tools else None
    known = load_flows(flows)
    work = dry_run(document_of(document), input=value, tools=loaded, flows=known, recording=recorded, by=by)
    seen = or_raise(awaited(work))
    store.show(_data(seen), [*_lines(seen)])
    if seen.error is not None:
        click.get_current_context().exit(exit_of(seen.error))


def _data(seen: DryRun) -> dict[str, object]:
    return {
        "calls": [
            {
                "path": call.path,
                "step": call.step,
                "tool": call.tool,
                "attempt": call.attempt,
                "arguments": call.arguments,
                "output": call.output,
                "from": call.origin,
            }
            for call in seen.calls
        ],
        "questions": [
            {"path": one.path, "tool": one.tool, "prompt": one.prompt, "answer": one.answer, "from": one.origin}
            for one in seen.questions
        ],
        "delayed": seen.delayed.total_seconds(),
        "result": plain(seen.result),
        "outputs": plain(seen.outputs),
        "error": None if seen.error is None else seen.error.to_problem(),
        "unused": list(seen.unused),
    }


def _lines(seen: DryRun) -> Iterator[str]:
    calls = [(call.path, call.tool, _short(call.arguments), _short(call.output), call.origin) for call in seen.calls]
    questions = [
        (one.path, _asker(one), one_line(one.prompt), _short(one.answer), one.origin) for one in seen.questions
    ]
    for head, rows in ((CALLED, calls), (ASKED, questions)):
        if rows:
            yield from table([head, *rows], terminal_width())
            yield ""
    if seen.delayed:
        yield f"delays: {seen.delayed}"
    for pointer in seen.unused:
        yield f"unused in the recording: {pointer}"
    yield f"result: {as_text(plain(seen.result))}" if seen.error is None else f"error: {one_line(str(seen.error))}"


def _asker(one: DryQuestion) -> str:
    return "the flow" if one.tool is None else f"{one.tool} (may)"


def _short(value: object) -> str:
    return one_line(as_text(value))[:SHORT]
