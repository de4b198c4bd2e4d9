"""The receipt that a caller gets for an answer."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from flowpersist.inputs.people import Principal
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.model import Answer, Head, WaitReceipt, WaitState
from flowpersist.lifecycle.shown import digest_text
from flowpersist.lifecycle.voting import Tally, principal_of, tally_of

__all__ = ["Receipt", "receipt_of"]


@frozen
class Receipt:
    """What became of an answer: ``accepted``, ``replayed`` (the same again) or ``pending`` (more answers are
    needed). ``digest`` is that of what was shown with the question that it was given to, ``principal`` who gave it as
    they were named then, and ``tally`` says how a quorum stands.
    """

    outcome: str
    suspension_id: SuspensionId
    wait: str
    at: datetime
    by: str | None
    answer_id: str | None
    digest: str | None = None
    principal: Principal | None = None
    tally: Tally | None = None


def receipt_of(head: Head, wait: WaitState | WaitReceipt, outcome: str, *, given: Answer | None = None) -> Receipt:
    """The receipt of a wait that has ended, or of a vote that was given."""
    if isinstance(wait, WaitReceipt):
        return Receipt(outcome, head.id, wait.wait, wait.at, wait.by, wait.answer_id, digest_text(wait.shown))
    answer, tally = given or wait.answer, tally_of(wait)
    if answer is None:
        return Receipt(outcome, head.id, wait.name, wait.closed_at or head.updated_at, None, None, tally=tally)
    digest, who = digest_text(answer.shown), principal_of(answer)
    return Receipt(outcome, head.id, wait.name, answer.at, answer.by, answer.answer_id, digest, who, tally)
