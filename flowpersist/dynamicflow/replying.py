"""The arguments with which a run is resumed, checked before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowpersist.backends.base import check_text
from flowpersist.dynamicflow.document import check_source
from flowpersist.errors.arguments import check_instance, check_optional, check_str
from flowpersist.hub.answering_verbs import Reply
from flowpersist.inputs.people import By, Via, subject_of

if TYPE_CHECKING:
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.transactions import KeyLike
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.lifecycle import Receipt

__all__ = ["answered_with", "checked_reply"]


def checked_reply(document: object, answer: object, by: By | None, shown_digest: str | None, via: Via | None) -> Reply:
    """The reply, where its arguments and the document are of their classes."""
    check_optional(shown_digest, "shown_digest", check_str)
    check_optional(document, "document", check_source)
    check_optional(subject_of(by), "by", check_text)
    check_instance(via, "via", (Via, type(None)), "a Via or None")
    return Reply(answer, by, shown_digest, via)


async def answered_with(hub: PersistenceHub, key: KeyLike, reply: Reply) -> Outcome[Receipt]:
    """Record a reply without taking the run."""
    return await hub.answer(key, reply.value, by=reply.by, shown_digest=reply.shown_digest, via=reply.via)
