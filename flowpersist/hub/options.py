"""The options with which a hub is opened: their names and types, and what each may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, TypedDict

from flowpersist.backends.base import StorageBackend, check_text
from flowpersist.backends.blobs import BlobStore
from flowpersist.codec import Limits, TypeRegistry
from flowpersist.errors.arguments import (
    check_callable,
    check_choice,
    check_duration,
    check_flag,
    check_instance,
    check_items,
    check_mapping,
    check_optional,
    check_pause,
    check_size,
    check_str,
    mistyped,
    out_of_range,
)
from flowpersist.hub.answer_checks import Check
from flowpersist.hub.events import Event
from flowpersist.hub.namespaces import hub_schema
from flowpersist.hub.transactions import AnyAuthorizer
from flowpersist.keys.keyring import KeyProvider, KeyRing
from flowpersist.sealed.retrying import Runtime
from flowpersist.settings import PUBLIC_URL, PUBLIC_URL_TAKES, Settings
from flowpersist.stages.compress import COMPRESSIONS

__all__ = ["FROM_ENV", "FromEnvironment", "HubOptions", "check_options", "chosen"]


class FromEnvironment(Enum):
    """The type of ``FROM_ENV``: the setting of that name in the environment, or its default."""

    FROM_ENV = "from the environment"


FROM_ENV: Final = FromEnvironment.FROM_ENV


class HubOptions(TypedDict, total=False):
    """What ``open_hub`` and ``RaisingHub.open`` take beside the URL; see ``open_hub``."""

    keyring: KeyRing | KeyProvider | FromEnvironment | None
    types: TypeRegistry | Iterable[type]
    limits: Limits | FromEnvironment
    compression: str | FromEnvironment
    dictionaries: bool | FromEnvironment
    namespace: str
    default_timeout: timedelta | FromEnvironment | None
    retention: timedelta | FromEnvironment
    authorizer: AnyAuthorizer | None
    on_event: Callable[[Event], object] | None
    public_url: str | FromEnvironment | None
    runtime: Runtime | FromEnvironment
    settings: Settings | FromEnvironment
    blobs: str | BlobStore | FromEnvironment | None
    blobs_from: int | FromEnvironment
    ledger: str | StorageBackend | FromEnvironment | None
    debug: bool | FromEnvironment
    create: bool
    verify: bool
    checks: Mapping[str, Check]
    audit: bool
    audit_retention: timedelta | FromEnvironment | None


def _check_url(url: object, name: str) -> None:
    if isinstance(url, PurePath):
        mistyped(name, "a URL such as sqlite:///flows.db (a path is written file:… or sqlite:///…), or a backend", url)
    check_instance(url, name, (str, StorageBackend), "a URL such as sqlite:///flows.db, a backend, or None")


def _check_types(types: object, name: str) -> None:
    if not isinstance(types, TypeRegistry):
        check_items(types, name, "a TypeRegistry, or the classes for one")


def _check_namespace(namespace: object, name: str) -> None:
    # What stands beside it has a longer name.
    if not check_text(namespace, name):
        out_of_range(name, "a str that is not empty", "an empty one")
    hub_schema(str(namespace))


def _check_public_url(url: object, name: str) -> None:
    check_str(url, name)
    if not PUBLIC_URL.fullmatch(str(url)):
        out_of_range(name, PUBLIC_URL_TAKES, "another")


def _check_checks(checks: object, name: str) -> None:
    check_mapping(checks, name)
    given: Mapping[object, object] = checks  # type: ignore[assignment]
    for key, check in given.items():
        check_text(key, f"a name in {name}")
        check_callable(check, f"{name}[{key!r}]")


def _of(kinds: type | tuple[type, ...], takes: str) -> Callable[[object, str], None]:
    return lambda value, name: check_instance(value, name, kinds, takes)


#: None and ``FROM_ENV`` pass where the signature has them as a default or beside it.
_CHECKS: Final[Mapping[str, Callable[[object, str], None]]] = MappingProxyType(
    {
        "url": _check_url,
        "keyring": _of((KeyRing, KeyProvider), "a KeyRing, a KeyProvider or None"),
        "types": _check_types,
        "limits": _of(Limits, "a Limits"),
        "compression": lambda value, name: check_choice(value, name, COMPRESSIONS),
        "dictionaries": check_flag,
        "namespace": _check_namespace,
        "default_timeout": check_duration,
        "retention": check_pause,
        "authorizer": check_callable,
        "on_event": check_callable,
        "public_url": _check_public_url,
        "runtime": _of(Runtime, "a Runtime"),
        "settings": _of(Settings, "a Settings"),
        "blobs": _of((str, BlobStore), "a URL such as file:///dir or s3://bucket/prefix, a BlobStore, or None"),
        "blobs_from": check_size,
        "ledger": _check_url,
        "create": check_flag,
        "verify": check_flag,
        "checks": _check_checks,
        "audit": check_flag,
        "audit_retention": lambda value, name: check_optional(value, name, check_pause),
        "debug": check_flag,
    }
)
_MAY_BE_NONE: Final = frozenset(
    {"url", "keyring", "default_timeout", "authorizer", "on_event", "public_url", "blobs", "ledger"}
)


def check_options(given: Mapping[str, object]) -> None:
    """Refuse invalid options of ``open_hub``, by their names."""
    for name, value in given.items():
        if value is not FROM_ENV and not (value is None and name in _MAY_BE_NONE):
            _CHECKS[name](value, name)


def chosen(given: Any, otherwise: Any) -> Any:  # noqa: ANN401 - the caller's annotation says which
    """An option that was given, else what the settings say."""
    return otherwise if given is FROM_ENV else given
