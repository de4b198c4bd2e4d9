"""Appends to the audit log of a store as fast as it can, with tiles of four leaves, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from flowpersist import KeyRing, Maintenance, open_hub
from flowpersist.hub import audit_log
from flowpersist.lifecycle import log_records


async def main(url: str, keys: str) -> None:
    log_records.TILE = audit_log.TILE = 4  # type: ignore[misc]
    log_records.TILE_HEIGHT = 2  # type: ignore[misc]
    audit_log.PAGE = 3  # type: ignore[misc]
    async with open_hub(url, keyring=KeyRing.parse(keys)) as hub:
        while True:
            await hub.suspend("state")
            await Maintenance(hub).append_log()
            sys.stdout.write("appended\n")
            sys.stdout.flush()


asyncio.run(main(*sys.argv[1:]))
