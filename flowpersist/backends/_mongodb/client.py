"""The driver's client, made from a URL or given, and the settings that hold whatever the URL says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from attrs import frozen
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from flowpersist.backends._mongodb.documents import Document
from flowpersist.backends._mongodb.pools import PoolWatch
from flowpersist.backends._mongodb.sending import REGISTRY

__all__ = ["DATABASE", "OPTIONS", "Client", "ClientFactory", "Collections", "close", "collections", "connect"]

Client: TypeAlias = AsyncMongoClient[Document]
#: ``AsyncMongoClient``, or motor's ``AsyncIOMotorClient``, which has the same methods; it is not imported here.
ClientFactory: TypeAlias = Callable[..., Any]
DATABASE: Final = "flowpersist"
#: The defaults for options that the URL leaves out. The driver's own are waits of half a minute or without end, and a
#: hundred connections, more than one event loop can use.
_OPTIONS: Final[Mapping[str, int]] = {
    "maxPoolSize": 16,
    "maxConnecting": 8,
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 30_000,
    "waitQueueTimeoutMS": 10_000,
}
_WRITE_TIMEOUT: Final = 10_000


#: A date or text that Python cannot represent must not make a whole reply unreadable; it is told apart from valid ones
#: afterwards.
OPTIONS: Final[CodecOptions[Document]] = CodecOptions(
    type_registry=REGISTRY,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="surrogateescape",
)
#: Documents as raw bytes, to be decoded one by one.
RAW: Final[CodecOptions[RawBSONDocument]] = CodecOptions(
    document_class=RawBSONDocument, unicode_decode_error_handler="surrogateescape"
)


@frozen(eq=False)
class Collections:
    """The database and the store's collections in it."""

    database: AsyncDatabase[Document]
    records: AsyncCollection[Document]
    bodies: AsyncCollection[Document]
    meta: AsyncCollection[Document]

    @property
    def raw_records(self) -> AsyncCollection[RawBSONDocument]:
        """The records as raw documents, so that one that cannot be decoded does not affect the others."""
        return self.records.with_options(codec_options=RAW)


def connect(url: str, factory: ClientFactory, watch: PoolWatch) -> Client:
    """Make a client from a URL. It connects when it is first used, and tells ``watch`` of its connections."""
    said = {name.lower() for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    # The driver takes either one limit for a whole operation, or one for each of its steps.
    apart = {"sockettimeoutms", "waitqueuetimeoutms"} if "timeoutms" in said else set()
    ours = {name: value for name, value in _OPTIONS.items() if name.lower() not in said | apart}
    client: Client = factory(url, event_listeners=[watch], **ours)
    return client


def collections(client: Client, database: str | None, prefix: str) -> Collections:
    """The store's collections, with writes acknowledged by a majority's journal and majority reads from the primary.

    This holds whatever the URL says: a write that a failover rolls back would let a flow be resumed twice.
    """
    name = client.get_default_database(DATABASE).name if database is None else database
    limit = client.write_concern.document.get("wtimeout", _WRITE_TIMEOUT)
    database_of = client.get_database(
        name,
        # A given client may have any document class; the store reads plain dicts.
        codec_options=OPTIONS,
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern("majority", wtimeout=limit, j=True),
        read_concern=ReadConcern("majority"),
    )
    return Collections(
        database_of,
        database_of[f"{prefix}_records"],
        database_of[f"{prefix}_bodies"],
        database_of[f"{prefix}_meta"],
    )


async def close(client: Client) -> None:
    """Close a client of either driver."""
    closing: Any = client.close()
    if inspect.isawaitable(closing):
        await closing
