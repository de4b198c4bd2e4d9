"""Requests and responses of httpx in the errors of clients: what there is to know afterwards, without credentials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from flowpersist.codec import TypeRegistry

__all__ = ["add_http"]

#: httpx, and its successor under another name.
PACKAGES: Final = ("httpx", "httpx2")
#: Of the body as it was sent, which is kept as it was read; and credentials.
LEFT_OUT: Final = frozenset({"content-encoding", "content-length", "set-cookie", "transfer-encoding"})


def add_http(types: TypeRegistry) -> TypeRegistry:
    """Add ``Request`` and ``Response`` of the packages that a client has imported.

    A request keeps method and URL; a response status, headers, the body if it was read, and its request.
    """
    for name in PACKAGES:
        package: Any = sys.modules.get(name)
        if package is not None:
            types.register(package.Request, encode=_request, decode=_request_of(package.Request))
            types.register(package.Response, encode=_response, decode=_response_of(package.Response))
    return types


def _request(one: Any) -> object:  # noqa: ANN401 - of one of several packages
    return one.method, str(one.url)


@cache
def _request_of(cls: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        method, url = parts
        return cls(method, url)

    return load


def _response(one: Any) -> object:  # noqa: ANN401 - as above
    headers = [(name, value) for name, value in one.headers.multi_items() if name.lower() not in LEFT_OUT]
    # A body that was not read is with the connection, which is gone.
    return one.status_code, headers, getattr(one, "_content", None), getattr(one, "_request", None)


@cache
def _response_of(cls: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        status, headers, content, request = parts
        return cls(status, headers=headers, content=content, request=request)

    return load
