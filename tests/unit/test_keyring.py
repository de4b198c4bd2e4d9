from __future__ import annotations

import base64
import hmac
import logging

import pytest
from returns.result import Success

from flowpersist import ConfigurationError, KeyRing
from flowpersist.errors import UnknownKey
from flowpersist.keys.keyring import KeyProvider

RING = KeyRing({}).add("a", b"a" * 32).add("b", b"b" * 32)


def test_the_first_key_seals_and_all_open():
    assert RING.primary == "a"
    assert RING.promote("b").kids == ("b", "a")
    assert RING.kids == ("a", "b")
    assert isinstance(RING.subkey("b", "state"), Success)


def test_retiring_leaves_what_only_it_opens_unknown():
    left = RING.retire("a")
    assert left.kids == ("b",)
    assert isinstance(left.subkey("a", "control").failure(), UnknownKey)
    with pytest.raises(ConfigurationError, match="only one"):
        left.retire("b")
    with pytest.raises(ConfigurationError, match="no key 'c'"):
        left.promote("c")


def test_the_two_subkeys_differ_and_a_control_ring_has_one():
    control, state = (RING.subkey("a", role).unwrap() for role in ("control", "state"))
    assert control != state
    alone = RING.control_only()
    assert alone.subkey("a", "control") == Success(control)
    assert isinstance(alone.subkey("a", "state").failure(), UnknownKey)


@pytest.mark.parametrize("ring", [RING, RING.control_only(), KeyRing.generate()])
def test_export_comes_back(ring):
    assert KeyRing.parse(ring.export()) == ring
    assert KeyRing.from_env({"FLOWPERSIST_KEYS": ring.export()}) == ring


def test_nothing_shows_a_key():
    assert repr(RING) == "<KeyRing of a, b>"
    assert "aaaa" not in repr(RING.keys)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "entry 1 is not of the form"),
        ("abc", "entry 1 is not of the form"),
        ("a:!!!", "entry 1 is not base64url"),
        ("a:YWJj", "has 3 bytes"),
        ("a b:" + "YWFh" * 10 + "YWE", "id has 1 to 64"),
        (f"{RING.export()},{RING.export()}", "there already"),
    ],
)
def test_bad_texts_name_what_is_wrong_and_never_the_key(text, why):
    with pytest.raises(ConfigurationError, match=why) as caught:
        KeyRing.parse(text)
    assert caught.value.setting == "FLOWPERSIST_KEYS"
    assert "YW" not in str(caught.value)


def test_a_key_has_32_bytes():
    with pytest.raises(ConfigurationError, match="has 5 bytes"):
        KeyRing({}).add("a", b"short")


def test_an_environment_without_keys_is_an_error_that_names_them():
    with pytest.raises(ConfigurationError, match="FLOWPERSIST_KEYS") as caught:
        KeyRing.from_env({})
    assert "keygen" in str(caught.value)


def test_a_file_holds_keys_by_line(tmp_path, caplog):
    path = tmp_path / "keys"
    path.write_text(RING.export().replace(",", "\n") + "\n")
    path.chmod(0o600)
    assert KeyRing.from_file(path) == RING
    assert KeyRing.from_env({"FLOWPERSIST_KEYS_FILE": str(path)}) == RING
    assert not caplog.records
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        KeyRing.from_file(path)
    assert "chmod 600" in caplog.text


def test_a_file_that_can_not_be_read_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="FileNotFoundError"):
        KeyRing.from_file(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="UnicodeDecodeError"):
        KeyRing.from_file(tmp_path / "binary")


@pytest.mark.parametrize("parting", [",", "\n", ",\n", "\r\n", " , "])
def test_a_file_may_part_keys_by_commas_lines_or_both(tmp_path, parting):
    path = tmp_path / "keys"
    path.write_bytes(RING.export().replace(",", parting).encode())
    path.chmod(0o600)
    assert KeyRing.from_file(path) == RING


@pytest.mark.parametrize("text", ["", "\n", "nothing", "a:YWJj"])
def test_a_file_without_a_keyring_is_named(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"holds no keyring: .*entry 1") as caught:
        KeyRing.from_file(path)
    assert str(path) in str(caught.value)
    assert caught.value.setting == "FLOWPERSIST_KEYS_FILE"
    assert "YWJj" not in str(caught.value)


def test_rings_are_equal_where_they_seal_alike():
    assert KeyRing.parse(RING.export()) == RING
    assert hash(RING) == hash(KeyRing.parse(RING.export()))
    assert RING.promote("b") != RING
    assert RING.control_only() != RING


def test_a_ring_is_never_altered():
    source = dict(RING.keys)
    ring = KeyRing(source)
    source.clear()
    assert ring == RING
    with pytest.raises(TypeError):
        ring.keys["a"] = ring.keys["b"]
    with pytest.raises(AttributeError):
        ring.keys = {}


def test_an_empty_ring_has_no_primary_key():
    with pytest.raises(ConfigurationError, match="it is empty"):
        _ = KeyRing({}).primary


def test_a_control_ring_renders_control_subkeys_alone():
    text = RING.control_only().export()
    assert all(entry.partition(":")[2].startswith("control.") for entry in text.split(","))
    state = RING.subkey("a", "state").unwrap()
    for secret in (b"a" * 32, state):
        assert base64.urlsafe_b64encode(secret).rstrip(b"=").decode() not in text
    assert KeyRing.parse(text).subkey("a", "control") == RING.subkey("a", "control")


def test_subkeys_are_hkdf_expand_with_sha_512():
    """RFC 5869 by hand: one block, T(1) = HMAC(key, info | 0x01)."""
    for role in ("control", "state"):
        expected = hmac.digest(b"a" * 32, f"flowpersist/v1/{role}".encode() + b"\x01", "sha512")[:32]
        assert RING.subkey("a", role) == Success(expected)


async def test_a_provider_is_anything_that_gives_a_ring():
    class Service:
        async def keyring(self) -> KeyRing:
            return RING

    assert isinstance(Service(), KeyProvider)
    assert await Service().keyring() is RING
