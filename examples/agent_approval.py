"""An agent with three tool calls in flight, two of which need an approval; each command is a process of its own.

    $ export FLOWPERSIST_URL=sqlite:///agent.db
    $ python examples/agent_approval.py start order-7 --provider openai
    $ python examples/agent_approval.py list
    $ python examples/agent_approval.py decide order-7 call_refund '{"decision": "edit", "arguments": {"amount": 20}}'
    $ python examples/agent_approval.py decide order-7 call_mail '{"decision": "reject", "comment": "too early"}'
    $ python examples/agent_approval.py go-on order-7

With FLOWPERSIST_URL=postgresql://127.0.0.1/agents it is the same on PostgreSQL. The model is scripted, and speaks the
message forms of OpenAI's Chat Completions or of Anthropic. Each command can be killed at any moment and repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from flowpersist import AwaitInput, Criteria, RaisingHub, Suspension, or_raise
from flowpersist.inputs import Action
from flowpersist.inputs.forms import CallBatch, CallFailure, read_calls
from flowpersist.tools import await_input

Message = dict[str, Any]
AMOUNT = {"type": "object", "properties": {"amount": {"type": "integer", "maximum": 100}}, "required": ["amount"]}
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
ORDER = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
#: The tools that the model may call, and whether a call needs an approval.
TOOLS = {"look_up": (ORDER, False), "refund": (AMOUNT, True), "mail": (TEXT, True)}
CALLS = (
    ("call_order", "look_up", {"order": "7"}),
    ("call_refund", "refund", {"amount": 40}),
    ("call_mail", "mail", {"text": "Your refund is on its way"}),
)
#: Where the effects of the tools stand, one line each.
LEDGER = Path(os.environ.get("AGENT_LEDGER", "agent_ledger.jsonl"))
#: How long a run that was killed is left alone before it is taken over.
LEASE = timedelta(seconds=float(os.environ.get("AGENT_LEASE", "10")))


def question(tool: str) -> AwaitInput[Any]:
    """A tool of the agent, in the forms of the providers."""
    schema, _ = TOOLS[tool]
    return AwaitInput(id=tool, prompt=f"Call {tool}?", parameters=schema)


def model(provider: str, messages: list[Message]) -> Message:
    """What the model says: first three calls, and then how they went."""
    if len(messages) == 1 and provider == "openai":
        calls = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for id_, name, arguments in CALLS
        ]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if len(messages) == 1:
        blocks = [{"type": "tool_use", "id": id_, "name": name, "input": arguments} for id_, name, arguments in CALLS]
        return {"role": "assistant", "content": blocks}
    results = messages[2:] if provider == "openai" else messages[2]["content"]
    return {"role": "assistant", "content": f"Done after {len(results)} results"}


def batch_of(provider: Any, message: Message) -> CallBatch[AwaitInput[Any]]:  # noqa: ANN401 - of the command line
    """The calls of a message, and the messages with their results."""
    return or_raise(read_calls(provider, message, [question(tool) for tool in TOOLS]))


def calls_of(batch: CallBatch[AwaitInput[Any]]) -> list[tuple[str, str, Mapping[str, object]]]:
    """The calls: id, tool, arguments."""
    return [
        (id_, call.name, json.loads(call.arguments) if isinstance(call.arguments, str) else call.arguments)
        for id_, call in batch.calls.items()
    ]


def perform(key: str, tool: str, arguments: Mapping[str, object]) -> str:
    """The effect of a tool, once for each key: a service that knows the key of a request does the same."""
    done = LEDGER.read_text().splitlines() if LEDGER.exists() else []
    if not any(json.loads(line)["key"] == key for line in done):
        with LEDGER.open("a") as ledger:
            ledger.write(json.dumps({"key": key, "tool": tool, "arguments": arguments}) + "\n")
    return f"{tool} done with {json.dumps(arguments)}"


async def start(hub: RaisingHub, name: str, provider: str) -> Suspension:
    """Ask the model, make the calls that need no approval, and suspend with the others."""
    messages: list[Message] = [{"role": "user", "content": "Order 7 arrived broken"}]
    messages.append(model(provider, messages))
    results, awaiting = {}, {}
    for id_, tool, arguments in calls_of(batch_of(provider, messages[-1])):
        schema, needs_approval = TOOLS[tool]
        if needs_approval:
            action = Action(tool, arguments, schema=schema)
            awaiting[id_] = await_input.approval(f"Let the agent call {tool}?", action)
        else:
            results[id_] = perform(f"{name}:{id_}", tool, arguments)
    state = {"provider": provider, "messages": messages, "results": results}
    # Repeated after a kill it is the same suspension, not a second one.
    return await hub.suspend(state, awaiting=awaiting, idempotency_key=name, metadata={"name": name})


async def find(hub: RaisingHub, name: str) -> Suspension:
    """The suspension of a run."""
    page = await hub.query(Criteria(metadata={"name": name}), limit=1)
    if not page.items:
        sys.exit(f"there is no run {name!r}: start it")
    return page.items[0]


async def show(hub: RaisingHub) -> list[dict[str, object]]:
    """What is to be decided."""
    return [
        {
            "run": one.metadata["name"],
            "call": wait.name,
            "action": wait.awaiting.action.to_data(),
            "digest": wait.digest,
        }
        async for one in hub.iterate(Criteria(status="waiting"))
        for wait in one.open_waits
        if wait.awaiting is not None and wait.awaiting.action is not None
    ]


async def decide(hub: RaisingHub, name: str, call: str, decision: str) -> str:
    """Decide on one call, bound to what is asked now."""
    suspension = await find(hub, name)
    wait = next((one for one in suspension.waits if one.name == call), None)
    if wait is None:
        sys.exit(f"the run {name!r} has no call {call!r}")
    keys = await hub.keys(suspension.id)
    if call not in keys:
        return "decided already"
    receipt = await hub.answer(keys[call], json.loads(decision), by="ann", shown_digest=wait.digest)
    return receipt.outcome


async def go_on(hub: RaisingHub, name: str) -> str:
    """Make the approved calls, give the model all results, and end the run."""
    suspension = await find(hub, name)
    if suspension.status == "completed":
        return str(await hub.outcome(suspension.id))
    async with hub.running(suspension.id, lease=LEASE, expect=dict) as run:
        provider, messages = run.state["provider"], run.state["messages"]
        batch = batch_of(provider, messages[-1])
        outcomes: dict[str, object] = dict(run.state["results"])
        for id_, tool, arguments in calls_of(batch):
            if id_ in outcomes:
                continue
            action = Action(tool, arguments, schema=TOOLS[tool][0])
            answer: Any = run.answers[id_]
            approved = or_raise(action.decided(answer))
            if approved is None:
                outcomes[id_] = CallFailure(f"a person refused this call: {answer.get('comment', '')}")
            else:
                outcomes[id_] = perform(f"{name}:{id_}", tool, approved.arguments)
        messages += or_raise(batch.results(outcomes))
        said = str(model(provider, messages)["content"])
        await hub.complete(run, {"said": said, "messages": messages})
    return json.dumps({"said": said, "messages": messages})


async def main(arguments: argparse.Namespace) -> None:
    """One command."""
    async with RaisingHub.open() as hub:
        match arguments.command:
            case "start":
                print((await start(hub, arguments.run, arguments.provider)).id)
            case "list":
                for line in await show(hub):
                    print(json.dumps(line))
            case "decide":
                print(await decide(hub, arguments.run, arguments.call, arguments.decision))
            case _:
                print(await go_on(hub, arguments.run))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    begin = commands.add_parser("start")
    begin.add_argument("run")
    begin.add_argument("--provider", choices=["openai", "anthropic"], default="openai")
    commands.add_parser("list")
    choose = commands.add_parser("decide")
    for name in ("run", "call", "decision"):
        choose.add_argument(name)
    commands.add_parser("go-on").add_argument("run")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parsed()))
