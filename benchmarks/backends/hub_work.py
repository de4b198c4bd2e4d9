"""The hub beside other stores of states, which put and get and neither seal nor claim."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cases import Case
from measure import Times, Timings, in_turn, timed, timings
from peers import APART, Peer, opened_peers
from places import Place
from states import ALL_STATES, of_size

from flowpersist import AwaitInput, KeyRing, Maintenance, open_hub, or_raise

__all__ = ["hub_rounds"]

STATE = "agent history"
QUESTION = AwaitInput(id="ok", prompt="Go on?", schema=bool)


async def _ours(hub: Any, state: object, times: dict[str, Times]) -> None:  # noqa: ANN401 - generic in its states
    made = or_raise(await timed(times["suspend"], hub.suspend(state, awaiting=QUESTION)))
    run = or_raise(await timed(times["claim"], hub.claim(made.key, True)))
    if type(run.state) is not type(state):
        raise AssertionError("another state")
    or_raise(await hub.complete(run))
    again = or_raise(await hub.suspend(state, awaiting=QUESTION))
    or_raise(await timed(times["list"], hub.query(limit=50)))
    or_raise(await timed(times["resume"], hub.resume(again.key, True)))
    or_raise(await timed(times["cleanup"], Maintenance(hub).cleanup()))


async def _theirs(peer: Peer, key: str, state: object, times: dict[str, Times]) -> None:
    await timed(times["put"], peer.put(key, state))
    await timed(times["get"], peer.get(key))


async def hub_rounds(place: Place, case: Case, rounds: int, names: Sequence[str]) -> Timings:
    """A state of that size: suspend, claim with the state, resume, list, cleanup; and each peer's put and get."""
    found = timings()
    types = ALL_STATES[STATE][1]
    # No state is put where one stood before: LangGraph would keep that one.
    run = place.prefix()
    together = [name for name in names if name not in APART]
    async with (
        opened_peers(place, together, types) as peers,
        open_hub(place.backend(place.prefix()), keyring=KeyRing.generate(), types=types, retention=timedelta(0)) as hub,
    ):
        able = ["ours", *peers]
        for number in range(-1, rounds * case.repeats):
            state = of_size(STATE, case.size)
            noted = found if number >= 0 else timings()
            for name in in_turn(able, number):
                if name == "ours":
                    await _ours(hub, state, noted[name])
                else:
                    await _theirs(peers[name], f"{run}-{number}", state, noted[name])
    for name in names:
        if name in APART:
            await _apart(place, case, name, found)
    return found


async def _apart(place: Place, case: Case, name: str, found: Timings) -> None:
    async with opened_peers(place, [name], ALL_STATES[STATE][1]) as peers:
        for peer in peers.values():
            run = place.prefix()
            for number in range(-1, APART[name]):
                state = of_size(STATE, case.size)
                await _theirs(peer, f"{run}-{number}", state, found[name] if number >= 0 else timings()[name])
