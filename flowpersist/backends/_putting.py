"""Several puts at a time: their arguments checked, and the ways to do them that backends share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from flowpersist.backends._matching import check_put
from flowpersist.backends.base import MAX_BODIES_BYTES, MAX_REFS, Put, RecordChange, RecordRef, Written
from flowpersist.errors import PersistenceError

__all__ = ["PutResult", "apart", "check_puts", "ended", "portions", "put_each", "settled"]

T = TypeVar("T")
#: What one of several puts gave, or the error that it would have raised alone.
PutResult: TypeAlias = Written | PersistenceError
#: As many are under way at the same time where a backend does them one by one.
AT_ONCE = 16


class _Putting(Protocol):
    def __call__(
        self,
        ref: RecordRef,
        change: RecordChange,
        *,
        if_revision: int | None,
        not_after: Any,  # noqa: ANN401
    ) -> Awaitable[Written]: ...


def check_puts(puts: Sequence[Put]) -> None:
    """Refuse more puts than are done at a time, two of one record, and what ``check_put`` refuses."""
    if len(puts) > MAX_REFS:
        msg = f"at most {MAX_REFS} records are put at a time, not {len(puts)}: put them in several steps"
        raise ValueError(msg)
    for put in puts:
        check_put(put.if_revision, put.not_after)
    if len({put.ref for put in puts}) < len(puts):
        raise ValueError("two puts are of one record: put it in several steps")


async def put_each(put: _Putting, puts: Sequence[Put], *, at_once: int = AT_ONCE) -> tuple[PutResult, ...]:
    """Do several puts with a backend's ``put``, some at the same time."""
    free = asyncio.Semaphore(at_once)

    async def one(it: Put) -> Written:
        async with free:
            return await put(it.ref, it.change, if_revision=it.if_revision, not_after=it.not_after)

    return await ended(map(one, puts))


async def ended(running: Iterable[Awaitable[Written]]) -> tuple[PutResult, ...]:
    """The results of puts once all of them have ended. What is no ``PersistenceError`` is raised."""
    results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, PersistenceError):
            raise result
    return tuple(_bare(result) for result in results)  # type: ignore[arg-type] # the others were raised


def _bare(result: PutResult) -> PutResult:
    # Its frames hold the record.
    return result.with_traceback(None) if isinstance(result, PersistenceError) else result


def settled(one: Callable[[Put], T], put: Put) -> T | PersistenceError:
    """What a function makes of a put, or its error."""
    try:
        return one(put)
    except PersistenceError as error:
        return error.with_traceback(None)


def apart(results: dict[int, PutResult], puts: Sequence[Put], check: Callable[[Put], object]) -> list[int]:
    """The places of the puts that a check lets pass; the errors of the others are entered among the results."""
    passed: list[int] = []
    for place, put in enumerate(puts):
        refused = settled(check, put)
        if isinstance(refused, PersistenceError):
            results[place] = refused
        else:
            passed.append(place)
    return passed


def portions(puts: Sequence[Put], places: Iterable[int]) -> Iterator[list[int]]:
    """Places in portions whose bodies take at most ``MAX_BODIES_BYTES``, or that have one body."""
    portion: list[int] = []
    taken = 0
    for place in places:
        body = puts[place].change.body
        size = len(body) if isinstance(body, bytes) else 0
        if portion and taken + size > MAX_BODIES_BYTES:
            yield portion
            portion, taken = [], 0
        portion.append(place)
        taken += size
    if portion:
        yield portion
