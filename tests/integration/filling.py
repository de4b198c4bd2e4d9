"""Stores that hold something of every kind of record."""

from __future__ import annotations

from datetime import timedelta

from flowpersist import AwaitInput, or_raise
from flowpersist.stores import Stores

CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
TEXT = AwaitInput(id="text", prompt="What?", schema=str)
HOUR = timedelta(hours=1)


async def answered(hub, *, pauses=1, text=None):
    """An answered run, and what stands beside it: a large answer, moved entries."""
    new = or_raise(await hub.suspend({"pause": 0}, awaiting=TEXT, metadata={"team": "x"}, tenant="t"))
    for _ in range(pauses):
        run = or_raise(await hub.claim(new.key, "go"))
        new = or_raise(await hub.suspend_next(run, {"pause": run.sequence}, awaiting=TEXT))
    or_raise(await hub.answer(new.key, "done" if text is None else text))
    return new


async def filled(hub):
    """Records of every kind but dictionaries and events."""
    new = await answered(hub, pauses=8, text="large " * 3000)
    done = or_raise(await hub.suspend("begun"))
    or_raise(await hub.complete(or_raise(await hub.claim(done.key)), {"n": 1}))
    or_raise(await hub.suspend(b"x" * 100_000, awaiting=CONFIRM, timeout=HOUR))
    stores = Stores(hub)
    await stores.values("small").save("a", 1, ttl=HOUR, attributes={"colour": "red"})
    await Stores(hub, tenant="t").values("large").save("b", "x" * 50_000)
    await stores.signals.set("READY", True)
    await stores.observations.add("ana", "seen")
    await stores.artifacts.write("report", b"pages " * 100)
    return new
