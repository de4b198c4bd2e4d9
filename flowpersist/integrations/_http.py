"""Requests and responses of httpx in the errors of clients: what there is to know afterwards, without credentials."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

from flowpersist.codec import TypeRegistry
from flowpersist.integrations._packages import made_of_pair
from flowpersist.integrations._refusals import malformed

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
            types.register(package.Request, encode=_request, decode=made_of_pair(package.Request))
            types.register(package.Response, encode=_response, decode=_response_of(package.Response))
    return types


def _request(one: Any) -> object:  # noqa: ANN401 - of one of several packages
    return one.method, str(one.url)


def _response(one: Any) -> object:  # noqa: ANN401 - as above
    # A body that was not read is with the connection, which is gone.
    content, request = getattr(one, "_content", None), getattr(one, "_request", None)
    return one.status_code, _kept(one.headers.multi_items()), content, request


def _kept(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in LEFT_OUT]


@cache
def _response_of(cls: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - as above
    def load(parts: Any) -> Any:  # noqa: ANN401 - as above
        status, headers, content, request = parts
        if type(status) is not int or type(content) not in {bytes, type(None)}:
            raise malformed("the status or the body of a response is of a wrong class")
        # Bytes from anywhere may name an encoding, which would be undone without a bound.
        return cls(status, headers=_kept(headers), content=content, request=request)

    return load
