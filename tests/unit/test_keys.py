from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from returns.result import Failure, Success

from flowpersist import SuspensionId, SuspensionKey
from flowpersist.errors import KeyValidationError
from flowpersist.keys.suspension_key import _check
from flowpersist.stages import generate_key

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
KEY = generate_key(now=NOW, entropy=lambda size: bytes(range(size)))
TOKEN = str(KEY)


def refusal(text, **settings) -> str:
    result = SuspensionKey.parse(text, **settings)
    assert isinstance(result, Failure)
    assert type(result.failure()) is KeyValidationError
    if isinstance(text, str) and len(text) > 20:
        assert text not in str(result.failure())
    return str(result.failure())


def test_a_token_is_url_safe_and_comes_back_as_its_key():
    assert TOKEN.startswith("df_susp_")
    assert set(TOKEN) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
    assert SuspensionKey.parse(TOKEN) == Success(KEY)
    assert f"{KEY}" == TOKEN


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_tokens_have_one_length(fill):
    key = SuspensionKey(SuspensionId(fill * 16), fill * 32)
    assert len(str(key)) == len(TOKEN)
    assert SuspensionKey.parse(str(key)) == Success(key)


def test_a_secret_is_as_random_as_it_is_long():
    drawn = []

    def entropy(size):
        drawn.append(bytes([len(drawn) + 1]) * size)
        return drawn[-1]

    key = generate_key(now=NOW, entropy=entropy)
    assert key.secret == drawn[-1]
    assert len(key.secret) == 32
    assert len({generate_key().secret for _ in range(100)}) == 100


def test_every_single_mistyped_character_is_noticed():
    for at in range(len("df_susp_"), len(TOKEN)):
        wrong = TOKEN[:at] + ("a" if TOKEN[at] != "a" else "b") + TOKEN[at + 1 :]
        assert "check characters" in refusal(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begin with"),
        (TOKEN[:-1], "characters after the prefix"),
        (TOKEN + "x", "characters after the prefix"),
        (" " + TOKEN, "begin with"),
        (TOKEN.replace("df_", "xx_"), "begin with"),
        (TOKEN[:20] + "é" + TOKEN[21:], "no key has"),
        (TOKEN[:20] + "\ud800" + TOKEN[21:], "no key has"),
        (None, "not a text"),
        (b"df_susp_", "not a text"),
    ],
)
def test_what_is_no_key_is_refused_with_the_reason(text, why):
    assert why in refusal(text)


def test_a_number_over_48_bytes_is_refused():
    body = "df_susp_" + "z" * 65
    assert "out of range" in refusal(body + _check(body))


def test_a_foreign_prefix_is_refused():
    assert "begin with 'my_'" in refusal(TOKEN, prefix="my_")
    mine = generate_key(prefix="my_")
    assert SuspensionKey.parse(str(mine), prefix="my_") == Success(mine)


def test_the_token_is_shown_by_nothing_but_str():
    for shown in (repr(KEY), repr([KEY]), f"{KEY!r}"):
        assert str(KEY.id) in shown
        assert TOKEN not in shown
        assert KEY.secret.hex() not in shown
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(KEY)


def test_equality_is_by_id_and_secret():
    other = SuspensionKey(KEY.id, bytes(32))
    assert other != KEY
    assert SuspensionKey(KEY.id, KEY.secret) == KEY
    assert len({KEY, SuspensionKey(KEY.id, KEY.secret)}) == 1
    assert KEY != TOKEN


def test_ids_are_ordered_by_time():
    ids = [SuspensionId.new(now=NOW + timedelta(milliseconds=n)) for n in range(50)]
    assert ids == sorted(ids)
    assert [str(one) for one in ids] == sorted(str(one) for one in ids)
    assert UUID(str(ids[0])).version == 7
    assert UUID(str(ids[0])).variant == "specified in RFC 4122"


def test_a_derived_id_is_the_same_for_the_same_parts_only():
    parts = [("a", None, "k"), ("a", "", "k"), ("b", None, "k"), ("a", "t", "k"), ("at", None, "k"), ("a", None, "tk")]
    ids = {SuspensionId.derive(*part) for part in parts}
    assert len(ids) == len(parts)
    assert SuspensionId.derive("a", "t", "k") == SuspensionId.derive("a", "t", "k")
    assert all(UUID(str(one)).version == 8 for one in ids)


@pytest.mark.parametrize("text", ["", "x", str(KEY.id).upper(), "{" + str(KEY.id) + "}", str(KEY.id)[:-1], None, 7])
def test_an_id_has_one_text(text):
    assert isinstance(SuspensionId.parse(text).failure(), KeyValidationError)
    assert SuspensionId.parse(str(KEY.id)) == Success(KEY.id)


def test_an_id_shows_itself_and_is_sized():
    assert repr(KEY.id) == f"SuspensionId('{KEY.id}')"
    with pytest.raises(ValueError, match="16 bytes"):
        SuspensionId(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        SuspensionKey(KEY.id, "text")


def test_a_key_can_be_copied_within_the_process():
    assert copy.deepcopy({"key": KEY})["key"] is KEY
    assert copy.copy(KEY) is KEY


@pytest.mark.parametrize("prefix", ["", "a/b", "with space", "é", "x" * 33, None])
def test_a_prefix_is_url_safe(prefix):
    with pytest.raises(ValueError, match="1 to 32 characters"):
        generate_key(prefix=prefix)


def test_a_moment_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        SuspensionId.new(now=NOW.replace(tzinfo=None))
