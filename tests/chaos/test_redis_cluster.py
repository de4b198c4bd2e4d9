"""A Redis cluster of two nodes of the tests' own, whose slots move."""

import asyncio
import os
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from redis import Redis

from flowpersist.backends._redis.layout import Layout
from flowpersist.backends.base import NamespaceSchema, Range, RecordChange, RecordRef, Where
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import BackendUnavailable, StorageError
from machine import program


@asynccontextmanager
async def opened(backend):
    await backend.open([NamespaceSchema("n", {"status": str})])
    try:
        yield backend
    finally:
        await backend.close()


def change(**parts):
    return RecordChange(os.urandom(8).hex(), **parts)


async def make(backend, key, **parts):
    return await backend.put(RecordRef("n", key), change(**parts), if_revision=0)


async def keys_of(backend, where):
    return [record.ref.key for record in (await backend.query("n", where, limit=500)).items]


class Nodes:
    """Cluster nodes of the tests' own, two by default, that share all slots."""

    def __init__(self, directory):
        self.ports, self.processes, self.clients = [], [], []
        for number in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                # The bus takes the port 10,000 above.
                port = 20_000 + free.getsockname()[1] % 30_000
            home = directory / f"node-{number}"
            home.mkdir()
            command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""]
            self.processes.append(
                subprocess.Popen(
                    [*command, "--cluster-enabled", "yes", "--cluster-node-timeout", "400"], stdout=subprocess.DEVNULL
                )
            )
            self.ports.append(port)
            self.clients.append(Redis(port=port))

    def join(self):
        first, second = self.clients
        self.until(first.ping)
        self.until(second.ping)
        first.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
        second.execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
        # As who makes a cluster does: with equal epochs the nodes may claim back what has moved.
        first.execute_command("CLUSTER SET-CONFIG-EPOCH", 1)
        second.execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
        first.execute_command("CLUSTER MEET", "127.0.0.1", self.ports[1])
        for one in self.clients:
            self.until(lambda one=one: self.agreed(one))
        return self

    @staticmethod
    def agreed(client):
        said = client.cluster("INFO")
        return said["cluster_state"] == "ok" and said["cluster_known_nodes"] == "2"

    @staticmethod
    def until(condition):
        for _ in range(500):
            try:
                if condition():
                    return
            except OSError:
                pass
            except Exception as error:  # noqa: BLE001 - a server that starts refuses in many ways
                assert "onnect" in type(error).__name__  # noqa: PT017
            time.sleep(0.02)
        pytest.fail("the cluster did not come up")

    def ids(self):
        return [one.execute_command("CLUSTER MYID").decode() for one in self.clients]

    def move(self, slot, *, ends):
        """Move a slot from whoever has it to the other, and stop in the middle unless ``ends``."""
        ids = self.ids()
        source = next(place for place, one in enumerate(self.clients) if self.owns(one, slot))
        target = 1 - source
        self.clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        self.clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        keys = self.clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 10_000)
        for key in keys if ends else keys[: len(keys) // 2]:
            self.clients[source].execute_command("MIGRATE", "127.0.0.1", self.ports[target], key, 0, 5000)
        if ends:
            for place in (target, source):
                self.clients[place].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
            # Else a move in the other direction may begin at an epoch that is taken, and each names the other.
            self.until(lambda: len({one.cluster("INFO")["cluster_current_epoch"] for one in self.clients}) == 1)

    def begin(self, slot, keys):
        """Begin to move a slot, and take no more than some of its keys."""
        ids = self.ids()
        source = next(place for place, one in enumerate(self.clients) if self.owns(one, slot))
        target = 1 - source
        self.clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        self.clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        for key in keys:
            self.clients[source].execute_command("MIGRATE", "127.0.0.1", self.ports[target], key, 0, 5000)

    def finish(self, slot):
        ids = self.ids()
        source = next(place for place, one in enumerate(self.clients) if self.owns(one, slot))
        target = 1 - source
        for key in self.clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 10_000):
            self.clients[source].execute_command("MIGRATE", "127.0.0.1", self.ports[target], key, 0, 5000)
        for place in (target, source):
            self.clients[place].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])

    @staticmethod
    def owns(client, slot):
        (mine,) = (one for one in client.cluster("NODES").values() if "myself" in one["flags"])
        return any(int(span[0]) <= slot <= int(span[-1]) for span in mine["slots"])

    def stop(self):
        for client in self.clients:
            client.close()
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def nodes(tmp_path):
    program("redis-server", "redis-server")
    made = Nodes(tmp_path)
    yield made.join()
    made.stop()


async def test_slots_move_while_records_are_written(nodes):
    url = f"redis://127.0.0.1:{nodes.ports[0]}?cluster=on&shards=4"
    async with opened(backend_from_url(url)) as backend:
        slots = [nodes.clients[0].execute_command("CLUSTER KEYSLOT", tag.keys) for tag in backend_tags(4)]
        for number in range(40):
            await make(backend, f"k{number:02}", body=b"b" * 100, attributes={"status": "x"})
        assert all(one.dbsize() for one in nodes.clients)
        everything = [f"k{number:02}" for number in range(40)]
        for slot in slots:
            nodes.move(slot, ends=True)
            assert await keys_of(backend, Where({"status": "x"})) == everything
            for key in everything[::7]:
                record = (await backend.get(RecordRef("n", key))).record
                assert record.body[:1] == b"b"
                await backend.put(record.ref, change(body=b"b2"), if_revision=record.revision)
        await asyncio.sleep(0)
        assert await backend.purge("n", Where(), limit=100) == 40


async def test_a_slot_on_the_move_is_waited_for_or_told(nodes):
    async with opened(backend_from_url(f"redis://127.0.0.1:{nodes.ports[0]}?cluster=on&shards=1")) as backend:
        (tag,) = backend_tags(1)
        slot = nodes.clients[0].execute_command("CLUSTER KEYSLOT", tag.keys)
        made = [await make(backend, f"k{number}", body=b"b") for number in range(4)]
        nodes.move(slot, ends=False)
        refused = 0
        for number, written in enumerate(made):
            try:
                await backend.put(RecordRef("n", f"k{number}"), change(body=b"c"), if_revision=written.revision)
            except StorageError as error:
                assert error.retryable, error  # noqa: PT017
                refused += 1
        assert refused > 0
        later = asyncio.ensure_future(
            backend.put(RecordRef("n", "new"), change(body=b"c"), if_revision=0),
        )
        await asyncio.sleep(0.03)
        await asyncio.to_thread(nodes.finish, slot)
        assert (await later).revision == 1
        for number in range(4):
            record = (await backend.get(RecordRef("n", f"k{number}"))).record
            assert record.body == (b"b" if record.revision == made[number].revision else b"c")


async def test_a_node_of_a_cluster_is_not_taken_for_the_whole(nodes):
    for port in nodes.ports:
        backend = backend_from_url(f"redis://127.0.0.1:{port}?shards=8")
        with pytest.raises(BackendUnavailable, match="cluster=on") as refused:
            await _use(backend)
        assert not refused.value.retryable


async def _use(backend):
    async with opened(backend):
        for number in range(10):
            await make(backend, f"k{number}")


def backend_tags(shards):
    return Layout("flowpersist", shards).tags("n")


@pytest.mark.parametrize("gone", ["updated", "declared", None])
async def test_a_script_that_meets_a_key_on_the_move_writes_nothing(nodes, gone):
    """A record whose own keys are here still, one of its shard's having gone, or none but a new one being needed."""
    async with opened(backend_from_url(f"redis://127.0.0.1:{nodes.ports[0]}?cluster=on&shards=1")) as backend:
        (tag,) = backend_tags(1)
        slot = nodes.clients[0].execute_command("CLUSTER KEYSLOT", tag.keys)
        parts = {"body": b"b", "attributes": {"status": "x"}, "due_at": datetime(2027, 1, 1, tzinfo=UTC)}
        revision = (await make(backend, "a", **parts)).revision
        before = (await backend.get(RecordRef("n", "a"))).record
        nodes.begin(slot, [] if gone is None else [tag.text + gone.encode()])
        for put in (change(head=b"new"), change(attributes={"status": "y"}), change(due_at=None)):
            with pytest.raises(BackendUnavailable) as told:
                await backend.put(RecordRef("n", "a"), put, if_revision=revision)
            assert told.value.retryable
        with pytest.raises(BackendUnavailable) as told:
            await backend.delete(RecordRef("n", "a"), if_revision=revision)
        assert told.value.retryable
        await asyncio.to_thread(nodes.finish, slot)
        for where in (Where(), Where({"status": "x"}), Where({"status": "x"}, Range("due"))):
            (found,) = (await backend.query("n", where, limit=5)).items
            assert (found.revision, found.head) == (before.revision, before.head)
        assert await backend.delete(RecordRef("n", "a"), if_revision=revision)
