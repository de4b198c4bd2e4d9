"""What the README's first example is inferred as: verbs return values. Read by type checkers, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, assert_type

from attrs import frozen

from flowpersist import AwaitInput, NewSuspension, Page, RaisingHub, Receipt, Resumption, Suspension


@frozen
class Order:
    """A state of the user's own."""

    article: str


async def first_process() -> str:
    """Suspends."""
    async with RaisingHub.open("sqlite:///flows.db", types=[Order]) as hub:
        assert_type(hub, RaisingHub)
        approval = AwaitInput(id="approval", prompt="Ship it?", schema=bool)
        assert_type(approval, AwaitInput[bool])
        suspension = await hub.suspend(Order("lamp"), awaiting=approval, timeout=timedelta(days=2))
        assert_type(suspension, NewSuspension)
        return str(suspension.key)


async def second_process(key: str) -> None:
    """Resumes."""
    async with RaisingHub.open("sqlite:///flows.db", types=[Order]) as hub:
        assert_type(await hub.inspect(key), Suspension)
        assert_type(await hub.answer(key, value=True), Receipt)
        run = await hub.resume(key, value=True, expect=Order)
        assert_type(run, Resumption[Order])
        assert_type(run.state, Order)
        assert_type(run.state.article, str)
        assert_type(run.answer, object)
        assert_type(await hub.resume(key), Resumption[Any])
        assert_type(await hub.query(), Page[Suspension])
        async for found in hub.iterate():
            assert_type(found, Suspension)


async def worker(key: str) -> None:
    """Claims and completes."""
    async with RaisingHub.open("sqlite:///flows.db", types=[Order]) as hub:
        async with hub.running(key, expect=Order) as run:
            assert_type(run, Resumption[Order])
        claimed = await hub.claim(key, expect=Order)
        assert_type(claimed, Resumption[Order])
        assert_type(await hub.complete(claimed), Suspension)
        for due in await hub.claim_due(limit=5, expect=Order):
            assert_type(due, Resumption[Order])


def schemas(kind: type[Order]) -> None:
    """A class, a Literal, a union and a collection are schemas; of a mapping nothing is known."""
    assert_type(AwaitInput(id="a", prompt="", schema=Literal["yes", "no"]), AwaitInput[Literal["yes", "no"]])
    assert_type(AwaitInput(id="a", prompt="", schema=Order | None), AwaitInput[Order | None])
    assert_type(AwaitInput(id="a", prompt="", schema=list[Order]), AwaitInput[list[Order]])
    assert_type(AwaitInput(id="a", prompt="", schema=kind), AwaitInput[Order])
    assert_type(AwaitInput(id="a", prompt="", schema={"type": "string"}), AwaitInput[Any])
    assert_type(AwaitInput(id="a", prompt=""), AwaitInput[Any])


async def answers(hub: RaisingHub, key: str) -> None:
    """An answer is of the schema's class where the verb is told what was asked."""
    choice = AwaitInput(id="a", prompt="", schema=Literal["yes", "no"])
    run = await hub.resume(key, "yes", expect=Order, awaiting=choice)
    assert_type(run, Resumption[Order, Literal["yes", "no"]])
    assert_type(run.answer, Literal["yes", "no"])
    optional = AwaitInput(id="a", prompt="", schema=Order | None)
    assert_type((await hub.claim(key, awaiting=optional)).answer, Order | None)
    async with hub.running(key, awaiting=AwaitInput(id="a", prompt="", schema=bool)) as held:
        assert_type(held.answer, bool)
        assert_type(await hub.complete(held), Suspension)
    assert_type((await hub.claim(key, awaiting=AwaitInput(id="a", prompt=""))).answer, Any)


async def handled(run: Resumption[Order, bool]) -> str:
    """A handler may say what it knows of its runs."""
    return run.state.article if run.answer else ""


async def works(hub: RaisingHub) -> None:
    """Handlers of either kind."""
    await hub.work(handled)
