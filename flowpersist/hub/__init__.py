"""The verbs on suspensions, and what works beside them: workers, leases, listings, maintenance.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.hub.audit import Audit
from flowpersist.hub.copying import Copied
from flowpersist.hub.events import Delivery, Event
from flowpersist.hub.export_file import Exported
from flowpersist.hub.importing import Imported
from flowpersist.hub.lease import hold
from flowpersist.hub.maintenance import (
    Cleanup,
    Health,
    KeyUse,
    Maintenance,
    Rekeyed,
    RekeyProgress,
    Shredded,
    Tick,
    TrainedDictionary,
)
from flowpersist.hub.opening import FROM_ENV, HubOptions, SchemaMigration, migrate, open_hub
from flowpersist.hub.outcome import Outcome, attempt, or_raise
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.roles import RoleAuthorizer
from flowpersist.hub.scrubbing import Finding, Verification
from flowpersist.hub.sinks import AuditSink, FileSink, LoggingSink, OtelSink
from flowpersist.hub.stripping import Stripped
from flowpersist.hub.transactions import Authorizer
from flowpersist.hub.upgrade_check import UpgradeBreak, UpgradeCheck
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.hub.worker import Backoff
from flowpersist.lifecycle.exports import ExportReport, check_export
from flowpersist.lifecycle.halt_history import HaltEntry
from flowpersist.lifecycle.halts import Halt
from flowpersist.lifecycle.proving import VerifiedReceipt, verify_consistency, verify_inclusion, verify_receipt
from flowpersist.sealed.checkpoints import LogCheckpoint, opened_checkpoint
from flowpersist.sealed.retrying import Runtime

__all__ = [
    "FROM_ENV",
    "Audit",
    "AuditSink",
    "Authorizer",
    "Backoff",
    "Cleanup",
    "Copied",
    "Delivery",
    "Event",
    "ExportReport",
    "Exported",
    "FileSink",
    "Finding",
    "Halt",
    "HaltEntry",
    "Health",
    "HubOptions",
    "Imported",
    "KeyUse",
    "LogCheckpoint",
    "LoggingSink",
    "Maintenance",
    "OtelSink",
    "Outcome",
    "PersistenceHub",
    "RaisingHub",
    "RekeyProgress",
    "Rekeyed",
    "RoleAuthorizer",
    "Runtime",
    "SchemaMigration",
    "Shredded",
    "Stripped",
    "Tick",
    "TrainedDictionary",
    "UpgradeBreak",
    "UpgradeCheck",
    "Verification",
    "VerifiedReceipt",
    "attempt",
    "check_export",
    "hold",
    "migrate",
    "open_hub",
    "opened_checkpoint",
    "or_raise",
    "verify_consistency",
    "verify_inclusion",
    "verify_receipt",
]
