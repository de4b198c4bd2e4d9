"""The same verbs for synchronous code: values come back, ``PersistenceError`` is raised, and nothing is awaited."""

from __future__ import annotations

from flowpersist.blocking.hubs import FlowRunner, Hub, Maintenance, open_hub
from flowpersist.blocking.persistent import persistent
from flowpersist.blocking.stores import (
    Artifacts,
    ConversationManager,
    Features,
    Locks,
    Observations,
    RunStates,
    Sessions,
    Signals,
    StateManager,
    Stores,
    ValueStore,
    open_stores,
)
from flowpersist.blocking.threads import threaded, tool

__all__ = [
    "Artifacts",
    "ConversationManager",
    "Features",
    "FlowRunner",
    "Hub",
    "Locks",
    "Maintenance",
    "Observations",
    "RunStates",
    "Sessions",
    "Signals",
    "StateManager",
    "Stores",
    "ValueStore",
    "open_hub",
    "open_stores",
    "persistent",
    "threaded",
    "tool",
]
