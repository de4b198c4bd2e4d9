"""Whether a ``CancelledError`` means that somebody cancels the task."""

from __future__ import annotations

import asyncio

__all__ = ["is_cancelled"]


def is_cancelled(before: int = 0) -> bool:
    """Whether somebody cancels this task, beyond the ``before`` times of earlier.

    A ``CancelledError`` need not mean so: code raises its own, as of a future that it awaited and another cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > before
