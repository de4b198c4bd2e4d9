"""``flow inspect`` and ``flow retry``: how a run stands, and going on with one that has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowpersist.cli.flows import go, tools_option, wait_option
from flowpersist.cli.following import Follower, follow_option
from flowpersist.cli.inputs import fields_of, found_in, read_key
from flowpersist.cli.layout import moment, one_line, table, terminal_width
from flowpersist.cli.session import Command, Store, store_options, with_hub
from flowpersist.cli.views import as_text
from flowpersist.dynamicflow import FlowRunner
from flowpersist.dynamicflow.plain import plain
from flowpersist.hub.outcome import or_raise

if TYPE_CHECKING:
    from flowpersist.dynamicflow import FlowOutcome, RunInspection, StepInspection
    from flowpersist.hub.verbs import PersistenceHub

__all__ = ["inspect", "retry"]

LISTED = ("STEP", "STATUS", "ATTEMPTS", "STARTED", "ENDED", "OUTPUT OR ERROR")
#: The most characters of an output in the table.
SHORT = 60


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@store_options
def inspect(*, store: Store, run: str) -> None:
    """Show how a run stands: each step's status, attempts, times, and output or error. Nothing is run or written.

    A RUN is an id, a key, or the name that the run was started with.
    """

    async def verb(hub: PersistenceHub) -> RunInspection:
        return or_raise(await FlowRunner(hub).inspect(found_in(hub, read_key(run))))

    seen = with_hub(store, verb)
    store.show(_data(seen), _lines(seen))


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.option("--from", "from_step", metavar="STEP", help="Go on from this step, by its path; else from what failed.")
@click.option(
    "--edit",
    "edits",
    metavar="NAME=VALUE",
    multiple=True,
    help="Replace the input, a step's output by its path, or a variable; repeat it.",
)
@tools_option
@wait_option
@follow_option
@store_options
def retry(
    *,
    store: Store,
    run: str,
    from_step: str | None,
    edits: tuple[str, ...],
    tools: tuple[str, ...],
    wait: bool,
    follow: bool,
) -> None:
    """Go on with a RUN that has failed and is parked. If it fails again, it is parked again."""
    edit = fields_of(edits, "--edit")
    meant = read_key(run)

    async def again(runner: FlowRunner) -> FlowOutcome:
        return or_raise(await runner.retry(found_in(runner.hub, meant), from_step=from_step, edit=edit))

    async def from_now(runner: FlowRunner) -> Follower:
        return await Follower.from_now(runner, found_in(runner.hub, meant))

    go(store, tools, again, wait=wait, failed="park", follow=from_now if follow else None)


def _data(seen: RunInspection) -> dict[str, object]:
    return {
        "run": seen.run_id,
        "id": str(seen.suspension.id),
        "flow": seen.suspension.metadata.get("flow"),
        "status": str(seen.status),
        "position": list(seen.position),
        "waits": list(seen.waits),
        "steps": [_step_data(step) for step in seen.steps.values()],
        "result": plain(seen.result),
        "error": seen.error,
    }


def _step_data(step: StepInspection) -> dict[str, object]:
    return {
        "path": step.path,
        "id": step.id,
        "status": step.status,
        "attempts": step.attempts,
        "started": moment(step.started),
        "ended": moment(step.ended),
        "output": plain(step.output),
        "error": step.error,
    }


def _lines(seen: RunInspection) -> list[str]:
    head = [f"run {seen.run_id} is {seen.status}"]
    if seen.error is not None:
        head.append(f"error: {one_line(seen.error)}")
    return [*head, *table([LISTED, *(_row(step) for step in seen.steps.values())], terminal_width())]


def _row(step: StepInspection) -> tuple[str, ...]:
    told = step.error if step.status != "done" else as_text(plain(step.output))
    return (
        step.path,
        step.status,
        str(step.attempts),
        moment(step.started) or "-",
        moment(step.ended) or "-",
        one_line(told or "-")[:SHORT],
    )
