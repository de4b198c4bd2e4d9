"""What all verbs of a hub share: its records, its defaults, and how a pause and an answer are made."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any, TypeVar

from attrs import frozen
from returns.result import Result, Success

from flowpersist.backends.base import StorageBackend
from flowpersist.errors import PersistenceError
from flowpersist.errors.arguments import (
    check_instance,
    check_optional,
    check_str,
)
from flowpersist.hub.answer_checks import AnswerChecks
from flowpersist.hub.answering import Given, own_copy
from flowpersist.hub.due import Queues
from flowpersist.hub.suspending import (
    Awaiting,
    Plan,
    plan,
)
from flowpersist.hub.telemetry import hub_telemetry
from flowpersist.hub.transactions import Suspensions
from flowpersist.inputs.answer_types import AnswerTypes
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.json_schema import MAX_TEXT
from flowpersist.inputs.people import By, Principal, Via, subject_of
from flowpersist.keys.keyring import KeyRing
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle.decisions import Offer
from flowpersist.lifecycle.model import Head, Until
from flowpersist.lifecycle.views import (
    NewSuspension,
    Resumption,
    new_suspension_of,
)
from flowpersist.sealed.dictionaries import DictionaryStore
from flowpersist.sealed.retrying import Runtime

__all__ = ["HubBase", "HubDefaults"]

T = TypeVar("T")


@frozen
class HubDefaults:
    """The defaults of a hub's verbs."""

    namespace: str
    timeout: timedelta | None
    retention: timedelta
    public_url: str | None


class HubBase:
    """A hub without verbs."""

    def __init__(
        self,
        suspensions: Suspensions,
        defaults: HubDefaults,
        dictionaries: DictionaryStore,
        checks: AnswerChecks = AnswerChecks(),  # noqa: B008 - frozen
    ) -> None:
        self.suspensions = suspensions
        self.defaults = defaults
        self.dictionaries = dictionaries
        #: What answers must pass, by the names that AwaitInputs give.
        self.checks = checks
        #: The classes of schemas that this process has: their rules check answers too.
        self.answer_types = AnswerTypes(suspensions.records.sealer.codec.types)
        #: The runs that this process holds: finishing one stops its renewals.
        self.holds: dict[tuple[SuspensionId, int], asyncio.Event] = {}
        #: The queues of due runs that callers claim from.
        self.queues = Queues(suspensions.records)
        self._telemetry = hub_telemetry(defaults.namespace)
        #: What is closed with the hub.
        self.exits = ExitStack()

    @property
    def backend(self) -> StorageBackend:
        """The backend that keeps the records."""
        return self.suspensions.records.backend

    @property
    def runtime(self) -> Runtime:
        """The hub's retry policy, clock and randomness."""
        return self.suspensions.records.runtime

    def use_keyring(self, keyring: KeyRing | None) -> None:
        """Seal and open with another keyring from now on.

        - ``keyring``: the new one; None: plaintext.
        """
        check_instance(keyring, "keyring", (KeyRing, type(None)), "a KeyRing or None")
        sealer = self.suspensions.records.sealer.with_keyring(keyring)
        for records in (self.suspensions.records, *self.suspensions.side_records.records):
            records.sealer = sealer
            records.unreadable.forget()
        self.queues.forget()

    def remember(self, *awaiting: AwaitInput[Any]) -> None:
        """Have the classes of these AwaitInputs' schemas check the answers that this hub takes.

        The classes of ``types`` and of the hub's own suspensions do so already. An answer that a class's validators
        refuse is refused before it is recorded.

        - ``awaiting``: the AwaitInputs.
        """
        for item in awaiting:
            check_instance(item, "awaiting", AwaitInput, "AwaitInputs")
            self.answer_types.remember(item.id, item.schema, item.json_schema)

    def _plan(self, awaiting: Awaiting, until: Until, timeout: timedelta | None, deadline: datetime | None) -> Plan:
        planned = plan(
            awaiting,
            until=until,
            timeout=timeout,
            deadline=deadline,
            default_timeout=self.defaults.timeout,
            entropy=self.runtime.entropy,
            types=self.answer_types.registry,
        )
        self.remember(*(wait.awaiting for wait in planned.waits if wait.awaiting is not None))
        return planned

    def _given(
        self, value: object, by: By | None, answer_id: str | None, shown_digest: str | None, via: Via | None = None
    ) -> Given:
        check_optional(shown_digest, "shown_digest", check_str)
        check_instance(via, "via", (Via, type(None)), "a Via or None")
        # One answer may be as large as a state.
        most = max(MAX_TEXT, self.suspensions.records.sealer.codec.limits.max_bytes)
        principal = by if isinstance(by, Principal) else None
        offer = Offer(own_copy(value), subject_of(by), answer_id, shown=shown_digest, principal=principal, via=via)
        return Given(offer, self.answer_types, self.checks, most)

    def _let_go(self, run: Resumption[Any], result: Result[T, PersistenceError]) -> None:
        held = self.holds.get((run.suspension.id, run.fence))
        if held is not None and isinstance(result, Success):
            held.set()

    def _new(self, head: Head, *, answered: bool = False) -> NewSuspension:
        prefix, public_url = self.suspensions.prefix, self.defaults.public_url
        return new_suspension_of(head, prefix=prefix, public_url=public_url, answered=answered)

    def _random_id(self) -> str:
        return self.runtime.entropy(16).hex()
