"""A suspension's states and the pure transitions between them.

``model`` holds the facts, ``changes`` what time does to them, ``verbs`` what callers do, ``views`` what callers see.
"""

from __future__ import annotations

from flowpersist.lifecycle.criteria import Criteria
from flowpersist.lifecycle.history import AnswerEntry, AuditEntry, WaitEntry
from flowpersist.lifecycle.model import Status, Until, WaitStatus
from flowpersist.lifecycle.receipts import Receipt
from flowpersist.lifecycle.traces import approval_trace
from flowpersist.lifecycle.views import Checkpoint, NewSuspension, Peek, Resumption, Suspension, Wait

__all__ = [
    "AnswerEntry",
    "AuditEntry",
    "Checkpoint",
    "Criteria",
    "NewSuspension",
    "Peek",
    "Receipt",
    "Resumption",
    "Status",
    "Suspension",
    "Until",
    "Wait",
    "WaitEntry",
    "WaitStatus",
    "approval_trace",
]
