"""Claims and pauses that read some pages of a suspension's waits: what they give, and where they read all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Status, or_raise
from flowpersist.errors import ClaimsHalted, StillWaiting, SuspensionBusy
from flowpersist.hub.answering_verbs import Reply, claim_partly, claim_unless
from flowpersist.lifecycle import paging
from flowpersist.lifecycle.parts import has_news, pages_of, prefix_of
from flowpersist.testing.hubs import open_test_hub, travel

ASK = AwaitInput(id="ok", prompt="OK?", schema=bool)
HOUR = timedelta(hours=1)


def named(number, asked=ASK):
    return {f"w{n}": asked for n in range(number)}


async def no_refusal(_):
    return None


def taken(hub, key, value=True):
    return claim_unless(hub, no_refusal, key, Reply(value, None), lease=HOUR, partly=True)


async def elsewhere(hub, new, name):
    """An open wait that stands on another page than this one."""
    head = or_raise(await hub.suspensions.records.bare(str(new.id))).record.head
    pages = {one: pages_of(head, [prefix_of(key.secret)]) for one, key in new.keys.items() if one not in {"w3", "w5"}}
    return next(one for one, page in pages.items() if page != pages_of(head, [prefix_of(new.keys[name].secret)]))


@pytest.fixture
async def hub():
    async with open_test_hub("memory://", keyring=KeyRing.generate()) as opened:
        yield opened


@pytest.fixture
def small_pages(monkeypatch):
    """Pages of few waits."""
    for name, value in {"PAGED_FROM": 8, "PER_PAGE": 4, "KEPT_PAGES": 2, "REMOVED_PAGES": 1}.items():
        monkeypatch.setattr(paging, name, value)


@pytest.mark.usefixtures("small_pages")
async def test_what_a_part_shows_concerns_its_pause(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(40), until="each", timeout=9 * HOUR))
    or_raise(await hub.answer(new.keys["w3"], True))
    seen = []

    async def refusal(suspension):
        seen.append(suspension)

    run = or_raise(await claim_unless(hub, refusal, new.keys["w7"], Reply(True, None), lease=HOUR, partly=True))
    assert dict(run.answers) == {"w3": True, "w7": True}
    assert seen[0].id == new.id
    assert [wait.name for wait in run.suspension.waits] == ["w3", "w7"]
    assert run.suspension.deadline == new.deadline
    assert len(run.partial) == 2
    or_raise(await hub.answer(new.keys["w9"], False))
    run = or_raise(await hub.checkpoint(run, "t", awaiting={"x": ASK}))
    assert dict(run.answers) == {"w9": False}
    names = [wait.name for wait in run.suspension.waits]
    assert (names[0], names[-1], run.suspension.waits[0].status) == ("w9", "x", "answered")
    assert len(names) <= 12
    or_raise(await hub.answer(new.keys["w1"], True))
    paused = or_raise(await hub.suspend_next(run, "t", awaiting={"y": ASK}, until="each", superseded=["x"]))
    assert paused.partial
    assert paused.status is Status.ANSWERED
    names = [wait.name for wait in paused.waits]
    assert (names[0], names[-1]) == ("w1", "y")
    assert len(names) <= 12
    assert "y" in paused.keys
    for name in ("w3", "w7"):
        assert or_raise(await hub.answer(new.keys[name], True)).outcome == "replayed"
    whole = or_raise(await hub.claim(new.id))
    assert whole.partial is None
    assert dict(whole.answers) == {"w1": True}
    left = [f"w{n}" for n in range(40) if n not in {1, 3, 7, 9}]
    assert [wait.name for wait in whole.suspension.open_waits] == [*left, "y"]


@pytest.mark.usefixtures("small_pages")
async def test_where_a_part_is_not_enough_all_is_read(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(40), until="each"))
    early = (await claim_partly(hub, new.id, lease=HOUR)).failure()
    assert isinstance(early, StillWaiting)
    assert len(early.suspension.waits) == 40
    or_raise(await hub.answer(new.keys["w3"], True))
    run = or_raise(await claim_partly(hub, new.id, lease=HOUR))
    assert run.partial is not None
    assert isinstance((await claim_partly(hub, new.id, lease=HOUR)).failure(), SuspensionBusy)
    # What an earlier claim has fixed may stand anywhere.
    or_raise(await hub.release(run))
    run = or_raise(await claim_partly(hub, new.id, lease=HOUR))
    assert run.partial is None
    assert dict(run.answers) == {"w3": True}
    or_raise(await hub.suspend_next(run, "t", until="each"))
    or_raise(await hub.answer(new.keys["w5"], True))
    run = or_raise(await claim_partly(hub, new.id, lease=HOUR))
    # A name that stands elsewhere, and one that stands nowhere.
    with pytest.raises(ValueError, match="no such wait: nothing"):
        await hub.suspend_next(run, "t", until="each", superseded=["nothing"])
    with pytest.raises(ValueError, match="was given no answer to: w6"):
        await hub.checkpoint(run, "t", unread=["w6"])
    other = await elsewhere(hub, new, "w5")
    kept = or_raise(await hub.checkpoint(run, "t", superseded=[other]))
    assert kept.partial is None
    assert len(kept.keys) == 37
    # A repeat of a lost reply: what it gives may stand anywhere.
    assert or_raise(await hub.checkpoint(run, "t", superseded=[other])).keys == kept.keys
    or_raise(await hub.suspend_next(kept, "t", until="each"))
    or_raise(await hub.answer(next(iter(kept.keys.values())), True))
    run = or_raise(await claim_partly(hub, new.id, lease=HOUR))
    paused = or_raise(await hub.suspend_next(run, "t", until="all"))
    assert not paused.partial
    assert len(paused.waits) == 36
    assert len(paused.keys) == 36


@pytest.mark.usefixtures("small_pages")
async def test_an_earlier_run_of_the_same_holder_closes_nothing_that_it_does_not_know(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(40), until="each"))
    run = or_raise(await taken(hub, new.keys["w3"]))
    or_raise(await hub.answer(new.keys["w9"], True))
    later = or_raise(await hub.checkpoint(run, "t"))
    assert dict(later.answers) == {"w9": True}
    paused = or_raise(await hub.suspend_next(run, "t", until="each"))
    assert not paused.partial
    assert {"w3", "w9"}.isdisjoint(wait.name for wait in paused.waits)


@pytest.mark.usefixtures("small_pages")
async def test_a_pause_that_asks_nothing_opens_nothing_while_others_are_open(hub):
    new = or_raise(await hub.suspend("s", awaiting=named(60), until="each"))
    for number in range(40):
        run = or_raise(await taken(hub, new.keys[f"w{number}"]))
        paused = or_raise(await hub.suspend_next(run, "t", until="each"))
        assert paused.partial
        assert "answer" not in paused.keys
    assert len(or_raise(await hub.inspect(new.id)).waits) == 20


@pytest.mark.usefixtures("small_pages")
async def test_what_time_changes_is_read_with_all(hub):
    soon = AwaitInput(id="s", prompt="?", schema=str, default="nobody", timeout=HOUR)
    new = or_raise(await hub.suspend("s", awaiting={**named(40), "soon": soon}, until="each"))
    travel(hub, 2 * HOUR)
    run = or_raise(await taken(hub, new.keys["w3"]))
    assert dict(run.answers) == {"w3": True, "soon": "nobody"}
    assert run.partial is None


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.usefixtures("small_pages")
async def test_news_is_seen_in_the_head_alone(hub, count):
    late = AwaitInput(id="late", prompt="?", timeout=3 * HOUR)
    new = or_raise(await hub.suspend("s", awaiting={**named(count), "late": late}, until="each"))
    run = or_raise(await taken(hub, new.keys["w1"]))

    async def news():
        found = or_raise(await hub.suspensions.records.bare(str(new.id)))
        return has_news(found.record.head, found.now)

    assert not await news()
    or_raise(await hub.answer(new.keys["w2"], True))
    assert await news()
    run = or_raise(await hub.checkpoint(run, "t"))
    assert not await news()
    or_raise(await hub.renew(run, lease=9 * HOUR))
    travel(hub, 4 * HOUR)
    assert await news()


@pytest.mark.usefixtures("small_pages")
async def test_a_worker_finds_what_is_due_without_its_pages(hub):
    """Also while a tool of a wait that it does not read is halted, and where the tool of the first wait is asked for,
    which has changed since.
    """
    other, elsewhere = [AwaitInput(id=name, prompt="?", schema=bool) for name in ("other", "elsewhere")]
    asked = {"first": other, **named(40), "last": elsewhere}
    new = or_raise(await hub.suspend("s", awaiting=asked, until="each"))
    run = or_raise(await taken(hub, new.keys["first"]))
    or_raise(await hub.suspend_next(run, "t", until="each"))
    or_raise(await hub.answer(new.keys["w7"], True))
    assert or_raise(await hub.claim_due(Criteria(tool="other"), limit=9)) == ()
    halt = or_raise(await Maintenance(hub).halt(Criteria(tool="elsewhere"), "a look"))
    assert isinstance((await claim_partly(hub, new.id, lease=HOUR)).failure(), ClaimsHalted)
    assert not or_raise(await hub.claim_due(Criteria(), limit=9))
    or_raise(await Maintenance(hub).lift(halt.id))
    (held,) = or_raise(await hub.claim_due(Criteria(tool="ok"), limit=9))
    assert dict(held.answers) == {"w7": True}
    assert held.partial is None
