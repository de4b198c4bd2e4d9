"""pydantic's own values in a state: URLs, errors and secrets: ``register(types)``. Needs the extra ``pydantic``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from flowpersist.codec import TypeRegistry
from flowpersist.codec.discovery import classes_below
from flowpersist.integrations._packages import made_of_pair, modules
from flowpersist.integrations._refusals import exactly, malformed, unsupported

__all__ = ["register"]


def register(types: TypeRegistry) -> TypeRegistry:
    """Add pydantic's URLs and DSNs with their subclasses, ``NameEmail``, ``ByteSize``, errors and secrets.

    The registry is given back. ``SecretStr`` and ``SecretBytes`` are kept only where the state is encrypted, by a
    keyring. Models need no call: ``TypeRegistry.tree`` takes them.
    ``ConfigurationError`` where pydantic is missing, or one of these classes is registered with other arguments.
    """
    pydantic, core = modules("pydantic", "pydantic", "pydantic_core")
    found = TypeRegistry(pydantic.ByteSize)
    of_one_host, of_many_hosts = pydantic.AnyUrl.__mro__[1], pydantic.PostgresDsn.__mro__[1]
    for cls in (core.Url, core.MultiHostUrl, *classes_below(of_one_host)[1:], *classes_below(of_many_hosts)[1:]):
        found.register(cls, encode=_url_of(cls), decode=_made_by(cls))
    found.register(pydantic.NameEmail, encode=_parts_of_address, decode=made_of_pair(pydantic.NameEmail))
    found.register(core.ValidationError, encode=_error, decode=_error_of(core.ValidationError))
    for cls, kind in ((pydantic.SecretStr, str), (pydantic.SecretBytes, bytes)):
        found.register(cls, secret=True, encode=_secret, decode=_secret_of(cls, kind))
    types |= found
    return types


@cache
def _made_by(cls: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - pydantic is imported when it is asked for
    def load(value: Any) -> Any:  # noqa: ANN401 - as above
        return cls(value)

    return load


@cache
def _url_of(cls: Any) -> Callable[[Any], str]:  # noqa: ANN401 - as above
    def dump(url: Any) -> str:  # noqa: ANN401 - as above
        text = str(url)
        if cls(text) != url:
            raise unsupported(f"a {cls.__qualname__} that its own text does not give back", "keep its text")
        return text

    return dump


def _parts_of_address(address: Any) -> object:  # noqa: ANN401 - as above
    return address.name, address.email


def _secret(secret: Any) -> object:  # noqa: ANN401 - as above
    return secret.get_secret_value()


@cache
def _secret_of(cls: Any, kind: type) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(value: Any) -> Any:  # noqa: ANN401 - as above
        return cls(exactly(kind, value, "a secret is of another class"))

    return load


def _error(error: Any) -> object:  # noqa: ANN401 - as above
    lines = tuple(_line(one) for one in error.errors(include_url=False))
    if _rebuilt(type(error), (error.title, lines)).errors() != error.errors():
        raise unsupported("a ValidationError with errors of a kind of its own", "keep error.errors() or its text")
    return error.title, lines


def _line(one: Any) -> object:  # noqa: ANN401 - as above
    return one["type"], one["loc"], one["input"], one.get("ctx")


@cache
def _error_of(cls: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        return _rebuilt(cls, parts)

    return load


def _rebuilt(cls: Any, parts: Any) -> Any:  # noqa: ANN401 - as above
    title, lines = parts
    if type(title) is not str:
        raise malformed("expected a str as the title of a ValidationError")
    details = [
        {"type": kind, "loc": loc, "input": value} | ({} if context is None else {"ctx": context})
        for kind, loc, value, context in lines
    ]
    return cls.from_exception_data(title, details)
