"""A collection of a hub that is opened by whoever needs it first, and closed with the event loop at the latest."""

from __future__ import annotations

import asyncio
from typing import Final

from flowpersist.backends.base import StorageBackend
from flowpersist.codec import Codec
from flowpersist.errors.arguments import check_instance
from flowpersist.hub.opening import HubOptions, check_options, open_hub
from flowpersist.sealed.collection import SealedCollection
from flowpersist.sealed.retrying import Runtime

__all__ = ["LateCollection"]

#: An event loop itself keeps no task.
_holders: Final[set[asyncio.Task[None]]] = set()


class LateCollection:
    """The collection ``name`` of a store. ``source``: a URL, a backend, or a collection of a hub that is open."""

    def __init__(self, source: SealedCollection | str | StorageBackend, name: str, options: HubOptions) -> None:
        check_instance(source, "store", (SealedCollection, str, StorageBackend), "a URL, or a backend")
        check_options(options)
        self._source, self._name, self._options = source, name, options
        self._open = source if isinstance(source, SealedCollection) else None
        #: Holds the store open: an event loop cancels its tasks when it ends.
        self._holder: asyncio.Task[None] | None = None

    async def collection(self) -> SealedCollection:
        """The collection. Raises what ``open_hub`` raises."""
        if isinstance(self._source, SealedCollection):
            return self._source
        if self._holder is None or self._holder.done():
            self._opened: asyncio.Future[SealedCollection] = asyncio.get_running_loop().create_future()
            self._leave = asyncio.Event()
            self._holder = asyncio.create_task(self._hold(self._source, self._opened))
            _holders.add(self._holder)
            self._holder.add_done_callback(_holders.discard)
        return await asyncio.shield(self._opened)

    async def _hold(self, source: str | StorageBackend, opened: asyncio.Future[SealedCollection]) -> None:
        try:
            async with open_hub(source, **self._options) as hub:
                self._open = SealedCollection(hub.suspensions.records, self._name, listed=False, tenant=None)
                opened.set_result(self._open)
                await self._leave.wait()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)

    @property
    def codec(self) -> Codec:
        """The hub's, or as it will be once that is open."""
        return Codec(types=self._options.get("types", ())) if self._open is None else self._open.records.sealer.codec

    @property
    def runtime(self) -> Runtime:
        """The hub's clock and randomness, as above."""
        given = self._options.get("runtime")
        chosen = given if isinstance(given, Runtime) else Runtime()
        return chosen if self._open is None else self._open.records.runtime

    async def close(self) -> None:
        """Close what was opened. Twice: a no-op."""
        if self._holder is not None:
            self._leave.set()
            await asyncio.wait({self._holder})
