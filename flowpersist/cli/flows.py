"""``run``, ``resume`` and ``worker``: run DynamicFlow documents until they end or await input."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import click
from returns.result import Failure, Success

from flowpersist.cli.flow_files import document_of, flows_option, load_flows
from flowpersist.cli.following import Follower, follow_option
from flowpersist.cli.inputs import fields_of, found_in, json_file, load_tools, named, names_a_run, read_key, scalars_of
from flowpersist.cli.metrics import ADDRESS, measured
from flowpersist.cli.session import Command, Store, note, store_options, with_hub
from flowpersist.cli.types import DURATION, MOMENT
from flowpersist.cli.views import as_text, awaiting_data, receipt_data
from flowpersist.cli.waits import actor, answer_options, given_answer
from flowpersist.dynamicflow import Accepted, Completed, FlowRunner, Suspended
from flowpersist.dynamicflow.plain import plain
from flowpersist.errors import StillWaiting, SuspensionBusy, SuspensionClosed
from flowpersist.hub.outcome import MISSING, or_raise
from flowpersist.lifecycle.model import Status

if TYPE_CHECKING:
    from flowpersist.dynamicflow import FlowOutcome
    from flowpersist.dynamicflow.parking import Failed
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.inputs.people import Via
    from flowpersist.keys.suspension_key import SuspensionId

__all__ = ["go", "input_options", "input_value", "resume", "run", "tools_option", "wait_option", "worker"]

#: Seconds between two checks of a run that others answer.
POLL: Final = 0.2
RUN_ID: Final = "--run-id"

tools_option = click.option(
    "--tools",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="The flow's tools: a module or a .py file, and a name in it ('tools' where none is given); repeat it.",
)
wait_option = click.option(
    "--wait", is_flag=True, help="Stay until the run has ended, and continue it after each answer."
)


def input_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that give a run's input; ``input_value`` reads them."""
    fields = click.option(
        "--input", "fields", metavar="NAME=VALUE", multiple=True, help="A field of the input; repeat it."
    )
    file = click.option(
        "--input-file", type=click.Path(allow_dash=True), help="A file with the input as JSON; - is standard input."
    )
    return fields(file(command))


@click.command(cls=Command)
@click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@input_options
@click.option(RUN_ID, help="A name for the run: starting the same run again gives the existing one.")
@click.option("--by", help="Who asks for the run; '$run.by' in the document.")
@click.option("--tenant", help="Whose the run is.")
@click.option("--deadline", type=MOMENT, help="When the run ends as failed, if it has not ended before.")
@click.option("--metadata", metavar="NAME=VALUE", multiple=True, help="What the run is listed with; repeat it.")
@tools_option
@flows_option
@wait_option
@follow_option
@store_options
def run(
    *,
    store: Store,
    document: Path,
    fields: tuple[str, ...],
    input_file: str | None,
    run_id: str | None,
    by: str | None,
    tenant: str | None,
    deadline: datetime | None,
    metadata: tuple[str, ...],
    tools: tuple[str, ...],
    flows: tuple[str, ...],
    wait: bool,
    follow: bool,
) -> None:
    """Run a DynamicFlow DOCUMENT until it ends or awaits input; then print the keys that take the answers."""
    text = document_of(document)
    value = input_value(fields, input_file)
    listed = scalars_of(metadata, "--metadata")
    # Events are looked up by the run's name.
    name = uuid4().hex if run_id is None and follow else run_id

    async def start(runner: FlowRunner) -> FlowOutcome:
        if run_id is not None and not names_a_run(run_id, runner.hub):
            msg = f"expected a name other than '', '-', an id or a key, since {RUN_ID} must identify the run later"
            raise click.BadParameter(msg, param_hint=RUN_ID)
        terms: dict[str, Any] = {"by": by, "tenant": tenant, "metadata": listed, "deadline": deadline}
        return or_raise(await runner.start(text, input=value, run_id=name, **terms))

    async def all_of(_: FlowRunner) -> Follower:
        return Follower(str(name))

    go(store, tools, start, wait=wait, creates=True, follow=all_of if follow else None, flows=load_flows(flows))


@click.command(cls=Command)
@click.argument("key", metavar="KEY|ID")
@answer_options
@tools_option
@wait_option
@follow_option
@store_options
def resume(
    *,
    store: Store,
    key: str,
    value: str | None,
    fields: tuple[str, ...],
    by: str | None,
    roles: tuple[str, ...],
    shown_digest: str | None,
    via: Via | None,
    tools: tuple[str, ...],
    wait: bool,
    follow: bool,
) -> None:
    """Answer, if an answer is given, and continue the flow; KEY is - to read it from standard input."""
    given = given_answer(value, fields)
    who = actor(by, roles)
    token = read_key(key)

    async def go_on(runner: FlowRunner) -> FlowOutcome:
        found = named(token, runner.hub)
        value = await given.read(runner.hub, found) if given else MISSING
        return or_raise(await runner.resume(found, answer=value, by=who, shown_digest=shown_digest, via=via))

    async def from_now(runner: FlowRunner) -> Follower:
        return await Follower.from_now(runner, found_in(runner.hub, token))

    go(store, tools, go_on, wait=wait, follow=from_now if follow else None)


@click.command(cls=Command)
@tools_option
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=8, show_default=True, help="The most runs at a time."
)
@click.option(
    "--grace",
    type=DURATION,
    default="10s",
    show_default=True,
    help="On Ctrl-C or SIGTERM, how long a run has to reach its next pause before it is released.",
)
@click.option("--metrics", type=ADDRESS, help="Serve metrics for Prometheus; without a host, to this machine alone.")
@store_options
def worker(
    *, store: Store, tools: tuple[str, ...], concurrency: int, grace: timedelta, metrics: tuple[str, int] | None
) -> None:
    """Continue flows that are answered, and those whose process has died, until it is interrupted."""
    loaded: list[Any] = load_tools(tools)

    async def session(hub: PersistenceHub) -> None:
        note(f"working with {len(loaded)} tool{'' if len(loaded) == 1 else 's'}; Ctrl-C stops and releases the runs")
        async with nullcontext() if metrics is None else measured(hub, metrics):
            await FlowRunner(hub, tools=loaded).work(concurrency=concurrency, grace=grace)

    with_hub(store, session, writes=True)


def input_value(fields: tuple[str, ...], file: str | None) -> object:
    """The input that the options give."""
    if file is None:
        return fields_of(fields, "--input")
    if fields:
        msg = "--input and --input-file exclude each other"
        raise click.UsageError(msg)
    return json_file(file, "--input-file")


def go(
    store: Store,
    tools: tuple[str, ...],
    verb: Callable[[FlowRunner], Awaitable[FlowOutcome]],
    *,
    wait: bool,
    creates: bool = False,
    failed: Failed = "end",
    follow: Callable[[FlowRunner], Awaitable[Follower]] | None = None,
    flows: Mapping[str, bytes] | None = None,
) -> None:
    """Run a verb of the runner, and show its outcome; ``follow`` makes what prints the events of the run meanwhile."""
    loaded: list[Any] = load_tools(tools)

    async def session(hub: PersistenceHub) -> FlowOutcome:
        runner = FlowRunner(hub, tools=loaded, failed=failed, events=follow is not None, flows=flows)
        if follow is None:
            return await done(runner, _nothing)
        follower = await follow(runner)
        return await follower.beside(runner, done(runner, follower.screen.erase))

    async def done(runner: FlowRunner, before_print: Callable[[], None]) -> FlowOutcome:
        outcome = await verb(runner)
        if wait and not isinstance(outcome, Completed):
            before_print()
            _show(store, outcome)
            return await _continued(runner, run_of(outcome), before_print)
        return outcome

    _show(store, with_hub(store, session, writes=True, creates=creates))


def run_of(outcome: Suspended | Accepted) -> SuspensionId:
    """The run of an outcome."""
    return outcome.suspension_id if isinstance(outcome, Suspended) else outcome.receipt.suspension_id


def _nothing() -> None:
    """Leave the screen as it is."""


async def _continued(runner: FlowRunner, found: SuspensionId, before_print: Callable[[], None]) -> FlowOutcome:
    """Wait until the run has ended; continue it after each answer, whoever answers and whoever else continues it."""
    hub = runner.hub
    said: tuple[str, ...] = ()
    while True:
        seen = or_raise(await hub.inspect(found))
        if seen.status.closed:
            return await _ended(hub, found)
        if seen.status is Status.ANSWERED:
            match await runner.resume(found):
                case Success(Completed() as completed):
                    return completed
                case Failure(error) if not isinstance(error, SuspensionBusy | StillWaiting | SuspensionClosed):
                    raise error
        elif seen.status is Status.WAITING and (waits := tuple(wait.name for wait in seen.open_waits)) != said:
            said = waits
            before_print()
            note(f"waiting for {', '.join(waits)}; Ctrl-C stops this command, and the run keeps waiting")
        # The run has paused again, or another process continued it first.
        await asyncio.sleep(POLL)


async def _ended(hub: PersistenceHub, found: SuspensionId) -> Completed:
    """The result of a run that another process has ended; its error if it failed."""
    kept: Any = or_raise(await hub.outcome(found))
    return Completed(kept["result"], kept["outputs"])


def _show(store: Store, outcome: FlowOutcome) -> None:
    store.show(_data(outcome), _lines(outcome))


def _data(outcome: FlowOutcome) -> dict[str, object]:
    match outcome:
        case Completed(result, outputs):
            return {"outcome": "completed", "result": plain(result), "outputs": plain(outputs)}
        case Suspended(run_id, waits, _, due, further):
            listed = [{"step": w.step, "key": str(w.key), "awaiting": awaiting_data(w.awaiting)} for w in waits]
            at = None if due is None else due.isoformat()
            return {"outcome": "suspended", "run": run_id, "waits": listed, "further": further, "due": at}
        case Accepted(receipt):
            return {"outcome": "accepted", "receipt": receipt_data(receipt)}


def _lines(outcome: FlowOutcome) -> list[str]:
    match outcome:
        case Completed(result, _):
            return [as_text(plain(result))]
        case Suspended(run_id, waits, found, due, further):
            count = len(waits) + further
            lines = [f"run {run_id} awaits {count} answer{'' if count == 1 else 's'}:"] if count else []
            if further:
                lines.append(f"some of them are listed here: 'flowpersist keys {found}' prints the keys of all")
            if due is not None:
                lines.append(
                    f"run {run_id} goes on at {due.isoformat()}: keep a worker running, or resume {found} then"
                )
            for wait in waits:
                lines += ["", f"{wait.step}: {wait.awaiting.prompt}", f"  {wait.key}"]
            return lines
        case Accepted(receipt):
            return [f"{receipt.outcome}: {receipt.wait} of {receipt.suspension_id}; another process continues the run"]
