"""Trained dictionaries, kept beside the suspensions whose states they compress.

Each is a record of the namespace ``….dictionaries``: its key is the dictionary's id, its head tells version and
origin, its body is the dictionary. Both are sealed with the state subkey, since a dictionary holds pieces of states.
The newest by the store's clock compresses; every older one stays, since nobody can tell without opening all states
which of them still need it. No verb deletes one.

A state names its dictionary. A process that does not know it looks it up once before it fails.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from attrs import frozen
from returns.result import Failure, Result, Success

from flowpersist.backends.base import NamespaceSchema, Where
from flowpersist.errors import CompressionError, EncryptionError, IntegrityError, PersistenceError
from flowpersist.sealed.drafts import Draft, Loaded
from flowpersist.sealed.records import SealedRecords
from flowpersist.stages.zstd import PRIVATE_IDS, Dictionary

__all__ = ["DICTIONARY_PURPOSE", "DictionaryStore", "TrainedDictionary", "dictionary_schema"]

log = logging.getLogger("flowpersist.sealed")

DICTIONARY_PURPOSE: Final = "dictionary"


@frozen
class TrainedDictionary:
    """A dictionary as the store keeps it: the ``version`` counts from 1; ``samples`` and ``sample_bytes`` say of how
    many states it was made, ``size`` is its own, in bytes.
    """

    id: int
    version: int
    size: int
    samples: int
    sample_bytes: int


def _namespace(of: str) -> str:
    return f"{of}.dictionaries"


def dictionary_schema(namespace: str) -> NamespaceSchema:
    """Where the dictionaries of a namespace are kept."""
    return NamespaceSchema(_namespace(namespace))


class DictionaryStore:
    """The dictionaries of the states in ``records``. ``used``: the newest compresses; else they are only read."""

    def __init__(self, records: SealedRecords[Any], *, used: bool) -> None:
        self.used = used
        self._states = records
        records.learn = self.learn

    async def load(self) -> Result[TrainedDictionary | None, PersistenceError]:
        """Take the newest to compress with; None where there is none, or this process may not or can't read it."""
        newest = await self._newest()
        if not isinstance(newest, Success):
            return _readable(newest.failure())
        found = newest.unwrap()
        if found is None:
            return Success(None)
        read = await self._read(found.ref.key)
        if not isinstance(read, Success):
            return _readable(read.failure())
        dictionary = read.unwrap()
        if dictionary is not None:
            self._use(dictionary)
        return Success(None if dictionary is None else found.head)

    async def learn(self, id: int) -> Result[bool, PersistenceError]:
        """Look one up, so that states that were made with it open; False where the store has none of that id."""
        read = await self._read(_key(id))
        if not isinstance(read, Success):
            return Failure(read.failure())
        dictionary = read.unwrap()
        if dictionary is None:
            return Success(False)
        sealer = self._states.sealer
        self._states.sealer = sealer.with_dictionaries(sealer.dictionaries.knowing(dictionary))
        return Success(True)

    async def train(self, samples: list[bytes], *, size: int) -> Result[TrainedDictionary, PersistenceError]:
        """Make a dictionary of these encoded states, in a thread, and keep it as the newest."""
        newest = await self._newest()
        if not isinstance(newest, Success):
            return Failure(newest.failure())
        before = newest.unwrap()
        drawn = PRIVATE_IDS[int.from_bytes(self._states.runtime.entropy(4), "big") % len(PRIVATE_IDS)]
        try:
            dictionary = await asyncio.to_thread(Dictionary.train, samples, id=drawn, size=size)
        except CompressionError as error:
            return Failure(error)
        version = 1 if before is None else before.head.version + 1
        trained = TrainedDictionary(drawn, version, len(dictionary.data), len(samples), sum(map(len, samples)))
        kept = await self._keep(dictionary, trained)
        if isinstance(kept, Success) and self.used:
            self._use(dictionary)
        return kept

    async def _keep(
        self, dictionary: Dictionary, trained: TrainedDictionary
    ) -> Result[TrainedDictionary, PersistenceError]:
        records, key = self.records(), _key(trained.id)
        sealed = await records.seal_body(key, None, dictionary.data, purpose=DICTIONARY_PURPOSE)
        if not isinstance(sealed, Success):
            return Failure(sealed.failure())
        draft = Draft(head=trained, attributes={}, due_at=None, body=sealed.unwrap())
        written = await records.put(key, draft, revision=0)
        return written.map(lambda _: trained)

    async def _newest(self) -> Result[Loaded[TrainedDictionary] | None, PersistenceError]:
        page = await self.records().page(Where(), order="created", limit=1, descending=True, require_key=True)
        return page.map(lambda found: next(iter(found.items), None))

    async def _read(self, key: str) -> Result[Dictionary | None, PersistenceError]:
        records = self.records()
        read = await records.read(key, body=True)
        if not isinstance(read, Success):
            return Failure(read.failure())
        found = read.unwrap().record
        if found is None:
            return Success(None)
        return (await records.open_body(found, purpose=DICTIONARY_PURPOSE)).bind(
            lambda data: _dictionary(data, found.head)
        )

    def _use(self, dictionary: Dictionary) -> None:
        sealer = self._states.sealer
        self._states.sealer = sealer.with_dictionaries(sealer.dictionaries.using(dictionary))

    def records(self) -> SealedRecords[TrainedDictionary]:
        """The records of the dictionaries, sealed by the keyring of now."""
        # Made for each use: the states' sealer may have got another keyring since.
        of = self._states
        return SealedRecords(
            of.backend,
            of.sealer,
            _namespace(of.namespace),
            TrainedDictionary,
            purpose=DICTIONARY_PURPOSE,
            runtime=of.runtime,
        )


def _key(id: int) -> str:
    return f"{id:08x}"


def _dictionary(data: object, head: TrainedDictionary) -> Result[Dictionary, PersistenceError]:
    try:
        dictionary = Dictionary(data) if isinstance(data, bytes) else None
    except CompressionError as error:
        return Failure(error)
    if dictionary is None or dictionary.id != head.id:
        return Failure(IntegrityError(f"the record of dictionary {head.id} holds another; restore it from a backup"))
    return Success(dictionary)


def _readable(error: PersistenceError) -> Result[None, PersistenceError]:
    """Nothing depends on compressing with a dictionary: who can't read it, as with a control keyring, does without."""
    if isinstance(error, EncryptionError | IntegrityError | CompressionError):
        log.warning("states are compressed without a dictionary, since the newest can't be read: %s", error)
        return Success(None)
    return Failure(error)
