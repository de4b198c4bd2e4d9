"""What agents keep beside suspensions, sealed and on any backend.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.backends.store_config import StoreConfig
from flowpersist.lifecycle.locking import Lease, LockType
from flowpersist.lifecycle.session_records import ContextRecord, IdentityRecord, Session, StateRecord, UserRecord
from flowpersist.lifecycle.signalling import Signal
from flowpersist.sealed.marked import StateInfo
from flowpersist.sealed.naming import Key
from flowpersist.stores.artifacts import Artifact, Artifacts
from flowpersist.stores.conversation import ConversationManager, run_state_store_from_env
from flowpersist.stores.entries import Change, Loaded, Saved
from flowpersist.stores.features import Features, FeatureVersion
from flowpersist.stores.locks import Locks
from flowpersist.stores.observations import Observation, Observations
from flowpersist.stores.opening import Stores, open_stores
from flowpersist.stores.persistent import PersistentOptions, persistent
from flowpersist.stores.run_state import (
    FileStateStore,
    MemoryStateStore,
    PostgresStateStore,
    RedisStateStore,
    RunStateStore,
    SqliteStateStore,
    VersionedRunStateStore,
    run_state_store,
)
from flowpersist.stores.session_database import DatabaseType, SessionDatabase, create_database
from flowpersist.stores.sessions import Sessions
from flowpersist.stores.signals import Signals
from flowpersist.stores.state import StateManager, StateOptions
from flowpersist.stores.values import ValueStore

__all__ = [
    "Artifact",
    "Artifacts",
    "Change",
    "ContextRecord",
    "ConversationManager",
    "DatabaseType",
    "FeatureVersion",
    "Features",
    "FileStateStore",
    "IdentityRecord",
    "Key",
    "Lease",
    "Loaded",
    "LockType",
    "Locks",
    "MemoryStateStore",
    "Observation",
    "Observations",
    "PersistentOptions",
    "PostgresStateStore",
    "RedisStateStore",
    "RunStateStore",
    "Saved",
    "Session",
    "SessionDatabase",
    "Sessions",
    "Signal",
    "Signals",
    "SqliteStateStore",
    "StateInfo",
    "StateManager",
    "StateOptions",
    "StateRecord",
    "StoreConfig",
    "Stores",
    "UserRecord",
    "ValueStore",
    "VersionedRunStateStore",
    "create_database",
    "open_stores",
    "persistent",
    "run_state_store",
    "run_state_store_from_env",
]
