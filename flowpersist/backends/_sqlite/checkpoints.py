"""Checkpoints: the log's content goes to the database beside the writer, which need not wait for it.

A checkpoint writes pages and flushes the database, as much work as all that was committed since the last one. Done by
a thread of its own, it leaves behind what was written meanwhile; done again, less; and the writer itself copies the
little that is left, since only where nothing is left does the log begin anew. Where all of this can't be, because a
program reads an old snapshot for long or the disk fails, the log grows on, and it is tried again.

All of it is SQLite's own passive checkpoint: one that is killed or fails half-way leaves a log that is whole. The
thread makes it beside a snapshot that it reads, and the writer while it holds the write lock: see ``_wal`` for why.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from flowpersist.backends._sqlite.schema import PAGE_BYTES
from flowpersist.backends._threads import Settled
from flowpersist.backends._wal import checkpoint_alone, checkpoint_beside

__all__ = ["Checkpointer"]

#: From so much on the log's content goes to the database.
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
#: So little the writer copies itself: it takes about as long as committing it did.
NEARLY_PAGES: Final = 1024 * 1024 // PAGE_BYTES
#: Where the writer is as fast as the checkpoint it ends all the same.
PASSES: Final = 4
#: How long a write that found the disk full waits for the checkpoint that is under way.
WAIT_SECONDS: Final = 2.0
#: What a commit writes beside what it is given: a page of each index, and ends of tables.
COMMIT_BYTES: Final = 16 * PAGE_BYTES


class Checkpointer(threading.Thread):
    """Owns a connection that does checkpoints and one that reads a snapshot meanwhile. The writer tells it what it has
    written, and asks it what to do.
    """

    def __init__(
        self, name: str, connection: sqlite3.Connection, snapshot: sqlite3.Connection, log_bytes: Callable[[], int]
    ) -> None:
        super().__init__(name=f"flowpersist-{name}-checkpoints", daemon=True)
        self.connection = connection
        self._snapshot = snapshot
        #: Held by whoever uses the connection, of this thread and the writer's.
        self._using = threading.Lock()
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._log_bytes = log_bytes
        #: None before the first write, which is when the log that others left is looked at.
        self._written: int | None = None
        self._running = False
        #: Set by this thread, taken by the writer's.
        self._nearly = False

    def run(self) -> None:
        with contextlib.closing(self.connection), contextlib.closing(self._snapshot):
            while self._asked.get():
                self._pass_by_pass()
                self._nearly = True

    def _pass_by_pass(self) -> None:
        before = 0
        for _ in range(PASSES):
            with self._using:
                done = checkpoint_beside(self._snapshot, self.connection)
            if done is None or done.log - before <= NEARLY_PAGES:
                return
            before = done.copied

    def end(self) -> None:
        """Let the thread end, after the checkpoint that it is at."""
        self._asked.put(False)

    def after(self, group: Sequence[Settled], writer: sqlite3.Connection) -> None:
        """What the writer does between two transactions. How large the log is can't be asked without a checkpoint; a
        rough count does, since nothing depends on it but how often one is done. It begins with what others have left:
        processes that write little and end soon would never count enough by themselves.
        """
        before = self._log_bytes() if self._written is None else self._written
        self._written = before + COMMIT_BYTES + sum(settled.job.size + PAGE_BYTES for settled in group)
        if self._nearly:
            with self._using:
                checkpoint_alone(writer, self.connection)
            self._nearly = self._running = False
            self._written = 0
        elif self._written >= CHECKPOINT_BYTES and not self._running:
            self._running = True
            self._asked.put(True)

    def make_room(self, writer: sqlite3.Connection) -> bool:
        """After a disk was full: whether the log can begin anew, and so needs no more of the disk."""
        deadline = time.monotonic() + WAIT_SECONDS
        if not self._using.acquire(timeout=WAIT_SECONDS):
            return False
        try:
            while (done := checkpoint_alone(writer, self.connection)) is not None and done.busy:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.01)
        finally:
            self._using.release()
        return done is not None and done.complete
