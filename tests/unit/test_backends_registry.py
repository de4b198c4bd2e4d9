"""URLs become backends, and what is wrong with one is said without showing it."""

from datetime import timedelta
from importlib.metadata import EntryPoint

import pytest

from flowpersist.backends import registry
from flowpersist.backends.base import StorageBackend
from flowpersist.backends.memory import MemoryBackend
from flowpersist.backends.registry import backend_from_url, schemes
from flowpersist.errors import ConfigurationError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("memory://", "memory"),
        ("memory://shared", "memory"),
        ("MEMORY://shared", "memory"),
        ("sqlite:///flows.db", "sqlite"),
        ("sqlite:////absolute/a%20b.db?synchronous=NORMAL&busy_timeout=2.5", "sqlite"),
        ("file:flows", "filesystem"),
        ("file:///var/flows?busy_timeout=1", "filesystem"),
    ],
)
def test_a_url_names_a_backend_and_nothing_is_opened(url, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = backend_from_url(url, clock_offset=timedelta(hours=1))
    assert isinstance(backend, StorageBackend)
    assert (backend.name, backend.clock_offset) == (name, timedelta(hours=1))
    assert list(tmp_path.iterdir()) == []


def test_paths_and_options_are_decoded():
    database = backend_from_url("sqlite:////a/b%20c.db?synchronous=NORMAL&busy_timeout=2.5")._database
    assert (str(database.path), database.synchronous) == ("/a/b c.db", "normal")
    assert database.busy_timeout == timedelta(seconds=2.5)
    assert str(backend_from_url("sqlite:///b.db")._database.path) == "b.db"
    assert str(backend_from_url("file:///b/c")._directory) == "/b/c"
    assert str(backend_from_url("file:b/c")._directory) == "b/c"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "malformed"),
        ("flows.db", "malformed"),
        (f":{SECRET}", "malformed"),
        (f"sqlite:///a {SECRET}.db", "malformed"),
        (f"sqlite:///a\n{SECRET}.db", "malformed"),
        (f"nosuch://me:{SECRET}@host/db", "no backend is known for the scheme 'nosuch'"),
        (f"nosuch://me:{SECRET}@host", "known are bolt, bolt+s, bolt+ssc, file, memory, mongodb"),
        (f"sqlite://{SECRET}.db", "sqlite:///flows.db"),
        ("sqlite:///", "sqlite:///flows.db"),
        ("sqlite:", "sqlite:///flows.db"),
        ("sqlite:///:memory:", "memory://"),
        (f"sqlite:///\udce9{SECRET}", "malformed"),
        ("sqlite:///a%00b", "no file can have"),
        ("sqlite:///a%ffb", "no file can have"),
        (f"sqlite:///a.db?password={SECRET}", "busy_timeout, prefix, synchronous"),
        (f"sqlite:///a.db?{SECRET}", "malformed options"),
        (f"sqlite:///a.db?synchronous=off&synchronous={SECRET}", "twice"),
        (f"sqlite:///a.db?synchronous={SECRET}", "synchronous is one of"),
        (f"sqlite:///a.db?busy_timeout={SECRET}", "number of seconds"),
        ("sqlite:///a.db?busy_timeout=999999", "hour"),
        ("file:a?busy_timeout=999999", "hour"),
        ("file:", "file:flows"),
        (f"file://{SECRET}/a", "file:flows"),
        (f"file:a?{SECRET}=1", "not known"),
        (f"memory://a/{SECRET}", "memory://tests"),
        ("memory:a", "memory://tests"),
        (f"memory://a?{SECRET}=1", "it takes none"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_showing_it(url, part):
    with pytest.raises(ConfigurationError) as refused:
        backend_from_url(url)
    assert part in str(refused.value)
    assert SECRET not in str(refused.value) + repr(refused.value)
    assert refused.value.setting


def test_a_url_that_is_no_str_is_a_programmer_s_error():
    with pytest.raises(TypeError):
        backend_from_url(None)


def _register(monkeypatch, value):
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("toy", value, group)])


def test_third_parties_register_a_scheme(monkeypatch):
    _register(monkeypatch, "flowpersist.backends.memory:MemoryBackend")
    backend = backend_from_url("toy://x", clock_offset=timedelta(1))
    assert isinstance(backend, MemoryBackend)
    assert backend.clock_offset == timedelta(1)
    assert set(schemes()) >= {"file", "memory", "sqlite", "postgresql", "redis", "mongodb", "neo4j", "toy"}


@pytest.mark.parametrize("value", ["no.such.module:Backend", "flowpersist.backends.memory:NoSuch"])
def test_a_registered_backend_that_can_not_be_imported_names_what_to_install(monkeypatch, value):
    _register(monkeypatch, value)
    with pytest.raises(ConfigurationError, match="install its package"):
        backend_from_url("toy://x")


def test_a_registered_object_that_gives_no_backend_is_refused(monkeypatch):
    _register(monkeypatch, "builtins:str")
    with pytest.raises(ConfigurationError, match="gives no backend"):
        backend_from_url("toy://x")


async def test_memory_stores_of_one_name_are_one():
    one, same, other, anonymous = (backend_from_url(f"memory://{name}") for name in ("n1", "n1", "n2", ""))
    assert one._store is same._store
    assert len({id(backend._store) for backend in (one, other, anonymous, backend_from_url("memory://"))}) == 4
