"""A program that writes an order and completes a run in one transaction, and stops on the way, to be killed.

``within_program.py DRIVER URL TABLE KEY before|after``: prints one line when it has come so far, then waits.
"""

from __future__ import annotations

import asyncio
import sys

from flowpersist import open_hub, or_raise
from own_data import KINDS

DRIVER, URL, TABLE, KEY, WHERE = sys.argv[1:]


async def main() -> None:
    data = KINDS[DRIVER](URL, TABLE)
    async with open_hub(URL, keyring=None) as hub, data.connected() as connection:
        run = or_raise(await hub.claim(KEY, "yes"))
        transaction = await data.begin(connection)
        await data.insert(transaction, "paid")
        or_raise(await hub.within(transaction).complete(run, "done"))
        if WHERE == "after":
            await data.commit(transaction)
        sys.stdout.write("there\n")
        sys.stdout.flush()
        await asyncio.sleep(60)


asyncio.run(main())
