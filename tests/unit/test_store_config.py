"""The store that a configuration names: every type, every mistake, and nothing secret in an error."""

from __future__ import annotations

import pytest

from flowpersist import ConfigurationError
from flowpersist.backends.registry import backend_from_url
from flowpersist.stores import StoreConfig, open_stores

TYPES = "file, memory, mongodb, neo4j, postgres, redis, sqlite"


@pytest.mark.parametrize(
    ("kind", "text", "url"),
    [
        ("sqlite", "", "sqlite:///flowpersist.db"),
        ("sqlite", " ", "sqlite:///flowpersist.db"),
        ("sqlite", "sqlite:///a.db", "sqlite:///a.db"),
        ("sqlite", "a.db", "sqlite:///a.db"),
        ("sqlite", "/var/a?b#c%20 d.db", "sqlite:////var/a%3Fb%23c%2520%20d.db"),
        ("file", "", "file:.flowpersist"),
        ("file", "/var/flows", "file:/var/flows"),
        ("file", "file:///var/flows", "file:///var/flows"),
        ("memory", "", "memory://"),
        ("memory", "memory://shared", "memory://shared"),
        ("postgres", "postgresql://h/d", "postgresql://h/d"),
        ("postgres", "postgres://h/d", "postgres://h/d"),
        ("redis", "rediss://h/0", "rediss://h/0"),
        ("mongodb", "mongodb+srv://h/d", "mongodb+srv://h/d"),
        ("neo4j", "bolt+s://h", "bolt+s://h"),
    ],
)
def test_a_type_and_a_place_are_a_url(kind, text, url):
    assert StoreConfig(type=kind, connection_string=text).url == url
    assert backend_from_url(url).name == {"file": "filesystem"}.get(kind, kind)
    assert StoreConfig.from_mapping({"store": {"type": kind, "connection_string": text}}).url == url
    assert StoreConfig.from_env("RECAC", {"RECAC_STORE_TYPE": f" {kind.upper()}", "RECAC_DB_URL": text}).url == url


async def test_a_path_names_that_very_file(tmp_path):
    path = tmp_path / "a?b#c%20 ä.db"
    async with open_stores(StoreConfig("sqlite", str(path)), keyring=None):
        assert path.is_file()


def test_nothing_need_be_set_up():
    assert StoreConfig() == StoreConfig.from_mapping({"other": 1}) == StoreConfig.from_env("RECAC", {})
    assert StoreConfig().url == "sqlite:///flowpersist.db"
    assert StoreConfig.from_mapping({"store": {"connection_string": "a.db"}}).url == "sqlite:///a.db"


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("oracle", "", f"{{0}}: expected one of {TYPES}"),
        ("postgres", "", "Missing {1}: set it to a URL that begins with postgresql://"),
        ("redis", "secret@h", "{1}: expected a URL that begins with redis://, because {0} is redis"),
        ("postgres", "mysql://u:secret@h/d", "{1}: expected a URL that begins with postgresql://"),
        ("sqlite", "postgresql://u:secret@h/d", "{1}: expected a URL that begins with sqlite:, or a path"),
        ("memory", "secret.db", "{1}: expected a URL that begins with memory://"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(kind, text, told):
    for names, make in (
        (("type", "connection_string"), lambda: StoreConfig(kind, text)),
        (
            ("store.type", "store.connection_string"),
            lambda: StoreConfig.from_mapping({"store": {"type": kind, "connection_string": text}}),
        ),
        (
            ("RECAC_STORE_TYPE", "RECAC_DB_URL"),
            lambda: StoreConfig.from_env("RECAC", {"RECAC_STORE_TYPE": kind, "RECAC_DB_URL": text}),
        ),
    ):
        with pytest.raises(ConfigurationError) as refused:
            make()
        assert told.format(*names) in str(refused.value)
        assert refused.value.setting in names
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("section", [None, "sqlite", [], {"type": 7}, {"kind": "sqlite"}, {7: "sqlite"}])
def test_a_malformed_section_is_refused(section):
    with pytest.raises(ConfigurationError, match="Invalid store: expected an object"):
        StoreConfig.from_mapping({"store": section})


def test_arguments_of_another_class_are_programming_errors():
    for make in (
        lambda: StoreConfig(None),
        lambda: StoreConfig("sqlite", None),
        lambda: StoreConfig.from_mapping("sqlite"),
        lambda: StoreConfig.from_env(None),
        lambda: StoreConfig.from_env("RECAC", "sqlite"),
    ):
        with pytest.raises(TypeError):
            make()


def test_a_password_does_not_show():
    assert "secret" not in repr(StoreConfig("postgres", "postgresql://u:secret@h/d"))


@pytest.mark.parametrize("place", ["a\0b.db", "\ud800.db"])
async def test_a_path_that_no_file_can_have_is_refused_when_it_is_opened(place):
    with pytest.raises(ConfigurationError, match="path"):
        async with open_stores(StoreConfig("sqlite", place), keyring=None):
            pass


async def test_stores_open_on_it(tmp_path):
    config = StoreConfig("sqlite", str(tmp_path / "agents.db"))
    for expected in (0, 1):
        async with open_stores(config, keyring=None) as stores:
            counts = stores.values("counts", int)
            found = await counts.load("opened")
            assert (0 if found is None else found.value) == expected
            await counts.save("opened", 1)
