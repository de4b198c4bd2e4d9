"""Ready questions: ``await_input`` makes them, and families of tools for agents are made of them.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.inputs.people import Quorum
from flowpersist.inputs.tool_context import ToolContext
from flowpersist.tools.approved import ApprovalNeeded, Rejected
from flowpersist.tools.approving import ApprovalOptions, Guarded, approve
from flowpersist.tools.calls import Call
from flowpersist.tools.factory import AwaitInputFactory, Options, await_input
from flowpersist.tools.families import customer, development, human_in_the_loop
from flowpersist.tools.standing import Approvals
from flowpersist.tools.standing_rules import PolicyUse, StandingApproval

__all__ = [
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
]
