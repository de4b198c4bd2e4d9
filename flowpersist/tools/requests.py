"""Which suspension stands for a call that waits: identical requests find the same one until it has ended.

A record for each waiting call has the token that its suspension's idempotency key is made of. When the suspension has
ended, the token is replaced at the next request, and removed where the call was made.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from returns.result import Failure, Result, Success

from flowpersist.errors import MalformedPayload, PersistenceError
from flowpersist.hub.outcome import attempt, or_raise
from flowpersist.sealed.steps import Step, Steps
from flowpersist.stores import Stores

__all__ = ["Requests"]

REQUESTS: Final = "approval_requests"
#: How long a token is kept after the time at which its suspension expires, which may be extended.
GRACE: Final = timedelta(days=30)


class Requests:
    """The requests that wait, by the digest of call, question and requester."""

    def __init__(self, stores: Stores) -> None:
        self._values = stores.values(REQUESTS, dict)
        self._entropy = stores.hub.runtime.entropy
        self._steps = Steps(self._values.collection, _token_in)

    async def look(self, digest: str) -> str | None:
        """The token of a request; None where none waits."""
        return or_raise(await self._steps.look((digest,)))

    async def token(self, digest: str, *, ended: str | None, expires_in: timedelta | None) -> str:
        """The token of a request: the one that is there, or a new one in the place of the ``ended`` one."""
        new = self._entropy(16).hex()

        def rule(found: str | None, now: datetime) -> Result[Step[str], PersistenceError]:
            if found is not None and found != ended:
                return Success(Step(found))
            expires_at = None if expires_in is None else _later(now, expires_in)
            return Success(Step(new, {"token": new}, expires_at))

        return or_raise(await self._steps.step((digest,), rule))

    async def forget(self, digest: str, token: str) -> None:
        """Remove the token of a request whose suspension has ended. One that stays is replaced when it is asked for."""
        found = await attempt(self._values.load((digest,)))
        if isinstance(found, Failure):
            return
        loaded = found.unwrap()
        if loaded is not None and loaded.value.get("token") == token:
            await attempt(self._values.delete((digest,), if_revision=loaded.revision))


def _later(now: datetime, wait: timedelta) -> datetime | None:
    try:
        return now + wait + GRACE
    except OverflowError:
        return None


def _token_in(content: Any, now: datetime) -> Result[str | None, PersistenceError]:  # noqa: ANN401 - whatever stands there
    del now
    if content is None:
        return Success(None)
    token = content.get("token") if isinstance(content, dict) else None
    if isinstance(token, str):
        return Success(token)
    return Failure(MalformedPayload("the record of a request that waits for an approval holds no token"))
