"""A backend that ends the process, or lets somebody else go first, before a chosen call."""

from __future__ import annotations

from flowpersist.backends.kit import DelegatingBackend

WRITES = frozenset({"put", "delete", "purge", "put_many"})


class Killed(BaseException):
    """Ends a process: no handler runs."""


class Interrupted(DelegatingBackend):
    """Lets ``between`` go first, or ends the process, before the call of that number; ``of`` are those counted."""

    forwarded = frozenset()
    left = 0
    between = None
    of = WRITES

    async def around(self, operation, call):
        if operation in self.of and self.left:
            self.left -= 1
            if not self.left and self.between is None:
                raise Killed
            if not self.left:
                await self.between()
        return await super().around(operation, call)
