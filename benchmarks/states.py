"""States to measure with, of a given size as pickle protocol 5, the same for every run."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
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


@define
class Tool:
    """A tool's definition, shared by all messages that call it."""

    name: str
    description: str
    parameters: dict[str, object]


@define
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


def sentence(rng: random.Random, words: int) -> str:
    """Some words."""
    return " ".join(rng.choices(WORDS, k=words))


def agent(rng: random.Random, messages: int) -> dict[str, object]:
    """An agent's history: texts of some hundred characters to some KB, typed leaves, sharing."""
    tools = [Tool(f"tool_{n}", sentence(rng, 40), {"type": "object", "properties": {}}) for n in range(20)]
    history: list[Message] = []
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(messages):
        history.append(
            Message(
                id=UUID(int=rng.getrandbits(128)),
                role=rng.choice(list(Role)),
                at=start + timedelta(seconds=number),
                text=sentence(rng, rng.randint(20, 300)),
                cost=Decimal(rng.randint(1, 10_000)) / 100,
                tool=rng.choice(tools) if rng.random() < 0.3 else None,
                reply_to=rng.choice(history) if history and rng.random() < 0.5 else None,
                tags=rng.sample(WORDS, 3),
            )
        )
    return {"messages": history, "tools": tools, "step": 7}


def rows(rng: random.Random, count: int) -> list[dict[str, object]]:
    """Many small nodes: rows of dicts."""
    return [
        {"id": n, "name": sentence(rng, 2), "price": rng.random(), "stock": rng.randint(0, 99), "active": n % 3 == 0}
        for n in range(count)
    ]


def blobs(rng: random.Random, kilobytes: int) -> dict[str, object]:
    """Few large strings and byte strings, half of them random."""
    return {
        "random": [rng.randbytes(kilobytes * 1024 // 8) for _ in range(4)],
        "text": [sentence(rng, kilobytes * 1024 // 8 // 7) for _ in range(4)],
    }


#: Name, what makes it, and the classes that must be registered.
STATES: dict[str, tuple[Callable[[random.Random, int], object], tuple[type, ...]]] = {
    "agent history": (agent, (Message, Tool, Role)),
    "rows": (rows, ()),
    "blobs": (blobs, ()),
}


def of_size(name: str, target: int) -> object:
    """The named state with about ``target`` bytes as pickle protocol 5."""
    make, _ = STATES[name]
    probe = 200
    unit = len(pickle.dumps(make(random.Random(1), probe), protocol=5)) / probe
    return make(random.Random(1), max(1, int(target / unit)))
