"""Telling apart what users' code raises: an error of its own, the cancellation of its task, the end of the process."""

from __future__ import annotations

import asyncio

__all__ = ["is_cancelled", "is_fault"]


def is_cancelled(before: int = 0) -> bool:
    """Whether somebody cancels this task, beyond the ``before`` times of earlier.

    A ``CancelledError`` need not mean so: code raises its own, as of a future that it awaited and another cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > before


def is_fault(error: BaseException, *, cancelled: bool) -> bool:
    """Whether users' code has failed with this by itself, alone or in a group; ``cancelled``: its task is."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_fault(one, cancelled=cancelled) for one in error.exceptions)
    return isinstance(error, Exception) or (isinstance(error, asyncio.CancelledError) and not cancelled)
