"""Wrong arguments of every public function are refused where they enter, by their name, and before any effect.

The rows below say by a parameter's name what it must not be. A public parameter without a row fails the first test, so
that each new one gets its check. Both doors, backends and openers are among them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from returns.result import Success
from typing_extensions import is_typeddict

import flowpersist
import flowpersist.codec
import flowpersist.dynamicflow
import flowpersist.stages
import flowpersist.stores
import flowpersist.testing
from flowpersist import (
    AwaitInput,
    Backoff,
    Codec,
    ConfigurationError,
    Criteria,
    HubOptions,
    KeyRing,
    Limits,
    Maintenance,
    NewSuspension,
    RaisingHub,
    SuspensionId,
    TypeRegistry,
    open_hub,
    or_raise,
)
from flowpersist.backends.blob_files import FileBlobStore
from flowpersist.backends.claim_check import ClaimCheckBackend
from flowpersist.backends.filesystem import FilesystemBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.mongodb import MongodbBackend
from flowpersist.backends.neo4j import Neo4jBackend
from flowpersist.backends.postgres import PostgresBackend
from flowpersist.backends.redis import RedisBackend
from flowpersist.backends.registry import backend_from_url, schemes
from flowpersist.backends.sqlite import SqliteBackend
from flowpersist.dynamicflow import FlowRunner
from flowpersist.dynamicflow import compile as compile_flow
from flowpersist.hub.opening import migrate
from flowpersist.hub.verbs import PersistenceHub
from flowpersist.inputs.details import DETAILS
from flowpersist.sealed.retrying import Runtime
from flowpersist.stages import Checksum, Compress, Dictionaries, Dictionary, Encrypt
from flowpersist.stores import (
    Artifacts,
    ConversationManager,
    Features,
    IdentityRecord,
    Locks,
    MemoryStateStore,
    Observations,
    Session,
    Sessions,
    Signals,
    StateManager,
    StateRecord,
    Stores,
    UserRecord,
    ValueStore,
)
from flowpersist.stores.run_state import RunStates, SealedRunStateStore
from flowpersist.testing import open_test_hub
from flowpersist.testing.faults import FaultyBackend

NAN = float("nan")
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - naive is what is to be refused
EDGES = [
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
]
NO_TEXT = [7, b"x", True, NAN, ["a"]]
HUGE = 2**70
LONG = "ä" * 300


def plain(*args: object) -> None:
    raise AssertionError("an argument was called before it was checked")


async def handler(run: object) -> None:
    raise AssertionError("a run was handled")


RECORDS = ("ContextRecord", "IdentityRecord", "StateRecord", "UserRecord")
CALLERS = ("anthropic", "google", "langchain", "mcp", "openai", "pydantic_ai")
#: What parameters of one kind must not be; None is added where the parameter does not take it.
ANYTHING: list[object] = []
DURATION = [7, "1h", True, NAN, timedelta(0), timedelta(days=-1)]
PAUSE = [7, "1h", True, NAN, timedelta(days=-1)]
AWARE = ["tomorrow", 7, NAIVE, timedelta(1)]
MOMENT = [*AWARE, *EDGES]
COUNT = [0, -1, "5", 1.5, True, NAN, HUGE]
SIZE = [-1, "5", 1.5, True, NAN, HUGE]
FLAG = [1, "yes", 0.0]
STORED = [*NO_TEXT, "\0", "\ud800", LONG]
NAMED = [*STORED, ""]
NAMES = ["ann", 7, {"a": 1}, ["a", "a"], *([one] for one in NAMED)]
TEXT = [*NO_TEXT, "\ud800"]
STR = NO_TEXT
MAPPING = ["text", 7, ["a"], b"x"]
CALLABLE = ["name", 7]
BYTES = ["text", 7, 1.5]
CHOICE = ["some", 7, True, b"all"]
CLASS = ["dict", 7, dict[str, int], (int, str), int | None]
OBJECT = ["text", 7, {"a": 1}, object()]
NAMED = [7, b"x", Path("x"), object(), True]
METADATA = [
    "text",
    7,
    ["a"],
    {1: "x"},
    {"a": NAN},
    {"a": None},
    {"a": HUGE},
    {"a": [1]},
    {LONG: 1},
    {"\0": 1},
    {"a": LONG},
    {str(n): n for n in range(60)},
]
#: Attributes of values, of which one more than of metadata fit.
ATTRIBUTES = [*METADATA[:-1], {str(n): n for n in range(65)}]
KINDS: dict[str, list[object]] = {
    "agent_id": NO_TEXT,
    "cache": DURATION,
    "category": NO_TEXT,
    "entries": ["text", 7],
    "identity": OBJECT,
    "identity_id": NO_TEXT,
    "lines": [7, True],
    "profile": ANYTHING,
    "session": OBJECT,
    "session_id": NO_TEXT,
    "user": OBJECT,
    "user_id": NO_TEXT,
    "allowed": [7, ("accept",)],
    "api": CHOICE,
    "attributes": ATTRIBUTES,
    "context_id": NO_TEXT,
    "form": CHOICE,
    "interrupt_id": NO_TEXT,
    "message_id": NO_TEXT,
    "provider": CHOICE,
    "reference": [*NO_TEXT, ""],
    "task_id": NO_TEXT,
    "tool_call_id": NO_TEXT,
    "claims": OBJECT,
    "clear": FLAG,
    "escalation": [7, "lead", ("lead",), [1]],
    "on_expiry": CHOICE,
    "reminders": [7, timedelta(1), [1], ("1h",), [timedelta(0)], [timedelta(1)] * 2],
    "content": ANYTHING,
    "critical": FLAG,
    "days": COUNT,
    "end": MOMENT,
    "lock_type": CHOICE,
    "max_entries": COUNT,
    "media_type": NO_TEXT,
    "n": COUNT,
    "pieces": OBJECT,
    "set": MAPPING,
    "start": MOMENT,
    "unknown_fields": CHOICE,
    "wait": PAUSE,
    "change": CALLABLE,
    "descending": FLAG,
    "if_revision": SIZE,
    "listed": FLAG,
    "max_age": PAUSE,
    "older_than": PAUSE,
    "order": CHOICE,
    "revision": SIZE,
    "run_state": NO_TEXT,
    "single": OBJECT,
    "subject_id": NO_TEXT,
    "to": NAMED,
    "ttl": DURATION,
    "unreadable": CHOICE,
    "values": MAPPING,
    "where": ATTRIBUTES,
    "attribute": TEXT,
    "checkpoint_every": [*COUNT, timedelta(0), timedelta(-1)],
    "merge": CALLABLE,
    "retry": ["text", 7, [ValueError]],
    "save_on_error": FLAG,
    "schema_version": COUNT[:-1],
    "strict": FLAG,
    "validate": ["text", 7, handler, {"type": "nonsense"}],
    "aliases": ["name", 7, [1]],
    "allow_unsafe_ferretdb": FLAG,
    "acquire_timeout": [*DURATION, timedelta.max],
    "after": STR,
    "answer": ANYTHING,
    "answer_id": STORED,
    "attempt": COUNT,
    "attempts": COUNT,
    "authorizer": CALLABLE,
    "awaiting": ["text", 7, {}, {"a": 1}, {"a": None}, [1], {LONG: AwaitInput(id="a", prompt="")}],
    "backoff": OBJECT,
    "base": PAUSE,
    "blobs": [7, b"x", Path("blobs"), object()],
    "blobs_from": SIZE,
    "busy_timeout": [*PAUSE, timedelta.max],
    "by": STORED,
    "claim_id": STORED,
    "cap": PAUSE,
    "chance": OBJECT,
    "client_class": CALLABLE,
    "clock": CALLABLE,
    "clock_offset": [7, "1h", NAN],
    "cluster": FLAG,
    "codec": OBJECT,
    "command_timeout": [*DURATION, timedelta.max],
    "compression": ["zip", 7, b"zstd", True],
    "concurrency": COUNT,
    "connect_timeout": [*DURATION, timedelta.max],
    "context": ["text", 7],
    "create": FLAG,
    "created_after": MOMENT,
    "created_before": MOMENT,
    "criteria": OBJECT,
    "current": OBJECT,
    "data": BYTES,
    "database": NO_TEXT,
    "deadline": AWARE,
    "debug": FLAG,
    "decode": CALLABLE,
    "default": ANYTHING,
    "default_timeout": DURATION,
    "delay": PAUSE,
    "description": TEXT,
    "dictionaries": [7, "yes"],
    "dictionary": OBJECT,
    "directory": [7, b"x", object()],
    "discard": FLAG,
    "progress": FLAG,
    "document": [7, 1.5, Path("flow.json"), object()],
    "accept_plain": FLAG,
    "dry_run": FLAG,
    "on_progress": CALLABLE,
    "due_before": MOMENT,
    "encode": CALLABLE,
    "entropy": CALLABLE,
    "environ": MAPPING,
    "error": [7, {"a": 1}, ValueError],
    "durability": ["steps", 7, b"step", {"every": 0}, {"seconds": NAN}, object()],
    "events": FLAG,
    "executor": OBJECT,
    "expect": CLASS,
    "expired": [plain, "name", 7, dict, print],
    "first": PAUSE,
    "follow": FLAG,
    "flows": [*MAPPING, {"a": 7}, {"a": {"flow": []}}],
    "from_bytes": [-1, "5", True, NAN],
    "from_hash": TEXT,
    "from_tool": TEXT,
    "grace": PAUSE,
    "graph": MAPPING,
    "handler": [plain, "name", 7, dict, print],
    "hub": OBJECT,
    "idempotency_digest": [7, True, NAN, "\ud800"],
    "idempotency_key": TEXT,
    "inner": OBJECT,
    "input": ANYTHING,
    "input_schema": MAPPING,
    "instances": CALLABLE,
    "interval": DURATION,
    "asks": ["question", 7, [1]],
    "joins": ["join", 7, [1]],
    "key": NAMED,
    "keyring": OBJECT,
    "keys": MAPPING,
    "kid": [*NO_TEXT, "a b"],
    "known": MAPPING,
    "largest_body": COUNT[:-1],
    "ledger": [7, b"x", Path("ledger.db"), object()],
    "lease": DURATION,
    "limit": COUNT,
    "limits": OBJECT,
    "max_attempts": COUNT,
    "max_bytes": COUNT[:-1],
    "max_collisions": COUNT[:-1],
    "max_depth": COUNT[:-1],
    "max_nodes": COUNT[:-1],
    "max_objects": SIZE,
    "max_pattern": COUNT[:-1],
    "max_str": COUNT[:-1],
    "mapping": MAPPING,
    "metadata": METADATA,
    "migrations": ["one", 7, [1]],
    "monotonic": CALLABLE,
    "most": PAUSE,
    "name": TEXT,
    "namespace": [*STORED, "", "n" * 510],
    "notify": FLAG,
    "now": AWARE,
    "on_event": CALLABLE,
    "outcome": ANYTHING,
    "why": ANYTHING,
    "output_schema": MAPPING,
    "runtime": OBJECT,
    "parameters": [*MAPPING, {"type": "nonsense"}],
    "path": [7, object()],
    "patience": PAUSE,
    "plan": FLAG,
    "poll": DURATION,
    "pool_size": [*COUNT, 10_001],
    "pool_timeout": [*DURATION, timedelta.max],
    "prefix": ["", "a b", "A-b!", 7, b"x"],
    "prompt": NO_TEXT,
    "public_url": ["ftp://somewhere", "somewhere", 7],
    "purpose": TEXT,
    "reason": NO_TEXT,
    "meaning": CHOICE,
    "sinks": ["file.jsonl", 7, [7], [object()]],
    "via": OBJECT,
    "result": OBJECT,
    "retention": PAUSE,
    "audit_retention": PAUSE,
    "role": ["other", 7],
    "run": [*NO_TEXT, "\0", LONG],
    "run_id": STORED,
    "samples": COUNT,
    "schema": [7, "text", object(), {"type": "nonsense"}],
    "secret": ["x" * 32, b"x", 7],
    "settings": OBJECT,
    "shards": [0, -1, "5", True, HUGE],
    "action": OBJECT,
    "approve_on_expiry": FLAG,
    "answerable_by": [[], "person", ["robot"], 7, ["person", "person"]],
    "assignees": NAMES,
    "groups": NAMES,
    "quorum": [0, -1, True, "2", 1.5, {}, {"votes": 0}, [2]],
    "authenticated_at": MOMENT,
    "issuer": NAMED,
    "method": NAMED,
    "on_behalf_of": NAMED,
    "roles": NAMES,
    "subject": NAMED,
    "shown_digest": STR,
    "shown": [*MAPPING, {"a": object()}],
    "sleep": CALLABLE,
    "slow": PAUSE,
    "size": [0, -1, 1, HUGE, "5", True],
    "source": [7, object(), ["a"]],
    "stages": [7, object()],
    "state": ANYTHING,
    "statement_cache": FLAG,
    "status": ["sleeping", 7],
    "store": NO_TEXT,
    "suite": [7, "x", True, HUGE],
    "superseded": ["name", 7, [1]],
    "sequence": COUNT,
    "edit": [*MAPPING, {7: 1}],
    "failed": CHOICE,
    "from_step": STR,
    "unread": ["name", 7, [1]],
    "synchronous": ["some", 7],
    "tenant": STORED,
    "text": NO_TEXT,
    "timeout": DURATION,
    "title": NO_TEXT,
    "to_hash": TEXT,
    "to_tool": TEXT,
    "tool": STORED,
    "tools": ["tool", 7, [1], [plain]],
    "transform": CALLABLE,
    "types": ["text", 7, [1], ["dict"]],
    "until": CHOICE,
    "upgrades": [*MAPPING, {"1": plain}, {0: plain}, {1: "name"}],
    "url": [7, b"x", Path("flows.db"), object()],
    "value": ANYTHING,
    "verify": FLAG,
    "audit": FLAG,
    "checks": [*MAPPING, {"a": 7}, {7: str}],
    "version": COUNT[:-1],
    "cls": [7, "name", object()],
    "classes": [7, "name", object()],
    "roots": [7, "name", object()],
    "a": ANYTHING,
    "b": ANYTHING,
    "id": TEXT,
}
#: Where a name means something else than elsewhere, or has been checked by its function's own meaning.
OWN: dict[str, list[object]] = {
    "Principal.kind": ["robot", 7],
    "Principal.name": NAMED,
    **{f"{store}.values": OBJECT for store in ("Artifacts", "Features", "Locks", "Observations", "Signals")},
    "Sessions.values": OBJECT,
    **{f"{one}.{name}": ANYTHING for one in RECORDS for name in ("created_at", "updated_at", "version")},  # given back
    "StateRecord.state": NO_TEXT,
    "StateRecord.data": ANYTHING,
    "IdentityRecord.data": ANYTHING,
    "IdentityRecord.name": NO_TEXT,
    "create_database.type": ["oracle", 7, "", b"sqlite"],
    "create_database.connection_string": [7, b"x", "redis://h/0"],
    "Sessions.save_state.state": OBJECT,
    "Sessions.save_context.context": OBJECT,
    "Artifacts.write.data": ["text", 7, 1.5],
    "Locks.renew.lease": OBJECT,
    "Locks.release.lease": OBJECT,
    **{f"Locks.{verb}.{name}": [*NO_TEXT, "", "\0"] for verb in ("acquire", "held") for name in ("path", "agent_id")},
    "Locks.holders.path": [*NO_TEXT, "", "\0"],
    **{f"Signals.{verb}.key": [*NO_TEXT, "", "\0"] for verb in ("set", "get", "clear", "wait_for")},
    "Signals.apply.clear": ["text", 7],
    **{f"Artifacts.{verb}.name": NO_TEXT for verb in ("delete", "open", "write")},
    **{f"AwaitInput.from_{one}.name": NO_TEXT for one in CALLERS},
    **{f"AwaitInput.from_{one}.call": ANYTHING for one in CALLERS},  # what a model sends: an error of its own
    **{f"AwaitInput.to_{one}.name": NO_TEXT for one in ("anthropic", "google", "mcp", "openai")},
    "AwaitInput.from_agui.entry": ANYTHING,
    "AwaitInput.from_form.data": MAPPING,
    "AwaitInput.from_mcp_elicitation.result": ANYTHING,
    "AwaitInput.to_a2a.at": AWARE,
    "AwaitInput.to_mcp_elicitation.url": NO_TEXT,
    "AwaitInput.to_slack.url": NO_TEXT,
    "AwaitInput.to_strands.name": NO_TEXT,
    "AwaitInput.from_strands.content": ANYTHING,
    "AwaitInput.from_adk.response": ANYTHING,
    **{f"AwaitInput.to_{one}.strict": ["always", 7, 1.5] for one in ("anthropic", "openai")},
    "Signals.wait_for.timeout": PAUSE,
    "Stores.project.name": [*NO_TEXT, ""],
    "Stores.delete_project.name": [*NO_TEXT, ""],
    "ConversationManager.store": [7, "redis", object()],
    "ConversationManager.turn.handler": CALLABLE,
    "SealedRunStateStore.source": [7, b"x", object()],
    "ValueStore.delete_many.prefix": NAMED,
    "ValueStore.items.prefix": NAMED,
    "ValueStore.iterate.prefix": NAMED,
    "ValueStore.keys.prefix": NAMED,
    "ValueStore.load_many.keys": ["text", 7, b"x"],
    "AwaitInput.deadline": MOMENT,
    "AwaitInput.fill.arguments": ANYTHING,  # what a calling model sends: an error of its own
    "AwaitInput.from_data.data": ANYTHING,  # what was stored: MalformedPayload
    "AwaitInput.checks": ["iban", 7, [7], [""], ["a", "a"], ["\0"]],
    "AwaitInput.metadata": ["text", 7, {7: 1}, {"a": []}, {"a": "\ud800"}, {str(number): 1 for number in range(33)}],
    "AwaitInput.priority": [-1, 101, "5", 1.5, True],
    "AwaitInput.redact": ["/a", 7, [7], ["a"], ["/missing"]],
    "AwaitInput.risk": CHOICE,
    "AwaitInput.ui": [*MAPPING, {"/missing": {}}, {"": 7}, {"": {"colour": "red"}}, {"": {"widget": []}}],
    "AwaitInput.id": [*STORED, ""],
    "AwaitInput.to_data.types": OBJECT,
    "Backoff.first": PAUSE,
    "ClaimCheckBackend.blobs": OBJECT,
    "ClaimCheckBackend.grace": DURATION,
    "Codec.takes.cls": CLASS,
    "draw.flow": OBJECT,
    "dry_run.chooser": OBJECT,
    "dry_run.longest": DURATION,
    "dry_run.recording": MAPPING,
    "draw.format": CHOICE,
    "draw.progress": MAPPING,
    "FlowRunner.backoff": CALLABLE,
    "FlowRunner.retry.run": [*NO_TEXT, "\0", LONG],
    "FlowRunner.chooser": OBJECT,
    "check.chooser": OBJECT,
    "FlowRunner.inspect.run": [*NO_TEXT, "\0", LONG],
    "FlowRunner.events.run": [*NO_TEXT, "\0", LONG],
    "FlowRunner.events.after": SIZE,
    "FlowRunner.resume.by": STORED,
    "KeyRing.add.key": ["x" * 32, b"x", 7],
    "KeyRing.from_file.path": [7, object()],
    "KeyRing.subkey.kid": STR,
    "Maintenance.hub": OBJECT,
    "Maintenance.lift.halt": NO_TEXT,
    "Maintenance.deliver.sink": OBJECT,
    "Maintenance.strip_audit.suspension": OBJECT,
    "Maintenance.check_upgrade.runner": OBJECT,
    "Maintenance.check_upgrade.most": COUNT,
    "Maintenance.check_upgrade.documents": [7, True, "text"],
    "Maintenance.verify.read_data": FLAG,
    "Maintenance.verify.repair": FLAG,
    "Maintenance.verify.most": SIZE,
    "Maintenance.verify.tell": CALLABLE,
    "Maintenance.accept_restored.suspension": OBJECT,
    "Maintenance.export.suspension": OBJECT,
    "Maintenance.import_.replace": FLAG,
    "Maintenance.retire.kid": STR,
    "Maintenance.retire.wait": PAUSE,
    "MemoryBackend.store": NO_TEXT,
    "MongodbBackend.database": [*NO_TEXT, "a b", ""],
    "PersistenceHub.checkpoint.run": OBJECT,
    "PersistenceHub.complete.run": OBJECT,
    **{f"PersistenceHub.{verb}.id": [*NO_TEXT, "a", object()] for verb in ("keys", "peek", "retry")},
    "PersistenceHub.fail.run": OBJECT,
    "PersistenceHub.release.run": OBJECT,
    "PersistenceHub.remember.awaiting": OBJECT,
    "PersistenceHub.renew.run": OBJECT,
    "PersistenceHub.suspend_next.run": OBJECT,
    "RaisingHub.hub": OBJECT,
    "RaisingHub.checkpoint.run": OBJECT,
    "RaisingHub.complete.run": OBJECT,
    **{f"RaisingHub.{verb}.id": [*NO_TEXT, "a", object()] for verb in ("keys", "peek", "retry")},
    "RaisingHub.fail.run": OBJECT,
    "RaisingHub.release.run": OBJECT,
    "RaisingHub.remember.awaiting": OBJECT,
    "RaisingHub.renew.run": OBJECT,
    "RaisingHub.suspend_next.run": OBJECT,
    "SqliteBackend.path": [7, b"x", object()],
    "StateManager.by": NO_TEXT,
    "StateManager.cls": [7, "name", object(), int | None],
    "StateManager.default": CALLABLE,
    "StateManager.edit.current": CALLABLE,
    "StateManager.store": [7, b"x", {}, object()],
    "persistent.store": [7, b"x", {}, object()],
    "StoreConfig.connection_string": [7, b"x", "redis://h/0", object()],
    "StoreConfig.from_env.prefix": STR,
    "StoreConfig.type": ["oracle", "", 7, b"sqlite"],
    "SuspensionId.derive.idempotency_key": STR,
    "SuspensionId.derive.namespace": STR,
    "SuspensionId.derive.tenant": STR,
    "SuspensionId.parse.text": ANYTHING,  # KeyValidationError, as for any text that is no id
    "SuspensionId.value": ["x" * 16, b"x", 7],
    "SuspensionKey.id": OBJECT,
    "SuspensionKey.parse.text": ANYTHING,  # KeyValidationError, as for any text that is no key
    "TypeRegistry.by_class.cls": ANYTHING,
    "TypeRegistry.by_name.name": ANYTHING,
    "TypeRegistry.name_of.cls": ANYTHING,
    "TypeRegistry.named.name": ANYTHING,
    "TypeRegistry.withholds.cls": ANYTHING,
    "Codec.encrypted": FLAG,
    "TypeRegistry.package.attributes": ["name", 7, [7]],
    **{f"TypeRegistry.{one}.fields": CHOICE for one in ("package", "register", "subclasses", "tree")},
    "TypeRegistry.package.base": CLASS,
    "TypeRegistry.subclasses.attributes": ["name", 7, [7]],
    "TypeRegistry.tree.attributes": ["name", 7, [7]],
    "TypeRegistry.subclasses.base": CLASS,
    "TypeRegistry.reference.one": [7, "name", object()],
    "check_types.strict": FLAG,
    "check_types.state": [7, "name", object()],
    "check_types.types": [7, "name", object(), ()],
    "Dictionary.data": ["text", 7],
    "Dictionary.train.id": [0, 1, HUGE, "5", True],
    "Dictionary.train.samples": ["text", 7, [1], b"x"],
    "Sealer.dictionaries": OBJECT,
    "Compress.dictionaries": OBJECT,
    "decompress.dictionaries": MAPPING,
    "decompress.limit": SIZE,
    "Compress.limit": SIZE,
    "Sealer.open_bytes.limit": SIZE,
    "Sealer.opened_bytes.limit": SIZE,
    "generate_key.id": OBJECT,
    "hold.run": OBJECT,
    "Runtime.now": CALLABLE,
    "travel.by": PAUSE,
    "tool.id": TEXT,
    # Memory has no transactions: test_within.py has what is no connection of a driver.
    "PersistenceHub.within.connection": ANYTHING,
    "RaisingHub.within.connection": ANYTHING,
}
#: Given to callers, and not made by them.
GIVEN = {
    *("Event", "FlowEvent", "NewSuspension", "Page", "PersistenceHub", "Receipt", "Resumption", "Suspension", "Wait"),
    *(
        "Artifact",
        "Change",
        "Session",
        "SessionDatabase",
        "FeatureVersion",
        "Lease",
        "Loaded",
        "Observation",
        "Saved",
        "Signal",
        "StateInfo",
    ),
    *(
        "Accepted",
        "Completed",
        "Edge",
        "Flow",
        "Node",
        "Suspended",
        "DryCall",
        "DryQuestion",
        "DryRun",
        "RunInspection",
        "StepInspection",
        "StoredEvent",
        "Tool",
        "ToolContext",
        "Cancellation",
    ),
}
#: For those who work on the codec and on stages themselves.
INNER = {
    *(
        "TypeRegistry.remember",
        "TypeRegistry.remembered",
        "TypeRegistry.remember_class",
        "TypeRegistry.remembered_class",
    ),
    *("Codec.encode_brief", "Sealer.stages", "Sealer.for_tenant"),
    *("Dictionary.decompressor", "KeyProvider.keyring", "Session.found"),
}
BACKENDS = [
    MemoryBackend,
    FilesystemBackend,
    SqliteBackend,
    PostgresBackend,
    RedisBackend,
    MongodbBackend,
    Neo4jBackend,
]
FURTHER = [
    ClaimCheckBackend,
    FileBlobStore,
    Runtime,
    migrate,
    backend_from_url,
    PersistenceHub,
    RunStates,
    SealedRunStateStore,
]
MODULES = [
    flowpersist,
    flowpersist.dynamicflow,
    flowpersist.stages,
    flowpersist.codec,
    flowpersist.stores,
    flowpersist.testing,
]


@frozen
class Subject:
    """A public function, constructor or method; ``owner`` is the class whose instance it is called on."""

    name: str
    function: Callable[..., Any]
    owner: type | None = None

    def parameters(self) -> dict[str, inspect.Parameter]:
        found = dict(inspect.signature(self.function).parameters)
        if self.owner is not None:
            found.pop("self", None)
        if "options" in found:
            found.pop("options")
            hints = inspect.signature(open_hub).parameters
            found.update({name: hints[name] for name in HubOptions.__annotations__})
        if "details" in found:
            found.pop("details")
            hints = inspect.signature(AwaitInput.__attrs_init__).parameters
            found.update({name: hints[name] for name in DETAILS})
        return found

    def wrong(self, name: str, parameter: inspect.Parameter) -> list[object]:
        values = OWN.get(f"{self.name}.{name}", KINDS.get(name))
        assert values is not None, f"{self.name}({name}=…) has no row: say what it must not be, and check it"
        optional = "None" in str(parameter.annotation) or values is ANYTHING
        return values if optional or parameter.default is None else [*values, None]


def exported(module: Any) -> list[tuple[str, Any]]:
    names = getattr(module, "__all__", None) or [name for name in vars(module) if name[0] != "_"]
    return [(name, getattr(module, name)) for name in names]


def subjects() -> list[Subject]:
    found: dict[str, Subject] = {}
    named = [*chain.from_iterable(map(exported, MODULES)), *((one.__name__, one) for one in (*BACKENDS, *FURTHER))]
    for name, one in named:
        if inspect.isclass(one):
            found.update((each.name, each) for each in of_class(name, one))
        elif inspect.isfunction(one):
            found[name] = Subject(name, one)
    return [one for one in found.values() if one.name not in INNER and one.parameters()]


def of_class(name: str, cls: type) -> list[Subject]:
    if issubclass(cls, BaseException) or getattr(cls, "_is_protocol", False) or hasattr(cls, "__members__"):
        return []
    if is_typeddict(cls):
        return []
    made = [] if name in GIVEN or cls is PersistenceHub else [Subject(name, cls)]
    if cls in BACKENDS or cls in {ClaimCheckBackend, FileBlobStore} or (name in GIVEN and cls is not PersistenceHub):
        # The operations of backends are called by the hub alone, with values that check themselves.
        return made
    for method, raw in chain.from_iterable(vars(one).items() for one in parts_of(cls)):
        static = isinstance(raw, classmethod | staticmethod)
        function = getattr(cls, method) if static else raw
        if (method[0] != "_" and inspect.isfunction(inspect.unwrap(function))) or inspect.ismethod(function):
            made.append(Subject(f"{name}.{method}", function, None if static else cls))
    return [one for one in made if not one.name.rsplit(".", 1)[-1].startswith("_")]


def parts_of(cls: type) -> list[type]:
    """The classes whose methods are the subject: those of a hub and of a question stand in several."""
    return (
        [one for one in cls.__mro__ if one is not object]
        if cls in {PersistenceHub, RaisingHub, AwaitInput, Maintenance}
        else [cls]
    )


SUBJECTS = subjects()


@frozen
class Ground:
    """What the subjects are called on and with."""

    backend: FaultyBackend
    hub: PersistenceHub
    good: dict[str, object]
    own: dict[str, object]

    def instance(self, owner: type) -> object:
        made = {
            PersistenceHub: lambda: self.hub,
            RaisingHub: lambda: RaisingHub(self.hub),
            Maintenance: lambda: Maintenance(self.hub),
            FlowRunner: lambda: FlowRunner(self.hub),
            AwaitInput: lambda: AwaitInput(id="a", prompt="", schema=bool),
            KeyRing: lambda: KeyRing.generate("k"),
            Stores: lambda: Stores(self.hub),
            ValueStore: lambda: Stores(self.hub).values("n"),
            RunStates: lambda: Stores(self.hub).run_state,
            Artifacts: lambda: Stores(self.hub).artifacts,
            Features: lambda: Stores(self.hub).features,
            Locks: lambda: Stores(self.hub).locks,
            Observations: lambda: Stores(self.hub).observations,
            Signals: lambda: Stores(self.hub).signals,
            Sessions: lambda: Stores(self.hub).sessions,
            StateManager: lambda: Stores(self.hub).state("a"),
            SealedRunStateStore: lambda: MemoryStateStore(keyring=None),
            ConversationManager: lambda: ConversationManager(Stores(self.hub).run_state),
            Compress: Compress,
            Checksum: Checksum,
            Encrypt: lambda: Encrypt(None, b""),
        }
        return made.get(owner, owner)()

    def required(self, subject: Subject, wrong: str) -> dict[str, object]:
        return {
            name: self.own.get(f"{subject.name}.{name}", self.good.get(name))
            for name, parameter in subject.parameters().items()
            if name != wrong
            and parameter.kind is not parameter.VAR_POSITIONAL
            and (parameter.default is parameter.empty or f"{subject.name}.{name}" in self.own)
        }

    async def call(self, subject: Subject, wrong: str, value: object) -> object:
        several = subject.parameters()[wrong].kind is inspect.Parameter.VAR_POSITIONAL
        given = {**self.required(subject, wrong), **({} if several else {wrong: value})}
        function = subject.function
        if subject.owner is not None:
            function = function.__get__(self.instance(subject.owner))
        result = function(*([value] if several else []), **given)
        if inspect.isawaitable(result):
            return await asyncio.wait_for(result, 5)
        if hasattr(result, "__aenter__"):
            async with result as entered:
                return entered
        return await anext(result) if hasattr(result, "__anext__") else result


@cache
def dictionary() -> Dictionary:
    return Dictionary.train([f"sample {n} of a state that repeats itself".encode() * 3 for n in range(200)], id=2**15)


@pytest.fixture
async def ground():
    async with AsyncExitStack() as stack:
        backend = FaultyBackend(MemoryBackend())
        hub = await stack.enter_async_context(open_test_hub(backend))
        new = or_raise(await hub.suspend({"a": 1}))
        run = or_raise(await hub.claim(new.id))
        good: dict[str, object] = {
            "a": 1,
            "agent_id": "a",
            "identity": IdentityRecord("u", "i", "n"),
            "identity_id": "i",
            "lines": [],
            "session": Session(StateRecord("u", "s", "open")),
            "session_id": "s",
            "user": UserRecord("u"),
            "user_id": "u",
            "call": {},
            "context_id": "c",
            "entry": {},
            "interrupt_id": "i",
            "message_id": "m",
            "provider": "openai",
            "reference": "r",
            "task_id": "t",
            "tool_call_id": "c",
            "content": 1,
            "set": {},
            "start": datetime(2026, 1, 1, tzinfo=UTC),
            "end": datetime(2026, 1, 2, tzinfo=UTC),
            "arguments": {},
            "b": 1,
            "blobs": FileBlobStore("nowhere"),
            "codec": Codec(),
            "context": b"",
            "criteria": Criteria(),
            "data": b"data",
            "directory": "nowhere",
            "flow": or_raise(compile_flow({"flow": [{"tool": "t"}]})),
            "document": {"flow": [{"tool": "t"}]},
            "handler": handler,
            "hub": hub,
            "inner": MemoryBackend(),
            "key": new.id,
            "keyring": None,
            "namespace": "n",
            "now": datetime.now(UTC),
            "path": "nowhere.db",
            "prompt": "",
            "purpose": "state",
            "run": run,
            "stages": (),
            "state": 1,
            "url": "memory://",
            "value": 1,
            "id": "a",
            "answer": 1,
            "kid": "k",
            "by": timedelta(0),
            "from_hash": "a",
            "to_hash": "b",
            "from_tool": "a",
            "to_tool": "b",
            "transform": plain,
            "role": "control",
            "attempt": 1,
            "tenant": None,
            "idempotency_key": "i",
            "text": "t",
            "dictionary": dictionary(),
            "samples": [b"x"],
            "dictionaries": Dictionaries(),
            "result": None,
            "cls": object,
            "name": "n",
            "source": "redis://localhost",
            "change": plain,
            "environ": {},
            "keys": (),
            "mapping": {},
            "prefix": (),
            "revision": 1,
            "run_state": "x",
            "subject_id": "ana",
            "to": "b",
            "values": {},
        }
        own: dict[str, object] = {
            "Principal.subject": "ann",
            "Maintenance.halt.reason": "r",
            "Maintenance.lift.halt": "h",
            "TypeRegistry.package.base": AwaitInput,
            "TypeRegistry.reference.one": plain,
            "TypeRegistry.subclasses.base": AwaitInput,
            "check_types.state": int,
            "check_types.types": TypeRegistry(),
            "TypeRegistry.package.name": "flowpersist.inputs",
            "ConversationManager.store": MemoryStateStore(keyring=None),
            "KeyRing.add.key": bytes(32),
            "KeyRing.keys": {},
            "PostgresStateStore.source": "postgresql://localhost/x",
            "RunStates.values": Stores(hub).values("n", str),
            **{f"{one}.values": Stores(hub).values("n") for one in ("Artifacts", "Features", "Observations")},
            **{f"{one}.values": Stores(hub).values("m", tuple) for one in ("Locks", "Signals")},
            "Sessions.values": Stores(hub).values("d", dict),
            "create_database.type": "memory",
            "StateRecord.state": "open",
            "Artifacts.pieces": Stores(hub).values("n"),
            "Artifacts.claims": Stores(hub).values("n"),
            **{f"Locks.{verb}.lease": await Stores(hub).locks.acquire("p", "a") for verb in ("renew", "release")},
            **{f"Locks.{verb}.path": "p" for verb in ("acquire", "held", "holders")},
            **{f"Signals.{verb}.key": "k" for verb in ("set", "get", "clear", "wait_for")},
            "Signals.wait_for.timeout": timedelta(0),
            "SealedRunStateStore.source": "memory://",
            "ValueStore.single": Stores(hub).values("n").single,
            **{f"ValueStore.{verb}.key": "a" for verb in ("copy", "delete", "load", "save", "update", "watch")},
            "open_stores.url": "memory://",
            "persistent.key": "a",
            "persistent.store": "memory://",
            "StateManager.key": "a",
            "StateManager.store": "memory://",
            "Stores.state.key": "a",
            "StoreConfig.from_env.prefix": "NAME",
            "SuspensionKey.id": SuspensionId(bytes(16)),
            "SuspensionKey.secret": bytes(32),
            "Neo4jBackend.source": "bolt://localhost",
            "PostgresBackend.source": "postgresql://localhost/x",
            "MongodbBackend.source": "mongodb://localhost",
            "Dictionary.train.id": 2**15,
            "AwaitInput.from_data.data": {},
            "PersistenceHub.extend.timeout": timedelta(1),
            **{f"PersistenceHub.{verb}.id": new.id for verb in ("keys", "peek", "retry")},
            "FlowRunner.retry.run": "a run",
            "FlowRunner.inspect.run": "a run",
            "FlowRunner.events.run": "a run",
            **{f"RaisingHub.{verb}.id": new.id for verb in ("keys", "peek", "retry")},
            "RaisingHub.extend.timeout": timedelta(1),
            "RaisingHub.open.url": "memory://",
            "migrate.url": "memory://",
            "open_hub.url": "memory://",
        }
        ground = Ground(backend, hub, good, own)
        yield ground


def test_every_public_parameter_has_a_row():
    names = {one.name for one in SUBJECTS}
    for name in ("PersistenceHub.suspend", "RaisingHub.work", "open_hub", "RaisingHub.open", "FlowRunner.start"):
        assert name in names
    assert len(names) > 100
    for subject in SUBJECTS:
        for name, parameter in subject.parameters().items():
            subject.wrong(name, parameter)


def test_every_row_is_of_a_parameter():
    there = {name for subject in SUBJECTS for name in subject.parameters()}
    own = {f"{subject.name}.{name}" for subject in SUBJECTS for name in subject.parameters()}
    assert KINDS.keys() - there == set()
    assert OWN.keys() - own == set()


def test_both_openers_take_the_same():
    assert list(inspect.signature(open_hub).parameters)[1:] == list(HubOptions.__annotations__)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
async def test_a_wrong_argument_is_refused_by_its_name_before_any_effect(subject, ground):
    before = ground.backend.calls["put"], ground.backend.calls["delete"]
    unlike = []
    for name, parameter in subject.parameters().items():
        for value in subject.wrong(name, parameter):
            try:
                got = await ground.call(subject, name, value)
            except (TypeError, ValueError, ConfigurationError) as error:
                if name not in str(error):
                    unlike.append(f"{name}={value!r:.60}: {type(error).__name__}: {error!s:.200}")
            except BaseException as error:  # noqa: BLE001
                unlike.append(f"{name}={value!r:.60}: raised {type(error).__name__}: {error!s:.200}")
            else:
                unlike.append(f"{name}={value!r:.60}: gave {got!r:.100}")
    assert unlike == []
    assert (ground.backend.calls["put"], ground.backend.calls["delete"]) == before


async def answered(hub: PersistenceHub) -> NewSuspension:
    new = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="a", prompt="")))
    or_raise(await hub.answer(new.key, 1))
    return new


async def test_no_put_is_sent_for_a_plain_function_and_its_effects_are_none(ground):
    for door in (ground.hub, RaisingHub(ground.hub)):
        await answered(ground.hub)
        effects: list[object] = []

        def plainly(run, effects=effects):
            effects.append(run)

        with pytest.raises(TypeError, match="handler: expected an async function"):
            await asyncio.wait_for(door.work(plainly), 5)
        assert effects == []


async def test_what_turns_out_to_give_no_awaitable_ends_the_worker_after_its_first_call(ground):
    new = await answered(ground.hub)
    calls: list[object] = []
    with pytest.raises(TypeError, match="handler: expected an async function"):
        await asyncio.wait_for(ground.hub.work(lambda run: calls.append(run.state), concurrency=1), 5)
    assert len(calls) == 1
    assert or_raise(await ground.hub.inspect(new.id)).status == "answered"


@pytest.mark.parametrize("port", ["99999", "0", "-1", "abc", "65536"])
@pytest.mark.parametrize(
    "scheme", [scheme for scheme in schemes() if scheme not in {"memory", "file", "sqlite", "toy"}]
)
async def test_a_port_out_of_range_is_refused_before_the_driver_sees_it(scheme, port):
    urls = [f"{scheme}://host:{port}/0", f"{scheme}://a:1,host:{port}/0"]
    for url in urls + ([f"{scheme}:///db?port={port}"] if scheme.startswith("postgres") else []):
        for opening in (open_hub(url, keyring=None), RaisingHub.open(url, keyring=None)):
            with pytest.raises(ConfigurationError, match="URL"):
                async with opening:
                    pass


@pytest.mark.parametrize("moment", EDGES)
async def test_a_deadline_beyond_the_calendar_is_the_last_or_first_moment(moment, ground):
    new = or_raise(await ground.hub.suspend(1, awaiting=AwaitInput(id="a", prompt=""), deadline=moment))
    assert isinstance(await ground.hub.inspect(new.id), Success)


async def test_the_longest_times_are_taken(ground):
    longest = timedelta(days=999_999_999)
    async with open_test_hub(
        ground.backend, retention=longest, default_timeout=longest, runtime=Runtime(cap=longest)
    ) as hub:
        new = or_raise(await hub.suspend(1))
        run = or_raise(await hub.claim(new.id, lease=longest))
        or_raise(await hub.release(run, delay=longest))
    backoff = Backoff(longest, longest)
    assert (backoff.delay(1), backoff.delay(99)) == (longest, longest)
    assert Runtime(base=longest, cap=timedelta(0)).jitter(99) == 0


async def test_a_head_opens_whatever_the_limits_of_states_are():
    async with open_test_hub(limits=Limits(max_bytes=40)) as hub:
        new = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="a", prompt="p" * 1000)))
        assert or_raise(await hub.inspect(new.key)).status == "waiting"
        assert or_raise(await hub.resume(new.key, "yes")).answer == "yes"
