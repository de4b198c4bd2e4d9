"""What the conformance suite takes for an explanation of what racing writers were told, and what not."""

import pytest

from flowpersist.backends.memory import MemoryBackend
from flowpersist.testing.suite.ground import SCHEMA, change, ref
from flowpersist.testing.suite.histories import History, Step, explain


async def standing(*statuses):
    """A record at the revision of as many writes."""
    backend = MemoryBackend()
    await backend.open(SCHEMA)
    revision = 0
    for status in statuses:
        written = await backend.put(ref("a"), change(attributes={"status": status}), if_revision=revision)
        revision = written.revision
    record = (await backend.get(ref("a"))).record
    await backend.close()
    return record


def test_an_insert_may_have_waited_for_the_end_of_another_life():
    # Its revision was drawn before the other life began.
    told = [
        Step("a", 0, 1, "kept"),
        Step("a", 1, 0),
        Step("a", 0, 3, "kept"),
        Step("a", 3, 0),
        Step("a", 0, 2, "kept"),
        Step("a", 2, 0),
    ]
    explain([History(told)], {"a": None})


@pytest.mark.parametrize(
    ("steps", "purged", "why"),
    [
        ([Step("a", 0, 1, "kept"), Step("a", 1, 2, "kept"), Step("a", 1, 3, "kept")], 0, "more than one"),
        ([Step("a", 0, 1, "kept"), Step("a", 1, 2, "kept"), Step("a", 1, 0)], 0, "more than one"),
        ([Step("a", 0, 1, "kept"), Step("a", 0, 1, "kept")], 0, "used twice"),
        ([Step("a", 0, 5, "kept"), Step("a", 5, 3, "kept")], 0, "later revision"),
        ([Step("a", 0, 1, "kept"), Step("a", 4, 5, "kept")], 0, "nobody has made"),
        ([Step("a", 0, 1, "kept")], 1, "purge's condition"),
        ([Step("a", 0, 1, "doomed")], 0, "0 records were said to be purged, and 1 went"),
        ([], 1, "1 records were said to be purged, and 0 went"),
    ],
)
def test_what_nothing_explains_is_found(steps, purged, why):
    with pytest.raises(AssertionError, match=why):
        explain([History(steps, [purged])], {"a": None})


async def test_what_is_left_must_be_what_somebody_was_told_last():
    left = await standing("kept", "doomed")
    explain([History([Step("a", 0, 1, "kept"), Step("a", 1, 2, "doomed")])], {"a": left})
    for steps, why in (
        ([Step("a", 0, 1, "kept")], "is nobody's"),
        ([Step("a", 0, 1, "kept"), Step("a", 1, 2, "kept")], "is not"),
        ([Step("a", 0, 1, "kept"), Step("a", 1, 2, "doomed"), Step("a", 2, 0)], "was replaced"),
        ([Step("a", 0, 1, "kept"), Step("a", 0, 2, "doomed")], "purge's condition"),
    ):
        with pytest.raises(AssertionError, match=why):
            explain([History(steps)], {"a": left})
