"""What the README's second example is inferred as: ``match`` is exhaustive. Read by type checkers, never run."""

from __future__ import annotations

from typing import assert_never, assert_type

from returns.result import Failure, Result, Success

from flowpersist import (
    AwaitInput,
    Codec,
    NewSuspension,
    Outcome,
    PersistenceError,
    PersistenceHub,
    Receipt,
    Resumption,
    SuspensionKey,
    open_hub,
    or_raise,
)
from flowpersist.dynamicflow import Accepted, Completed, FlowOutcome, FlowRunner, Suspended


async def suspends() -> str:
    """Both cases, and no others."""
    async with open_hub("sqlite:///flows.db") as hub:
        assert_type(hub, PersistenceHub)
        outcome = await hub.suspend({"article": "lamp"}, awaiting=AwaitInput(id="ok", prompt="Ship it?", schema=bool))
        match outcome:
            case Success(suspension):
                assert_type(suspension, NewSuspension)
                return str(suspension.key)
            case Failure(error):
                assert_type(error, PersistenceError)
                return error.code
            case _:
                assert_never(outcome)


async def resumes(hub: PersistenceHub, key: str) -> None:
    """By isinstance, and by or_raise."""
    taken = await hub.resume(key, value=True, expect=dict)
    if isinstance(taken, Failure):
        assert_type(taken.failure(), PersistenceError)
        return
    assert_type(taken.unwrap(), Resumption[dict[object, object]])  # type: ignore[assert-type]  # a bare dict is dict[Any, Any]
    assert_type(or_raise(await hub.answer(key, value=True)), Receipt)


def pure(codec: Codec, token: str) -> None:
    """Pure functions give a Result, which binds."""
    assert_type(codec.encode(1), Result[bytes, PersistenceError])
    assert_type(codec.encode(1).bind(codec.decode), Result[object, PersistenceError])
    assert_type(SuspensionKey.parse(token), Result[SuspensionKey, PersistenceError])
    assert_type(or_raise(SuspensionKey.parse(token)), SuspensionKey)


async def flows(runner: FlowRunner) -> object:
    """A flow's three outcomes, and no others."""
    started = await runner.start({"flow": []}, input={"article": "lamp"})
    assert_type(started, Outcome[FlowOutcome])
    outcome = or_raise(started)
    match outcome:
        case Completed(result, _):
            return result
        case Suspended(_, waits):
            return waits[0].key
        case Accepted(receipt):
            assert_type(receipt, Receipt)
            return receipt
        case _:
            assert_never(outcome)


async def answers(hub: PersistenceHub, key: str) -> None:
    """An answer is of the schema's class where the verb is told what was asked."""
    taken = await hub.resume(key, value=True, awaiting=AwaitInput(id="ok", prompt="", schema=bool))
    assert_type(or_raise(taken).answer, bool)
    async with hub.running(key, awaiting=AwaitInput(id="ok", prompt="", schema=int | None)) as held:
        assert_type(or_raise(held).answer, int | None)
