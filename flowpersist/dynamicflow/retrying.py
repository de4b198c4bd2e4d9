"""Retrying a parked run: find it, rewind its state, and take it, all or nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import field, frozen
from returns.result import Failure, Success

from flowpersist.backends.base import check_text
from flowpersist.dynamicflow.apart import whole
from flowpersist.dynamicflow.facts import KIND
from flowpersist.dynamicflow.rewinding import Rewound, rewound
from flowpersist.dynamicflow.stored_runs import flow_of
from flowpersist.errors import FlowError, PersistenceError, SuspensionNotFound
from flowpersist.errors.arguments import check_instance, check_mapping, check_optional, check_str
from flowpersist.keys.suspension_key import SuspensionId
from flowpersist.lifecycle import Criteria, Peek, Resumption, Suspension

if TYPE_CHECKING:
    from flowpersist.hub.outcome import Outcome
    from flowpersist.hub.verbs import PersistenceHub
    from flowpersist.inputs.people import By

__all__ = ["Retry", "RunLike", "check_named_run", "found_run"]

#: How a run is named: by its ``run_id``, or its suspension's id or its text.
RunLike: TypeAlias = str | SuspensionId


def check_named_run(run: object) -> None:
    """Refuse what can't name a run."""
    check_instance(run, "run", (str, SuspensionId), "a run_id, or a SuspensionId")
    if isinstance(run, str):
        check_text(run, "run")


async def found_run(hub: PersistenceHub, run: RunLike, by: By | None = None) -> Outcome[SuspensionId]:
    """The id of the suspension of a run. One round trip where the run is named by a text."""
    if isinstance(run, SuspensionId):
        return Success(run)
    page = await hub.query(Criteria(run=run, metadata=KIND), limit=2, by=by)
    if isinstance(page, Failure):
        return page
    found = [item.id for item in page.unwrap().items]
    if not found:
        return Failure(SuspensionNotFound(f"no flow has the run id {run!r}: check the id, the store and the namespace"))
    if len(found) > 1:
        return Failure(FlowError(f"several runs have the id {run!r}: name one by its SuspensionId"))
    return Success(found[0])


@frozen
class Retry:
    """Where a parked run goes on, and what is replaced in it. Raises ``TypeError`` for what names nothing."""

    from_step: str | None
    edit: Mapping[str, object] | None = field(repr=False)
    by: By | None

    def __attrs_post_init__(self) -> None:
        check_optional(self.from_step, "from_step", check_str)
        check_optional(self.edit, "edit", check_mapping)
        for name in self.edit or {}:
            check_str(name, "a name in edit")

    async def take(
        self,
        hub: PersistenceHub,
        run: RunLike,
        lease: timedelta,
        refuse: Callable[[Suspension], Awaitable[PersistenceError | None]],
    ) -> Outcome[Resumption[Any]]:
        """Take the run with the state that it goes on from; a failure leaves it as it was."""
        found = await found_run(hub, run, self.by)
        if isinstance(found, Failure):
            return found
        looked = await hub.peek(found.unwrap(), by=self.by)
        if isinstance(looked, Failure):
            return looked
        seen = looked.unwrap()
        refusal = await refuse(seen.suspension)
        if refusal is not None:
            return Failure(refusal)
        made = await self._rewound(seen)
        if isinstance(made, Failure):
            return made
        rewound = made.unwrap()
        return await hub.retry(
            seen.suspension.id,
            rewound.state,
            sequence=seen.suspension.sequence,
            superseded=[wait.name for wait in seen.suspension.waits if rewound.drops(wait.name)],
            by=self.by,
            lease=lease,
        )

    async def _rewound(self, seen: Peek[Any]) -> Outcome[Rewound]:
        checked = await whole(seen.state)
        if isinstance(checked, Failure):
            return Failure(checked.failure())
        state = checked.unwrap()
        compiled = await flow_of(state)
        if isinstance(compiled, Failure):
            return Failure(compiled.failure())
        try:
            return Success(rewound(state, compiled.unwrap(), self.from_step, self.edit or {}))
        except FlowError as error:
            return Failure(error)
