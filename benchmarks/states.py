"""States to measure with, of a given size as pickle protocol 5, the same for every run."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from uuid import UUID

from attrs import define

WORDS = (
    *("invoice", "payment", "contract", "review", "customer", "approve", "refund", "policy", "amount", "delivery"),
    *("schedule", "answer", "question", "the", "of", "and", "to", "in", "for", "with", "that", "is", "was", "please"),
    *("check", "again", "before", "after", "tomorrow", "because", "without"),
)


class Role(Enum):
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass
class Tool:
    """A tool's definition, shared by all messages that call it."""

    name: str
    description: str
    parameters: dict[str, object]


@dataclass
class Message:
    """One message of an agent's history; a reply points at the message that it replies to."""

    id: UUID
    role: Role
    at: datetime
    text: str
    cost: Decimal
    tool: Tool | None
    reply_to: Message | None
    tags: list[str]


@dataclass
class Source:
    """Where a node is from, shared by many."""

    name: str
    labels: dict[str, str]


@dataclass(eq=False)
class Node:
    """A node of an object graph: it knows its parent and its children."""

    number: int
    title: str
    weight: float
    source: Source
    parent: Node | None
    children: list[Node] = field(default_factory=list, repr=False)


@define(eq=False)
class Edge:
    """From one node to another."""

    tail: Node
    head: Node
    kind: str
    weight: float


def sentence(rng: random.Random, words: int) -> str:
    """Some words."""
    return " ".join(rng.choices(WORDS, k=words))


def agent(rng: random.Random, messages: int) -> dict[str, object]:
    """An agent's history: texts of some hundred characters to some KB, typed leaves, sharing."""
    tools = [
        Tool(f"tool_{n}", sentence(rng, 40), {"type": "object", "properties": {}})
        for n in range(min(20, 2 + messages // 20))
    ]
    history: list[Message] = []
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(messages):
        history.append(
            Message(
                id=UUID(int=rng.getrandbits(128)),
                role=rng.choice(list(Role)),
                at=start + timedelta(seconds=number),
                text=sentence(rng, rng.randint(20, 560)),
                cost=Decimal(rng.randint(1, 10_000)) / 100,
                tool=rng.choice(tools) if rng.random() < 0.3 else None,
                reply_to=rng.choice(history) if history and rng.random() < 0.5 else None,
                tags=rng.sample(WORDS, 3),
            )
        )
    return {"messages": history, "tools": tools, "step": 7}


def conversation(rng: random.Random, messages: int) -> dict[str, object]:
    """The messages of an SDK as dicts: texts of some hundred characters, calls of tools and their results, usages."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    history: list[dict[str, object]] = []

    def say(role: str, words: int | None, **more: object) -> None:
        at = (start + timedelta(seconds=7 * len(history))).isoformat()
        content = None if words is None else sentence(rng, words)
        history.append({"role": role, "content": content, **more, "created_at": at})

    say("system", 80)
    while len(history) < messages:
        say("user", rng.randint(5, 60))
        if rng.random() < 0.6:
            calls = [call(rng) for _ in range(rng.choice((1, 1, 2)))]
            say("assistant", None, tool_calls=calls, usage=usage(rng))
            for one in calls:
                say("tool", rng.randint(10, 150), tool_call_id=one["id"])
        say("assistant", rng.randint(10, 200), usage=usage(rng))
    return {"model": "gpt-5", "messages": history[:messages], "temperature": 0.2, "step": 7, "pending": None}


def call(rng: random.Random) -> dict[str, object]:
    """One call of a tool, its arguments as JSON in a text."""
    arguments = json.dumps({"query": sentence(rng, 4), "limit": rng.randrange(50)})
    function = {"name": rng.choice(WORDS), "arguments": arguments}
    return {"id": f"call_{rng.getrandbits(96):024x}", "type": "function", "function": function}


def usage(rng: random.Random) -> dict[str, object]:
    """The tokens of one answer."""
    asked, answered = rng.randrange(200, 9000), rng.randrange(5, 600)
    details = {"cached_tokens": rng.randrange(asked)}
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": details,
    }


def rows(rng: random.Random, count: int) -> list[dict[str, object]]:
    """Many small nodes: rows of dicts of 14 plain values each, a short list among them."""
    return [
        {
            "id": number,
            "account": rng.randrange(2**16),
            "name": sentence(rng, 2),
            "region": rng.choice(WORDS),
            "status": rng.choice(WORDS),
            "quantity": rng.randrange(100),
            "price": rng.random() * 100,
            "discount": rng.random() if number % 4 == 0 else None,
            "tax": rng.choice((0.0, 0.07, 0.19)),
            "active": number % 3 == 0,
            "open": rng.random() < 0.5,
            "priority": rng.randrange(5),
            "retries": 0,
            "tags": rng.choices(WORDS, k=2),
        }
        for number in range(count)
    ]


def graph(rng: random.Random, count: int) -> dict[str, object]:
    """An object graph: so many nodes in a tree whose ends know each other, and half as many edges across it."""
    sources = [Source(f"source {number}", {"owner": rng.choice(WORDS)}) for number in range(50)]
    nodes: list[Node] = []
    for number in range(count):
        parent = rng.choice(nodes) if nodes else None
        node = Node(number, sentence(rng, 9), rng.random(), rng.choice(sources), parent)
        if parent is not None:
            parent.children.append(node)
        nodes.append(node)
    edges = [
        Edge(rng.choice(nodes), rng.choice(nodes), rng.choice(WORDS), rng.random()) for _ in range(max(1, count // 2))
    ]
    return {"nodes": nodes, "edges": edges}


def blobs(rng: random.Random, kilobytes: int) -> dict[str, object]:
    """Few large strings and byte strings, half of them random."""
    return {
        "random": [rng.randbytes(kilobytes * 1024 // 8) for _ in range(4)],
        "text": [sentence(rng, kilobytes * 1024 // 8 // 7) for _ in range(4)],
    }


def floats(rng: random.Random, count: int) -> list[list[float]]:
    """Embeddings: so many random numbers, in lists of 768."""
    return [[rng.random() for _ in range(768)] for _ in range(max(1, count // 768))]


Maker = Callable[[random.Random, int], object]

#: Name, what makes it, and the classes that must be registered: what the benchmarks of the whole way use.
STATES: dict[str, tuple[Maker, tuple[type, ...]]] = {
    "agent history": (agent, (Message, Tool, Role)),
    "rows": (rows, ()),
    "blobs": (blobs, ()),
}

#: Those, and what is hard for codecs.
ALL_STATES: dict[str, tuple[Maker, tuple[type, ...]]] = {
    **STATES,
    "dict messages": (conversation, ()),
    "object graph": (graph, (Node, Edge, Source)),
    "floats": (floats, ()),
}


@cache
def _count(name: str, target: int) -> int:
    """How many units of the named state make about so many bytes. The larger a state, the larger each unit in it, since
    pickle's references grow: so what a first guess gives is measured too.
    """
    make, _ = ALL_STATES[name]
    count = 2_000
    for _ in range(3):
        size = len(pickle.dumps(make(random.Random(1), count), protocol=5))
        if abs(size - target) < target / 100:
            break
        count = max(1, round(count * target / size))
    return count


def of_size(name: str, target: int) -> object:
    """The named state with about ``target`` bytes as pickle protocol 5."""
    return ALL_STATES[name][0](random.Random(1), _count(name, target))
