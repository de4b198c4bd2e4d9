"""The claims that were seen last, so that most reads, pages and puts need not ask for them again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, evolve, field

from flowpersist.backends._claim_check.claims import CLAIM_BYTES, Claim
from flowpersist.backends.base import Record, RecordRef

__all__ = ["Known", "Standing", "shown"]

MOST: Final = 4096


@define
class Standing:
    """What stood in a record at a revision: never out of date, since a revision is never used again."""

    revision: int
    claim: Claim | None


@define(eq=False)
class Known:
    """By record, the least recently used forgotten first."""

    _seen: OrderedDict[RecordRef, Standing] = field(factory=OrderedDict)

    def note(self, record: Record) -> Claim | None:
        """The claim in a record that was read with its body, remembered."""
        claim = Claim.read(record.body)
        self._note(record, claim)
        return claim

    def find(self, ref: RecordRef, revision: int) -> Standing | None:
        """What stood there at that revision, where it was seen."""
        found = self._seen.get(ref)
        return found if found is not None and found.revision == revision else None

    def at(self, record: Record) -> Standing | None:
        """The same of a record that was read without its body: its size may tell that there is no claim."""
        if record.body_size == CLAIM_BYTES:
            return self.find(record.ref, record.revision)
        self._note(record, None)
        return Standing(record.revision, None)

    def _note(self, record: Record, claim: Claim | None) -> None:
        self._seen[record.ref] = Standing(record.revision, claim)
        self._seen.move_to_end(record.ref)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)


def shown(record: Record, claim: Claim | None) -> Record:
    """A record without its body, and the size that this really has."""
    return evolve(record, body=None, body_size=record.body_size if claim is None else claim.size)
