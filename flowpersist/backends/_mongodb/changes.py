"""Change streams, which a replica set and a sharded cluster have."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from flowpersist.backends._mongodb.client import Collections
from flowpersist.backends._mongodb.documents import key_of, namespace_bounds
from flowpersist.backends._mongodb.errors import mapped

__all__ = ["changes"]


@asynccontextmanager
async def changes(store: Collections, namespace: str) -> AsyncIterator[AsyncIterator[str]]:
    """Give the keys of a namespace's records as they change. The driver resumes a broken stream where it stopped."""
    least, beyond = namespace_bounds(namespace)
    wanted: list[Mapping[str, Any]] = [{"$match": {"documentKey._id": {"$gte": least, "$lt": beyond}}}]
    with mapped():
        opening: Any = store.records.watch(wanted)
        # motor opens the stream at once but connects later.
        stream = await opening if inspect.isawaitable(opening) else opening
        async with stream:
            # This connects motor's stream too: changes from here on are reported.
            first = await stream.try_next()
            yield _keys(stream, first)


async def _keys(stream: Any, first: Mapping[str, Any] | None) -> AsyncIterator[str]:  # noqa: ANN401 - either driver's
    with mapped():
        if first is not None:
            yield key_of(first["documentKey"]["_id"])
        async for change in stream:
            yield key_of(change["documentKey"]["_id"])
