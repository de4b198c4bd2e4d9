"""What guarded tools are inferred as. Read by type checkers, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from flowpersist import RaisingHub
from flowpersist.dynamicflow import Tool
from flowpersist.tools import ApprovalNeeded, Approvals, PolicyUse, Rejected, StandingApproval, approve


async def pay(to: str, amount: int = 5) -> bytes:
    """A tool."""
    return f"{to} {amount}".encode()


async def calls(hub: RaisingHub, key: str) -> None:
    """The function's parameters are checked, and its result is one of those that a call may give."""
    guarded = approve(
        pay, hub=hub, when={"required": ["to"]}, expires_in=timedelta(days=1), allow=("approve", "reject")
    )
    assert_type(await guarded("bo", 5), bytes | str | Rejected | ApprovalNeeded)
    await guarded("bo", "much")  # type: ignore[arg-type]
    told = await guarded.resume(key)
    match told:
        case ApprovalNeeded(stale=reason):
            assert_type(reason, str | None)
        case Rejected(comment=comment):
            assert_type(comment, str | None)
        case str():
            assert_type(told, str)
        case _:
            assert_type(told, bytes)
    assert_type(await guarded.call({"to": "bo"}), bytes | str | Rejected | ApprovalNeeded)


async def others(hub: RaisingHub, tool: Tool, native: object) -> None:
    """Of a tool that has no types, anything is given."""
    assert_type(await approve(tool, hub=hub)(to="bo"), Any | str | Rejected | ApprovalNeeded)
    assert_type(await approve(native, hub=hub)(1, 2), Any | str | Rejected | ApprovalNeeded)


async def grants(approvals: Approvals) -> None:
    """Standing approvals."""
    grant = await approvals.grant("pay", by="ann", arguments={}, uses=1)
    assert_type(grant, StandingApproval)
    assert_type(await approvals.list(), tuple[StandingApproval, ...])
    async for use in approvals.uses(grant.id):
        assert_type(use, PolicyUse)
