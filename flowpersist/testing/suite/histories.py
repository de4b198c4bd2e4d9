"""What racing writers were told, and whether it can have happened.

Each revision that a writer was told of was made once; each was followed by one write, one deletion or one purge at
most; and what nobody has ended is what is left.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, Final

from attrs import field, frozen

from flowpersist.backends.base import Record, StorageBackend, Where
from flowpersist.errors import RevisionConflict
from flowpersist.testing.suite.ground import NAMESPACE, BackendFactory, change, opened, ref

__all__ = ["History", "Step", "contend", "contend_in_process", "explain"]

#: What a purge takes, and what it must leave.
DOOMED: Final = Where({"status": "doomed"})


@frozen
class Step:
    """A write or deletion that was acknowledged. ``made`` is 0 for a deletion, ``found`` 0 for a new record."""

    key: str
    found: int
    made: int
    status: str = ""


@frozen
class History:
    """What one writer was told."""

    steps: list[Step] = field(factory=list)
    #: Records that it purged.
    purged: list[int] = field(factory=list)


async def contend(backend: StorageBackend, keys: list[str], rounds: int, seed: int) -> History:
    """Write, delete, make anew and purge at random, at revisions that may be stale."""
    chance = random.Random(seed)
    history = History()
    known = dict.fromkeys(keys, 0)
    for _ in range(rounds):
        key = chance.choice(keys)
        if chance.random() < 0.6:
            record = (await backend.get(ref(key), body=False)).record
            known[key] = 0 if record is None else record.revision
        if chance.random() < 0.1:
            history.purged.append(await backend.purge(NAMESPACE, DOOMED, limit=2))
            continue
        try:
            step = await _step(backend, key, known[key], chance)
        except RevisionConflict:
            continue
        if step is not None:
            history.steps.append(step)
    return history


async def _step(backend: StorageBackend, key: str, found: int, chance: random.Random) -> Step | None:
    if found and chance.random() < 0.35:
        return Step(key, found, 0) if await backend.delete(ref(key), if_revision=found) else None
    status = chance.choice(("doomed", "kept"))
    made = await backend.put(ref(key), change(attributes={"status": status}), if_revision=found)
    return Step(key, found, made.revision, status)


def contend_in_process(make_backend: BackendFactory, keys: list[str], rounds: int, seed: int, results: Any) -> None:  # noqa: ANN401
    """The same in a process of its own, by several tasks."""

    async def work() -> list[History]:
        async with opened(make_backend) as backend:
            return await asyncio.gather(*(contend(backend, keys, rounds, seed * 100 + task) for task in range(4)))

    results.put(asyncio.run(work()))


def explain(histories: list[History], left: dict[str, Record | None]) -> None:
    """Fail where no order of events explains what was told, and what is left in the end."""
    steps = [step for history in histories for step in history.steps]
    taken = Counter((step.key, step.found) for step in steps if step.found)
    twice = [place for place, count in taken.items() if count > 1]
    assert not twice, f"more than one write or deletion was acknowledged at {twice[0]}"
    unexplained = sum(_gaps(key, [step for step in steps if step.key == key], record) for key, record in left.items())
    purged = sum(count for history in histories for count in history.purged)
    assert unexplained == purged, f"{purged} records were said to be purged, and {unexplained} went"


def _gaps(key: str, steps: list[Step], left: Record | None) -> int:
    """How many of the key's lives ended by nobody's deletion.

    Revisions rise within a life. Between lives they tell no order: who makes a record may have drawn its number before
    another life began, and have waited until that one had ended.
    """
    made = {step.made: step for step in steps if step.made}
    assert len(made) == sum(bool(step.made) for step in steps), f"a revision of {key} was used twice"
    for step in steps:
        assert not step.found or step.found in made, f"{key}: {step} follows what nobody has made"
        assert not step.made or step.made > step.found, f"{key}: {step} is not of a later revision"
    for taken in {step.found for step in steps if step.found}:
        del made[taken]
    # What remains is the last of each life that nobody has deleted.
    if left is not None:
        last = made.pop(left.revision, None)
        assert last is not None, f"{key}: {left} is nobody's, or was replaced"
        assert left.attributes == {"status": last.status}, f"{key}: {left} is not {last}"
    for step in made.values():
        assert step.status == "doomed", f"{step} was purged, and was not as the purge's condition says"
    return len(made)
