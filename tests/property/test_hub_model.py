"""The hub against a small model of a suspension, written from the rules and not from the code.

Clients call any verb at any time, alone or at once; the clock moves between calls and in the middle of them;
acknowledgements get lost. Calls made at once must give what some order of them, one after the other, gives.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from datetime import UTC, datetime, timedelta

from attrs import define, field
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from returns.result import Failure, Success

from flowpersist import AwaitInput, Criteria, Maintenance
from flowpersist.backends.base import RecordRef, Where
from flowpersist.backends.memory import MemoryBackend
from flowpersist.errors import BackendUnavailable, UnknownOutcome
from flowpersist.lifecycle.changes import due_at
from flowpersist.testing.hubs import open_test_hub

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
RETENTION = 120
NAMES = ("a", "b", "c")
CLOSED = {"completed", "failed", "parked", "expired", "cancelled"}
CLOSED_ERRORS = {
    "completed": "AlreadyResumed",
    "failed": "AlreadyResumed",
    "parked": "AlreadyResumed",
    "expired": "SuspensionExpired",
    "cancelled": "SuspensionCancelled",
}


def seconds(number):
    return timedelta(seconds=number)


# ---------------------------------------------------------------------------------------------------------- the model


@define
class ModelWait:
    name: str
    key: int
    needed: bool
    deadline: int | None
    default: int | None
    status: str = "open"
    value: int | None = None
    answer_id: str | None = None
    by: str | None = None
    delivered: int | None = None


@define
class ModelSuspension:
    """One run: what it waits for, who holds it, and what became of each key it ever gave."""

    state: int | None
    until: str
    waits: list[ModelWait]
    status: str = "waiting"
    sequence: int = 1
    attempt: int = 0
    fence: int = 0
    holder: str | None = None
    lease_end: int | None = None
    claimable: int | None = None
    cancelling: bool = False
    closed_at: int | None = None
    taken_by: str | None = None
    old: dict[int, ModelWait] = field(factory=dict)
    done: list[tuple[int, str]] = field(factory=list)
    #: The verbs that have changed it, and its status after each.
    changes: list[tuple[str, str]] = field(factory=list, eq=False)


class Refused(Exception):
    pass


class Model:
    """What each verb does, in the words of the design: one dict, whole seconds, no concurrency."""

    def __init__(self):
        self.now = 0
        self.runs: dict[int, ModelSuspension] = {}

    def call(self, verb, *args):
        before = copy.deepcopy(self.runs)
        told = self._call(verb, *args)
        for number, run in self.runs.items() if verb not in {"travel", "tick", "cleanup"} else ():
            # An extension to the same deadline is one too; a renewal is none.
            changed = run != before.get(number) or (verb == "extend" and told[0] == "ok" and number == args[0])
            if changed and not (verb == "renew" and run.status == before[number].status):
                run.changes.append(({"fill": "suspend", "claim_due": "claim"}.get(verb, verb), run.status))
        return told

    def _call(self, verb, *args):
        try:
            return getattr(self, verb)(*args)
        except Refused as refused:
            return ("refused", str(refused))

    # -- time

    def travel(self, by):
        self.now += by
        for run in self.runs.values():
            self._advance(run)

    def _advance(self, run):
        """Every instant that has passed, in order: first the waits of an instant, then the lease."""
        while run.status not in CLOSED:
            moments = [wait.deadline for wait in run.waits if wait.status == "open" and wait.deadline is not None]
            moments += [run.lease_end] if run.lease_end is not None else []
            moment = min(moments, default=None)
            if moment is None or self.now <= moment:
                return
            for wait in run.waits:
                if wait.status == "open" and wait.deadline == moment:
                    wait.status = "expired" if wait.default is None else "answered"
                    wait.value, wait.by = wait.default, None if wait.default is None else "system"
            self._settle(run, moment)
            if run.status not in CLOSED and run.lease_end == moment:
                run.holder = run.lease_end = None
                if run.cancelling:
                    self._close(run, "cancelled", moment)
                else:
                    run.status, run.claimable = "answered", moment

    def _settle(self, run, moment):
        statuses = [wait.status for wait in run.waits]
        if run.until == "any" and "answered" in statuses:
            for wait in run.waits:
                wait.status = "superseded" if wait.status == "open" else wait.status
        hopeless = {"all": "expired" in statuses, "any": set(statuses) == {"expired"}, "each": False}[run.until]
        if run.status in {"reserved", "waiting"} and hopeless:
            self._close(run, "expired", moment)
        elif run.status == "waiting":
            news = [w for w in run.waits if w.delivered is None and w.status in {"answered", "expired"}]
            if news if run.until == "each" else all(wait.status != "open" for wait in run.waits):
                run.status, run.claimable = "answered", moment

    def _close(self, run, status, moment):
        for wait in run.waits:
            if wait.status == "open":
                wait.status = "expired" if status == "expired" else "closed"
        run.status, run.closed_at = status, moment
        run.holder = run.lease_end = run.claimable = None

    # -- finding

    def _run(self, number):
        if number not in self.runs:
            raise Refused("SuspensionNotFound")
        return self.runs[number]

    def _wait(self, run, key):
        return next((wait for wait in run.waits if wait.key == key), None) or run.old.get(key)

    # -- verbs of those who make, answer and look

    def suspend(self, number, state, until, waits):
        self.runs[number] = run = ModelSuspension(state, until, copy.deepcopy(waits))
        self._settle(run, self.now)
        return ("ok", run.status)

    def reserve(self, number, until, waits):
        self.runs[number] = run = ModelSuspension(None, until, copy.deepcopy(waits), status="reserved")
        return ("ok", run.status)

    def fill(self, number, key, state):
        run = self._run(number)
        if run.state is not None:
            if run.state == state:
                return ("ok", run.status)
            raise Refused("IdempotencyConflict")
        if run.status in CLOSED:
            raise Refused(CLOSED_ERRORS[run.status])
        run.state, run.status = state, "waiting"
        self._settle(run, self.now)
        return ("ok", run.status)

    def answer(self, number, key, value, answer_id):
        return ("ok", self._answered(self._run(number), key, value, answer_id))

    def _answered(self, run, key, value, answer_id):
        wait = self._wait(run, key)
        if key not in run.old and wait.status == "open":
            wait.status, wait.value, wait.answer_id, wait.by = "answered", value, answer_id, "client"
            self._settle(run, self.now)
            missing = run.until == "all" and any(w.status == "open" and w.needed for w in run.waits)
            return "pending" if missing else "accepted"
        if wait.status == "answered" and (wait.value == value or (answer_id and wait.answer_id == answer_id)):
            return "replayed"
        raise Refused(self._how_it_ended(run, key, wait))

    def _how_it_ended(self, run, key, wait):
        if wait.status == "expired":
            return "SuspensionExpired"
        if wait.status == "superseded":
            return "WaitSuperseded"
        if key in run.old or wait.delivered is not None:
            return "AlreadyResumed"
        if run.status in CLOSED:
            return CLOSED_ERRORS[run.status]
        return "AlreadyResumed" if wait.status == "closed" else "AnswerConflict"

    def cancel(self, number, key):
        run = self._run(number)
        if run.status == "cancelled":
            return ("ok", "cancelled")
        if run.status in CLOSED - {"parked"}:
            raise Refused(CLOSED_ERRORS[run.status])
        if key in run.old:
            raise Refused(self._how_it_ended(run, key, run.old[key]))
        if run.status == "running":
            run.cancelling = True
        else:
            self._close(run, "cancelled", self.now)
        return ("ok", run.status)

    def extend(self, number, key, timeout):
        run = self._run(number)
        if run.status in CLOSED:
            raise Refused(CLOSED_ERRORS[run.status])
        wait = self._wait(run, key)
        if key in run.old or wait.status != "open":
            raise Refused(self._how_it_ended(run, key, wait))
        wait.deadline = self.now + timeout
        return ("ok", run.status)

    # -- verbs that take a run

    def claim(self, number, key, value, answer_id, claim_id, lease):
        run = self._run(number)
        self._not_passed(run, key)
        if run.status == "running" and run.holder == claim_id:
            return self._delivered(run)
        self._make_ready(run, key, value, answer_id)
        self._hold(run)
        run.status, run.holder, run.lease_end, run.claimable = "running", claim_id, self.now + lease, None
        return self._delivered(run)

    def resume(self, number, key, value, answer_id):
        run = self._run(number)
        self._not_passed(run, key)
        if run.taken_by == answer_id:
            return self._delivered(run)
        self._make_ready(run, key, value, answer_id)
        self._hold(run)
        run.taken_by = answer_id
        self._close(run, "completed", self.now)
        return self._delivered(run)

    def _not_passed(self, run, key):
        """A key of an earlier pause, or one that another answer superseded, takes nothing."""
        wait = None if key is None else self._wait(run, key)
        if wait is not None and (key in run.old or wait.status == "superseded"):
            raise Refused(self._how_it_ended(run, key, wait))

    def _make_ready(self, run, key, value, answer_id):
        if run.status in CLOSED:
            raise Refused(CLOSED_ERRORS[run.status])
        if run.status == "running" or (run.claimable is not None and run.claimable > self.now):
            raise Refused("SuspensionBusy")
        if value is not None:
            self._answered(run, key, value, answer_id)
        optional = any(wait.status == "open" and not wait.needed for wait in run.waits)
        missing = any(wait.status == "open" and wait.needed for wait in run.waits)
        if run.status == "reserved" or (run.status == "waiting" and (missing or not optional)):
            raise Refused("StillWaiting")

    def _hold(self, run):
        run.fence += 1
        run.attempt += 1
        for wait in run.waits if run.attempt == 1 else ():
            if wait.delivered is None and wait.status in {"answered", "expired"}:
                wait.delivered = run.sequence
            elif wait.status == "open" and not wait.needed:
                wait.status = "closed"

    def _delivered(self, run):
        given = [wait for wait in run.waits if wait.delivered == run.sequence]
        answers = {wait.name: wait.value for wait in given if wait.status == "answered"}
        expired = sorted(wait.name for wait in given if wait.status == "expired")
        return ("ok", run.state, answers, expired, run.sequence, run.attempt, run.fence)

    def claim_due(self, numbers, claim_id, lease):
        """``numbers``: the runs in the order of their ids, which settles ties."""
        due = [n for n in numbers if n in self.runs and self.runs[n].status == "answered"]
        due = [n for n in due if self.runs[n].claimable <= self.now]
        if not due:
            return ("ok", None)
        return ("ok", *self.claim(due[0], None, None, None, claim_id, lease)[1:])

    # -- verbs of holders

    def _held(self, number, fence, holder, verb):
        run = self._run(number)
        if (fence, verb) in run.done[-4:]:
            return run, True
        if not (run.status == "running" and (run.fence, run.holder) == (fence, holder)):
            raise Refused("SuspensionCancelled" if run.status == "cancelled" else "LeaseLost")
        if run.cancelling and verb != "complete":
            self._close(run, "cancelled", self.now)
            raise Refused("SuspensionCancelled")
        return run, False

    def renew(self, number, fence, holder, lease):
        run, _ = self._held(number, fence, holder, "renew")
        run.lease_end = self.now + lease
        return ("ok", self.now + lease)

    def complete(self, number, fence, holder, discard):
        run, again = self._held(number, fence, holder, "complete")
        if again:
            return ("ok", run.status)
        if not discard and any(wait.status == "answered" and wait.delivered is None for wait in run.waits):
            raise Refused("UnreadAnswers")
        run.done.append((fence, "complete"))
        self._close(run, "completed", self.now)
        return ("ok", run.status)

    def fail(self, number, fence, holder):
        run, again = self._held(number, fence, holder, "fail")
        if not again:
            run.done.append((fence, "fail"))
            self._close(run, "failed", self.now)
        return ("ok", run.status)

    def park(self, number, fence, holder, state, unread):
        run, again = self._held(number, fence, holder, "park")
        if not again:
            told = {wait.name for wait in run.waits if wait.delivered == run.sequence}
            if set(unread) - told:
                return ("raised", "ValueError")
            for wait in run.waits:
                wait.delivered = None if wait.name in unread else wait.delivered
            run.done.append((fence, "park"))
            run.state = state
            self._close(run, "parked", self.now)
        return ("ok", run.status)

    def retry(self, number, state, sequence, claim_id, lease):
        run = self._run(number)
        if run.status == "running" and run.holder == claim_id:
            return self._delivered(run)
        if run.status in CLOSED - {"parked"}:
            raise Refused(CLOSED_ERRORS[run.status])
        if run.status != "parked":
            raise Refused("SuspensionBusy" if run.status == "running" else "StillWaiting")
        if sequence is not None and sequence != run.sequence:
            raise Refused("AlreadyResumed")
        for wait in run.waits:
            wait.status = "superseded" if wait.status == "closed" else wait.status
        unread = [wait for wait in run.waits if wait.delivered is None and wait.status == "answered"]
        run.old.update({wait.key: wait for wait in run.waits if wait not in unread})
        run.waits, run.state = unread, run.state if state is None else state
        run.sequence, run.attempt, run.fence, run.closed_at = run.sequence + 1, 1, run.fence + 1, None
        for wait in unread:
            wait.delivered = run.sequence
        run.status, run.holder, run.lease_end, run.claimable = "running", claim_id, self.now + lease, None
        return self._delivered(run)

    def release(self, number, fence, holder, delay):
        run, again = self._held(number, fence, holder, "release")
        if not again:
            run.done.append((fence, "release"))
            run.status, run.holder, run.lease_end, run.claimable = "answered", None, None, self.now + delay
        return ("ok", run.status)

    def suspend_next(self, number, fence, holder, state, until, waits, superseded=()):
        run, again = self._held(number, fence, holder, "suspend_next")
        if again:
            return ("ok", run.status)
        dropped = {wait.key for wait in run.waits if wait.name in superseded}
        unread = [w for w in run.waits if w.delivered is None and w.status in {"answered", "expired"}]
        stay = [wait for wait in run.waits if wait.status == "open" or wait in unread]
        kept = [wait for wait in stay if wait.key not in dropped]
        fresh = [wait for wait in copy.deepcopy(waits) if wait.needed or not kept]
        if {wait.name for wait in kept} & {wait.name for wait in fresh}:
            return ("raised", "ValueError")
        self._supersede(run, dropped)
        run.old.update({wait.key: wait for wait in run.waits if wait not in kept})
        run.done.append((fence, "suspend_next"))
        run.waits, run.state, run.until = kept + fresh, state, until
        run.sequence, run.attempt, run.status = run.sequence + 1, 0, "waiting"
        run.holder = run.lease_end = run.claimable = None
        self._settle(run, self.now)
        return ("ok", run.status)

    def checkpoint(self, number, fence, holder, sequence, *kept):
        run = self._run(number)
        holds = run.status == "running" and (run.fence, run.holder) == (fence, holder)
        if holds and run.sequence == sequence + 1:
            return self._kept(run)
        run, _ = self._held(number, fence, holder, "checkpoint")
        if run.sequence != sequence:
            raise Refused("LeaseLost")
        return self._checkpointed(run, *kept)

    def _checkpointed(self, run, state, waits, superseded, unread, progress):
        told = {w.name for w in run.waits if w.delivered == run.sequence}
        if not ({*superseded} <= {w.name for w in run.waits} and {*unread} <= told):
            return ("raised", "ValueError")
        dropped = {wait.key for wait in run.waits if wait.name in superseded}
        news = [w for w in run.waits if w.delivered is None and w.status in {"answered", "expired"}]
        news += [w for w in run.waits if w.name in unread]
        kept = [w for w in run.waits if (w.status == "open" or w in news) and w.key not in dropped]
        fresh = [wait for wait in copy.deepcopy(waits) if wait.needed]
        if {wait.name for wait in kept} & {wait.name for wait in fresh}:
            return ("raised", "ValueError")
        self._supersede(run, dropped)
        run.old.update({wait.key: wait for wait in run.waits if wait not in kept})
        run.sequence += 1
        for wait in kept:
            wait.delivered = None if wait.status == "open" else run.sequence
        run.waits, run.state, run.until = kept + fresh, state, "each"
        run.attempt = 1 if progress else run.attempt
        return self._kept(run)

    def _supersede(self, run, keys):
        for wait in run.waits:
            if wait.key in keys and wait.status in {"open", "answered"}:
                wait.status = "superseded"

    def _kept(self, run):
        return (*self._delivered(run), sorted(wait.name for wait in run.waits if wait.status == "open"))

    # -- maintenance

    def tick(self):
        return None

    def cleanup(self):
        gone = [n for n, run in self.runs.items() if run.status in CLOSED and run.closed_at + RETENTION <= self.now]
        for number in gone:
            del self.runs[number]
        return ("ok", len(gone))


# ------------------------------------------------------------------------------------------------------- the real one


class Weather(MemoryBackend):
    """A memory backend whose clock only the test moves, and whose calls are interrupted, refused and lost by chance."""

    def __init__(self, chance):
        super().__init__()
        self.chance = chance
        self.stormy = False

    def _now(self):
        super()._now()
        return START + self.clock_offset

    async def get(self, ref, *, body=True):
        await self._pause()
        return await super().get(ref, body=body)

    async def put(self, ref, change, *, if_revision, not_after=None):
        await self._pause()
        if self.stormy and self.chance.random() < 0.1:
            raise BackendUnavailable("not now", "memory", retryable=True)
        written = await super().put(ref, change, if_revision=if_revision, not_after=not_after)
        await self._pause()
        if self.stormy and self.chance.random() < 0.2:
            raise UnknownOutcome("no reply", "memory", retryable=True)
        return written

    async def query(self, namespace, where, **options):
        await self._pause()
        return await super().query(namespace, where, **options)

    async def _pause(self):
        for _ in range(self.chance.randrange(4) if self.stormy else 0):
            await asyncio.sleep(0)


waits_of_a_pause = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([None, 5, 40]), st.sampled_from([None, None, 7])),
    max_size=3,
    unique_by=lambda wait: wait[0],
)
untils = st.sampled_from(["all", "any", "each"])
values = st.sampled_from([1, 2])
ids = st.sampled_from(["x", "y", "z"])
leases = st.sampled_from([10, 30])
steps = st.sampled_from([1, 5, 10, 11, 30, 45])


class HubMachine(RuleBasedStateMachine):
    """Every rule calls the hub and the model alike, and compares what they say."""

    @initialize(seed=st.integers(0, 2**32 - 1))
    def open(self, seed):
        self.chance = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.backend = Weather(self.chance)
        self.context = open_test_hub(self.backend, retention=seconds(RETENTION))
        self.hub = self.run(self.context.__aenter__())
        self.model = Model()
        self.keys: dict[int, object] = {}  # the model's number of a key to the key
        self.owner: dict[int, int] = {}  # the model's number of a key to that of its run
        self.ids: dict[int, object] = {}
        self.holders = {}  # (run, fence) to its Resumption
        self.seen = {}  # (run, sequence) to the answers delivered for it
        self.count = itertools.count(1)

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def teardown(self):
        if hasattr(self, "hub"):
            self.run(self.context.__aexit__(None, None, None))
            self.loop.close()

    # -- calling both

    async def real(self, verb, *args):
        try:
            return self.shape(await getattr(self, "real_" + verb)(*args))
        except ValueError:
            return ("raised", "ValueError")

    def shape(self, told):
        if isinstance(told, Failure):
            return ("refused", type(told.failure()).__name__)
        return told

    def both(self, verb, *args):
        expected = self.model.call(verb, *args)
        assert self.run(self.real(verb, *args)) == expected

    def waits_for(self, number, planned):
        """The model's waits, each with the number that its key will have."""
        made = [
            ModelWait(name, next(self.count), True, None if timeout is None else self.model.now + timeout, default)
            for name, timeout, default in planned
        ] or [ModelWait("answer", next(self.count), False, None, None)]
        self.owner.update({wait.key: number for wait in made})
        return made

    def awaiting(self, waits):
        made = {}
        for wait in waits:
            options = {} if wait.default is None else {"default": wait.default}
            deadline = None if wait.deadline is None else START + seconds(wait.deadline)
            made[wait.name] = AwaitInput(id=wait.name, prompt="?", schema=int, deadline=deadline, **options)
        return made if waits and waits[0].needed else None

    def remember(self, number, told, waits):
        if isinstance(told, Success):
            new = told.unwrap()
            self.ids[number] = new.id
            for wait in waits:
                # A repeated pause gives the keys of the one that was made, which have their numbers already.
                if wait.name in new.keys and new.keys[wait.name] not in self.keys.values():
                    self.keys.setdefault(wait.key, new.keys[wait.name])
            return ("ok", str(new.status))
        return told

    async def real_suspend(self, number, state, until, waits):
        told = await self.hub.suspend(state, awaiting=self.awaiting(waits), until=until, metadata={"n": number})
        return self.remember(number, told, waits)

    async def real_reserve(self, number, until, waits):
        told = await self.hub.reserve(self.awaiting(waits), until=until, metadata={"n": number})
        return self.remember(number, told, waits)

    async def real_fill(self, number, key, state):
        told = await self.hub.suspend(state, key=self.keys[key])
        return ("ok", str(told.unwrap().status)) if isinstance(told, Success) else told

    async def real_answer(self, number, key, value, answer_id):
        told = await self.hub.answer(self.keys[key], value, answer_id=answer_id)
        return ("ok", told.unwrap().outcome) if isinstance(told, Success) else told

    async def real_cancel(self, number, key):
        told = await self.hub.cancel(self.keys[key])
        return ("ok", str(told.unwrap().status)) if isinstance(told, Success) else told

    async def real_extend(self, number, key, timeout):
        told = await self.hub.extend(self.keys[key], timeout=seconds(timeout))
        return ("ok", str(told.unwrap().status)) if isinstance(told, Success) else told

    async def real_claim(self, number, key, value, answer_id, claim_id, lease):
        named = self.ids[number] if key is None else self.keys[key]
        given = () if value is None else (value,)
        told = await self.hub.claim(named, *given, answer_id=answer_id, claim_id=claim_id, lease=seconds(lease))
        return self.took(told)

    async def real_resume(self, number, key, value, answer_id):
        given = () if value is None else (value,)
        return self.took(await self.hub.resume(self.keys[key], *given, answer_id=answer_id))

    def took(self, told):
        if not isinstance(told, Success):
            return told
        run = told.unwrap()
        number = run.suspension.metadata["n"]
        self.holders[number, run.fence] = run
        return ("ok", run.state, dict(run.answers), sorted(run.expired), run.sequence, run.attempt, run.fence)

    async def real_claim_due(self, numbers, claim_id, lease):
        only = Criteria(metadata={"n": numbers[0]})
        told = await self.hub.claim_due(only, lease=seconds(lease))
        if not isinstance(told, Success):
            return told
        if not told.unwrap():
            return ("ok", None)
        (run,) = told.unwrap()
        fence = run.fence
        number = run.suspension.metadata["n"]
        self.holders[number, fence] = run
        self.model.runs[number].holder = run.claim_id
        return self.took(Success(run))

    async def real_renew(self, number, fence, _holder, lease):
        told = await self.hub.renew(self.holders[number, fence], lease=seconds(lease))
        return ("ok", (told.unwrap() - START).total_seconds()) if isinstance(told, Success) else told

    async def real_complete(self, number, fence, _holder, discard):
        told = await self.hub.complete(self.holders[number, fence], discard=discard)
        return ("ok", str(told.unwrap().status)) if isinstance(told, Success) else told

    async def real_fail(self, number, fence, _holder):
        told = await self.hub.fail(self.holders[number, fence])
        return ("ok", str(told.unwrap().status)) if isinstance(told, Success) else told

    async def real_park(self, number, fence, _holder, state, unread):
        told = await self.hub.park(self.holders[number, fence], state, unread=unread)
        return ("ok", str(told.unwrap().status)) if isinstance(told, Success) else told

    async def real_retry(self, number, state, sequence, claim_id, lease):
        given = () if state is None else (state,)
        named = {"sequence": sequence, "claim_id": claim_id, "lease": seconds(lease)}
        return self.took(await self.hub.retry(self.ids[number], *given, **named))

    async def real_release(self, number, fence, _holder, delay):
        told = await self.hub.release(self.holders[number, fence], delay=seconds(delay))
        return ("ok", str(told.unwrap().status)) if isinstance(told, Success) else told

    async def real_suspend_next(self, number, fence, _holder, state, until, waits, superseded=()):
        told = await self.hub.suspend_next(
            self.holders[number, fence], state, awaiting=self.awaiting(waits), until=until, superseded=superseded
        )
        return self.remember(number, told, waits)

    async def real_checkpoint(
        self, number, fence, _holder, sequence, state, waits, superseded=(), unread=(), progress=True
    ):
        told = await self.hub.checkpoint(
            self.holders[number, fence],
            state,
            awaiting=self.awaiting(waits),
            superseded=superseded,
            unread=unread,
            progress=progress,
        )
        if not isinstance(told, Success):
            return told
        kept = told.unwrap()
        for wait in waits:
            if wait.name in kept.keys and kept.keys[wait.name] not in self.keys.values():
                self.keys.setdefault(wait.key, kept.keys[wait.name])
        taken = self.took(told)
        return (*taken, sorted(kept.keys))

    async def real_tick(self):
        assert isinstance(await Maintenance(self.hub).tick(), Success)

    async def real_cleanup(self):
        return ("ok", (await Maintenance(self.hub).cleanup()).unwrap().deleted)

    async def real_travel(self, by):
        self.backend.clock_offset += seconds(by)

    # -- rules

    def some_key(self, data):
        return data.draw(st.sampled_from(sorted(self.keys)), "key")

    def some_holder(self, data):
        number, fence = data.draw(st.sampled_from(sorted(self.holders)), "holder")
        return number, fence, self.holders[number, fence].claim_id

    @precondition(lambda self: len(self.model.runs) < 4)
    @rule(planned=waits_of_a_pause, until=untils)
    def suspend(self, planned, until):
        number = next(self.count)
        self.both("suspend", number, number, until, self.waits_for(number, planned))

    @precondition(lambda self: len(self.model.runs) < 4)
    @rule(planned=waits_of_a_pause.filter(bool), until=untils)
    def reserve(self, planned, until):
        number = next(self.count)
        self.both("reserve", number, until, self.waits_for(number, planned))

    @precondition(lambda self: any(run.status == "reserved" for run in self.model.runs.values()))
    @rule(data=st.data())
    def fill(self, data):
        empty = sorted(n for n, run in self.model.runs.items() if run.state is None)
        number = data.draw(st.sampled_from(empty), "reserved")
        self.both("fill", number, self.model.runs[number].waits[0].key, number)

    @rule(by=steps)
    def travel(self, by):
        self.both("travel", by)

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def call_by_key(self, data):
        self.both(*self.draw_call(data))

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def call_as_holder(self, data):
        self.both(*self.draw_holders_call(data))

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), planned=waits_of_a_pause, until=untils)
    def suspend_next(self, data, planned, until):
        number, fence, holder = self.some_holder(data)
        known = sorted({wait.name for wait in self.holders[number, fence].suspension.waits})
        named = data.draw(st.lists(st.sampled_from(known), unique=True) if known else st.just([]), "superseded")
        waits = self.waits_for(number, planned)
        self.both("suspend_next", number, fence, holder, next(self.count), until, waits, named)

    @precondition(lambda self: any(run.status == "running" for run in self.model.runs.values()))
    @rule(data=st.data(), planned=waits_of_a_pause, progress=st.booleans(), wrong=st.integers(0, 9))
    def checkpoint(self, data, planned, progress, wrong):
        number = data.draw(
            st.sampled_from(sorted(n for n, run in self.model.runs.items() if run.status == "running")), "run"
        )
        run = self.model.runs[number]
        held = self.holders.get((number, run.fence))
        if held is None:
            return
        known = sorted({wait.name for wait in run.waits})
        told = sorted({wait.name for wait in run.waits if wait.delivered == run.sequence}) or known
        named = data.draw(st.lists(st.sampled_from(known), unique=True) if known and wrong > 5 else st.just([]), "sup")
        unread = data.draw(
            st.lists(st.sampled_from(told), unique=True) if told and wrong > 2 else st.just([]), "unread"
        )
        waits = self.waits_for(number, planned) if planned else []
        call = (number, run.fence, held.claim_id, held.sequence, next(self.count), waits, named, unread, progress)
        self.both("checkpoint", *call)

    @precondition(lambda self: any(run.status in {"waiting", "answered"} for run in self.model.runs.values()))
    @rule(data=st.data(), planned=waits_of_a_pause, until=untils)
    def go_through_a_pause(self, data, planned, until):
        """Answer all that is open, claim, and pause again: what chance alone would seldom do, and every flow does."""
        live = sorted(n for n, run in self.model.runs.items() if run.status in {"waiting", "answered"})
        number = data.draw(st.sampled_from(live), "run")
        for wait in list(self.model.runs[number].waits):
            if wait.needed and wait.status == "open":
                self.both("answer", number, wait.key, 1, "own")
        self.both("claim", number, None, None, "own", "own", 30)
        run = self.model.runs[number]
        if run.status == "running":
            held = (number, run.fence, "own")
            self.both("suspend_next", *held, next(self.count), until, self.waits_for(number, planned))
            if data.draw(st.booleans(), "hold the next one"):
                self.both("claim", number, None, None, "own", "own", 30)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), state=st.none() | st.integers(1000, 1003), hold=st.booleans())
    def park_and_retry(self, data, state, hold):
        """What a failed flow does; and whoever retries what is not parked is told so."""
        number, fence, holder = self.some_holder(data)
        run = self.holders[number, fence]
        unread = data.draw(st.lists(st.sampled_from(sorted(run.answers)), unique=True) if run.answers else st.just([]))
        if hold:
            self.both("park", number, fence, holder, next(self.count), unread)
        sequence = data.draw(st.none() | st.integers(run.sequence, run.sequence + 1), "sequence")
        if number in self.model.runs:
            self.both("retry", number, state, sequence, data.draw(ids, "claim_id"), data.draw(leases, "lease"))

    @precondition(lambda self: any(run.old for run in self.model.runs.values()))
    @rule(data=st.data(), verb=st.sampled_from(["claim", "resume"]), value=st.none() | values, own=ids | st.just("own"))
    def try_an_old_key(self, data, verb, value, own):
        """The key of an earlier pause, with whatever ids: it takes nothing, and is told how its own wait ended."""
        old = sorted((number, key) for number, run in self.model.runs.items() for key in run.old)
        number, key = data.draw(st.sampled_from(old), "old key")
        calls = {"claim": (number, key, value, own, own, 10), "resume": (number, key, value, own)}
        before = copy.deepcopy(self.model.runs[number])
        self.both(verb, *calls[verb])
        assert self.model.runs[number] == before

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data(), lease=leases)
    def claim_due(self, data, lease):
        number = data.draw(st.sampled_from(sorted(self.model.runs)), "run")
        self.both("claim_due", [number], "somebody", lease)

    @rule()
    def tick(self):
        self.both("tick")

    @rule()
    def cleanup(self):
        self.both("travel", 45)
        self.both("cleanup")

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), clients=st.integers(2, 3), by=st.sampled_from([None, 1, 11, 45]))
    def race(self, data, clients, by):
        """Several clients at once, in bad weather, while time moves: some order of them explains all that was told."""
        calls = [self.draw_call(data, own=number) for number in range(clients)]
        if self.holders:
            calls[0] = self.draw_holders_call(data)
        calls += [] if by is None else [("travel", by)]
        self.chance.shuffle(calls)

        async def at_once():
            return await asyncio.gather(*(self.real(*call) for call in calls))

        self.backend.stormy = True
        told = self.run(at_once())
        self.backend.stormy = False
        explaining = self.explained(calls, told)
        if not explaining:
            raise AssertionError(f"no order explains {list(zip(calls, told, strict=True))}")
        # What happened can't be seen from outside where several orders explain it and leave different things behind.
        assume(all(model.runs == explaining[0].runs for model in explaining))
        self.model = explaining[0]

    def explained(self, calls, told):
        """The models that calls leave behind in every order that explains the replies.

        A call whose reply was lost, and which others overtook before it was repeated, happens once and is told what its
        repeat finds: so up to two calls may stand in an order twice, and are told what comes of the second.
        """
        for repeated in range(3):
            explaining = []
            for again in itertools.combinations([n for n, call in enumerate(calls) if call[0] != "travel"], repeated):
                for order in sorted(set(itertools.permutations([*range(len(calls)), *again]))):
                    model = copy.deepcopy(self.model)
                    expected = {index: model.call(*calls[index]) for index in order}
                    if all(expected[index] == reply for index, reply in enumerate(told)) and self.agrees(model):
                        explaining.append(model)
            if explaining:
                return explaining
        return []

    def draw_call(self, data, own=None):
        key = self.some_key(data)
        number = self.owner[key]
        suffix = "" if own is None else str(own)
        value = data.draw(st.none() | values, "value")
        answer_id = data.draw(ids, "answer_id") + suffix
        verb = data.draw(st.sampled_from(["answer", "answer", "resume", "claim", "claim", "cancel", "extend"]), "verb")
        if verb == "answer":
            return (verb, number, key, value or 1, answer_id)
        if verb == "resume":
            return (verb, number, key, value, answer_id)
        if verb == "claim":
            claim_id = data.draw(ids, "claim_id") + suffix
            return (verb, number, key, value, answer_id, claim_id, data.draw(leases, "lease"))
        if verb == "cancel":
            return (verb, number, key)
        return (verb, number, key, data.draw(steps, "timeout"))

    def draw_holders_call(self, data):
        number, fence, holder = self.some_holder(data)
        verbs = ["renew", "complete", "fail", "park", "retry", "release", "release", "checkpoint"]
        verb = data.draw(st.sampled_from(verbs), "verb")
        if verb == "park":
            return (verb, number, fence, holder, next(self.count), [])
        if verb == "retry":
            claim_id = data.draw(ids, "claim_id") + f"r{next(self.count)}"
            return (verb, number, None, None, claim_id, data.draw(leases, "lease"))
        if verb == "checkpoint":
            sequence = self.holders[number, fence].sequence
            return (verb, number, fence, holder, sequence, next(self.count), [], [], [], True)
        extra = {"renew": leases, "complete": st.booleans(), "release": st.sampled_from([0, 20])}.get(verb)
        return (verb, number, fence, holder, *([] if extra is None else [data.draw(extra, verb)]))

    # -- what must always hold

    def agrees(self, model):
        """Whether every suspension stands as the model says."""
        for number, run in model.runs.items():
            seen = self.run(self.hub.inspect(self.ids[number]))
            if not isinstance(seen, Success):
                return False
            shown = seen.unwrap()
            mine = [(wait.name, wait.status, wait.by) for wait in run.waits]
            theirs = [
                (
                    wait.name,
                    str(wait.status),
                    "client" if wait.answered_at and not wait.answered_by else wait.answered_by,
                )
                for wait in shown.waits
            ]
            facts = (run.status, run.sequence, run.attempt, mine)
            if facts != (str(shown.status), shown.sequence, shown.attempt, theirs):
                return False
            # What time does has entries too, which come with the next put.
            entries = self.run(self.hub.history(self.ids[number])).unwrap()
            if [
                (one.verb, str(one.status)) for one in entries if one.verb != "tick" and one.refusal is None
            ] != run.changes:
                return False
        return True

    @invariant()
    def the_hub_agrees_with_the_model(self):
        if hasattr(self, "hub"):
            assert self.agrees(self.model)

    @invariant()
    def copies_equal_their_heads(self):
        if not hasattr(self, "hub"):
            return
        records = self.hub.suspensions.records
        for loaded in self.run(records.page(Where(), limit=100)).unwrap().items:
            head = loaded.head
            # An expiry that nobody has handled, as nobody does here: but for one of which there never was a state.
            handled = head.status != "expired" or (head.fingerprint is None and loaded.body_size is None)
            wanted = {"status": str(head.status) if handled else "expiring", "run": str(head.id)}
            wanted["live"] = head.status not in CLOSED or not handled
            wanted["m.n"] = head.metadata["n"]
            tools = [wait.awaiting["id"] for wait in head.waits if wait.awaiting is not None]
            wanted.update({"tool": tools[0]} if tools else {})
            assert dict(loaded.attributes) == wanted
            assert loaded.due_at == due_at(loaded.head)

    @invariant()
    def what_a_pause_delivers_never_changes(self):
        for (number, _), run in getattr(self, "holders", {}).items():
            delivered = (dict(run.answers), run.expired, run.state)
            assert self.seen.setdefault((number, run.sequence), delivered) == delivered

    @invariant()
    def what_was_purged_is_gone(self):
        for number in getattr(self, "ids", {}):
            if number not in self.model.runs:
                ref = RecordRef("default", str(self.ids[number]))
                assert self.run(self.backend.get(ref)).record is None


TestHub = HubMachine.TestCase
TestHub.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
