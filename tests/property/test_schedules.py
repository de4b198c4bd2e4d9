"""Reminders and the ladder against a small model that looks at every minute, and against any order of looking."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from attrs import define, field
from hypothesis import event, given
from hypothesis import strategies as st

from flowpersist import AwaitInput
from flowpersist.hub.suspending import Facts, plan
from flowpersist.inputs import Escalation
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import verbs
from flowpersist.lifecycle.changes import due_at, next_change, present
from flowpersist.lifecycle.decisions import Offer
from flowpersist.lifecycle.model import Status
from flowpersist.lifecycle.scheduling import acknowledged, delivery_id, delivery_of, take_notices

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LAST = 60


def minutes(number):
    return None if number is None else number * MINUTE


@define
class Plan:
    """The durations of a question, in minutes."""

    timeout: int
    reminders: list[int]
    steps: list[tuple[int | None, int | None]]
    escalates: bool
    default: bool

    def question(self):
        return AwaitInput(
            id="q",
            prompt="?",
            timeout=minutes(self.timeout),
            reminders=[minutes(one) for one in self.reminders],
            escalation=[
                Escalation(to=[f"level {number}"], after=minutes(after), timeout=minutes(timeout))
                for number, (after, timeout) in enumerate(self.steps, 1)
            ],
            **({"on_expiry": "escalate"} if self.escalates else {}),
            **({"default": False} if self.default else {}),
        )

    def head(self):
        options = {"until": "all", "timeout": None, "deadline": None, "default_timeout": None}
        planned = plan(self.question(), **options, entropy=bytes)
        facts = Facts(SuspensionId(bytes(16)), {}, None, timedelta(days=7))
        return facts.head(planned, START, Status.WAITING, None)


@st.composite
def plans(draw):
    escalates = draw(st.booleans())
    timed = not escalates or draw(st.booleans())
    afters = draw(st.lists(st.integers(1, 40), unique=True, max_size=4, min_size=int(escalates)).map(sorted))
    timeouts = st.integers(1, 20) if escalates else st.none() | st.integers(1, 20)
    return Plan(
        timeout=draw(st.integers(1, 40)),
        reminders=draw(st.lists(st.integers(1, 45), unique=True, max_size=4)),
        steps=[(after if timed else None, draw(timeouts)) for after in afters],
        escalates=escalates,
        default=draw(st.booleans()),
    )


@define
class Model:
    """The rules, written from the words: everything that comes by itself, minute by minute."""

    plan: Plan
    deadline: int = field(init=False)
    mark: int = 0
    level: int = 0
    status: str = "open"
    came: list = field(factory=list)

    def __attrs_post_init__(self):
        self.deadline = self.plan.timeout

    def pass_minute(self, now):
        if self.status == "open" and now == self.deadline:
            if not self.plan.escalates or self.level == len(self.plan.steps):
                self.status = "answered" if self.plan.default else "expired"
                return
            self.step(now)
        elif self.status == "open" and self.level < len(self.plan.steps) and now == self.plan.steps[self.level][0]:
            self.step(now)
        if self.status == "open" and now > self.mark and self.deadline - now in self.plan.reminders:
            self.mark = now
            self.came.append(("remind", now, self.level))

    def step(self, now):
        timeout = self.plan.steps[self.level][1]
        self.level += 1
        self.came.append(("escalate", now, self.level))
        if timeout is not None and now + timeout > self.deadline:
            self.deadline, self.mark = now + timeout, now


def stepped(head, until):
    """What came, as somebody sees it who looks at the first moment after each minute and delivers at once."""
    came = []
    for minute in range(until):
        now = START + minute * MINUTE + timedelta(microseconds=1)
        head, taken, _ = take_notices(present(head, now), now)
        came += [(notice.verb, (notice.at - START) // MINUTE, notice.level) for _, notice in taken]
        head = acknowledged(head, [delivery_id(wait, notice) for wait, notice in taken])
    return head, came


@given(plans(), st.integers(1, LAST))
def test_what_comes_is_what_a_model_of_every_minute_says(made, until):
    model = Model(made)
    for minute in range(until):
        model.pass_minute(minute)
    head, came = stepped(made.head(), until)
    wait = head.waits[0]
    assert came == model.came
    assert wait.status == model.status
    assert (0 if wait.schedule is None else wait.schedule.level) == model.level
    assert wait.deadline == START + model.deadline * MINUTE
    event(f"{len(came)} came, {model.status}")


@given(plans(), st.integers(1, LAST), st.sets(st.integers(0, LAST)))
def test_the_present_does_not_depend_on_who_looked_before(made, until, looks):
    head = at_once = made.head()
    for minute in sorted(looks | {until}):
        if minute <= until:
            head = present(head, START + minute * MINUTE)
    assert head == present(at_once, START + until * MINUTE)


def sum_of(parts):
    return [move for part in parts for move in part]


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 20)),
        st.tuples(st.just("tick"), st.booleans()),
        st.tuples(st.just("extend"), st.integers(1, 60)),
        st.tuples(st.just("end"), st.sampled_from(["answer", "cancel"])),
    ),
    max_size=24,
)
#: An end, and a tick after it.
ENDS = st.sampled_from([[], [("end", "answer"), ("tick", True)], [("end", "cancel"), ("tick", True)]])


@given(plans(), st.tuples(MOVES, ENDS).map(sum_of))
def test_each_comes_once_in_order_and_none_after_the_end(made, moves):
    """Some ticks end before they have recorded what they delivered: only that is delivered again, under its id."""
    head, now, ended = made.head(), START, False
    delivered, repeatable, fresh = set(), set(), []
    for move, how in moves:
        if move == "wait":
            now += how * MINUTE
            continue
        head = present(head, now)
        ended = ended or not head.waits[0].open
        if move == "tick":
            head, taken, _ = take_notices(head, now)
            ids = [delivery_id(wait, notice) for wait, notice in taken]
            assert not (ended and taken)
            assert len(set(ids)) == len(ids)
            assert not delivered & set(ids)
            assert all(
                (delivery_of(*one).attempt > 1) == (name in repeatable) for one, name in zip(taken, ids, strict=True)
            )
            fresh += [notice.at for (_, notice), name in zip(taken, ids, strict=True) if name not in repeatable]
            repeatable |= set(ids)
            if how:
                head, delivered = acknowledged(head, ids), delivered | set(ids)
        elif not ended and move == "extend":
            head = verbs.extend(head, None, now, deadline=now + how * MINUTE).head
        elif not ended and how == "answer":
            head, ended = verbs.answer(head, head.waits[0], Offer(True, "ann", None), now).head, True
        elif not ended:
            head, ended = verbs.cancel(head, None, now, reason=None).head, True
        due, change = due_at(head), next_change(head)
        assert due is not None or (change is None and not ended)
        assert ended or take_notices(head, now)[1] == () or (due is not None and due <= now)
    assert fresh == sorted(fresh)
