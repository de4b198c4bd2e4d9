"""Makes runs that are over at once, says the id and the last MAC of each, and deletes them, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from flowpersist import AwaitInput, KeyRing, Maintenance, open_hub, or_raise

ASK = AwaitInput("pay", "Pay?", schema=bool)


async def main(url: str, keys: str) -> None:
    async with open_hub(url, keyring=KeyRing.parse(keys), retention=timedelta(0)) as hub:
        maintenance = Maintenance(hub)
        while True:
            new = or_raise(await hub.suspend("state", awaiting=ASK))
            for pause in range(9):
                or_raise(await hub.answer(new.key, True, by="ann"))
                run = or_raise(await hub.claim(new.key))
                if pause < 8:
                    new = or_raise(await hub.suspend_next(run, pause, awaiting=ASK))
            # In one line before the run is closed: what was said must be found, whatever ends the rest.
            entries = or_raise(await hub.history(new.id))
            sys.stdout.write(f"{new.id} {len(entries)} {entries[-1].mac}\n")
            sys.stdout.flush()
            or_raise(await hub.complete(run))
            or_raise(await maintenance.append_log())
            or_raise(await maintenance.cleanup())


asyncio.run(main(*sys.argv[1:]))
