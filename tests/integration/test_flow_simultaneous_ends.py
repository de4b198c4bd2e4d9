"""A branch that is given up at the very moment at which something within it fails ends all the same.

Before CPython 3.12.3, ``asyncio.TaskGroup`` swallows a cancellation that comes while it ends its own children, so that
such a branch goes on and its run waits for it for ever.
"""

from __future__ import annotations

import asyncio

import pytest
from returns.result import Failure

from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.dynamicflow.branches import Branches
from flowpersist.testing import open_test_hub

MOMENTS = range(6)


@tool()
async def boom(after: int) -> None:
    for _ in range(after):
        await asyncio.sleep(0)
    raise RuntimeError("it broke")


@tool()
async def hang() -> None:
    await asyncio.Event().wait()


def failing(name, after):
    return {"id": name, "tool": "boom", "args": {"after": after}}


def inner(after):
    """A step within which something fails, and which goes on for ever then."""
    handled = {
        "id": "within",
        "parallel": [[failing("deep", after)], [{"tool": "hang"}]],
        "onError": [{"tool": "hang"}],
    }
    return [handled, {"tool": "hang"}]


def in_branches(of_inner, of_outer):
    return {"flow": [{"id": "p", "parallel": [inner(of_inner), [failing("b", of_outer)]]}]}


def in_items(of_inner, of_outer):
    steps = [{"id": "s", "condition": "$item > 0", "then": inner(of_inner), "else": [failing("b", of_outer)]}]
    return {"flow": [{"id": "m", "map": [1, 0], "with": steps, "concurrency": 2}]}


def in_graph(of_inner, of_outer):
    nodes = [{"id": "a", "sequence": inner(of_inner)}, failing("b", of_outer)]
    return {"nodes": nodes, "edges": [{"from": "START", "to": ["a", "b"]}]}


@pytest.mark.parametrize("document", [in_branches, in_items, in_graph])
async def test_a_run_ends_whenever_two_of_its_branches_fail(document):
    async with open_test_hub(keyring=None) as hub:
        runner = FlowRunner(hub, [boom, hang])
        for of_inner in MOMENTS:
            for of_outer in MOMENTS:
                async with asyncio.timeout(20):
                    ended = await runner.start(document(of_inner, of_outer))
                assert isinstance(ended, Failure)
                assert "it broke" in str(ended.failure())
        assert asyncio.current_task().cancelling() == 0


async def waits(ended):
    try:
        await asyncio.Event().wait()
    finally:
        # The end of one that cleans up takes a while.
        await asyncio.sleep(0)
        ended.append("one")


async def test_cancelling_ends_all_branches_and_reaches_the_caller():
    for times in (1, 2, 3):
        ended = []

        async def among(ended=ended):
            branches = Branches()
            for _ in range(3):
                branches.start(waits(ended))
            await branches.verdict()

        task = asyncio.create_task(among())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["one"] * 3


async def test_a_branch_that_somebody_else_cancels_ends_the_others():
    ended = []

    async def leaves():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    branches = Branches()
    branches.start(waits(ended))
    branches.start(leaves())
    with pytest.raises(asyncio.CancelledError):
        await branches.verdict()
    assert ended == ["one"]


async def test_what_a_branch_raises_is_raised_and_none_is_lost():
    async def raises(error):
        await asyncio.sleep(0)
        raise error

    one = Branches()
    one.start(raises(ZeroDivisionError("once")))
    with pytest.raises(ZeroDivisionError, match="once"):
        await one.verdict()
    two = Branches()
    two.start(raises(ZeroDivisionError("first")))
    two.start(raises(LookupError("second")))
    with pytest.raises(ExceptionGroup) as group:
        await two.verdict()
    assert [type(error) for error in group.value.exceptions] == [ZeroDivisionError, LookupError]


async def test_without_branches_there_is_no_verdict():
    assert await Branches().verdict() is None
