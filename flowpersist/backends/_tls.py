"""Whether it is TLS that keeps a driver from its server: a certificate, a version, a side that speaks none."""

from __future__ import annotations

import ssl

__all__ = ["is_refused"]

#: An end of the stream in the middle is a lost connection like any other.
_LOST = ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError


def is_refused(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, says that the two sides do not agree on TLS: trying again can't help."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return not isinstance(error, _LOST)
        if isinstance(error, BaseExceptionGroup) and any(map(is_refused, error.exceptions)):
            return True
        error = error.__cause__ or error.__context__
    return False
