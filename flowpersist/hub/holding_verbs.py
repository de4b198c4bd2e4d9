"""The verbs of whoever holds a run under a lease."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from returns.result import Failure, Result, Success

from flowpersist.backends.base import KEEP, Keep, Scalar
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import (
    check_duration,
    check_flag,
    check_instance,
    check_optional,
    check_pause,
)
from flowpersist.errors.secrecy import discreet
from flowpersist.hub.base import HubBase
from flowpersist.hub.outcome import DEFAULT_LEASE, Outcome, as_outcome
from flowpersist.hub.suspending import (
    check_superseded,
)
from flowpersist.hub.transactions import Snapshot
from flowpersist.lifecycle import holding
from flowpersist.lifecycle.decisions import Decision, Holder
from flowpersist.lifecycle.model import Head, Status, check_metadata, replace
from flowpersist.lifecycle.views import (
    Resumption,
    Suspension,
    check_run,
    suspension_of,
)

__all__ = ["HoldingVerbs", "check_error", "holder_of", "text_of"]


class HoldingVerbs(HubBase):
    """``renew``, ``complete``, ``fail`` and ``release``."""

    @discreet
    async def renew(self, run: Resumption[Any], *, lease: timedelta = DEFAULT_LEASE) -> Outcome[datetime]:
        """Move the end of the lease to ``lease`` from now, and give that moment.

        - ``run``: what the claim gave.
        - ``lease``: how long the run is held without a renewal.
        """
        check_run(run)
        check_duration(lease, "lease")

        async def decide(seen: Snapshot) -> Decision[datetime]:
            return holding.renew(seen.head, holder_of(run), seen.now, lease=lease)

        return as_outcome(await self.suspensions.transact("renew", run.suspension.id, decide))

    @discreet
    async def complete(
        self,
        run: Resumption[Any],
        outcome: object = None,
        *,
        discard: bool = False,
        superseded: Collection[str] = (),
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[Suspension]:
        """End a claimed run. Its state is dropped and its outcome kept for the retention.

        - ``run``: what the claim gave.
        - ``outcome``: what ``outcome`` gives from then on.
        - ``discard``: whether answers that came while it ran are dropped; else they fail the call with
          ``UnreadAnswers``.
        - ``superseded``: names of waits whose answers are no longer needed.
        - ``metadata``: replaces what the suspension had; None keeps that.
        """
        check_run(run)
        check_flag(discard, "discard")
        names = check_superseded(superseded)
        renamed = None if metadata is None else check_metadata(metadata)
        sealed = await self._sealed_outcome(run, outcome)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        return await self._finished(
            "complete",
            run,
            lambda seen: holding.complete(seen.head, holder_of(run), seen.now, discard=discard, superseded=names),
            sealed.unwrap(),
            renamed,
        )

    @discreet
    async def fail(
        self,
        run: Resumption[Any],
        error: BaseException | str | None = None,
        *,
        why: object = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[Suspension]:
        """End a claimed run as failed.

        - ``run``: what the claim gave.
        - ``error``: an exception, of which the class is kept since its text may hold state, or a text.
        - ``why``: sealed as a state is, in the place of the run's; ``failure`` gives it.
        - ``metadata``: replaces what the suspension had; None keeps that.
        """
        check_run(run)
        check_error(error)
        renamed = None if metadata is None else check_metadata(metadata)
        sealed = await self._sealed_outcome(run, why)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        explained = why is not None
        return await self._finished(
            "fail",
            run,
            lambda seen: holding.fail(seen.head, holder_of(run), seen.now, error=text_of(error), explained=explained),
            sealed.unwrap() if explained else KEEP,
            renamed,
        )

    @discreet
    async def release(
        self, run: Resumption[Any], error: BaseException | str | None = None, delay: timedelta | None = None
    ) -> Outcome[Suspension]:
        """Give a claimed run back: it is claimable again, with the same answers, after the delay.

        - ``run``: what the claim gave.
        - ``error``: an exception, of which the class is kept since its text may hold state, or a text.
        - ``delay``: how long it is not claimable; None: not at all.
        """
        check_run(run)
        check_error(error)
        check_optional(delay, "delay", check_pause)
        after = timedelta(0) if delay is None else delay
        return await self._finished(
            "release",
            run,
            lambda seen: holding.release(seen.head, holder_of(run), seen.now, error=text_of(error), delay=after),
            KEEP,
        )

    async def _sealed_outcome(self, run: Resumption[Any], outcome: object) -> Result[bytes | None, PersistenceError]:
        if outcome is None:
            return Success(None)
        key, tenant = str(run.suspension.id), run.suspension.tenant
        return await self.suspensions.records.seal_body(key, tenant, outcome, purpose="outcome")

    async def _finished(
        self,
        verb: str,
        run: Resumption[Any],
        transition: Callable[[Snapshot], Decision[Head]],
        body: bytes | Keep | None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Outcome[Suspension]:
        async def decide(seen: Snapshot) -> Decision[Suspension]:
            decision = transition(seen)
            head = decision.head
            if metadata is not None and head is not seen.head and isinstance(decision.result, Success):
                head = replace(head, metadata=metadata)
                decision = Decision(head, Success(head))
            # What has expired stays as it was, state included; so does what a cancellation ends that is carried out
            # here: only the verb's own success replaces the body.
            return decision.map(suspension_of, body=KEEP if head.status is Status.EXPIRED else body)

        freed = partial(self._let_go, run)
        return as_outcome(await self.suspensions.transact(verb, run.suspension.id, decide, done=freed))


def holder_of(run: Resumption[Any]) -> Holder:
    """Who a run says that holds it."""
    return Holder(run.fence, run.claim_id)


def check_error(error: object) -> None:
    """Refuse anything but an exception, a str or None."""
    check_instance(error, "error", (BaseException, str, type(None)), "an exception, a str or None")


def text_of(error: BaseException | str | None) -> str | None:
    """What is recorded of an error: the class of an exception, or the beginning of a text."""
    if isinstance(error, BaseException):
        return type(error).__name__
    # What a program quotes may hold half a character, which no text of a store can.
    return None if error is None else error[:1000].encode("utf-8", "backslashreplace").decode()
