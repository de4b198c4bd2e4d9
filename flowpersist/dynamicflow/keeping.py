"""What a run keeps of a tool's result: the result itself, where the hub's codec takes its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from returns.result import Failure, Success

from flowpersist.dynamicflow.outcomes import Done, Failed
from flowpersist.dynamicflow.plain import WALK_ERRORS, WHOLE, Form
from flowpersist.errors import StateChanged
from flowpersist.sealed.encoding import encoded

if TYPE_CHECKING:
    from flowpersist.dynamicflow.context import Context
    from flowpersist.dynamicflow.ir import Node
    from flowpersist.dynamicflow.tools import Tool

__all__ = ["kept"]


async def kept(context: Context, node: Node, tool: Tool, value: object) -> Done | Failed:
    """Check a tool's result as plain data, and give what the run keeps of it.

    Objects of classes that the codec knows stay as they are, those of others become plain data. The step fails if the
    codec refuses what is kept: the run could never be stored.
    """
    try:
        shown = await context.walked(value, WHOLE)
        checked = tool.check_flat(shown.value)
        if isinstance(checked, Failure):
            return context.blamed(node, checked.failure(), tool.id)
        if shown.is_plain:
            return Done(value, tool.id)
        taken = (await context.walked(value, Form(keeps=context.codec.takes))).value
    except WALK_ERRORS as error:
        return context.blamed(node, tool.no_output(error), tool.id)
    stored = await encoded(context.codec, taken, Success)
    # What a task still changes may be settled when the run is stored.
    if isinstance(stored, Failure) and not isinstance(stored.failure(), StateChanged):
        reason = f"the output of {tool.id!r} can't be stored: {stored.failure()}"
        return context.failed(node, f"{reason}; return JSON data or registered classes", tool.id, stored.failure())
    return Done(taken, tool.id)
