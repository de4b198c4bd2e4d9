"""query and claim_due: what each criterion finds, in which order, page by page, and never twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, RaisingHub, Status, open_hub, or_raise
from flowpersist.errors import InputValidationError, UnknownKey
from flowpersist.testing.hubs import open_test_hub, travel

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)
REVIEW = AwaitInput(id="review", prompt="Look at it")


@pytest.fixture
async def hub():
    async with open_test_hub() as opened:
        yield opened


async def answered(hub, count, **options):
    """Suspensions that were answered a second apart."""
    made = []
    for number in range(count):
        new = or_raise(await hub.suspend(number, awaiting=CONFIRM, **options))
        or_raise(await hub.answer(new.key, True))
        made.append(new)
        travel(hub, SECOND)
    return made


async def found(hub, **criteria):
    return {item.id for item in or_raise(await hub.query(Criteria(**criteria))).items}


@pytest.fixture
async def four(hub):
    made = {}
    made["plain"] = or_raise(await hub.suspend(0, awaiting=CONFIRM))
    travel(hub, HOUR)
    made["review"] = or_raise(await hub.suspend(0, awaiting=REVIEW, metadata={"run": "r1", "n": 1}, tenant="acme"))
    travel(hub, HOUR)
    made["later"] = or_raise(
        await hub.suspend(0, awaiting=CONFIRM, metadata={"run": "r2", "n": 1}, tenant="zeta", timeout=HOUR)
    )
    made["done"] = or_raise(await hub.suspend(0, awaiting=CONFIRM, metadata={"n": True}))
    or_raise(await hub.resume(made["done"].key, True))
    return made


async def test_each_criterion(hub, four):
    async def names(**criteria):
        ids = await found(hub, **criteria)
        return {name for name, made in four.items() if made.id in ids}

    middle = four["review"].created_at
    assert await names() == set(four)
    assert await names(status="waiting") == {"plain", "review", "later"}
    assert await names(status=Status.COMPLETED) == {"done"}
    assert await names(status="running") == set()
    assert await names(tool="review") == {"review"}
    assert await names(run="r1") == {"review"}
    assert await names(run=str(four["plain"].id)) == {"plain"}
    assert await names(tenant="zeta") == {"later"}
    assert await names(metadata={"n": 1}) == {"review", "later"}
    assert await names(metadata={"n": True}) == {"done"}
    assert await names(metadata={"n": 1, "run": "r2"}) == {"later"}
    assert await names(created_before=middle) == {"plain"}
    assert await names(created_after=middle) == {"review", "later", "done"}
    assert await names(created_after=middle, created_before=middle + SECOND) == {"review"}
    assert await names(due_before=four["later"].created_at + 2 * HOUR) == {"later"}
    assert await names(tenant="zeta", status="waiting", tool="confirm", run="r2", metadata={"n": 1}) == {"later"}
    assert await names(tenant="zeta", tool="review") == set()
    assert await names(created_after=middle, due_before=four["later"].created_at + 2 * HOUR) == {"later"}


async def test_a_status_that_does_not_exist_is_a_programmers_error():
    with pytest.raises(ValueError, match="sleeping"):
        Criteria(status="sleeping")


async def test_pages_give_everything_once_and_the_oldest_first(hub):
    made = [or_raise(await hub.suspend(n, awaiting=CONFIRM)).id for n in range(23)]
    seen, after = [], None
    while True:
        page = or_raise(await hub.query(limit=5, after=after))
        assert len(page.items) <= 5
        seen += [item.id for item in page.items]
        after = page.next
        if after is None:
            break
    assert seen == made


async def test_a_cursor_of_nobody_is_invalid_input(hub):
    error = (await hub.query(after="no cursor")).failure()
    assert isinstance(error, InputValidationError)
    assert error.problems[0].pointer == "/after"


async def test_iterate_walks_over_all_pages():
    async with open_test_hub() as hub:
        made = {or_raise(await hub.suspend(n, awaiting=CONFIRM)).id for n in range(120)}
        seen = [item.id async for item in RaisingHub(hub).iterate()]
        assert len(seen) == 120
        assert set(seen) == made


async def test_a_namespace_sees_only_its_own(hub):
    new = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    ring = hub.suspensions.records.sealer.keyring
    async with open_test_hub(hub.backend, keyring=ring, namespace="other") as other:
        assert or_raise(await other.query()).items == ()
        assert (await other.inspect(new.key)).failure().code == "not-found"
        assert or_raise(await hub.inspect(new.key)).id == new.id


# ------------------------------------------------------------------------------------------------------------ claim_due


async def test_claim_due_takes_the_longest_due_first(hub):
    made = await answered(hub, 5)
    first = or_raise(await hub.claim_due(limit=2))
    rest = or_raise(await hub.claim_due(limit=10))
    assert [run.suspension.id for run in (*first, *rest)] == [new.id for new in made]
    assert [run.state for run in (*first, *rest)] == [0, 1, 2, 3, 4]
    assert or_raise(await hub.claim_due()) == ()


async def test_claim_due_takes_one_unless_told(hub):
    await answered(hub, 3)
    assert len(or_raise(await hub.claim_due())) == 1


async def test_claim_due_leaves_what_waits_and_what_is_held(hub):
    or_raise(await hub.suspend(0, awaiting=CONFIRM))
    held = or_raise(await hub.suspend(1, awaiting=CONFIRM))
    or_raise(await hub.claim(held.key, True))
    or_raise(await hub.reserve(CONFIRM))
    assert or_raise(await hub.claim_due(limit=10)) == ()


async def test_claim_due_takes_over_lapsed_leases_in_order_with_the_rest(hub):
    (lapsing,) = await answered(hub, 1)
    or_raise(await hub.claim(lapsing.key, lease=timedelta(seconds=5)))
    travel(hub, timedelta(seconds=10))
    (late,) = await answered(hub, 1)
    runs = or_raise(await hub.claim_due(limit=5))
    assert [(run.suspension.id, run.attempt) for run in runs] == [(lapsing.id, 2), (late.id, 1)]


async def test_claim_due_takes_what_a_default_has_answered(hub):
    awaiting = AwaitInput(id="c", prompt="?", default=7)
    new = or_raise(await hub.suspend(0, awaiting=awaiting, timeout=HOUR))
    travel(hub, 2 * HOUR)
    (run,) = or_raise(await hub.claim_due())
    assert (run.suspension.id, run.answer) == (new.id, 7)


async def test_what_has_expired_is_settled_and_blocks_nobody(hub):
    for _ in range(3):
        or_raise(await hub.suspend(0, awaiting=CONFIRM, timeout=HOUR))
    travel(hub, 2 * HOUR)
    (good,) = await answered(hub, 1)
    (run,) = or_raise(await hub.claim_due(limit=5))
    assert run.suspension.id == good.id


async def test_concurrent_callers_get_disjoint_runs(hub):
    made = {new.id for new in await answered(hub, 30)}
    batches = await asyncio.gather(*(hub.claim_due(limit=5) for _ in range(10)))
    taken = [run.suspension.id for batch in batches for run in or_raise(batch)]
    while more := or_raise(await hub.claim_due(limit=10)):
        taken += [run.suspension.id for run in more]
    assert len(taken) == len(set(taken))
    assert set(taken) == made


@pytest.mark.parametrize(
    ("criteria", "wanted"),
    [
        (Criteria(), {0, 1, 2}),
        (Criteria(tenant="acme"), {1}),
        (Criteria(run="r2"), {2}),
        (Criteria(metadata={"kind": "b"}), {2}),
        (Criteria(tool="confirm"), {0, 1, 2}),
        (Criteria(tool="review"), set()),
        (Criteria(status="answered"), {0, 1, 2}),
    ],
)
async def test_claim_due_by_criteria(hub, criteria, wanted):
    options = [{}, {"tenant": "acme", "metadata": {"kind": "a"}}, {"metadata": {"run": "r2", "kind": "b"}}]
    for number, option in enumerate(options):
        new = or_raise(await hub.suspend(number, awaiting=CONFIRM, **option))
        or_raise(await hub.answer(new.key, True))
    assert {run.state for run in or_raise(await hub.claim_due(criteria, limit=9))} == wanted


async def test_claim_due_by_creation(hub):
    made = await answered(hub, 3)
    middle = made[1].created_at
    runs = or_raise(await hub.claim_due(Criteria(created_after=middle, created_before=middle + SECOND / 2), limit=9))
    assert [run.state for run in runs] == [1]


async def test_claim_due_needs_a_limit_of_at_least_one(hub):
    await answered(hub, 1)
    with pytest.raises(ValueError, match="limit"):
        await hub.claim_due(limit=0)
    assert len(or_raise(await hub.claim_due())) == 1


async def test_claim_due_of_another_class_leaves_them_as_they_were(hub):
    await answered(hub, 2)
    assert or_raise(await hub.claim_due(limit=2, expect=dict)) == ()
    assert len(or_raise(await hub.claim_due(limit=2, expect=int))) == 2


async def test_a_store_of_which_no_record_can_be_opened_is_not_empty(tmp_path):
    url = f"sqlite:///{tmp_path / 'flows.db'}"
    async with open_hub(url, keyring=KeyRing.generate("old")) as sealing:
        or_raise(await sealing.suspend(1))
    for ring in (None, KeyRing.generate("new")):
        async with open_hub(url, keyring=ring) as keyless:
            assert isinstance((await keyless.query()).failure(), UnknownKey)
            assert or_raise(await keyless.claim_due()) == ()


async def test_a_page_of_large_heads_lets_others_have_the_event_loop(hub):
    waits = {f"wait-{number}": CONFIRM for number in range(200)}
    for number in range(10):
        or_raise(await hub.suspend(number, awaiting=waits))
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    found = or_raise(await hub.query())
    other.cancel()
    assert len(found.items) == 10
    assert turns >= 10


async def test_a_page_has_room_for_something(hub):
    with pytest.raises(ValueError, match="at least 1"):
        await hub.query(limit=0)
