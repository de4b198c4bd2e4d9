"""The checker of histories takes what can have happened, and finds each way in which the promise can break."""

from __future__ import annotations

import json
import random

import pytest
from attrs import evolve

from recorded import LOST, UNKNOWN, WON, Left, Operation, problems

LEASE = 10


def operation(verb, client, invoked, completed, outcome=WON, **more):
    return Operation("run", verb, client, invoked, completed, outcome, **more)


#: Two answer and claim. The first holder is stopped past its lease; the second gives it back, claims again, completes.
GOOD = [
    operation("suspend", "ana", 0, 1),
    operation("answer", "ana", 2, 5, value="yes"),
    operation("answer", "bo", 3, 4, LOST, value="no"),
    operation("claim", "ana", 6, 8, fence=1, value="yes", lease=LEASE),
    operation("claim", "bo", 7, 9, LOST),
    operation("claim", "bo", 17, 19, fence=2, value="yes", lease=LEASE),
    operation("complete", "ana", 20, 21, LOST, fence=1, value="late"),
    operation("release", "bo", 20, 22, fence=2),
    operation("claim", "bo", 23, 24, fence=3, value="yes", lease=LEASE),
    operation("complete", "bo", 25, 26, fence=3, value="done"),
    operation("claim", "ana", 27, 28, LOST),
]
LEFT = Left("completed", 3, "yes", "done")


def test_what_can_have_happened_is_taken():
    assert problems(GOOD, {"run": LEFT}) == []


def test_the_order_in_which_it_is_told_says_nothing():
    assert problems(reversed(GOOD), {"run": LEFT}) == []


def test_runs_are_apart():
    other = [evolve(one, run="other", value="no" if one.value == "yes" else one.value) for one in GOOD]
    assert problems([*GOOD, *other], {"run": LEFT, "other": evolve(LEFT, answer="no")}) == []
    assert problems([*GOOD, *other], {"run": LEFT, "other": LEFT})[0].startswith("other: ")


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_nothing_is_concluded_from_an_unknown_outcome(number):
    told = [*GOOD]
    # It was done: nobody was told so.
    told[number] = evolve(
        told[number], outcome=UNKNOWN, fence=0 if told[number].verb == "claim" else told[number].fence
    )
    assert problems(told, {"run": LEFT}) == []


def replaced(number, **more):
    return [evolve(one, **more) if place == number else one for place, one in enumerate(GOOD)]


def added(verb, client, invoked, completed, **more):
    return [*GOOD, operation(verb, client, invoked, completed, **more)]


@pytest.mark.parametrize(
    ("told", "left", "why"),
    [
        (replaced(2, outcome=WON), LEFT, "2 answers were accepted"),
        (replaced(4, outcome=WON, fence=1, value="yes", lease=LEASE), LEFT, "2 claims were given the fence 1"),
        (replaced(4, outcome=WON, fence=2, value="yes", lease=LEASE), LEFT, "while ana held it"),
        (replaced(5, invoked=9, completed=10), LEFT, "bo claimed it while ana held it"),
        (replaced(8, fence=1), LEFT, "2 claims were given the fence 1"),
        (replaced(8, fence=0), LEFT, "the fence 0 was given after a greater one"),
        (replaced(6, outcome=WON), LEFT, "2 completions were acknowledged"),
        (replaced(6, outcome=WON, verb="release"), LEFT, "under the fence 1 after a later claim"),
        (replaced(9, fence=7), LEFT, "the fence 7, which nobody was given"),
        (replaced(10, outcome=WON, fence=4, value="yes"), evolve(LEFT, attempt=4), "after bo had completed it"),
        (replaced(5, value="no"), LEFT, "was given the answer 'no', which"),
        (replaced(5, value=None), LEFT, "was given the answer None, which"),
        (replaced(1, invoked=18.5, completed=18.7), LEFT, "before it was given"),
        ([one for one in GOOD if one.verb != "answer" or one.client == "bo"], LEFT, "nobody had won"),
        ([*GOOD[:3], GOOD[4]], evolve(LEFT, status="waiting", attempt=0, result=None), "nobody had won"),
        (GOOD, None, "it was suspended, and is gone"),
        (GOOD, evolve(LEFT, answer="no"), "the answer 'yes' was acknowledged, and 'no' is stored"),
        (GOOD, evolve(LEFT, answer=None), "the answer 'yes' was acknowledged, and None is stored"),
        (GOOD, evolve(LEFT, result="late"), "the complete 'done' was acknowledged, and 'late' is stored"),
        (GOOD, evolve(LEFT, result=None), "the complete 'done' was acknowledged, and None is stored"),
        (GOOD, evolve(LEFT, status="running"), "it was completed, and is running"),
        (GOOD, evolve(LEFT, attempt=2), "3 claims were acknowledged, and 2 are stored"),
        (GOOD, evolve(LEFT, attempt=4), "3 claims were acknowledged, and 4 are stored"),
        (replaced(1, outcome=UNKNOWN), evolve(LEFT, answer="third"), "which no answer has given"),
        (GOOD[:6], evolve(LEFT, attempt=2), "nobody has completed it"),
    ],
)
def test_each_way_to_break_the_promise_is_found(told, left, why):
    found = problems(told, {} if left is None else {"run": left})
    assert any(why in one for one in found), found


class Kept:
    """A run that keeps the promise."""

    def __init__(self):
        self.answer = self.result = None
        self.fence, self.until, self.fences = 0, 0, {}

    def step(self, verb, client, value, now):
        """Whether it wins, and what is told of it; None where nothing is concluded from a refusal."""
        return {"answer": self.answered, "claim": self.claimed}.get(verb, self.finished)(verb, client, value, now)

    def answered(self, _verb, _client, value, _now):
        won, self.answer = self.answer is None, self.answer or value
        return won, {"value": value}

    def claimed(self, _verb, client, _value, now):
        if self.answer is None:
            return None
        if self.result is not None or now <= self.until:
            return False, {}
        self.fence, self.until = self.fence + 1, now + LEASE
        self.fences[client] = self.fence
        return True, {"fence": self.fence, "value": self.answer, "lease": LEASE}

    def finished(self, verb, client, value, now):
        fence, value = self.fences.get(client), value if verb == "complete" else None
        if fence is None:
            return None
        won = fence == self.fence and now <= self.until and self.result is None
        if won:
            self.until, self.result = now, value
            del self.fences[client]
        return won, {"fence": fence, "value": value}


def simulated(seed):
    """Clients of such a run: each call takes effect at one moment between its begin and its end."""
    chance, run, now = random.Random(seed), Kept(), 0.0
    told = [Operation("run", "suspend", "maker", -20, -10, WON)]
    for number in range(chance.randrange(5, 40)):
        now += chance.uniform(0, 6)
        client, verb = f"c{chance.randrange(4)}", chance.choice(("answer", "claim", "claim", "release", "complete"))
        stepped = run.step(verb, client, f"v{number}", now)
        if stepped is None:
            continue
        won, more = stepped
        outcome = (WON if won else LOST) if chance.random() < 0.9 else UNKNOWN
        if outcome == UNKNOWN and verb == "claim":
            more = {}
        before, after = chance.uniform(0, 5), chance.uniform(0, 5)
        told.append(Operation("run", verb, client, now - before, now + after, outcome, **more))
    return told, Left("completed" if run.result else "running", run.fence, run.answer, run.result)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_a_store_that_keeps_the_promise_gives_is_taken(seed):
    told, left = simulated(seed)
    assert problems(told, {"run": left}) == []


def test_what_was_recorded_comes_back_from_json():
    assert [Operation(**json.loads(json.dumps(one.row()))) for one in GOOD] == GOOD


def test_the_simulation_goes_through_every_verb_and_outcome():
    told = [one for seed in range(200) for one in simulated(seed)[0]]
    assert {(one.verb, one.outcome) for one in told} >= {
        (verb, outcome) for verb in ("answer", "claim", "release", "complete") for outcome in (WON, LOST, UNKNOWN)
    }
