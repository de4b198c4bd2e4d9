"""Turns of a conversation, one for each process; the environment says where its state is kept.

    $ python examples/conversation.py ana "Hello"
    $ python examples/conversation.py ana "It is me again"
    $ PERSISTENCE_ADAPTER=redis REDIS_URL=redis://127.0.0.1:6379/0 python examples/conversation.py ana "Hello"
    $ PERSISTENCE_ADAPTER=postgres DATABASE_URL=postgresql://127.0.0.1/agents python examples/conversation.py ana Hi

Without any variable the states are files below ``.flowpersist``.
"""

from __future__ import annotations

import asyncio
import json
import sys

from flowpersist.stores import ConversationManager


async def main(subject: str, said: str) -> None:
    """One turn."""

    def answer(state: str | None) -> str:
        messages = json.loads(state) if state else []
        return json.dumps([*messages, said, f"you have told me {len(messages) // 2 + 1} things"])

    async with ConversationManager() as manager:
        for message in json.loads(await manager.turn(subject, answer)):
            print(message)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
