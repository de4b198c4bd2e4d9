"""The forms of a question in other ecosystems, and of schemas within their strict subsets.

``AwaitInput`` has them as methods. What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.inputs.forms.answers import Reply, from_langchain
from flowpersist.inputs.forms.calls import ToolCall
from flowpersist.inputs.forms.limits import Narrowing
from flowpersist.inputs.forms.messages import CallBatch, CallFailure, read_calls
from flowpersist.inputs.forms.narrowing import Narrowed
from flowpersist.inputs.forms.slack import from_slack

__all__ = [
    "CallBatch",
    "CallFailure",
    "Narrowed",
    "Narrowing",
    "Reply",
    "ToolCall",
    "from_langchain",
    "from_slack",
    "read_calls",
]
