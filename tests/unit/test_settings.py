from __future__ import annotations

from datetime import timedelta

import pytest

from flowpersist import ConfigurationError, KeyRing
from flowpersist.settings import Settings


def read(**variables):
    return Settings.from_environ({f"FLOWPERSIST_{name}": value for name, value in variables.items()})


def test_defaults():
    settings = read()
    assert (settings.url, settings.keys, settings.default_timeout, settings.public_url) == (None,) * 4
    assert settings.key_prefix == "df_susp_"
    assert settings.compression == "auto"
    assert settings.dictionaries is False
    assert read(DICTIONARIES="on").dictionaries is True
    assert settings.max_state_bytes == 100 * 2**20
    assert settings.retention == timedelta(days=7)
    assert settings.slow_ms == 200
    assert (settings.blobs_url, settings.blobs_from) == (None, 8 * 2**20)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("30m", 1800), ("7d", 604800), (" 12h ", 43200)]
)
def test_durations(text, seconds):
    assert read(RETENTION=text).retention == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "kept"), [("0", timedelta(0)), ("forever", timedelta.max), ("30d", timedelta(days=30))]
)
def test_how_long_trails_are_kept(text, kept):
    assert read().audit_retention == timedelta(days=2557)
    assert read(AUDIT_RETENTION=text).audit_retention == kept


@pytest.mark.parametrize(("text", "size"), [("1000", 1000), ("2KiB", 2048), ("100 MiB", 100 * 2**20), ("1gib", 2**30)])
def test_sizes(text, size):
    assert read(MAX_STATE_BYTES=text).max_state_bytes == size


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RETENTION", "soon"),
        ("RETENTION", "-1d"),
        ("RETENTION", "0"),
        ("RETENTION", "999999999999d"),
        ("DEFAULT_TIMEOUT", "1w"),
        ("AUDIT_RETENTION", "never"),
        ("AUDIT_RETENTION", "0d"),
        ("MAX_STATE_BYTES", "lots"),
        ("MAX_STATE_BYTES", "0"),
        ("BLOBS_FROM", "large"),
        ("BLOBS_URL", " "),
        ("MAX_STATE_BYTES", "5 lightyears"),
        ("COMPRESSION", "lzma"),
        ("DICTIONARIES", "yes"),
        ("KEY_PREFIX", "with space"),
        ("KEY_PREFIX", ""),
        ("PUBLIC_URL", "ftp://somewhere"),
        ("SLOW_MS", "fast"),
        ("SLOW_MS", "nan"),
        ("URL", ""),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_what_it_must_be(name, text):
    with pytest.raises(ConfigurationError, match=f"FLOWPERSIST_{name}.*must be") as caught:
        read(**{name: text})
    assert caught.value.setting == f"FLOWPERSIST_{name}"
    assert len(text) < 3 or text not in str(caught.value)


def test_settings_show_neither_keys_nor_passwords():
    ring = KeyRing.generate()
    settings = read(
        KEYS=ring.export(), URL="postgresql://me:hunter2@db/flows", BLOBS_URL="s3://hunter2", KEYS_FILE="/etc/keys"
    )
    assert settings.keys == ring.export()
    assert "hunter2" not in repr(settings)
    assert ring.export() not in repr(settings)
    assert "keys_file='/etc/keys'" in repr(settings)
    assert "url=None" in repr(read())


def test_the_environment_is_read_when_none_is_given(monkeypatch):
    monkeypatch.setenv("FLOWPERSIST_SLOW_MS", "7.5")
    assert Settings.from_environ().slow_ms == 7.5
    assert Settings.from_environ(environ={}).slow_ms == 200
