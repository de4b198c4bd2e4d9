"""flowpersist: pause a flow, carry its state across time, processes and machines, and resume it once.

The public names. Errors beyond the commonest are in ``flowpersist.errors``; stages to be composed by hand in
``flowpersist.stages``; the DynamicFlow runner in ``flowpersist.dynamicflow``; what tests need in
``flowpersist.testing``.
"""

from __future__ import annotations

from importlib.metadata import version as _version

from flowpersist.awaiting import AwaitInput
from flowpersist.backends.base import Page, StorageBackend
from flowpersist.claiming import Backoff
from flowpersist.codec import Codec, Limits, TypeRegistry
from flowpersist.envelope import Sealer
from flowpersist.errors import (
    AlreadyResumed,
    AnswerConflict,
    ConfigurationError,
    InputValidationError,
    LeaseLost,
    PersistenceError,
    StillWaiting,
    SuspensionBusy,
    SuspensionCancelled,
    SuspensionClosed,
    SuspensionExpired,
    SuspensionNotFound,
)
from flowpersist.hub import Outcome, PersistenceHub
from flowpersist.keyring import KeyRing
from flowpersist.keys import SuspensionId, SuspensionKey
from flowpersist.leases import hold
from flowpersist.lifecycle import Criteria, NewSuspension, Receipt, Resumption, Status, Suspension, Wait
from flowpersist.maintenance import Maintenance
from flowpersist.opening import FROM_ENV, HubOptions, open_hub
from flowpersist.raising import RaisingHub, or_raise
from flowpersist.suspensions import Event

__all__ = [
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

#: The release, as the package's metadata names it.
__version__ = _version("flowpersist")
