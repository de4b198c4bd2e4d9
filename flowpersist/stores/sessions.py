"""``Sessions``: who talked, in what state, about what, in one collection of sealed values."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Final

from flowpersist.backends.base import Page
from flowpersist.errors import ConfigurationError, ValueNotFound
from flowpersist.errors.arguments import check_instance, check_items
from flowpersist.errors.secrecy import discreet_verbs, forgetting
from flowpersist.hub.outcome import or_raise
from flowpersist.lifecycle.session_records import (
    RECORDS,
    ContextRecord,
    IdentityRecord,
    Session,
    StateRecord,
    UserRecord,
)
from flowpersist.sealed.lines import Form, export_lines, import_lines
from flowpersist.sealed.parts import PartView
from flowpersist.sealed.subjects import SubjectRecords, settling
from flowpersist.sealed.upkeep import register
from flowpersist.stores.values import ValueStore

__all__ = ["SESSIONS", "Sessions"]

SESSIONS: Final = "sessions"
KINDS: Final = tuple({one.kind: 0 for one in RECORDS.values()})
LINES: Final = Form("flowpersist.sessions", 1, RECORDS)
register(SESSIONS, settling(KINDS, "user_id"))


@discreet_verbs
class Sessions:
    """The sessions, identities and users on an open hub: ``Stores.sessions``. ``create_database`` opens one of its own.

    ``get_…`` gives None if it does not exist, ``delete_…`` False. ``save_…`` gives the record as it was saved: one that
    was read replaces only the version that it was read as, else ``RevisionConflict``; one that was made replaces any.
    ``list_…`` gives pages: ``limit`` records at most, after the cursor ``after``. Every verb raises ``StorageError``,
    and where a record can't be opened ``IntegrityError``, ``EncryptionError`` or ``SerializationError``.
    """

    def __init__(self, values: ValueStore[dict[str, Any]]) -> None:
        check_instance(values, "values", ValueStore, "a ValueStore of dict")
        self.records = records = SubjectRecords(values.collection, KINDS, "user_id")
        self._states = PartView(records, StateRecord, StateRecord.found)
        self._contexts = PartView(records, ContextRecord, ContextRecord.found)
        self._identities = PartView(records, IdentityRecord, IdentityRecord.found)
        self._users = PartView(records, UserRecord, UserRecord.found)
        self._sessions = PartView(records, StateRecord, Session.found)

    async def get_state(self, user_id: str, session_id: str) -> StateRecord | None:
        """The state of a session."""
        return or_raise(await self._states.get(user_id, session_id))

    async def save_state(self, state: StateRecord) -> StateRecord:
        """Save the state of a session, which is made where it is not there."""
        return or_raise(await self._states.save(state))

    async def list_states(self, user_id: str, *, limit: int = 100, after: str | None = None) -> Page[StateRecord]:
        """The states of a person's sessions."""
        return or_raise(await self._states.page(limit, after, user_id))

    async def delete_state(self, user_id: str, session_id: str) -> bool:
        """Delete the state of a session; its context stays."""
        return or_raise(await self._states.drop(user_id, session_id))

    async def get_context(self, user_id: str, session_id: str) -> ContextRecord | None:
        """The context of a session."""
        return or_raise(await self._contexts.get(user_id, session_id))

    async def save_context(self, context: ContextRecord) -> ContextRecord:
        """Save the context of a session, which is made where it is not there."""
        return or_raise(await self._contexts.save(context))

    async def list_contexts(self, user_id: str, *, limit: int = 100, after: str | None = None) -> Page[ContextRecord]:
        """The contexts of a person's sessions."""
        return or_raise(await self._contexts.page(limit, after, user_id))

    async def delete_context(self, user_id: str, session_id: str) -> bool:
        """Delete the context of a session; its state stays."""
        return or_raise(await self._contexts.drop(user_id, session_id))

    async def get_identity(self, user_id: str, identity_id: str) -> IdentityRecord | None:
        """One identity of a person."""
        return or_raise(await self._identities.get(user_id, identity_id))

    async def get_identities(self, user_id: str) -> tuple[IdentityRecord, ...]:
        """All identities of a person."""
        return tuple([one async for one in self._identities.each(user_id)])

    async def save_identity(self, identity: IdentityRecord) -> IdentityRecord:
        """Save an identity."""
        return or_raise(await self._identities.save(identity))

    async def list_identities(
        self, user_id: str, *, limit: int = 100, after: str | None = None
    ) -> Page[IdentityRecord]:
        """The identities of a person."""
        return or_raise(await self._identities.page(limit, after, user_id))

    async def delete_identity(self, user_id: str, identity_id: str) -> bool:
        """Delete an identity."""
        return or_raise(await self._identities.drop(user_id, identity_id))

    async def get_user(self, user_id: str) -> UserRecord | None:
        """A person."""
        return or_raise(await self._users.get(user_id))

    async def save_user(self, user: UserRecord) -> UserRecord:
        """Save a person's profile."""
        return or_raise(await self._users.save(user))

    async def list_users(self, *, limit: int = 100, after: str | None = None) -> Page[UserRecord]:
        """All persons whose profile was saved."""
        return or_raise(await self._users.page(limit, after))

    async def delete_user(self, user_id: str) -> bool:
        """Delete a person's profile; ``forget`` deletes all of a person."""
        return or_raise(await self._users.drop(user_id))

    async def get_session(self, user_id: str, session_id: str) -> Session | None:
        """State and context of a session, as of one moment."""
        return or_raise(await self._sessions.get(user_id, session_id))

    async def save_session(self, session: Session) -> Session:
        """Save state and context of one session, both or none; what is None stays as it is."""
        check_instance(session, "session", Session, "a Session")
        given = [record for record in (session.state, session.context) if record is not None]
        if not given or any(record.key != given[0].key for record in given):
            raise ConfigurationError("Invalid session: expected a state and a context with the same ids", "session")
        return or_raise(await self._sessions.save_parts(*given)) or session

    async def list_sessions(self, user_id: str, *, limit: int = 100, after: str | None = None) -> Page[Session]:
        """The sessions of a person."""
        return or_raise(await self._sessions.page(limit, after, user_id))

    async def delete_session(self, user_id: str, session_id: str) -> bool:
        """Delete state and context of a session."""
        return or_raise(await self._sessions.delete(user_id, session_id))

    async def resume_session(self, user_id: str, session_id: str | None = None) -> Session:
        """The session to go on with: that of the id, else the one that was saved last. ``ValueNotFound``: none."""
        if session_id is not None:
            found = await self.get_session(user_id, session_id)
        else:
            found = await self._sessions.largest(user_id, lambda session: session.updated_at)
        if found is None:
            raise ValueNotFound("there is no such session; save one, or take another id")
        return found

    async def export(self, user_id: str) -> AsyncIterator[str]:
        """All of a person as JSON lines without line breaks. The first one has the person's id in clear."""
        with forgetting():
            async for line in export_lines(self.records, LINES, user_id):
                yield line

    async def import_(self, lines: Iterable[str] | AsyncIterable[str]) -> int:
        """Save what ``export`` wrote, such as the lines of a file, all or none; gives how many records.

        Raises ``MalformedPayload`` where lines are missing or damaged, ``UnsupportedVersion``, and ``StateTooLarge``.
        """
        if not isinstance(lines, AsyncIterable):
            check_items(lines, "lines", "lines")
        return await import_lines(self.records, LINES, lines)

    async def forget(self, user_id: str) -> bool:
        """Delete all of a person, all or none; False where nobody was ever saved."""
        return or_raise(await self.records.forget(user_id))

    async def cleanup(self) -> int:
        """Finish the imports and the forgetting that were cut; gives how many."""
        return or_raise(await self.records.settle(None))[1]
