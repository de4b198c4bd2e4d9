"""The public surface: what it holds is decided, not grown."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import flowpersist
from flowpersist import errors

PUBLIC = [
    "FROM_ENV",
    "AlreadyResumed",
    "AnswerConflict",
    "AwaitInput",
    "Backoff",
    "Codec",
    "ConfigurationError",
    "Criteria",
    "Event",
    "HubOptions",
    "InputValidationError",
    "KeyRing",
    "LeaseLost",
    "Limits",
    "Maintenance",
    "NewSuspension",
    "Outcome",
    "Page",
    "PersistenceError",
    "PersistenceHub",
    "Principal",
    "RaisingHub",
    "Receipt",
    "Resumption",
    "Sealer",
    "Status",
    "StillWaiting",
    "StorageBackend",
    "Suspension",
    "SuspensionBusy",
    "SuspensionCancelled",
    "SuspensionClosed",
    "SuspensionExpired",
    "SuspensionId",
    "SuspensionKey",
    "SuspensionNotFound",
    "TypeRegistry",
    "Wait",
    "hold",
    "open_hub",
    "or_raise",
]


def test_public_names_are_these():
    assert flowpersist.__all__ == PUBLIC


def test_public_names_are_at_most_forty_one_and_each_is_there():
    assert len(PUBLIC) <= 41
    assert [name for name in PUBLIC if not hasattr(flowpersist, name)] == []


def test_public_names_are_sorted_as_the_linter_sorts_them():
    # Constants, then classes, then functions: the order of ruff's RUF022.
    kinds = [(0 if name.isupper() else 1 if name[0].isupper() else 2, name) for name in PUBLIC]
    assert kinds == sorted(kinds)


def test_nothing_is_defined_in_the_package_itself():
    own = [name for name in PUBLIC if getattr(getattr(flowpersist, name), "__module__", "") == "flowpersist"]
    assert own == []


PACKAGES = {
    "blocking": [
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
    ],
    "codec": ["Codec", "Limits", "TypeRegistry", "check_types"],
    "hub": [
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
    ],
    "inputs": ["Action", "AwaitInput", "Escalation", "Via"],
    "keys": [
        "KeyFile",
        "KeyProvider",
        "KeyRing",
        "KeyService",
        "KeyUpdates",
        "LocalKeyService",
        "NoteSigner",
        "NoteVerifier",
        "SuspensionId",
        "SuspensionKey",
        "TenantKeys",
        "WrappedKey",
        "WrappedKeyFile",
        "WrappedKeyStore",
        "generate_key",
    ],
    "sealed": ["Sealer"],
    "tools": [
        "ApprovalNeeded",
        "ApprovalOptions",
        "Approvals",
        "AwaitInputFactory",
        "Call",
        "Guarded",
        "Options",
        "PolicyUse",
        "Quorum",
        "Rejected",
        "StandingApproval",
        "ToolContext",
        "approve",
        "await_input",
        "customer",
        "development",
        "human_in_the_loop",
    ],
    "stores": [
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
    ],
    "web": ["HealthApp"],
    "testing": ["assert_round_trips", "open_test_hub", "same_graph", "travel", "values"],
}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_exports_is_this(package):
    found = import_module(f"flowpersist.{package}")
    assert found.__all__ == PACKAGES[package]
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


def test_the_root_holds_packages_and_settings():
    root = Path(flowpersist.__file__).parent
    assert {path.stem for path in root.glob("*.py")} == {"__init__", "__main__", "settings"}
    assert {path.parent.name for path in root.glob("*/__init__.py")} >= {*PACKAGES, "errors", "lifecycle", "stages"}


def test_every_error_is_exported_by_its_module():
    def below(kind):
        return {kind.__name__}.union(*(below(one) for one in kind.__subclasses__()))

    ours = {name for name in below(errors.PersistenceError) if hasattr(errors, name)}
    assert ours - set(errors.__all__) == set()
