"""Ready questions: ``await_input`` makes them, and families of tools for agents are made of them.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.tools.factory import AwaitInputFactory, Options, await_input
from flowpersist.tools.families import customer, development, human_in_the_loop

__all__ = ["AwaitInputFactory", "Options", "await_input", "customer", "development", "human_in_the_loop"]
