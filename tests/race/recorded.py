"""What concurrent clients of a hub were told, and whether what is promised can have held.

Each client keeps what it did as operations: which verb on which run, when it was begun and when it ended (one clock for
all), and whether it won, lost or does not know. ``problems`` says what no order of those operations explains:

- more than one winner of a transition: two answers of one wait, two claims under one fence or beside each other, two
  completions;
- what was acknowledged and is lost: a run, an answer that a later claim does not deliver, a result;
- a fence that does not rise, a holder that finishes although a later claim had been acknowledged;
- a loser without a winner.

An operation of unknown outcome, or of a client that died, may have won or not; nothing is concluded from it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final, Literal

from attrs import asdict, frozen

Verb = Literal["suspend", "answer", "claim", "release", "complete"]
WON: Final = "won"
LOST: Final = "lost"
UNKNOWN: Final = "unknown"
#: What takes a run out of its holder's hands before the lease ends.
FINISHES: Final = ("release", "complete")


@frozen
class Operation:
    """One call of one client. Times are seconds of a clock that all clients share."""

    run: str
    verb: Verb
    client: str
    invoked: float
    completed: float = math.inf
    outcome: str = UNKNOWN
    #: The holder's, for what it claimed, released or completed.
    fence: int = 0
    #: The answer that was given or delivered, the result that was kept.
    value: object = None
    #: Seconds, for a claim.
    lease: float = 0

    @property
    def won(self) -> bool:
        """It was acknowledged."""
        return self.outcome == WON

    @property
    def may_have_won(self) -> bool:
        """It was acknowledged, or nobody knows."""
        return self.outcome != LOST

    def row(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@frozen
class Left:
    """What is stored of a run once all clients have ended. ``answer`` and ``result`` are None where there is none."""

    status: str
    attempt: int
    answer: object = None
    result: object = None


def problems(operations: Iterable[Operation], left: Mapping[str, Left]) -> list[str]:
    """What can't have happened, as the promise has it; an empty list where it held."""
    runs: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in sorted(operations, key=lambda one: one.invoked):
        runs[operation.run].append(operation)
    return [f"{run}: {why}" for run, told in runs.items() for why in _of_run(told, left.get(run))]


def _of_run(told: list[Operation], left: Left | None) -> Iterator[str]:
    yield from _answers(told)
    yield from _fences(told)
    yield from _holders(told)
    yield from _completions(told)
    yield from _losers(told)
    if left is not None:
        yield from _lost(told, left)
    elif any(one.won for one in told if one.verb == "suspend"):
        yield "it was suspended, and is gone"


def _by(told: Iterable[Operation], *verbs: str) -> list[Operation]:
    return [one for one in told if one.verb in verbs]


def _answers(told: list[Operation]) -> Iterator[str]:
    accepted = [one for one in _by(told, "answer") if one.won]
    if len(accepted) > 1:
        yield f"{len(accepted)} answers were accepted, of {', '.join(one.client for one in accepted)}"
    possible = accepted or [one for one in _by(told, "answer") if one.outcome == UNKNOWN]
    for claim in _by(told, "claim"):
        if not claim.won:
            continue
        if claim.value not in [one.value for one in possible]:
            yield f"{claim.client} was given the answer {claim.value!r}, which nobody gave or which was not accepted"
        elif all(one.invoked > claim.completed for one in possible if one.value == claim.value):
            yield f"{claim.client} was given the answer {claim.value!r} before it was given"


def _fences(told: list[Operation]) -> Iterator[str]:
    claims = [one for one in _by(told, "claim") if one.won]
    for fence, count in Counter(one.fence for one in claims).items():
        if count > 1:
            yield f"{count} claims were given the fence {fence}"
    # Of those in the order of their fences, none may have begun after a later one had ended.
    earliest = math.inf
    for claim in sorted(claims, key=lambda one: -one.fence):
        if claim.invoked > earliest:
            yield f"the fence {claim.fence} was given after a greater one"
        earliest = min(earliest, claim.completed)


def _holders(told: list[Operation]) -> Iterator[str]:
    """Who claims while another may still hold it must have come after the lease, or after the other gave it back."""
    claims = sorted((one for one in _by(told, "claim") if one.won), key=lambda one: one.fence)
    finishes = [one for one in _by(told, *FINISHES) if one.may_have_won]
    for held, taken in pairwise(claims):
        lapsed = taken.completed >= held.invoked + held.lease
        given_back = any(one.fence == held.fence and one.invoked <= taken.completed for one in finishes)
        if not lapsed and not given_back and held.fence != taken.fence:
            yield f"{taken.client} claimed it while {held.client} held it"


def _completions(told: list[Operation]) -> Iterator[str]:
    completions = [one for one in _by(told, "complete") if one.won]
    if len(completions) > 1:
        yield f"{len(completions)} completions were acknowledged, of {', '.join(one.client for one in completions)}"
    claims = _by(told, "claim")
    for done in (one for one in _by(told, *FINISHES) if one.won):
        if not any(one.may_have_won and one.fence in {0, done.fence} for one in claims):
            yield f"{done.client} finished under the fence {done.fence}, which nobody was given"
        if any(one.won and one.fence > done.fence and one.completed < done.invoked for one in claims):
            yield f"{done.client} finished under the fence {done.fence} after a later claim had been acknowledged"
    for done in completions:
        if any(one.won and one.invoked > done.completed for one in _by(told, "claim", "answer")):
            yield f"it was answered or claimed after {done.client} had completed it"


def _losers(told: list[Operation]) -> Iterator[str]:
    """Who lost was beaten by somebody who had begun before."""
    for verb, beaten_by in (("answer", ("answer",)), ("claim", ("claim", "complete"))):
        winners = [one for one in _by(told, *beaten_by) if one.may_have_won]
        for one in _by(told, verb):
            if one.outcome == LOST and not any(winner.invoked <= one.completed for winner in winners):
                yield f"the {verb} of {one.client} was refused, and nobody had won"


def _lost(told: list[Operation], left: Left) -> Iterator[str]:
    """What was acknowledged is what is stored."""
    possible = {verb: [one for one in _by(told, verb) if one.may_have_won] for verb in ("answer", "claim", "complete")}
    won = {verb: [one for one in possible[verb] if one.won] for verb in possible}
    for verb, stored in (("answer", left.answer), ("complete", left.result)):
        if won[verb] and stored != won[verb][-1].value:
            yield f"the {verb} {won[verb][-1].value!r} was acknowledged, and {stored!r} is stored"
        elif stored is not None and stored not in [one.value for one in possible[verb]]:
            yield f"{stored!r} is stored, which no {verb} has given"
    if won["complete"] and left.status != "completed":
        yield f"it was completed, and is {left.status}"
    if left.status == "completed" and not possible["complete"]:
        yield "it is completed, and nobody has completed it"
    if not len(won["claim"]) <= left.attempt <= len(possible["claim"]):
        yield f"{len(won['claim'])} claims were acknowledged, and {left.attempt} are stored"
