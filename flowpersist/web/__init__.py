"""What a hub offers over HTTP: ASGI applications without a dependency, to be mounted or served by themselves.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.web.health import HealthApp

__all__ = ["HealthApp"]
