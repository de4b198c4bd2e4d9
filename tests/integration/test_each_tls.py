"""TLS as a URL asks for it: its options reach the driver, what is not trusted is refused, and no secret shows."""

import gc
import logging
import os
import subprocess
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
import redis
import trustme
from attrs import astuple, frozen

from flowpersist.backends.base import NamespaceSchema, RecordChange, RecordRef
from flowpersist.backends.registry import backend_from_url
from flowpersist.errors import BackendUnavailable, ConfigurationError
from flowpersist.testing.proxy import address_of
from machine import free_port, program
from postgres_cluster import Cluster
from tls import HOST, relay

SCHEMA = [NamespaceSchema("n", {})]
SECRET = "s3cr3t-of-the-test"
#: What the driver is told of who is to be trusted. Neo4j's asks the system.
AUTHORITY = {
    "bolt": None,
    "mongodb": "tlsCAFile",
    "neo4j": None,
    "postgres": "sslrootcert",
    "redis": "ssl_ca_certs",
    "redis_cluster": "ssl_ca_certs",
}
# PyMongo leaves a socket to the garbage collector where it is closed while it connects.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module", autouse=True)
def _leave_no_socket_to_others():
    yield
    gc.collect()


@frozen
class Files:
    """The paths of certificates and of keys. ``client`` is one that our authority has given to a user."""

    ours: Path
    foreign: Path
    server: trustme.LeafCert
    client: Path
    client_key: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("tls")
    ours, foreign = trustme.CA(), trustme.CA()
    client = ours.issue_cert("client.test", common_name="certified")
    made = Files(place / "ours", place / "foreign", ours.issue_cert(HOST), place / "client", place / "client.key")
    ours.cert_pem.write_to_path(made.ours)
    foreign.cert_pem.write_to_path(made.foreign)
    client.cert_chain_pems[0].write_to_path(made.client)
    client.private_key_pem.write_to_path(made.client_key)
    return made


# ----------------------------------------------------------------------------------------- servers that speak TLS alone


@pytest.fixture(scope="module")
def postgres(files):
    made = Cluster(
        "ssl = on\nssl_ca_file = 'ca.pem'",
        "hostssl all certified 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 trust\n",
        {
            "server.crt": files.server.cert_chain_pems[0].bytes(),
            "server.key": files.server.private_key_pem.bytes(),
            "ca.pem": files.ours.read_bytes(),
        },
    )
    yield made
    made.remove()


@contextmanager
def redis_server(files, directory, *options):
    """The port of a server of Redis."""
    program("redis-server", "redis-server")
    port = free_port()
    certificate, key = directory / "server.pem", directory / "server.key"
    files.server.cert_chain_pems[0].write_to_path(certificate)
    files.server.private_key_pem.write_to_path(key)
    places = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", files.ours)
    fixed = ("--port", 0, "--tls-port", port, "--bind", HOST, "--dir", directory, "--save", "", "--requirepass", SECRET)
    process = subprocess.Popen(["redis-server", *map(str, (*fixed, *places, *options))], stdout=subprocess.DEVNULL)
    client = redis.Redis(
        HOST, port, password=SECRET, ssl=True, ssl_ca_certs=files.ours, ssl_certfile=files.client,
        ssl_keyfile=files.client_key,
    )  # fmt: skip
    try:
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            assert process.poll() is None, "redis-server has ended: was it built without TLS?"
            with suppress(redis.ConnectionError):
                client.ping()
                break
            time.sleep(0.02)
        if "--cluster-enabled" in options:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                time.sleep(0.02)
        yield port
    finally:
        client.close()
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def redis_port(files, tmp_path_factory):
    with redis_server(files, tmp_path_factory.mktemp("redis"), "--tls-auth-clients", "no") as port:
        yield port


@pytest.fixture(scope="module")
def redis_cluster_port(files, tmp_path_factory):
    options = ("--tls-auth-clients", "no", "--cluster-enabled", "yes", "--tls-cluster", "yes")
    # By default it is ten thousand above the other, which may be too high.
    options += ("--cluster-port", free_port())
    with redis_server(files, tmp_path_factory.mktemp("redis"), *options) as port:
        yield port


@frozen
class Place:
    """A server that speaks TLS alone: its URL with TLS, but for the authority that is trusted, with TLS that trusts
    everybody, and without.
    """

    name: str
    secure: str
    unchecked: str
    plain: str

    def trusting(self, authority, monkeypatch):
        option = AUTHORITY[self.name]
        if option is None:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            return self.secure
        return f"{self.secure}&{option}={authority}"


@pytest.fixture
def postgres_place(postgres):
    url = postgres.url(password=SECRET)
    return Place("postgres", *(f"{url}?sslmode={mode}" for mode in ("verify-full", "require", "disable")))


@pytest.fixture
def redis_place(redis_port):
    place = f":{SECRET}@{HOST}:{redis_port}/0"
    secure = f"rediss://{place}?socket_timeout=10"
    return Place("redis", secure, f"{secure}&ssl_cert_reqs=none", f"redis://{place}")


@pytest.fixture
def redis_cluster_place(redis_cluster_port):
    place = f":{SECRET}@{HOST}:{redis_cluster_port}/0?cluster=on"
    secure = f"rediss://{place}"
    return Place("redis_cluster", secure, f"{secure}&ssl_cert_reqs=none", f"redis://{place}")


@pytest.fixture
async def mongodb_place(server, files, prefix):
    async with relay(address_of(server("mongodb")), files.server) as address:
        options = f"directConnection=true&serverSelectionTimeoutMS=500&prefix={prefix}"
        url = f"mongodb://{address}/flowpersist?{options}"
        yield Place("mongodb", f"{url}&tls=true", f"{url}&tls=true&tlsAllowInvalidCertificates=true", url)


@pytest.fixture
async def neo4j_place(server, files, neo4j_prefix):
    async with relay(address_of(server("neo4j")), files.server) as address:
        rest = f"neo4j:{SECRET}@{address}?prefix={neo4j_prefix}"
        yield Place("neo4j", *(f"{scheme}://{rest}" for scheme in ("neo4j+s", "neo4j+ssc", "neo4j")))


@pytest.fixture
def bolt_place(neo4j_place):
    return Place("bolt", *(url.replace("neo4j", "bolt", 1) for url in astuple(neo4j_place)[1:]))


@pytest.fixture(params=AUTHORITY)
def place(request):
    return request.getfixturevalue(f"{request.param}_place")


# ---------------------------------------------------------------------------------------------------------- who gets in


async def serves(url):
    """Whether a record can be written and read there."""
    backend = backend_from_url(url)
    await backend.open(SCHEMA)
    ref = RecordRef("n", os.urandom(8).hex())
    await backend.put(ref, RecordChange("w", body=b"b"), if_revision=0)
    assert (await backend.get(ref)).record.body == b"b"
    await backend.close()


async def refused(url, caplog):
    """The error of an open, which tells no secret."""
    caplog.set_level(logging.DEBUG)
    backend = backend_from_url(url)
    started = time.monotonic()
    with pytest.raises(BackendUnavailable) as raised:
        await backend.open(SCHEMA)
    await backend.close()
    assert time.monotonic() - started < 3
    assert SECRET not in "".join(traceback.format_exception(raised.value)) + repr(raised.value) + caplog.text
    return raised.value


async def test_whose_authority_is_known_is_trusted(place, files, monkeypatch):
    await serves(place.trusting(files.ours, monkeypatch))


async def test_who_wants_no_check_trusts_everybody(place):
    await serves(place.unchecked)


async def test_whose_authority_is_another_is_refused(place, files, monkeypatch, caplog):
    error = await refused(place.trusting(files.foreign, monkeypatch), caplog)
    assert not error.retryable
    assert (AUTHORITY[place.name] or "install its certificate authority") in error.message


# For a cluster the driver takes the address in place of localhost.
@pytest.mark.parametrize("place", [name for name in AUTHORITY if name != "redis_cluster"], indirect=True)
async def test_who_calls_itself_otherwise_is_refused(place, files, monkeypatch, caplog):
    # The certificate is for the address alone.
    url = place.trusting(files.ours, monkeypatch).replace(HOST, "localhost")
    assert not (await refused(url, caplog)).retryable


async def test_who_speaks_no_tls_is_not_served(place, caplog):
    await refused(place.plain, caplog)


@pytest.mark.parametrize(
    ("name", "scheme", "options"),
    [
        ("mongodb", "mongodb", "tls=true&serverSelectionTimeoutMS=500"),
        ("neo4j", "neo4j+ssc", ""),
        ("postgres", "postgresql", "sslmode=require"),
        ("redis", "rediss", "socket_connect_timeout=0.5"),
    ],
)
async def test_a_server_that_speaks_no_tls_is_not_talked_to(server, caplog, name, scheme, options):
    _, _, rest = server(name).partition(":")
    await refused(f"{scheme}:{rest}?{options}", caplog)


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://user:{secret}@127.0.0.1/d?tls=true&tlsCAFile=/none.pem",
        "mongodb://user:{secret}@127.0.0.1/d?tls=true&tlsCertificateKeyFile=/none.pem",
        "postgresql://user:{secret}@127.0.0.1/d?sslmode=verify-full&sslrootcert=/none.pem",
        "redis://:{secret}@127.0.0.1/0?ssl_ca_certs=/none.pem",
        "rediss://:{secret}@127.0.0.1/0?ssl_ca_certs=/none.pem",
        "rediss://:{secret}@127.0.0.1/0?ssl_certfile=/none.pem",
        "rediss://:{secret}@127.0.0.1/0?ssl_cert_reqs=perhaps",
    ],
)
async def test_files_and_words_that_are_none_are_told_of(url):
    with pytest.raises(ConfigurationError) as raised:
        await backend_from_url(url.format(secret=SECRET)).open(SCHEMA)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


# ---------------------------------------------------------------------------------------------- users with certificates


async def test_a_user_of_postgres_shows_a_certificate(postgres, files, caplog):
    admin = await asyncpg.connect(postgres.url(sslmode="verify-full", sslrootcert=files.ours))
    await admin.execute(
        "drop role if exists certified; create role certified login; grant all on schema public to certified"
    )
    await admin.close()
    url = postgres.url(user="certified", sslmode="verify-full", sslrootcert=files.ours)
    await serves(f"{url}&sslcert={files.client}&sslkey={files.client_key}&prefix=certified")
    error = await refused(url, caplog)
    assert not error.retryable


async def test_a_user_of_redis_shows_a_certificate(files, tmp_path, caplog):
    with redis_server(files, tmp_path) as port:
        url = f"rediss://:{SECRET}@{HOST}:{port}/0?ssl_ca_certs={files.ours}"
        await serves(f"{url}&ssl_certfile={files.client}&ssl_keyfile={files.client_key}")
        await refused(url, caplog)
