"""The same verbs for synchronous code: values come back, ``PersistenceError`` is raised, and nothing is awaited."""

from __future__ import annotations

from flowpersist.blocking.hubs import FlowRunner, Hub, Maintenance, open_hub
from flowpersist.blocking.threads import threaded, tool

__all__ = ["FlowRunner", "Hub", "Maintenance", "open_hub", "threaded", "tool"]
