"""Reminders, the ladder and what the deadline does: what is accepted, what comes, and who is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio

from flowpersist import AwaitInput, Criteria, KeyRing, Maintenance, Principal, Status, or_raise
from flowpersist.cli.views import suspension_lines, wait_data
from flowpersist.dynamicflow import FlowRunner
from flowpersist.errors import ConfigurationError, MalformedPayload, PermissionDenied
from flowpersist.inputs import Escalation
from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.tools import Quorum, await_input

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
WEEK = timedelta(weeks=1)
LEAD = Escalation(after=4 * HOUR, to=("lead",))
CTO = Escalation(after=24 * HOUR, to=("cto", "lead"))
NEXT = Escalation(to=("lead",), timeout=2 * HOUR)
LAST = Escalation(to=("cto",), timeout=HOUR)


def asked(**details):
    return AwaitInput(id="ship", prompt="Ship it?", schema=bool, **details)


# --------------------------------------------------------------------------------------------------- what is accepted

REFUSED = {
    "reminder of no length": ({"reminders": (timedelta(0),)}, "reminders"),
    "reminder after the deadline": ({"reminders": (-HOUR,)}, "reminders"),
    "reminder of a thousand years": ({"reminders": (timedelta(days=365_000),)}, "reminders"),
    "the same reminder twice": ({"reminders": (HOUR, 60 * MINUTE)}, "different offsets"),
    "seventeen reminders": ({"reminders": [n * HOUR for n in range(1, 18)]}, "at most 16"),
    "seventeen steps": ({"escalation": [LEAD] * 17}, "at most 16"),
    "steps out of order": ({"escalation": (CTO, LEAD)}, "in the order of their after"),
    "steps at once": ({"escalation": (LEAD, LEAD)}, "in the order of their after"),
    "after in some steps": ({"escalation": (LEAD, NEXT), "on_expiry": "escalate"}, "in all of its steps"),
    "no after": ({"escalation": (NEXT,)}, "on_expiry='escalate'"),
    "another outcome": ({"on_expiry": "approve"}, "default, expire, escalate"),
    "a default that is missing": ({"on_expiry": "default"}, "needs a default"),
    "a default that is not used": ({"on_expiry": "expire", "default": False}, "takes no default"),
    "no ladder": ({"on_expiry": "escalate"}, "needs an escalation"),
    "a step without a timeout": ({"on_expiry": "escalate", "escalation": (LEAD,)}, "have a timeout"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_makes_no_sense_is_refused_by_its_name(which):
    details, why = REFUSED[which]
    with pytest.raises(ConfigurationError, match=why) as caught:
        asked(**details)
    assert caught.value.setting in details


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"to": ()}, ConfigurationError),
        ({"to": ("",)}, ConfigurationError),
        ({"to": ("a", "a")}, ConfigurationError),
        ({"to": ("é" * 257,)}, ConfigurationError),
        ({"to": ("a\0",)}, ConfigurationError),
        ({"to": [str(n) for n in range(101)]}, ConfigurationError),
        ({"to": ("a",), "after": timedelta(0)}, ConfigurationError),
        ({"to": ("a",), "timeout": -HOUR}, ConfigurationError),
        ({"to": "lead"}, TypeError),
        ({"to": (7,)}, TypeError),
        ({"to": ("a",), "after": 4}, TypeError),
    ],
)
def test_a_step_takes_names_and_positive_durations(given, error):
    with pytest.raises(error):
        Escalation(**given)


@pytest.mark.parametrize(
    "details", [{"reminders": HOUR}, {"reminders": (1,)}, {"escalation": LEAD}, {"escalation": ("lead",)}]
)
def test_another_class_is_a_type_error(details):
    with pytest.raises(TypeError, match=next(iter(details))):
        asked(**details)


def test_it_comes_back_from_data_as_it_was():
    given = asked(reminders=[HOUR, 24 * HOUR], escalation=[NEXT, LAST], on_expiry="escalate", default=False)
    assert given.reminders == (24 * HOUR, HOUR)
    back = or_raise(AwaitInput.from_data(given.to_data()))
    names = ("reminders", "escalation", "on_expiry", "default")
    assert [getattr(back, name) for name in names] == [getattr(given, name) for name in names]
    for broken in ({"reminders": 7}, {"reminders": ["1"]}, {"escalation": [{}]}, {"escalation": [{"to": "a"}]}):
        failed = AwaitInput.from_data({**given.to_data(), **broken}).failure()
        assert isinstance(failed, MalformedPayload)


def test_a_question_without_them_keeps_nothing_of_them():
    assert set(asked().to_data()) == {"id", "prompt", "schema"}


@pytest.mark.parametrize("details", [{"reminders": (HOUR,)}, {"escalation": (NEXT,), "on_expiry": "escalate"}])
async def test_what_counts_from_a_deadline_needs_one(details):
    async with open_test_hub() as hub:
        with pytest.raises(ConfigurationError, match="give it a timeout or a deadline"):
            await hub.suspend(1, awaiting=asked(**details))
        for given in ({"timeout": 3 * HOUR}, {"awaiting": asked(**details, timeout=3 * HOUR)}):
            or_raise(await hub.suspend(1, **{"awaiting": asked(**details), **given}))
    async with open_test_hub(default_timeout=3 * HOUR) as hub:
        or_raise(await hub.suspend(1, awaiting=asked(**details)))


# ---------------------------------------------------------------------------------------------------------- what comes


class Store:
    """A hub whose time is moved in steps, and what ``on_event`` was told."""

    def __init__(self, hub, events):
        self.hub, self.events = hub, events

    async def after(self, pause, *, tick=True):
        """What is told once so much more time has passed: verbs with the hours since the start."""
        travel(self.hub, pause)
        if tick:
            or_raise(await Maintenance(self.hub).tick())
        told = [event for event in self.events if event.verb != "suspend"]
        self.events.clear()
        return told

    async def verbs(self, pause):
        return [told.verb for told in await self.after(pause)]


@pytest_asyncio.fixture(loop_scope="module")
async def store():
    events = []
    async with open_test_hub(on_event=events.append) as hub:
        yield Store(hub, events)


async def test_reminders_come_before_the_deadline_each_once(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(24 * HOUR, HOUR), timeout=48 * HOUR)))
    assert new.waits[0].next_reminder == new.created_at + 24 * HOUR
    assert await store.verbs(24 * HOUR - MINUTE) == []
    (told,) = await store.after(2 * MINUTE)
    assert (told.verb, told.by, told.suspension.id) == ("remind", "system", new.id)
    delivery = told.delivery
    assert (delivery.wait, delivery.at, delivery.attempt) == ("ship", new.created_at + 24 * HOUR, 1)
    assert (delivery.deadline, delivery.level, delivery.to) == (new.deadline, 0, ())
    assert await store.verbs(22 * HOUR) == []
    (last,) = await store.after(HOUR)
    assert last.delivery.id != delivery.id
    assert await store.verbs(2 * HOUR) == ["expire"]


async def test_after_an_outage_the_last_overdue_reminder_comes_alone(store):
    or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(3 * HOUR, 2 * HOUR, HOUR), timeout=9 * HOUR)))
    (told,) = await store.after(8 * HOUR + MINUTE)
    assert told.delivery.at == told.delivery.deadline - HOUR
    assert await store.verbs(30 * MINUTE) == []


async def test_a_reminder_before_the_pause_is_passed_over(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(24 * HOUR, 2 * HOUR), timeout=2 * HOUR)))
    assert new.waits[0].next_reminder is None
    assert await store.verbs(90 * MINUTE) == []


async def test_a_reminder_stays_where_the_new_deadline_has_none_ahead(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(HOUR,), timeout=2 * HOUR)))
    travel(store.hub, 90 * MINUTE)
    or_raise(await store.hub.extend(new.key, timeout=50 * MINUTE))
    assert await store.verbs(MINUTE) == ["extend", "remind"]


@pytest.mark.parametrize("how", ["answered", "cancelled", "superseded", "completed"])
async def test_what_has_ended_reminds_of_nothing(store, how):
    hub, question = store.hub, asked(reminders=(HOUR,), escalation=(LEAD,), timeout=6 * HOUR)
    until = "any" if how == "superseded" else "each"
    new = or_raise(await hub.suspend(1, awaiting={"a": question, "b": asked()}, until=until))
    travel(hub, 5 * HOUR + MINUTE)
    if how == "answered":
        or_raise(await hub.answer(new.keys["a"], True))
    elif how == "cancelled":
        or_raise(await hub.cancel(new.id))
    else:
        or_raise(await hub.answer(new.keys["b"], True))
    if how == "completed":
        or_raise(await hub.complete(or_raise(await hub.claim(new.id))))
    assert {told.verb for told in await store.after(MINUTE)} <= {"answer", "cancel", "claim", "complete"}
    assert (or_raise(await hub.inspect(new.id)).waits[0]).escalated_to == ("lead",)


async def test_an_extended_wait_is_reminded_of_its_new_deadline(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(HOUR,), timeout=2 * HOUR)))
    assert await store.verbs(70 * MINUTE) == ["remind"]
    or_raise(await store.hub.extend(new.key, timeout=59 * MINUTE))
    assert await store.verbs(MINUTE) == ["extend"]
    or_raise(await store.hub.extend(new.key, timeout=2 * HOUR))
    assert await store.verbs(59 * MINUTE) == ["extend"]
    assert await store.verbs(2 * MINUTE) == ["remind"]


async def test_a_reminder_of_an_earlier_deadline_is_not_sent_where_it_will_come_again(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(HOUR,), timeout=2 * HOUR)))
    travel(store.hub, 70 * MINUTE)
    or_raise(await store.hub.extend(new.key, timeout=5 * HOUR))
    assert await store.verbs(MINUTE) == ["extend"]
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(HOUR,), timeout=2 * HOUR)))
    travel(store.hub, 70 * MINUTE)
    or_raise(await store.hub.extend(new.key, timeout=30 * MINUTE))
    assert await store.verbs(MINUTE) == ["extend", "remind"]


async def test_a_wait_goes_up_the_ladder(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(escalation=(LEAD, CTO))))
    assert new.waits[0].next_escalation == new.created_at + 4 * HOUR
    (told,) = await store.after(5 * HOUR)
    assert (told.verb, told.delivery.level, told.delivery.to) == ("escalate", 1, ("lead",))
    assert await store.verbs(HOUR) == []
    (told,) = await store.after(20 * HOUR)
    assert (told.delivery.level, told.delivery.to) == (2, ("cto", "lead"))
    (wait,) = or_raise(await store.hub.inspect(new.key)).waits
    assert (wait.level, wait.escalated_to, wait.next_escalation) == (2, ("lead", "cto"), None)


async def test_steps_that_an_outage_missed_come_in_order(store):
    or_raise(await store.hub.suspend(1, awaiting=asked(escalation=(LEAD, CTO))))
    assert [told.delivery.to for told in await store.after(48 * HOUR)] == [("lead",), ("cto", "lead")]


@pytest.mark.parametrize("ticks", [True, False])
@pytest.mark.parametrize("default", [True, False])
async def test_a_deadline_that_escalates_ends_the_wait_after_the_last_step(store, ticks, default):
    details = {"default": False} if default else {}
    question = asked(escalation=(NEXT, LAST), on_expiry="escalate", timeout=HOUR, **details)
    new = or_raise(await store.hub.suspend(1, awaiting=question))
    seen = []
    for _ in range(10):
        await store.after(30 * MINUTE, tick=ticks)
        (wait,) = or_raise(await store.hub.inspect(new.id)).waits
        seen.append((str(wait.status), wait.level, (wait.deadline - new.created_at) // HOUR))
    end = "answered" if default else "expired"
    assert seen == [("open", 0, 1), *[("open", 1, 3)] * 4, *[("open", 2, 4)] * 2, *[(end, 2, 4)] * 3]


async def test_a_steps_timeout_never_brings_the_deadline_nearer(store):
    step = Escalation(after=HOUR, to=("lead",), timeout=2 * HOUR)
    questions = [asked(escalation=(step,), timeout=timeout) for timeout in (9 * HOUR, 2 * HOUR)]
    long, short = [or_raise(await store.hub.suspend(1, awaiting=question)) for question in questions]
    await store.after(90 * MINUTE)
    deadlines = [or_raise(await store.hub.inspect(one.id)).deadline - one.created_at for one in (long, short)]
    assert deadlines == [9 * HOUR, 3 * HOUR]


async def test_a_wait_is_reminded_of_the_deadline_that_a_step_gave_it(store):
    question = asked(reminders=(HOUR,), escalation=(NEXT,), on_expiry="escalate", timeout=2 * HOUR)
    or_raise(await store.hub.suspend(1, awaiting=question))
    pauses = [61, 60, 60, 60]
    assert [await store.verbs(pause * MINUTE) for pause in pauses] == [["remind"], ["escalate"], ["remind"], ["expire"]]


@pytest.mark.parametrize(
    ("details", "end"), [({"on_expiry": "default", "default": False}, "answered"), ({"on_expiry": "expire"}, "expired")]
)
async def test_the_named_outcome_is_what_the_deadline_does(store, details, end):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(timeout=HOUR, **details)))
    (told,) = await store.after(2 * HOUR)
    assert (told.verb, told.by) == ("tick" if end == "answered" else "expire", "system")
    named = told.defaulted if end == "answered" else told.expired
    assert [(wait.name, str(wait.status)) for wait in named] == [("ship", end)]
    assert (told.expired if named is told.defaulted else told.defaulted) == ()
    assert or_raise(await store.hub.inspect(new.id)).waits[0].status == end


async def test_an_answer_after_an_overdue_step_is_taken_and_the_step_counts(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(escalation=(LEAD,), reminders=(HOUR,), timeout=6 * HOUR)))
    travel(store.hub, 5 * HOUR + MINUTE)
    run = or_raise(await store.hub.resume(new.key, True, by="lead"))
    assert run.suspension.waits[0].escalated_to == ("lead",)
    assert await store.verbs(HOUR) == ["resume"]


async def test_a_reserved_wait_is_reminded_of(store):
    reserved = or_raise(await store.hub.reserve(asked(reminders=(HOUR,), timeout=3 * HOUR)))
    assert await store.verbs(2 * HOUR + MINUTE) == ["reserve", "remind"]
    or_raise(await store.hub.suspend(1, key=reserved.key))
    assert await store.verbs(MINUTE) == []


async def test_other_branches_are_reminded_of_while_the_run_goes_on(store):
    hub, question = store.hub, asked(reminders=(HOUR,), escalation=(CTO,), timeout=6 * HOUR)
    new = or_raise(await hub.suspend(1, awaiting={"a": asked(), "b": question}, until="each"))
    or_raise(await hub.answer(new.keys["a"], True))
    run = or_raise(await hub.claim(new.id, lease=99 * HOUR))
    assert await store.verbs(5 * HOUR + MINUTE) == ["answer", "claim", "remind"]
    or_raise(await hub.suspend_next(run, 2, awaiting={"c": asked()}, until="each"))
    or_raise(await hub.extend(new.keys["b"], timeout=99 * HOUR))
    assert await store.verbs(20 * HOUR) == ["suspend_next", "extend", "escalate"]


@pytest.mark.parametrize("cancelled", ["before it came", "before it was delivered"])
async def test_a_run_that_is_being_cancelled_reminds_of_nothing(store, cancelled):
    hub, question = store.hub, asked(reminders=(HOUR,), timeout=6 * HOUR)
    new = or_raise(await hub.suspend(1, awaiting={"a": asked(), "b": question}, until="each"))
    or_raise(await hub.answer(new.keys["a"], True))
    or_raise(await hub.claim(new.id, lease=99 * HOUR))
    pauses = [timedelta(0), 5 * HOUR + MINUTE]
    first, second = pauses if cancelled == "before it came" else reversed(pauses)
    travel(hub, first)
    or_raise(await hub.cancel(new.id))
    assert await store.verbs(second) == ["answer", "claim", "cancel"]


async def test_the_command_shows_what_comes_next(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(HOUR,), escalation=(LEAD, CTO), timeout=WEEK)))
    await store.after(5 * HOUR)
    seen = or_raise(await store.hub.inspect(new.id))
    reminder, step = ((new.created_at + pause).isoformat() for pause in (WEEK - HOUR, 24 * HOUR))
    data = wait_data(seen.waits[0])
    shown = {"level": 1, "escalatedTo": ["lead"], "nextReminder": reminder, "nextEscalation": step}
    assert {name: data[name] for name in shown} == shown
    lines = "\n".join(suspension_lines(seen, None))
    for line in ("escalated to: lead", f"next reminder: {reminder}", f"next escalation: {step}"):
        assert line in lines


async def test_a_question_of_a_flow_is_reminded_of_and_escalated():
    events, ladder = [], [{"to": ["lead"], "timeout": 3_600_000}]
    arguments = {"prompt": "Ship?", "timeout": 7_200_000, "reminders": [1_800_000], "default": "no"}
    step = {"id": "ask", "tool": "await_input", "args": {**arguments, "escalation": ladder, "on_expiry": "escalate"}}
    async with open_test_hub(on_event=events.append) as hub:
        runner = FlowRunner(hub)
        run = or_raise(await runner.start({"name": "ship", "version": "1.0", "flow": [step]}))
        for _ in range(3):
            travel(hub, HOUR - MINUTE)
            or_raise(await Maintenance(hub).tick())
        assert [event.verb for event in events if event.delivery] == ["remind", "escalate", "remind"]
        assert or_raise(await hub.inspect(run.waits[0].key)).status is Status.WAITING
        travel(hub, HOUR)
        outcome = or_raise(await runner.resume(run.waits[0].key))
    assert outcome.result == "no"


def test_ready_questions_take_them():
    question = await_input.confirmation("Ship?", reminders=(HOUR,), escalation=(LEAD,), expires_in=6 * HOUR)
    assert (question.reminders, question.escalation, question.timeout) == ((HOUR,), (LEAD,), 6 * HOUR)


async def test_a_head_has_room_for_all_that_may_come_at_once(caplog):
    """Of many waits, in the head and on pages, all steps of their ladders come while nobody delivers them."""
    steps = [Escalation(to=(f"level {n}",), after=(n + 1) * MINUTE) for n in range(16)]
    question = asked(reminders=(HOUR,), escalation=steps, timeout=2 * HOUR, shown={"text": "x" * 4000})
    async with open_test_hub(compression="none") as hub:
        every = [or_raise(await hub.suspend(1, awaiting=named(question, n))) for n in (8, 24, 56, 72)]
        travel(hub, 90 * MINUTE)
        assert or_raise(await Maintenance(hub).tick()).updated == len(every)
        for new in every:
            for name, key in new.keys.items():
                or_raise(await hub.answer(key, True, by=name))
            assert or_raise(await hub.resume(new.id)).answers == dict.fromkeys(new.keys, True)
    assert "could not be brought up to date" not in caplog.text


def named(question, count):
    return {f"wait {number}": question for number in range(count)}


BOSS = Principal("bo", roles=["lead"])


@pytest.mark.parametrize(
    "rules",
    [{"assignees": ["ann"]}, {"groups": ["ops"]}, {"quorum": Quorum(1, of=["ops"])}],
    ids=["assignees", "groups", "quorum"],
)
@pytest.mark.parametrize("by", ["lead", BOSS], ids=["subject", "role"])
async def test_people_of_a_step_may_answer_once_it_is_reached(store, rules, by):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(escalation=(LEAD, CTO), **rules)))
    travel(store.hub, 4 * HOUR - MINUTE)
    assert isinstance((await store.hub.answer(new.key, True, by=by)).failure(), PermissionDenied)
    travel(store.hub, 2 * MINUTE)
    assert isinstance((await store.hub.answer(new.key, True, by="cto")).failure(), PermissionDenied)
    assert or_raise(await store.hub.answer(new.key, True, by=by)).outcome == "accepted"


async def test_people_of_a_step_keep_a_quorum_from_being_out_of_reach(store):
    question = asked(assignees=["ann", "ben"], quorum=2, escalation=(LEAD,))
    before, after = [or_raise(await store.hub.suspend(1, awaiting=question)) for _ in range(2)]
    assert or_raise(await store.hub.answer(before.key, False, by="ann")).outcome == "accepted"
    travel(store.hub, 5 * HOUR)
    assert or_raise(await store.hub.answer(after.key, False, by="ann")).outcome == "pending"
    assert [or_raise(await store.hub.answer(after.key, True, by=by)).outcome for by in ("ben", BOSS)] == [
        "pending",
        "accepted",
    ]


# --------------------------------------------------------------------------------------------------------- who is told


async def test_what_on_event_refuses_is_told_again_under_its_id(caplog):
    told = []

    def hears(event):
        told.append(event.delivery and (event.delivery.id, event.delivery.attempt))
        if event.delivery and event.delivery.attempt < 3:
            raise RuntimeError

    async with open_test_hub(on_event=hears) as hub:
        or_raise(await hub.suspend(1, awaiting=asked(escalation=(LEAD,))))
        for pause in (5 * HOUR, 30 * timedelta(seconds=1), MINUTE, MINUTE, MINUTE, 9 * HOUR):
            travel(hub, pause)
            or_raise(await Maintenance(hub).tick())
    ((first, _), *_) = told[1:]
    assert told[1:] == [(first, 1), (first, 2), (first, 3)]
    assert "on_event raised for escalate" in caplog.text


async def test_a_hub_without_on_event_leaves_them_to_others_and_gives_up_in_the_end(caplog):
    events = []
    ring = KeyRing.generate()
    told = {"keyring": ring, "on_event": events.append}
    async with open_test_hub(keyring=ring) as hub, open_test_hub(hub.backend, **told) as other:
        for _ in range(2):
            or_raise(await hub.suspend(1, awaiting=asked(escalation=(LEAD,))))
        travel(hub, 5 * HOUR)
        assert or_raise(await Maintenance(hub).tick()).updated == 2
        # It is not asked for again at once, so that it does not stand in the way of what is due.
        assert or_raise(await Maintenance(hub).tick()).updated == 0
        travel(hub, MINUTE)
        or_raise(await Maintenance(other).tick())
        assert [event.delivery.attempt for event in events] == [2, 2]
        new = or_raise(await hub.suspend(1, awaiting=asked(escalation=(LEAD,))))
        for _ in range(12):
            travel(hub, 5 * HOUR)
            or_raise(await Maintenance(hub).tick())
        assert f"suspension {new.id}: the escalate of wait 'ship'" in caplog.text
        assert or_raise(await Maintenance(hub).tick()).updated == 0
        assert or_raise(await hub.inspect(new.id)).waits[0].level == 1


async def test_an_async_on_event_is_waited_for_and_asked_in_order():
    told = []

    async def hears(event):
        await asyncio.sleep(0)
        told.append(event.verb)

    async with open_test_hub(on_event=hears) as hub:
        or_raise(await hub.suspend(1, awaiting=asked(reminders=(HOUR,), escalation=(LEAD,), timeout=6 * HOUR)))
        travel(hub, 5 * HOUR + MINUTE)
        or_raise(await Maintenance(hub).tick())
    assert told == ["suspend", "escalate", "remind"]


async def test_a_claim_that_comes_across_it_delivers_it(store):
    or_raise(await store.hub.suspend(1, awaiting=asked(escalation=(LEAD,))))
    travel(store.hub, 5 * HOUR)
    assert or_raise(await store.hub.claim_due()) == ()
    assert [event.verb for event in store.events] == ["suspend", "escalate"]


async def test_due_before_finds_what_has_a_reminder_before(store):
    new = or_raise(await store.hub.suspend(1, awaiting=asked(reminders=(HOUR,), timeout=48 * HOUR)))
    for hours, found in ((46, 0), (48, 1)):
        page = or_raise(await store.hub.query(Criteria(due_before=new.created_at + hours * HOUR)))
        assert len(page.items) == found
    assert new.status is Status.WAITING


async def test_reminders_far_ahead_cost_a_tick_nothing(monkeypatch):
    async with open_test_hub() as hub:
        for _ in range(50):
            or_raise(await hub.suspend(1, awaiting=asked(reminders=(HOUR,), escalation=(CTO,), timeout=48 * HOUR)))
        opened = []
        monkeypatch.setattr(hub.suspensions.records, "open", lambda *_: opened.append(1))
        assert or_raise(await Maintenance(hub).tick()).updated == 0
    assert opened == []
