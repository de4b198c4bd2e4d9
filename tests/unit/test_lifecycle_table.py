"""Every verb in every state: what the suspension is afterwards, and what the caller is told.

A cell is the status after the verb, with the error's class behind a slash where the verb is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from returns.result import Failure, Success

from flowpersist import errors
from flowpersist.hub.suspending import Facts, plan
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import holding, retrying, verbs
from flowpersist.lifecycle.changes import due_at, next_change, pending, present
from flowpersist.lifecycle.decisions import Holder, Offer
from flowpersist.lifecycle.expiring import expire
from flowpersist.lifecycle.indexing import EXPIRING, attributes_of
from flowpersist.lifecycle.model import Head, Status, WaitStatus, replace

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=30)
LATE = NOW + 2 * HOUR
HOLDER = Holder(1, "me")
CONFIRM = AwaitInput(id="confirm", prompt="Ship it?", schema=bool)


def new(status=Status.WAITING, *, awaiting=CONFIRM, until="all", timeout=HOUR) -> Head:
    planned = plan(
        awaiting, until=until, timeout=timeout, deadline=None, default_timeout=None, entropy=lambda size: b"s" * size
    )
    facts = Facts(SuspensionId(bytes(16)), {}, None, timedelta(days=7))
    return facts.head(planned, NOW, status, None)


def answered() -> Head:
    head = new()
    return verbs.answer(head, head.waits[0], Offer(True, "ann", "a1"), NOW).head


def running() -> Head:
    return verbs.claim(answered(), None, None, NOW, lease=LEASE, claim_id="me").head


HEADS = {
    "reserved": lambda: new(Status.RESERVED),
    "waiting": new,
    "open": lambda: new(awaiting=None),
    "answered": answered,
    "delayed": lambda: holding.release(running(), HOLDER, NOW, error=None, delay=HOUR).head,
    "running": running,
    "cancelling": lambda: verbs.cancel(running(), None, NOW, reason="changed my mind").head,
    "completed": lambda: holding.complete(running(), HOLDER, NOW, discard=False).head,
    "failed": lambda: holding.fail(running(), HOLDER, NOW, error="Boom").head,
    "parked": lambda: holding.park(running(), HOLDER, NOW, error="Boom").head,
    "expired": lambda: present(new(), NOW + 2 * HOUR),
    "handled": lambda: expire(present(new(), NOW + 2 * HOUR), LATE, lease=LEASE, claim_id="me").head,
    "unstated": lambda: present(new(Status.RESERVED), NOW + 2 * HOUR),
    "cancelled": lambda: verbs.cancel(new(), None, NOW, reason=None).head,
}

VERBS = {
    "fill": lambda head: verbs.fill(head, NOW, None),
    "answer": lambda head: verbs.answer(head, head.waits[0], Offer(False, "bob", None), NOW),
    "claim": lambda head: verbs.claim(head, head.waits[0], None, NOW, lease=LEASE, claim_id="other"),
    "take": lambda head: verbs.take(head, head.waits[0], None, NOW, answer_id="other", by=None),
    "renew": lambda head: holding.renew(head, HOLDER, NOW, lease=LEASE),
    "complete": lambda head: holding.complete(head, HOLDER, NOW, discard=False),
    "fail": lambda head: holding.fail(head, HOLDER, NOW, error=None),
    "park": lambda head: holding.park(head, HOLDER, NOW, error="Boom"),
    "release": lambda head: holding.release(head, HOLDER, NOW, error=None, delay=timedelta(0)),
    "next": lambda head: holding.suspend_next(head, HOLDER, NOW, waits=_fresh(), until="all"),
    "checkpoint": lambda head: holding.checkpoint(head, HOLDER, NOW, sequence=1, waits=_fresh()),
    "cancel": lambda head: verbs.cancel(head, head.waits[0], NOW, reason=None),
    "expire": lambda head: expire(head, LATE, lease=LEASE, claim_id="other"),
    "extend": lambda head: verbs.extend(head, head.waits[0], NOW, deadline=NOW + 5 * HOUR),
    "retry": lambda head: retrying.retry(head, NOW, lease=LEASE, claim_id="other"),
}


def _fresh():
    planned = plan(
        AwaitInput(id="next", prompt="And now?"),
        until="all",
        timeout=None,
        deadline=None,
        default_timeout=None,
        entropy=lambda size: b"n" * size,
    )
    return planned.opened(NOW)


TABLE = """
           | fill                          | answer                        | claim                         | take                          | renew                         | complete                      | fail                          | park                          | release                       | next                          | checkpoint                    | cancel                    | expire                        | extend                        | retry
reserved   | waiting                       | reserved                      | reserved/StillWaiting         | reserved/StillWaiting         | reserved/LeaseLost            | reserved/LeaseLost            | reserved/LeaseLost            | reserved/LeaseLost            | reserved/LeaseLost            | reserved/LeaseLost            | reserved/LeaseLost            | cancelled                 | reserved/SuspensionBusy       | reserved                      | reserved/StillWaiting
waiting    | waiting/AlreadyResumed        | answered                      | waiting/StillWaiting          | waiting/StillWaiting          | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | cancelled                 | waiting/SuspensionBusy        | waiting                       | waiting/StillWaiting
open       | waiting/AlreadyResumed        | answered                      | running                       | completed                     | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | waiting/LeaseLost             | cancelled                 | waiting/SuspensionBusy        | waiting                       | waiting/StillWaiting
answered   | answered/AlreadyResumed       | answered/AnswerConflict       | running                       | completed                     | answered/LeaseLost            | answered/LeaseLost            | answered/LeaseLost            | answered/LeaseLost            | answered/LeaseLost            | answered/LeaseLost            | answered/LeaseLost            | cancelled                 | answered/SuspensionBusy       | answered/AnswerConflict       | answered/StillWaiting
delayed    | answered/AlreadyResumed       | answered/AlreadyResumed       | answered/SuspensionBusy       | answered/SuspensionBusy       | answered/LeaseLost            | answered/LeaseLost            | answered/LeaseLost            | answered/LeaseLost            | answered                      | answered/LeaseLost            | answered/LeaseLost            | cancelled                 | answered/SuspensionBusy       | answered/AlreadyResumed       | answered/StillWaiting
running    | running/AlreadyResumed        | running/AlreadyResumed        | running/SuspensionBusy        | running/SuspensionBusy        | running                       | completed                     | failed                        | parked                        | answered                      | waiting                       | running                       | running                   | running/SuspensionBusy        | running/AlreadyResumed        | running/SuspensionBusy
cancelling | running/AlreadyResumed        | running/AlreadyResumed        | running/SuspensionBusy        | running/SuspensionBusy        | cancelled/SuspensionCancelled | completed                     | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | running                   | running/SuspensionBusy        | running/AlreadyResumed        | running/SuspensionBusy
completed  | completed/AlreadyResumed      | completed/AlreadyResumed      | completed/AlreadyResumed      | completed/AlreadyResumed      | completed/LeaseLost           | completed                     | completed/LeaseLost           | completed/LeaseLost           | completed/LeaseLost           | completed/LeaseLost           | completed/LeaseLost           | completed/AlreadyResumed  | completed/AlreadyResumed      | completed/AlreadyResumed      | completed/AlreadyResumed
failed     | failed/AlreadyResumed         | failed/AlreadyResumed         | failed/AlreadyResumed         | failed/AlreadyResumed         | failed/LeaseLost              | failed/LeaseLost              | failed                        | failed/LeaseLost              | failed/LeaseLost              | failed/LeaseLost              | failed/LeaseLost              | failed/AlreadyResumed     | failed/AlreadyResumed         | failed/AlreadyResumed         | failed/AlreadyResumed
parked     | parked/AlreadyResumed         | parked/AlreadyResumed         | parked/AlreadyResumed         | parked/AlreadyResumed         | parked/LeaseLost              | parked/LeaseLost              | parked/LeaseLost              | parked                        | parked/LeaseLost              | parked/LeaseLost              | parked/LeaseLost              | cancelled                 | parked/AlreadyResumed         | parked/AlreadyResumed         | running
expired    | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/SuspensionExpired | expired                       | expired/SuspensionExpired     | expired/SuspensionExpired
handled    | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired     | expired                       | expired                       | expired                       | expired                       | expired                       | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired | expired/SuspensionBusy        | expired/SuspensionExpired     | expired/SuspensionExpired
unstated   | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/LeaseLost             | expired/SuspensionExpired | expired/SuspensionExpired     | expired/SuspensionExpired     | expired/SuspensionExpired
cancelled  | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled                 | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled | cancelled/SuspensionCancelled
"""  # noqa: E501 - a table is read by its columns


def cells() -> list[tuple[str, str, str]]:
    header, *rows = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip("\n").splitlines()]
    return [(row[0], verb, cell) for row in rows for verb, cell in zip(header[1:], row[1:], strict=True)]


def test_the_table_has_every_verb_in_every_state():
    assert {(state, verb) for state, verb, _ in cells()} == {(state, verb) for state in HEADS for verb in VERBS}


@pytest.mark.parametrize(("state", "verb", "cell"), cells())
def test_each_verb_in_each_state(state, verb, cell):
    status, _, refusal = cell.partition("/")
    step = VERBS[verb](HEADS[state]())
    assert step.head.status == status
    if refusal:
        assert isinstance(step.result, Failure)
        assert type(step.result.failure()) is getattr(errors, refusal)
    else:
        assert isinstance(step.result, Success)


def test_a_refusal_without_a_decision_leaves_the_head_itself():
    """What is the same object needs no put."""
    for make in HEADS.values():
        head = make()
        step = holding.renew(head, Holder(99, "nobody"), NOW, lease=LEASE)
        assert step.head is head


def test_a_deadlines_own_instant_is_in_time():
    head = new()
    assert present(head, NOW + HOUR) is head
    assert present(head, NOW + HOUR + timedelta(microseconds=1)).status is Status.EXPIRED
    assert next_change(head) == NOW + HOUR
    assert due_at(head) == NOW + HOUR + timedelta(microseconds=1)


def test_the_systems_default_answers_in_time_and_says_who():
    head = present(new(awaiting=evolve(CONFIRM, default=False)), NOW + 2 * HOUR)
    assert head.status is Status.ANSWERED
    assert head.waits[0].answer is not None
    assert (head.waits[0].answer.value, head.waits[0].answer.by) == (False, "system")
    assert head.claimable_at == NOW + HOUR


def test_a_lapsed_lease_gives_the_same_answers_to_the_next_holder():
    lapsed = present(running(), NOW + LEASE + timedelta(seconds=1))
    assert lapsed.status is Status.ANSWERED
    again = verbs.claim(lapsed, None, None, NOW + HOUR, lease=LEASE, claim_id="next").head
    assert (again.fence, again.attempt) == (2, 2)
    assert [wait.delivery for wait in again.waits] == [1]


def test_a_cancelled_run_closes_when_its_lease_lapses():
    assert present(HEADS["cancelling"](), NOW + HOUR).status is Status.CANCELLED


class TestSeveralWaits:
    PAIR = {"left": CONFIRM, "right": CONFIRM}  # noqa: RUF012 - read only

    def pause(self, until, timeout=None) -> Head:
        secrets = iter([b"l" * 32, b"r" * 32])
        planned = plan(
            self.PAIR,
            until=until,
            timeout=timeout,
            deadline=None,
            default_timeout=None,
            entropy=lambda _: next(secrets),
        )
        return Facts(SuspensionId(bytes(16)), {}, None, HOUR).head(planned, NOW, Status.WAITING, None)

    def answer(self, head, name, value=True):
        wait = next(wait for wait in head.waits if wait.name == name)
        return verbs.answer(head, wait, Offer(value, "ann", None), NOW)

    def test_all_needs_both(self):
        first = self.answer(self.pause("all"), "left")
        assert first.result.unwrap().outcome == "pending"
        assert first.head.status is Status.WAITING
        second = self.answer(first.head, "right")
        assert second.result.unwrap().outcome == "accepted"
        assert second.head.status is Status.ANSWERED

    def test_any_closes_the_other_in_the_same_step(self):
        head = self.answer(self.pause("any"), "right").head
        assert head.status is Status.ANSWERED
        assert [wait.status for wait in head.waits] == [WaitStatus.SUPERSEDED, WaitStatus.ANSWERED]
        late = self.answer(head, "left")
        assert type(late.result.failure()) is errors.WaitSuperseded

    def test_each_delivers_what_has_come_and_keeps_the_rest_open(self):
        head = self.answer(self.pause("each"), "left").head
        held = verbs.claim(head, None, None, NOW, lease=LEASE, claim_id="me").head
        assert [(wait.name, wait.delivery, wait.open) for wait in held.waits] == [
            ("left", 1, False),
            ("right", None, True),
        ]
        while_running = self.answer(held, "right").head
        assert while_running.status is Status.RUNNING
        unread = holding.complete(while_running, HOLDER, NOW, discard=False)
        assert type(unread.result.failure()) is errors.UnreadAnswers
        paused = holding.suspend_next(while_running, HOLDER, NOW, waits=(), until="each").head
        assert paused.status is Status.ANSWERED
        assert [wait.name for wait in paused.waits] == ["right"]
        assert [receipt.wait for receipt in paused.receipts] == ["left"]

    def test_all_expires_with_its_first_wait_and_each_delivers_it(self):
        assert present(self.pause("all", HOUR), NOW + 2 * HOUR).status is Status.EXPIRED
        assert present(self.pause("any", HOUR), NOW + 2 * HOUR).status is Status.EXPIRED
        each = present(self.pause("each", HOUR), NOW + 2 * HOUR)
        assert each.status is Status.ANSWERED
        held = verbs.claim(each, None, None, NOW + 2 * HOUR, lease=LEASE, claim_id="me").head
        assert [(wait.status, wait.delivery) for wait in held.waits] == [(WaitStatus.EXPIRED, 1)] * 2

    def test_an_id_alone_names_no_wait_of_several(self):
        step = verbs.answer(self.pause("all"), None, Offer(True, None, None), NOW)
        assert type(step.result.failure()) is errors.KeyValidationError

    def test_names_of_open_waits_are_unique(self):
        head = self.answer(self.pause("each"), "left").head
        held = verbs.claim(head, None, None, NOW, lease=LEASE, claim_id="me").head
        again = [replace(wait, secret=b"x" * 32) for wait in self.pause("each").waits]
        with pytest.raises(ValueError, match="right"):
            holding.suspend_next(held, HOLDER, NOW, waits=again, until="each")


def test_a_repeated_verb_of_the_same_fence_is_a_success():
    for verb in ("complete", "fail", "release", "next"):
        once = VERBS[verb](running()).head
        again = VERBS[verb](once)
        assert isinstance(again.result, Success), verb
        assert again.head is once


def test_the_winners_own_answer_id_takes_again():
    taken = verbs.take(answered(), None, None, NOW, answer_id="mine", by="ann").head
    assert isinstance(verbs.take(taken, None, None, NOW, answer_id="mine", by="ann").result, Success)
    assert type(verbs.take(taken, None, None, NOW, answer_id="b", by=None).result.failure()) is errors.AlreadyResumed


@pytest.mark.parametrize(("value", "answer_id", "outcome"), [(True, None, "replayed"), (False, "a1", "replayed")])
def test_the_same_answer_again_is_replayed(value, answer_id, outcome):
    head = answered()
    step = verbs.answer(head, head.waits[0], Offer(value, "bob", answer_id), NOW)
    assert step.head is head
    assert step.result.unwrap().outcome == outcome
    assert step.result.unwrap().by == "ann"


def test_an_invalid_answer_leaves_it_waiting():
    head = new()
    step = verbs.answer(head, head.waits[0], Offer("perhaps", None, None), NOW)
    assert step.head is head
    assert type(step.result.failure()) is errors.InputValidationError


def held() -> Head:
    return HEADS["handled"]()


def test_an_expiry_is_due_until_somebody_has_handled_it():
    """At once, after a lease without a word, after a release's delay; and the status is expired throughout."""
    head = HEADS["expired"]()
    assert (head.claimable_at, due_at(head), pending(head)) == (NOW + HOUR, NOW + HOUR, True)
    taken = held()
    assert (taken.fence, taken.attempt, due_at(taken)) == (1, 1, LATE + LEASE + timedelta(microseconds=1))
    assert next_change(taken) == LATE + LEASE
    lapsed = present(taken, LATE + HOUR)
    assert (lapsed.claim_id, due_at(lapsed), lapsed.closed_at) == (None, LATE + LEASE, head.closed_at)
    assert type(holding.complete(lapsed, HOLDER, LATE + HOUR, discard=False).result.failure()) is errors.LeaseLost
    again = expire(lapsed, LATE + HOUR, lease=LEASE, claim_id="next").head
    assert (again.fence, again.attempt) == (2, 2)
    given_back = holding.release(taken, HOLDER, LATE, error="Boom", delay=HOUR).head
    assert (due_at(given_back), given_back.error) == (LATE + HOUR, "Boom")
    assert type(expire(given_back, LATE, lease=LEASE, claim_id="x").result.failure()) is errors.SuspensionBusy
    for done in (holding.complete(taken, HOLDER, LATE, discard=False), holding.fail(taken, HOLDER, LATE, error="Boom")):
        assert (done.head.status, pending(done.head), due_at(done.head)) == (
            Status.EXPIRED,
            False,
            head.closed_at + head.retention,
        )


def test_the_same_claim_of_an_expiry_again_gets_it_again():
    taken = held()
    again = expire(taken, LATE, lease=LEASE, claim_id="me")
    assert isinstance(again.result, Success)
    assert again.head is taken


def test_only_what_has_expired_with_a_state_has_an_expiry_to_handle():
    pendings = {name for name, make in HEADS.items() if pending(make())}
    assert pendings == {"expired", "handled"}
    assert {attributes_of(make())["status"] for name, make in HEADS.items() if name in pendings} == {EXPIRING}
    assert attributes_of(HEADS["unstated"]())["status"] == "expired"
