"""The waits of a run that pauses again or ends: which stay, which close, and the receipts of the closed ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime

from flowpersist.lifecycle.model import Head, WaitReceipt, WaitState, WaitStatus, replace, secret_digest, whole

__all__ = ["carried", "check_names", "supersede", "undelivered", "wait_receipt"]


def carried(wait: WaitState, superseded: Collection[str] = ()) -> bool:
    """Whether a wait stays at the next pause: it is open, or the next holder has to be told of its end."""
    return (wait.open or wait.undelivered) and wait.name not in superseded


def supersede(head: Head, names: Collection[str], now: datetime) -> Head:
    """Close the named waits. Of an answer only a receipt stays, also of one that the holder was given: it asks anew."""
    if not names:
        return head
    unknown = sorted(set(names) - {wait.name for wait in head.waits})
    if unknown:
        whole(head)
        msg = f"Invalid superseded: the run has no such wait: {', '.join(unknown)}"
        raise ValueError(msg)
    waits = tuple([_superseded(wait, now) if wait.name in names else wait for wait in head.waits])
    return replace(head, waits=waits)


def _superseded(wait: WaitState, now: datetime) -> WaitState:
    if wait.open or wait.answer is not None:
        return replace(wait, status=WaitStatus.SUPERSEDED, closed_at=wait.closed_at or now)
    return wait


def check_names(waits: Sequence[WaitState]) -> None:
    """``ValueError`` if two of them have the same name."""
    counted = Counter(wait.name for wait in waits)
    twice = sorted(name for name, times in counted.items() if times > 1)
    if twice:
        msg = f"waits named {', '.join(twice)} are open already: name the new ones otherwise"
        raise ValueError(msg)


def undelivered(head: Head, names: Collection[str]) -> Head:
    """The head, with these waits to be delivered again. ``ValueError`` for one whose end the holder was not told."""
    if not names:
        return head
    told = {wait.name for wait in head.waits if wait.delivery == head.sequence}
    unknown = sorted(set(names) - told)
    if unknown:
        whole(head)
        msg = f"Invalid unread: the run was given no answer to: {', '.join(unknown)}"
        raise ValueError(msg)
    waits = tuple([replace(wait, delivery=None) if wait.name in names else wait for wait in head.waits])
    return replace(head, waits=waits)


def wait_receipt(wait: WaitState, now: datetime) -> WaitReceipt:
    """The receipt that stays of a wait when the run pauses again."""
    given = wait.answer
    return WaitReceipt(
        digest=secret_digest(wait.secret),
        wait=wait.name,
        sequence=wait.sequence,
        status=wait.status,
        at=wait.closed_at or now,
        by=None if given is None else given.by,
        answer_id=None if given is None else given.answer_id,
        answer=None if given is None else given.fingerprint,
        shown=None if given is None else given.shown,
        voted=bool(wait.votes),
    )
