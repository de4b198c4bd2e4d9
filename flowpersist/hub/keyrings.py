"""Where a hub's keyring comes from, and following it while the hub is open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from flowpersist.hub.base import HubBase
from flowpersist.hub.overdue import overdue
from flowpersist.keys.key_file import KeyFile
from flowpersist.keys.keyring import KeyProvider, KeyRing, KeyUpdates
from flowpersist.settings import Settings

__all__ = ["following", "keys_of", "ring_from"]

log = logging.getLogger("flowpersist.hub")
#: Seconds until a provider that has failed is asked again.
AGAIN: Final = 5.0


def keys_of(settings: Settings) -> KeyRing | KeyFile | None:
    """What settings name: a keyring, or the file of one; None where they name neither. Raises ``ConfigurationError``
    for an unusable keyring.
    """
    if settings.keys is not None:
        return KeyRing.parse(settings.keys)
    return None if settings.keys_file is None else KeyFile(settings.keys_file)


async def ring_from(keys: KeyRing | KeyProvider | None) -> KeyRing | None:
    """The keyring as of now. Raises what its provider raises."""
    if keys is None or isinstance(keys, KeyRing):
        return keys
    with overdue("the provider of the keyring, %s,", type(keys).__name__):
        return await keys.keyring()


@asynccontextmanager
async def following(hub: HubBase, provider: object) -> AsyncIterator[None]:
    """Have the hub use each keyring that the provider tells of, for the length of the block; none tells of none."""
    if not isinstance(provider, KeyUpdates):
        yield
        return
    task = asyncio.create_task(_follow(hub, provider))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _follow(hub: HubBase, provider: KeyUpdates) -> None:
    while True:
        try:
            async for keyring in provider.updates():
                hub.use_keyring(keyring)
                log.info("the keyring has changed: %s seals, of %s", keyring.primary, ", ".join(keyring.kids))
        except Exception as error:  # noqa: BLE001 - a provider is the user's code
            # Its message may hold what it holds.
            log.warning("the keyring is not followed for now: its provider raised %s", type(error).__name__)
        await hub.runtime.sleep(AGAIN)
