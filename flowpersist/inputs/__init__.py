"""What is awaited: questions, the schemas of their answers, and the checks of an answer.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.inputs.action import Action
from flowpersist.inputs.await_input import AwaitInput
from flowpersist.inputs.people import Via
from flowpersist.inputs.schedule import Escalation

__all__ = ["Action", "AwaitInput", "Escalation", "Via"]
