"""Hubs for tests: opened without an environment, and able to travel in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Unpack

from flowpersist.backends.base import StorageBackend
from flowpersist.blocking.hubs import Hub, parts
from flowpersist.errors.arguments import check_instance, out_of_range
from flowpersist.hub.opening import HubOptions, open_hub
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.keys.keyring import KeyRing
from flowpersist.sealed.retrying import Runtime
from flowpersist.settings import Settings

__all__ = ["open_test_hub", "travel"]


@asynccontextmanager
async def open_test_hub(
    url: str | StorageBackend = "memory://", **options: Unpack[HubOptions]
) -> AsyncIterator[PersistenceHub]:
    """A hub with a fresh keyring and an empty store, which retries without waiting.

    ``options`` are those of ``open_hub``. What they leave out is the library's default, not the environment's.
    """
    chosen: HubOptions = {
        "keyring": KeyRing.generate(),
        "settings": Settings.from_environ({}),
        "runtime": Runtime(base=timedelta(0), slow=timedelta(minutes=1)),
    }
    chosen.update(options)
    async with open_hub(url, **chosen) as hub:
        yield hub


def travel(hub: PersistenceHub | RaisingHub | Hub, by: timedelta) -> None:
    """Move the time of the hub's store forward. The store's clock decides everything, so leases and deadlines pass.

    Only for this hub's own connection: another process, or another hub on the same database, has an offset of its own.
    """
    check_instance(by, "by", timedelta, "a timedelta")
    if by < timedelta(0):
        out_of_range("by", "a timedelta that is not negative, since time moves forward only", by)
    check_instance(hub, "hub", (PersistenceHub, RaisingHub, Hub), "a PersistenceHub, a RaisingHub or a blocking Hub")
    if isinstance(hub, Hub):
        hub = parts(hub)[1]
    backend = hub.hub.backend if isinstance(hub, RaisingHub) else hub.backend
    backend.clock_offset += by
