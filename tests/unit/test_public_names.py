"""The public surface: what it holds is decided, not grown."""

from __future__ import annotations

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


def test_public_names_are_at_most_forty_and_each_is_there():
    assert len(PUBLIC) <= 40
    assert [name for name in PUBLIC if not hasattr(flowpersist, name)] == []


def test_public_names_are_sorted_as_the_linter_sorts_them():
    # Constants, then classes, then functions: the order of ruff's RUF022.
    kinds = [(0 if name.isupper() else 1 if name[0].isupper() else 2, name) for name in PUBLIC]
    assert kinds == sorted(kinds)


def test_nothing_is_defined_in_the_package_itself():
    own = [name for name in PUBLIC if getattr(getattr(flowpersist, name), "__module__", "") == "flowpersist"]
    assert own == []


def test_every_error_is_exported_by_its_module():
    def below(kind):
        return {kind.__name__}.union(*(below(one) for one in kind.__subclasses__()))

    ours = {name for name in below(errors.PersistenceError) if hasattr(errors, name)}
    assert ours - set(errors.__all__) == set()
