"""flowpersist: pause a flow, carry its state across time, processes and machines, and resume it once.

The public names. Errors beyond the commonest are in ``flowpersist.errors``; stages to be composed by hand in
``flowpersist.stages``; the DynamicFlow runner in ``flowpersist.dynamicflow``; what tests need in
``flowpersist.testing``.
"""

from __future__ import annotations

from importlib.metadata import version as _version

# Stores register what Maintenance is to do for them, also where a process uses none of them.
import flowpersist.stores as _stores  # noqa: F401
from flowpersist.backends.base import Page, StorageBackend
from flowpersist.codec import Codec, Limits, TypeRegistry
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
from flowpersist.hub.events import Event
from flowpersist.hub.lease import hold
from flowpersist.hub.maintenance import Maintenance
from flowpersist.hub.opening import FROM_ENV, HubOptions, open_hub
from flowpersist.hub.outcome import Outcome, or_raise
from flowpersist.hub.raising import RaisingHub
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.hub.worker import Backoff
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import Principal
from flowpersist.keys.keyring import KeyRing
from flowpersist.keys.suspension_key import SuspensionId, SuspensionKey
from flowpersist.lifecycle import Criteria, NewSuspension, Receipt, Resumption, Status, Suspension, Wait
from flowpersist.sealed.envelope import Sealer

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

#: The release, as the package's metadata names it.
__version__ = _version("flowpersist")
