"""The resource that the agents share, and its fencing check.

A lease can end while its holder believes that it has it: the process was stopped, or cut off from the store. So the
resource itself refuses a write under a lower fence than it has seen. A service of yours checks the same, wherever it
keeps its data.
"""

from __future__ import annotations

from typing import Any

from flowpersist.stores import Stores, ValueStore

__all__ = ["Repository", "StaleFence"]


class StaleFence(Exception):
    """A write came under a lease that another one has followed."""


class Repository:
    """Files by their names, on the stores of the project. Each has the fence under which it was last written."""

    def __init__(self, stores: Stores) -> None:
        self._files: ValueStore[dict[str, Any]] = stores.values("repository", dict)

    async def write(self, name: str, text: str, *, fence: int, by: str) -> None:
        """Write a file; ``StaleFence`` where a later lease has written it. Check and write are one step."""

        def change(file: dict[str, Any]) -> dict[str, Any]:
            if fence < file["fence"]:
                raise StaleFence(f"{name} was written under fence {file['fence']}, which is later than {fence}")
            return {"text": text, "fence": fence, "by": by}

        await self._files.update(name, change, default={"fence": 0})
