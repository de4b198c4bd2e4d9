"""Tasks that change one record: each has its turn, and whoever stands still or leaves holds nobody up."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from flowpersist.sealed import turns
from flowpersist.sealed.retrying import Runtime
from flowpersist.sealed.turns import MAX_CONFLICTS, Turns

TASKS = 20
CHANGES = 30


async def test_contenders_come_one_after_another_and_nobody_is_passed_over():
    line, changes, attempts, passed = Turns(Runtime()), [], Counter(), []

    async def change(task, number):
        begun = len(changes)

        async def attempt():
            attempts[task, number] += 1
            read = len(changes)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if len(changes) != read:
                return None
            changes.append(task)
            return read

        assert await line.changed("key", attempt) is not None
        passed.append(len(changes) - begun - 1)

    async def contend(task):
        for number in range(CHANGES):
            await change(task, number)

    await asyncio.gather(*map(contend, range(TASKS)))
    assert Counter(changes) == dict.fromkeys(range(TASKS), CHANGES)
    assert max(attempts.values()) <= 3
    assert max(passed) <= TASKS


async def given(value):
    return value


def lost_once(then):
    """An attempt that loses, and then does what is given."""
    tried = []

    async def attempt():
        tried.append(1)
        return await then() if len(tried) > 1 else None

    return attempt


async def held():
    """A line, a task that has its turn on "key", and what lets it end."""
    line, go, has_it = Turns(Runtime()), asyncio.Event(), asyncio.Event()

    async def hold():
        has_it.set()
        await go.wait()
        return "held"

    holder = asyncio.create_task(line.changed("key", lost_once(hold)))
    await has_it.wait()
    return line, holder, go


async def test_other_keys_have_lines_of_their_own():
    line, holder, go = await held()
    assert await line.changed("other", lost_once(lambda: given(2))) == 2
    go.set()
    assert await holder == "held"


async def test_a_task_that_is_cancelled_in_line_holds_nobody_up():
    line, holder, go = await held()
    waiting = [asyncio.create_task(line.changed("key", lambda: given(1))) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    go.set()
    results = await asyncio.gather(holder, *waiting, return_exceptions=True)
    assert results[0] == "held"
    assert isinstance(results[2], asyncio.CancelledError)
    assert (results[1], results[3]) == (1, 1)


async def test_a_turn_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(turns, "LONGEST", 0.01)
    line, holder, go = await held()
    assert await line.changed("key", lambda: given(2)) == 2
    assert not holder.done()
    go.set()
    assert await holder == "held"


async def test_conflicts_with_other_processes_end_and_their_pauses_stay_short():
    pauses, tried = [], []

    async def sleep(seconds):
        pauses.append(seconds)

    async def lost():
        tried.append(1)

    runtime = Runtime(sleep=sleep, base=timedelta(milliseconds=20))
    assert await Turns(runtime).changed("key", lost) is None
    assert len(tried) == MAX_CONFLICTS
    assert max(pauses) <= 0.16


@pytest.mark.parametrize("error", [RuntimeError("no"), asyncio.CancelledError()], ids=["raised", "cancelled"])
async def test_an_attempt_that_raises_gives_its_turn_back(error):
    line, tried = Turns(Runtime()), []

    async def fails():
        tried.append(1)
        if len(tried) > 1:
            raise error

    with pytest.raises(type(error)):
        await line.changed("key", fails)
    assert await line.changed("key", lambda: given(1)) == 1
