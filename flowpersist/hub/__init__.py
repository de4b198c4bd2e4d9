"""The verbs on suspensions, and what works beside them: workers, leases, listings, maintenance.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.hub.events import Delivery, Event
from flowpersist.hub.lease import hold
from flowpersist.hub.maintenance import Cleanup, Health, Maintenance, Tick, TrainedDictionary
from flowpersist.hub.opening import FROM_ENV, HubOptions, SchemaMigration, migrate, open_hub
from flowpersist.hub.outcome import Outcome, attempt, or_raise
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.transactions import Authorizer
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.hub.worker import Backoff
from flowpersist.sealed.retrying import Runtime

__all__ = [
    "FROM_ENV",
    "Authorizer",
    "Backoff",
    "Cleanup",
    "Delivery",
    "Event",
    "Health",
    "HubOptions",
    "Maintenance",
    "Outcome",
    "PersistenceHub",
    "RaisingHub",
    "Runtime",
    "SchemaMigration",
    "Tick",
    "TrainedDictionary",
    "attempt",
    "hold",
    "migrate",
    "open_hub",
    "or_raise",
]
