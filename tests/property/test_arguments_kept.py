"""What is accepted opens again: any argument is refused by its name, or stored in a head that this release reads."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from returns.result import Success

from flowpersist import AwaitInput, or_raise
from flowpersist.testing import open_test_hub

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
