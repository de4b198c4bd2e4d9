"""Sinks of audit entries: where they are copied to, so that whoever can write the store can't take them back.

A sink is given every entry of every suspension and of the halts at least once, with the id by which it knows an entry
again. How far it has come is a record of the store, so whichever process delivers next goes on from there.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_flag, check_instance
from flowpersist.lifecycle.halt_history import AnyEntry, any_entry_data

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

__all__ = ["SINK", "AuditSink", "FileSink", "LoggingSink", "OtelSink"]

#: What stands in the place of a sink that is none.
SINK: Final = "an AuditSink: a name, and an async deliver"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@runtime_checkable
class AuditSink(Protocol):
    """Takes audit entries for good. ``name`` is what the store remembers it by: two sinks have two names."""

    name: str

    async def deliver(self, entries: Sequence[AnyEntry]) -> None:
        """Take these entries, at most 100, those of one suspension, or of the halts, in order. If it raises, it is
        given them again. An entry of the halts is a ``HaltEntry``.

        An entry can come more than once: its ``id`` tells.
        """
        ...


class FileSink:
    """Appends each entry as a line of JSON to a file that its owner alone can read, and flushes it to the disk.

    - ``path``: the file. It may be rotated by renaming it.
    - ``name``: what the store remembers the sink by; None: ``file:`` and the path.
    - ``values``: whether answers are written, as far as the entries have them.
    """

    def __init__(self, path: str | Path, *, name: str | None = None, values: bool = False) -> None:
        check_instance(path, "path", (str, Path), "a path")
        check_flag(values, "values")
        self.path = Path(path).absolute()
        self.name = f"file:{self.path}" if name is None else name
        self._values = values

    async def deliver(self, entries: Sequence[AnyEntry]) -> None:
        """See ``AuditSink``."""
        lines = "".join(_line(entry, values=self._values) + "\n" for entry in entries)
        await asyncio.to_thread(self._append, lines.encode())

    def _append(self, data: bytes) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Processes take turns, so that no line is within another.
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                # A writer has died within a line. What it was about is given again.
                data = b"\n" + data
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)


class LoggingSink:
    """Logs each entry as a line of JSON.

    - ``logger``: where to; None: the logger ``flowpersist.audit``.
    - ``level``: of the records.
    - ``name``: what the store remembers the sink by.
    - ``values``: whether answers are logged, as far as the entries have them.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        level: int = logging.INFO,
        name: str = "logging",
        values: bool = False,
    ) -> None:
        check_instance(logger, "logger", (logging.Logger, type(None)), "a Logger or None")
        check_flag(values, "values")
        self.name = name
        self._logger = logging.getLogger("flowpersist.audit") if logger is None else logger
        self._level = level
        self._values = values

    async def deliver(self, entries: Sequence[AnyEntry]) -> None:
        """See ``AuditSink``."""
        for entry in entries:
            self._logger.log(self._level, "%s", _line(entry, values=self._values))


class OtelSink:
    """Emits each entry as a log record of OpenTelemetry: an event ``flowpersist.audit`` whose body is the entry.

    What the SDK that is set up does with it, such as dropping it at a full queue, is not seen here.

    - ``provider``: a ``LoggerProvider``; None: the one that is set up for the process.
    - ``name``: what the store remembers the sink by.
    - ``values``: whether answers are in it, as far as the entries have them.

    Raises ``ConfigurationError`` without the extra ``otel``.
    """

    def __init__(self, *, provider: LoggerProvider | None = None, name: str = "otel", values: bool = False) -> None:
        check_flag(values, "values")
        try:
            from opentelemetry import _logs  # noqa: PLC0415 - of an extra
        except ImportError as error:
            message = "OtelSink needs OpenTelemetry: pip install 'flowpersist[otel]'"
            raise ConfigurationError(message, "sinks") from error
        self.name = name
        self._values = values
        self._logs = _logs
        self._provider = provider

    async def deliver(self, entries: Sequence[AnyEntry]) -> None:
        """See ``AuditSink``."""
        logger = self._logs.get_logger("flowpersist.audit", logger_provider=self._provider)
        for entry in entries:
            logger.emit(self._record(any_entry_data(entry, values=self._values), entry))

    def _record(self, body: Mapping[str, Any], entry: AnyEntry) -> Any:  # noqa: ANN401 - of an extra
        nanoseconds = (entry.at - _EPOCH) // _MICROSECOND * 1000
        return self._logs.LogRecord(
            timestamp=nanoseconds,
            severity_number=self._logs.SeverityNumber.INFO,
            body=dict(body),
            attributes={"flowpersist.audit.id": entry.id, "flowpersist.audit.verb": entry.verb},
            event_name="flowpersist.audit",
        )


def _line(entry: AnyEntry, *, values: bool) -> str:
    return json.dumps(any_entry_data(entry, values=values), separators=(",", ":"))
