"""The stored events of runs on every backend: read again, followed through another hub, and removed with the run."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from flowpersist import KeyRing, Maintenance, or_raise
from flowpersist.backends.base import Where
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.errors import EncryptionError, SuspensionNotFound
from flowpersist.testing.hubs import open_test_hub, travel

KEYS = KeyRing.generate()
SOON = timedelta(milliseconds=50)
FLOW = {
    "flow": [
        {"id": "each", "map": [1, 2, 3], "with": [{"id": "n", "tool": "note", "args": {"value": "$item"}}]},
        {"id": "ask", "tool": "await_input", "args": {"prompt": "?"}},
        {"id": "last", "tool": "note", "args": {"value": "$ask"}},
    ]
}


@tool()
async def note(value: object) -> object:
    return value


async def read(runner, run="r", **options):
    return [event async for event in runner.events(run, **options)]


async def test_the_events_of_a_run(url):
    async with open_test_hub(url, keyring=KEYS) as hub, open_test_hub(url, keyring=KEYS) as other:
        runner, observer = FlowRunner(hub, [note], events=True, lease=timedelta(minutes=10)), FlowRunner(other)
        waiting = or_raise(await runner.start(FLOW, run_id="r"))
        first = await read(observer)
        assert (first[0].type, first[-1].type) == ("flow-start", "flow-suspended")
        assert str(waiting.key) not in json.dumps([dict(event.data) for event in first])
        followers = [asyncio.create_task(read(observer, after=after, follow=True, poll=SOON)) for after in (0, 5)]
        or_raise(await runner.resume(waiting.key, answer="yes"))
        whole, part = await asyncio.gather(*followers)
        assert [event.sequence for event in whole] == list(range(1, len(whole) + 1))
        assert (whole[: len(first)], whole[5:]) == (first, part)
        assert (whole[-1].type, whole[-1].data["result"]) == ("flow-complete", "yes")
        assert await read(runner) == whole

        # No other keyring reads them, and they go with the run.
        async with open_test_hub(url) as stranger:
            with pytest.raises(EncryptionError):
                await read(FlowRunner(stranger), waiting.suspension_id)
        travel(hub, timedelta(days=400))
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
        assert or_raise(await hub.suspensions.side_records.events.records.page(Where(), limit=10)).items == ()
        with pytest.raises(SuspensionNotFound):
            await read(observer)
