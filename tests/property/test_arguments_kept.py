"""What is accepted opens again: any argument is refused by its name, or stored in a head that this release reads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from returns.result import Success

from flowpersist import AwaitInput, Maintenance, or_raise
from flowpersist.testing import open_test_hub
from flowpersist.testing.hubs import travel

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(max_examples=100, deadline=None)
@given(
    metadata=st.dictionaries(TEXTS, TEXTS | st.integers() | st.floats() | st.booleans(), max_size=3),
    tenant=st.none() | TEXTS,
    timeout=st.none() | st.timedeltas(),
    retention=st.timedeltas(),
    prompt=st.text(max_size=20),
    name=st.text(max_size=20),
    default=st.none() | st.integers() | st.floats() | st.text(max_size=5),
)
def test_what_is_accepted_opens_again(**facts):
    """Arguments are refused by an error of their own, or what is stored under them is read back."""
    asyncio.run(opened_again(**facts))


async def opened_again(metadata, tenant, timeout, retention, prompt, name, default) -> None:
    try:
        awaiting = AwaitInput(id=name, prompt=prompt, timeout=timeout, default=default)
        async with open_test_hub(retention=retention) as hub:
            new = await hub.suspend(1, awaiting=awaiting, metadata=metadata, tenant=tenant)
            if isinstance(new, Success):
                seen = or_raise(await hub.inspect(new.unwrap().id))
                assert (seen.metadata, seen.tenant) == (metadata, tenant)
                assert seen.waits[0].awaiting == awaiting
                assert isinstance(await hub.resume(new.unwrap().key, 1), Success)
    except (TypeError, ValueError) as error:
        named = [name for name in ("id", "metadata", "tenant", "timeout", "retention", "default") if name in str(error)]
        if not named:
            raise


class Word(str):
    """A text of a class of its own, as libraries give."""

    __slots__ = ()


class Moment(datetime):
    """As pandas.Timestamp and pendulum.DateTime are."""


class Span(timedelta):
    """As pandas.Timedelta is."""


SUBCLASSES = {
    "deadline": lambda hub: hub.suspend(1, awaiting=AwaitInput("a", "?"), deadline=Moment(2090, 1, 1, tzinfo=UTC)),
    "timeout": lambda hub: hub.suspend(1, awaiting=AwaitInput("a", "?"), timeout=Span(hours=1)),
    "of an AwaitInput": lambda hub: hub.suspend(
        1, awaiting=AwaitInput(Word("a"), Word("?"), deadline=Moment(2090, 1, 1, tzinfo=UTC), timeout=Span(hours=1))
    ),
    "name": lambda hub: hub.suspend(1, awaiting={Word("a"): AwaitInput("a", "?")}),
    "until": lambda hub: hub.suspend(1, awaiting=AwaitInput("a", "?"), until=Word("any")),
    "retention": lambda hub: hub.suspend(1, awaiting=AwaitInput("a", "?")),
}


@pytest.mark.parametrize("argument", SUBCLASSES)
async def test_values_of_subclasses_are_kept_as_what_they_are(argument):
    async with open_test_hub(retention=Span(days=3)) as hub:
        new = or_raise(await SUBCLASSES[argument](hub))
        seen = or_raise(await hub.inspect(new.id))
        assert type(seen.until) is str
        for wait in seen.waits:
            assert (type(wait.name), type(wait.deadline)) in {(str, datetime), (str, type(None))}
        or_raise(await hub.answer(new.key, "yes", by=Word("ann"), answer_id=Word("1")))
        run = or_raise(await hub.claim(new.key, claim_id=Word("mine"), lease=Span(seconds=9)))
        or_raise(await hub.release(run, Word("why"), Span(seconds=1)))
        travel(hub, timedelta(seconds=2))
        run = or_raise(await hub.claim(new.key))
        or_raise(await hub.fail(run, Word("why")))
        seen = or_raise(await hub.inspect(new.id))
        assert (type(seen.error), type(seen.waits[0].answered_by)) == (str, str)
        travel(hub, timedelta(days=4))
        assert or_raise(await Maintenance(hub).cleanup()).deleted == 1
