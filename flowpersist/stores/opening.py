"""The door to the stores: ``open_stores``, or ``Stores`` on a hub that is open already."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Unpack

from typing_extensions import TypeVar

from flowpersist.backends.base import StorageBackend, check_text
from flowpersist.errors.arguments import (
    check_class,
    check_flag,
    check_instance,
    check_optional,
    check_str,
    out_of_range,
)
from flowpersist.hub.opening import HubOptions, open_hub
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.stores.config import StoreConfig
from flowpersist.stores.run_state import COLLECTION, RunStates
from flowpersist.stores.values import ValueStore, value_store

__all__ = ["Stores", "open_stores"]

T = TypeVar("T", default=Any)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: The default of ``cls``: every value is an object, and is typed as Any.
_ANY: Final[Any] = object


class Stores:
    """The stores on an open hub: its backend, namespace, keyring, types and clock, and what becomes of them.

    - ``hub``: a ``PersistenceHub`` or a ``RaisingHub``.
    - ``tenant``: whose values these are; the stores of one tenant see nothing of another's.
    """

    def __init__(self, hub: PersistenceHub | RaisingHub, *, tenant: str | None = None) -> None:
        check_instance(hub, "hub", (PersistenceHub, RaisingHub), "a PersistenceHub or a RaisingHub")
        check_optional(tenant, "tenant", check_text)
        self.hub = hub.hub if isinstance(hub, RaisingHub) else hub
        self.tenant = tenant

    def values(self, name: str, cls: type[T] = _ANY, *, listed: bool = False) -> ValueStore[T]:
        """The collection of that name, which is made at the first save.

        - ``name``: 1 to 64 characters of A-Z a-z 0-9 . _ -, the first of them a letter or a digit; it stands in clear.
        - ``cls``: the class that its values have. The hub's ``types`` must know it where it is not Python's own.
        - ``listed``: keep the keys in clear and in order, so that pages can be asked for by what texts begin with.
        """
        check_str(name, "name")
        if not _NAME.fullmatch(name):
            out_of_range(name="name", takes="1 to 64 characters of A-Z a-z 0-9 . _ -", value=repr(name))
        check_class(cls, "cls")
        check_flag(listed, "listed")
        return value_store(self.hub.suspensions.records, name, cls, listed=listed, tenant=self.tenant)

    @property
    def run_state(self) -> RunStates:
        """The run states: a text for each subject."""
        return RunStates(self.values(COLLECTION, str))


@asynccontextmanager
async def open_stores(
    url: str | StorageBackend | StoreConfig | None = None, *, tenant: str | None = None, **options: Unpack[HubOptions]
) -> AsyncIterator[Stores]:
    """The stores on a hub of their own for the length of an ``async with`` block, with the arguments of ``open_hub``.

    - ``url``: a URL, a backend, or a ``StoreConfig``; None: ``FLOWPERSIST_URL``.
    - ``tenant``: as ``Stores`` takes it.
    - ``options``: the others of ``open_hub``.

    Raises what ``open_hub`` raises.
    """
    async with open_hub(url.url if isinstance(url, StoreConfig) else url, **options) as hub:
        yield Stores(hub, tenant=tenant)
