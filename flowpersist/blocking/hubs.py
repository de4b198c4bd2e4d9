"""The hub, its maintenance and the runner of flows for synchronous code. Each method is forwarded by one line.

A test compares the methods with those of the async classes, so that none is missing. Another async object is added by a
class like these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, Unpack

from flowpersist.backends.base import StorageBackend
from flowpersist.blocking.forwarding import Blocking, Owner, endless, entered, iterated, plain, settled, verb, worked
from flowpersist.blocking.portal import Portal
from flowpersist.dynamicflow import FlowRunner as AsyncFlowRunner
from flowpersist.dynamicflow import Join, Migration, Tool
from flowpersist.dynamicflow.document import Source
from flowpersist.dynamicflow.durability import DurabilityOption
from flowpersist.dynamicflow.engine import RetryPause
from flowpersist.dynamicflow.engine import backoff as default_backoff
from flowpersist.dynamicflow.parking import Failed
from flowpersist.errors.arguments import check_instance
from flowpersist.hub import HubOptions, PersistenceHub, RaisingHub
from flowpersist.hub import Maintenance as AsyncMaintenance
from flowpersist.hub.outcome import DEFAULT_LEASE
from flowpersist.inputs import AwaitInput

__all__ = ["FlowRunner", "Hub", "Maintenance", "open_hub"]


class Hub(Owner[RaisingHub]):
    """The verbs of ``RaisingHub``, each of which returns when it is done. ``open_hub`` opens one.

    Any number of threads may use it at once; an event loop in a thread of its own does the work. If Ctrl-C or a signal
    handler that raises interrupts a verb, the verb is cancelled and ends before the exception leaves it: it may have
    been done or not, and the hub stays usable.

    All verbs raise what those of ``RaisingHub`` raise. They raise ``RuntimeError`` in a running event loop, after
    ``close``, and in a process that was forked after the hub was opened. ``work`` returns when another thread closes
    the hub.
    """

    suspend = verb(RaisingHub.suspend)
    reserve = verb(RaisingHub.reserve)
    inspect = verb(RaisingHub.inspect)
    history = verb(RaisingHub.history)
    keys = verb(RaisingHub.keys)
    answer = verb(RaisingHub.answer)
    resume = verb(RaisingHub.resume)
    claim = verb(RaisingHub.claim)
    claim_due = verb(RaisingHub.claim_due)
    renew = verb(RaisingHub.renew)
    complete = verb(RaisingHub.complete)
    fail = verb(RaisingHub.fail)
    park = verb(RaisingHub.park)
    peek = verb(RaisingHub.peek)
    retry = verb(RaisingHub.retry)
    release = verb(RaisingHub.release)
    suspend_next = verb(RaisingHub.suspend_next)
    checkpoint = verb(RaisingHub.checkpoint)
    running = entered(RaisingHub.running)
    work = worked(RaisingHub.work)
    outcome = verb(RaisingHub.outcome)
    failure = verb(RaisingHub.failure)
    cancel = verb(RaisingHub.cancel)
    extend = verb(RaisingHub.extend)
    query = verb(RaisingHub.query)
    iterate = iterated(RaisingHub.iterate)
    use_keyring = plain(RaisingHub.use_keyring)
    remember = plain(RaisingHub.remember)

    def __init__(self, portal: Portal[RaisingHub]) -> None:
        super().__init__(portal, lambda: portal.value)

    def close(self) -> None:
        """Cancel what runs, and close the store. Twice: a no-op. The end of the interpreter closes a hub by itself.

        A handler may close the hub that it works on: ``close`` does not wait there, and ``work`` ends after it.
        """
        super().close()


class Maintenance(Blocking[AsyncMaintenance]):
    """``flowpersist.Maintenance`` of a blocking hub: values come back, and ``PersistenceError`` is raised."""

    def __init__(self, hub: Hub) -> None:
        portal, inner = parts(hub)
        super().__init__(portal, lambda: AsyncMaintenance(inner))

    tick = settled(AsyncMaintenance.tick)
    cleanup = settled(AsyncMaintenance.cleanup)
    append_log = settled(AsyncMaintenance.append_log)
    cleanup_stores = settled(AsyncMaintenance.cleanup_stores)
    health = settled(AsyncMaintenance.health)
    train_dictionary = settled(AsyncMaintenance.train_dictionary)
    check_upgrade = settled(AsyncMaintenance.check_upgrade)
    verify = settled(AsyncMaintenance.verify)
    accept_restored = settled(AsyncMaintenance.accept_restored)
    rekey = settled(AsyncMaintenance.rekey)
    key_use = settled(AsyncMaintenance.key_use)
    retire = settled(AsyncMaintenance.retire)
    shred = settled(AsyncMaintenance.shred)
    deliver = settled(AsyncMaintenance.deliver)
    strip_audit = settled(AsyncMaintenance.strip_audit)
    halt = settled(AsyncMaintenance.halt)
    lift = settled(AsyncMaintenance.lift)
    halts = settled(AsyncMaintenance.halts)
    halt_history = settled(AsyncMaintenance.halt_history)
    export = settled(AsyncMaintenance.export)
    import_ = settled(AsyncMaintenance.import_)
    copy = settled(AsyncMaintenance.copy)
    run_forever = endless(AsyncMaintenance.run_forever)


class FlowRunner(Blocking[AsyncFlowRunner]):
    """``FlowRunner`` of ``flowpersist.dynamicflow`` on a blocking hub: outcomes come back, and errors are raised."""

    def __init__(
        self,
        hub: Hub,
        tools: Iterable[Tool | AwaitInput[Any]] = (),
        joins: Iterable[Join] = (),
        migrations: Iterable[Migration] = (),
        *,
        lease: timedelta = DEFAULT_LEASE,
        backoff: RetryPause = default_backoff,
        failed: Failed = "end",
        executor: Executor | None = None,
        chooser: Tool | AwaitInput[Any] | str | None = None,
        durability: DurabilityOption = "pause",
        flows: Mapping[str, Source] | None = None,
        events: bool = False,
    ) -> None:
        portal, inner = parts(hub)
        options: dict[str, Any] = {
            "lease": lease,
            "backoff": backoff,
            "failed": failed,
            "executor": executor,
            "chooser": chooser,
            "durability": durability,
            "flows": flows,
            "events": events,
        }
        super().__init__(portal, lambda: AsyncFlowRunner(inner, tools, joins, migrations, **options))

    start = settled(AsyncFlowRunner.start)
    resume = settled(AsyncFlowRunner.resume)
    retry = settled(AsyncFlowRunner.retry)
    inspect = settled(AsyncFlowRunner.inspect)
    run_check = settled(AsyncFlowRunner.run_check)
    events = iterated(AsyncFlowRunner.events)
    stream = iterated(AsyncFlowRunner.stream)
    stream_resume = iterated(AsyncFlowRunner.stream_resume)
    work = endless(AsyncFlowRunner.work)


def open_hub(url: str | StorageBackend | None = None, **options: Unpack[HubOptions]) -> Hub:
    """Open a hub for synchronous code, for the length of a ``with`` block or until ``close``.

    Usage::

        with open_hub("sqlite:///flows.db") as hub:
            hub.suspend({"order": "A-7"})

    - ``url``: a URL such as ``sqlite:///flows.db``, or a backend; None: ``FLOWPERSIST_URL``.
    - ``options``: those of ``flowpersist.open_hub``. An ``authorizer``, ``on_event`` and a ``KeyProvider`` run on the
      hub's event loop, where they can't use the hub.

    Raises what ``flowpersist.open_hub`` raises, and ``RuntimeError`` in a running event loop.
    """
    portal = Portal(lambda: RaisingHub.open(url, **options))
    try:
        return Hub(portal)
    except BaseException:
        portal.close()
        raise


def parts(hub: Hub) -> tuple[Portal[RaisingHub], PersistenceHub]:
    """The portal and the async hub of a blocking one, for what is made of it."""
    check_instance(hub, "hub", Hub, "a Hub of flowpersist.blocking")
    return hub._portal, hub._wrapped.hub  # noqa: SLF001 - of this module
